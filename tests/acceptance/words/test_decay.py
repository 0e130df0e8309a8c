"""The watchdog on a real store: what is written, what is done, what people decide."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import read_dataset
from ml_pipeline.datasets.reference import reference_of
from ml_pipeline.decay.context import CheckContext
from ml_pipeline.decay.daily_checks import daily_checks
from ml_pipeline.decay.lifecycle import decide
from ml_pipeline.decay.watchdog import DecayCheck, check_decay
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Order
from ml_pipeline.store.alerts import ActionState, AlertStatus, Cause, DecayAlert
from ml_pipeline.store.contract import Store
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import Lineage, ModelState, Outcome, RequestStatus, Source
from tests.support.factories import (
    MODEL_NAME,
    frame_of,
    make_event,
    make_finished_run,
    make_id,
    make_model,
    make_promotion,
    make_run,
)
from tests.support.logs import write_log
from tests.support.passing_alerts import came_and_went
from tests.support.shell import PYTHON, environment
from tests.support.warm import ml_pipeline

NOW = datetime(2026, 3, 14, 20, 0, tzinfo=UTC)
DAYS, ROWS = 40, 60
SLEEP = [sys.executable, "-c", "import time; print('began', flush=True); time.sleep(60)"]
FAIL = [sys.executable, "-c", "print('no such model'); raise SystemExit(3)"]

Again = Callable[..., DecayCheck]


def outcomes(now: datetime, days: int, right: float, *, first: int = 1) -> list[dict[str, Any]]:
    """`ROWS` outcomes on each of the `days` until now, evenly right."""
    made: list[dict[str, Any]] = []
    for ago in range(days):
        known = now - timedelta(days=ago, hours=1)
        for number in range(ROWS):
            hit = int((number + 1) * right) > int(number * right)
            made.append(
                make_event(
                    first + len(made), timestamp=known - timedelta(hours=3), evaluated_at=known,
                    confidence=0.75, actual_result="H" if hit else "A", model_id="m-1",
                )
            )  # fmt: skip
    return made


def decayed(now: datetime = NOW) -> list[dict[str, Any]]:
    before = outcomes(now - timedelta(days=7), DAYS, 0.75, first=10_000)
    return [*before, *outcomes(now, 7, 0.5)]


def with_champion(store: Store, reference: dict[str, Any] | None = None) -> None:
    lineage = Lineage(reference=reference)
    store.register(make_model("m-1", created_at=NOW - timedelta(days=90), lineage=lineage))
    store.promote(make_promotion("m-1", None, created_at=NOW - timedelta(days=90)))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A champion that was right three times in four, and half the time in the last week."""
    store = LocalStore.open(tmp_path / "store")
    with_champion(store)
    store.append_events(frame_of(decayed()))
    return store


@pytest.fixture
def again(store: LocalStore) -> Again:
    """Check the store, some hours after NOW."""
    numbers: Iterator[int] = iter(range(7_000_000, 8_000_000))

    def act(hours: float = 0, **changes: Any) -> DecayCheck:  # noqa: ANN401 - settings
        dotted = {f"decay.{name}": value for name, value in changes.items()}
        settings = Settings().changed({"model_name": MODEL_NAME, **dotted})
        return check_decay(
            store,
            CheckContext(
                settings=settings,
                now=NOW + timedelta(hours=hours),
                new_id=lambda: make_id(next(numbers)),
            ),
        )

    return act


def alert_of(store: Store) -> DecayAlert:
    (alert,) = store.list_alerts(model_name=MODEL_NAME)
    return alert


def serve(store: Store, now: datetime, number: int, outcome: Outcome) -> None:
    """A run that serves what is queued."""
    run = make_run(number, started_at=now, heartbeat_at=now)
    store.start_run(run)
    request = store.claim(
        model_name=MODEL_NAME, run_id=run.run_id, now=now, lease=timedelta(hours=1)
    )
    assert request is not None
    done = make_finished_run(number, started_at=now, heartbeat_at=now, completed_at=now)
    store.finish_run(replace(done, outcome=outcome))
    store.complete(request.request_id, run_id=run.run_id, now=now)


def test_a_decay_is_written_down_and_a_retrain_is_queued_once(
    store: LocalStore, again: Again
) -> None:
    for hours in range(5):
        again(hours)
    alert = alert_of(store)
    assert (alert.status, alert.action_state) == (AlertStatus.TRIGGERED, ActionState.TRIGGERED)
    assert (alert.baseline, alert.recent) == (0.75, 0.5)
    assert (alert.severity, alert.model_id) == ("critical", "m-1")
    (request,) = store.list_requests(model_name=MODEL_NAME)
    assert (request.request_id, request.status) == (alert.request_id, RequestStatus.PENDING)
    assert request.reason.startswith(
        "decay_triggered: In the last 3 days the model was right 50.0 % of the time"
    )
    days = store.list_days(model_name=MODEL_NAME, since=(NOW - timedelta(days=90)).date())
    assert len(days) == 2 * (DAYS + 7)
    assert {day.accuracy for day in days} == {0.75, 0.5}


def test_the_run_that_serves_it_says_that_decay_started_it(
    store: LocalStore, again: Again, tmp_path: Path
) -> None:
    again()
    settings = Settings().changed({"model_name": MODEL_NAME, "run.min_error_samples": 10_000})
    order = Order(settings=settings, work_dir=tmp_path / "work", clock=lambda: NOW)
    outcome = recording.run(store, order)
    assert outcome.run.source is Source.DECAY_TRIGGERED
    again(1)
    alert = alert_of(store)
    assert (alert.run_id, alert.fruitless) == (outcome.run.run_id, 1)
    assert alert.details["run_outcome"] == "skipped_insufficient_errors"


def test_outcomes_of_an_earlier_champion_do_not_count(store: LocalStore, again: Again) -> None:
    store.register(make_model("m-2", created_at=NOW))
    store.promote(make_promotion("m-2", "m-1", 2, created_at=NOW))
    assert again().verdict.sentence == "Too few new results to tell."
    assert store.list_alerts(model_name=MODEL_NAME) == []


def test_a_new_base_ends_the_alert_of_the_old_one(store: LocalStore, again: Again) -> None:
    again()
    store.register(make_model("m-2", created_at=NOW))
    store.promote(make_promotion("m-2", "m-1", 2, created_at=NOW))
    again(1)
    assert alert_of(store).status is AlertStatus.RESOLVED
    assert "m-2 serves now" in alert_of(store).details["resolved_because"]


def test_outcomes_that_are_imported_for_past_days_are_counted(
    store: LocalStore, again: Again
) -> None:
    again()
    late = outcomes(NOW - timedelta(days=20), 1, 1.0, first=90_000)
    store.append_events(frame_of(late))
    again(24)
    past = (NOW - timedelta(days=20)).date()
    days = store.list_days(model_name=MODEL_NAME, since=past)
    assert {day.evaluated for day in days if day.day == past} == {2 * ROWS}


def test_rejected_retrains_open_the_circuit_and_ask_for_a_person(
    store: LocalStore, again: Again
) -> None:
    again()
    for turn in range(3):
        hours = 80.0 * turn
        serve(store, NOW + timedelta(hours=hours + 5), 500 + turn, Outcome.REJECTED)
        bad = outcomes(NOW + timedelta(hours=80 * (turn + 1)), 2, 0.5, first=100_000 * (turn + 1))
        again(hours + 6)
        store.append_events(frame_of(bad))
        again(hours + 80)
        again(hours + 81)
    alert = alert_of(store)
    assert (alert.attempts, alert.fruitless, alert.needs_person) == (3, 3, True)
    assert len(store.list_requests(model_name=MODEL_NAME)) == 3
    again(900)
    assert len(store.list_requests(model_name=MODEL_NAME)) == 3


def test_the_cool_down_lies_between_two_retrains(store: LocalStore, again: Again) -> None:
    again()
    serve(store, NOW + timedelta(hours=1), 500, Outcome.REJECTED)
    store.append_events(frame_of(outcomes(NOW + timedelta(hours=60), 2, 0.5, first=100_000)))
    again(60)
    assert len(store.list_requests(model_name=MODEL_NAME)) == 1
    again(73)
    assert len(store.list_requests(model_name=MODEL_NAME)) == 2


def test_a_promoted_retrain_that_helps_ends_the_alert(store: LocalStore, again: Again) -> None:
    again()
    serve(store, NOW + timedelta(hours=5), 500, Outcome.PROMOTED)
    again(6)
    assert alert_of(store).action_state is ActionState.SUCCEEDED
    store.append_events(frame_of(outcomes(NOW + timedelta(hours=48), 1, 0.75, first=100_000)))
    again(48)
    alert = alert_of(store)
    assert (alert.status, alert.run_id) == (AlertStatus.RESOLVED, make_id(500))
    assert alert.resolved_at == NOW + timedelta(hours=48)
    again(49)
    assert len(store.list_alerts(model_name=MODEL_NAME)) == 1


def test_an_open_alert_is_followed_up_whatever_came_and_went_since(
    store: LocalStore, again: Again
) -> None:
    opened = again(action="alert").alerts
    came_and_went(store, 30, NOW + timedelta(hours=1))
    found = again(2, action="alert")
    assert [alert.alert_id for alert in found.alerts] == [opened[0].alert_id]
    store.append_events(frame_of(outcomes(NOW + timedelta(hours=48), 1, 0.75, first=100_000)))
    again(48, action="alert")
    assert store.list_alerts(model_name=MODEL_NAME, open_only=True) == []


def test_a_watchdog_that_died_between_alerting_and_acting_is_taken_up(
    store: LocalStore, again: Again
) -> None:
    again(action="alert")
    pending = alert_of(store)
    assert (pending.status, pending.action) == (AlertStatus.PENDING, "alert")
    unacted = replace(pending, action=None, acted_at=None, updated_at=NOW + timedelta(seconds=9))
    store.change_alert(unacted, seen=pending.updated_at)
    again(1)
    assert alert_of(store).request_id == store.list_requests(model_name=MODEL_NAME)[0].request_id


def test_defect_23_a_command_that_fails_is_recorded_as_failed(
    store: LocalStore, again: Again
) -> None:
    again(action="command", command=FAIL)
    alert = alert_of(store)
    assert (alert.action, alert.action_state) == ("command", ActionState.FAILED)
    assert (alert.details["exit_code"], alert.details["output"]) == (3, "no such model\n")
    assert store.list_requests(model_name=MODEL_NAME) == []


def test_a_command_that_takes_too_long_is_stopped_and_its_output_kept(
    store: LocalStore, again: Again
) -> None:
    began = time.monotonic()
    again(action="command", command=SLEEP, command_timeout_s=1.0)
    assert time.monotonic() - began < 30
    alert = alert_of(store)
    assert alert.action_state is ActionState.FAILED
    assert (alert.details["exit_code"], alert.details["output"]) == (None, "began\n")


def test_a_command_that_is_not_there_is_a_failure_and_one_that_works_is_none(
    store: LocalStore, again: Again
) -> None:
    again(action="command", command=["no-such-program-here"])
    assert alert_of(store).action_state is ActionState.FAILED
    again(24, action="command", command=["true"])
    assert alert_of(store).attempts == 1
    again(73, action="command", command=["true"])


def test_a_person_decides_and_the_watchdog_keeps_to_it(store: LocalStore, again: Again) -> None:
    again(action="alert")
    alert = alert_of(store)

    def decided(status: AlertStatus, hours: int) -> None:
        decide(
            store, model_name=MODEL_NAME, alert_id=alert.alert_id, status=status,
            reason="new season", now=NOW + timedelta(hours=hours),
        )  # fmt: skip

    decided(AlertStatus.ACKNOWLEDGED, 1)
    again(100)
    assert alert_of(store).status is AlertStatus.ACKNOWLEDGED
    assert store.list_requests(model_name=MODEL_NAME) == []
    decided(AlertStatus.OVERRIDDEN, 2)
    again(101)
    assert alert_of(store).details["overridden_because"] == "new season"
    assert store.list_alerts(model_name=MODEL_NAME, open_only=True) == []


# ------------------------------------------------------------------------------------ commands


def today(**changes: object) -> list[dict[str, Any]]:
    ours = {"model_name": "default", "features": None, **changes}
    return [event | ours for event in decayed(datetime.now(UTC))]


def test_a_quick_check_reads_no_rows(tmp_path: Path) -> None:
    store = LocalStore.open(tmp_path / "store")
    store.append_events(frame_of(today()))
    whole = ml_pipeline("decay", "--local", tmp_path / "store", cwd=tmp_path).json
    quick = ml_pipeline("decay", "--quick", "--local", tmp_path / "store", cwd=tmp_path).json
    assert set(whole) - set(quick) >= {"drift", "estimate", "errors_in_order", "realised_accuracy"}
    assert quick["sentence"] == whole["sentence"]


def test_the_command_checks_once_and_records_a_persons_decision(tmp_path: Path) -> None:
    store = LocalStore.open(tmp_path / "store")
    store.append_events(frame_of(today()))
    done = ml_pipeline("decay", "--local", tmp_path / "store", cwd=tmp_path)
    assert done.code == 0, done.stderr
    (alert,) = done.json["alerts"]
    assert (alert["status"], alert["severity"]) == ("auto_retrain_triggered", "critical")
    assert (done.json["realised_accuracy"], done.json["estimate"]) == (0.5, None)
    assert done.json["errors_in_order"]["rows"] == 7 * ROWS
    logged = (tmp_path / "logs" / "model_retrainer.log").read_text()
    assert (
        " - WARNING - default has decayed (critical). In the last 3 days the model was right 50.0 %"
        in logged
    )
    decision = ("--override", alert["alert_id"], "--reason", "a new season")
    over = ml_pipeline("decay", "--local", tmp_path / "store", *decision, cwd=tmp_path)
    assert over.code == 0, over.stderr
    assert over.json["alert"]["status"] == "overridden"
    again = ml_pipeline("decay", "--local", tmp_path / "store", cwd=tmp_path)
    assert (again.json["alerts"], again.json["decayed"]) == ([], False)
    unknown = ml_pipeline("decay", "--local", tmp_path / "store", "--resolve", "x", cwd=tmp_path)
    assert unknown.code == 1
    assert "no open alert x" in unknown.stderr


def test_a_file_is_watched_as_a_table_is(tmp_path: Path) -> None:
    rows = [
        {name: value.isoformat() if isinstance(value, datetime) else str(value)
         for name, value in event.items()}
        | {"features": json.dumps(dict.fromkeys(Settings().data.features, 0.5)), "status": ""}
        for event in today()
    ]  # fmt: skip
    log = write_log(tmp_path / "log.csv", rows)
    done = ml_pipeline(
        "decay", "--local", tmp_path / "store", cwd=tmp_path, ML_PIPELINE__LOG__SOURCE=str(log)
    )
    assert done.code == 0, done.stderr
    severities = {alert["cause"]: alert["severity"] for alert in done.json["alerts"]}
    # No model was trained here: nobody knows from what the inputs could have moved.
    assert severities == {"performance": "critical"}
    assert {drift["column"] for drift in done.json["drift"]} <= {"prediction"}
    assert "No model serves yet" in done.json["drift_reason"]


def test_watch_goes_on_until_it_is_told_to_stop_and_gives_its_lease_back(tmp_path: Path) -> None:
    store = LocalStore.open(tmp_path / "store")
    store.append_events(frame_of(today()))
    command = [PYTHON, "-m", "ml_pipeline", "decay", "--watch"]
    with subprocess.Popen(
        [*command, "--interval-minutes", "0.01", "--local", str(tmp_path / "store")],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [len(line["alerts"]) for line in lines] == [1, 1]
        now = datetime.now(UTC)
        assert not store.take_lease("decay_monitor:default", holder="me", now=now, until=now)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert store.take_lease("decay_monitor:default", holder="me", now=now, until=now)
    assert len(store.list_requests(model_name="default")) == 1


def test_inputs_that_move_are_alerted_of_once_and_retrain_nothing(tmp_path: Path) -> None:
    settings = Settings().changed({"model_name": MODEL_NAME})
    training, names = read_dataset("builtin", settings.data), settings.data.features
    store = LocalStore.open(tmp_path / "store")
    with_champion(store, reference_of(training.features, names, None))
    store.append_events(frame_of(decayed()))

    def check_on(days: int, shift: float, first: int) -> dict[str, Any]:
        now = NOW + timedelta(days=days)
        rows = training.features[first : first + 300] + shift
        events = [
            make_event(
                200_000 + first + place, timestamp=now - timedelta(hours=2), actual_result=None,
                confidence=0.75, features=json.dumps(dict(zip(names, row, strict=True))),
            )
            for place, row in enumerate(rows.tolist())
        ]  # fmt: skip
        store.append_events(frame_of(events))
        return daily_checks(
            store,
            CheckContext(settings=settings, now=now, new_id=lambda: make_id(6_000_000 + days)),
        )

    days = 60
    still = check_on(days, 0.0, 0)
    assert max(drift["psi"] for drift in still["drift"]) < 0.25
    assert store.list_alerts(model_name=MODEL_NAME) == []
    moved = check_on(days + 20, 1.5, 1000)
    check_on(days + 21, 1.5, 2000)
    assert max(drift["psi"] for drift in moved["drift"]) > 0.25
    assert alert_of(store).cause is Cause.INPUT_DRIFT
    assert alert_of(store).status is AlertStatus.PENDING
    check_on(days + 40, 0.0, 3000)
    assert alert_of(store).status is AlertStatus.RESOLVED
    assert store.list_requests(model_name=MODEL_NAME) == []


def test_inputs_are_compared_with_what_the_champion_was_trained_on_and_nothing_else(
    tmp_path: Path,
) -> None:
    """Not with the bundled sample, whose features bear the same names."""
    settings = Settings().changed({"model_name": MODEL_NAME})
    names = settings.data.features
    trained = np.random.default_rng(3).normal(50.0, 5.0, (400, len(names)))
    logged = frame_of(
        [
            make_event(
                300_000 + place, timestamp=NOW - timedelta(hours=2), actual_result=None,
                confidence=0.75, features=json.dumps(dict(zip(names, row, strict=True))),
            )
            for place, row in enumerate(trained[:300].tolist())
        ]
    )  # fmt: skip

    def checked(name: str, reference: dict[str, Any] | None) -> dict[str, Any]:
        store = LocalStore.open(tmp_path / name)
        with_champion(store, reference)
        base = store.get_model(MODEL_NAME, "m-1")
        # An online model on that base serves; it keeps no summary of its own.
        store.register(replace(base, model_id="m-2", state=ModelState.CANDIDATE, lineage=Lineage()))
        store.promote(make_promotion("m-2", "m-1", 2, created_at=NOW - timedelta(days=60)))
        store.append_events(logged)
        context = CheckContext(settings=settings, now=NOW, new_id=lambda: make_id(6_000_000))
        return daily_checks(store, context)

    known = checked("known", reference_of(trained, names, None))
    assert known["drift_reason"] is None
    assert [drift["column"] for drift in known["drift"]] == names
    assert max(drift["psi"] for drift in known["drift"]) < 0.1
    assert {drift["reference_rows"] for drift in known["drift"]} == {400}
    unknown = checked("unknown", None)
    assert unknown["drift"] == []
    assert "The base m-1 holds no summary" in unknown["drift_reason"]


def test_a_handful_of_earlier_predictions_is_no_mix_to_compare_with(tmp_path: Path) -> None:
    store = LocalStore.open(tmp_path / "store")
    with_champion(store)
    settings = Settings().changed({"model_name": MODEL_NAME})

    def columns(days_ago: int, first: int) -> list[str]:
        events = outcomes(NOW - timedelta(days=days_ago), 4, 0.75, first=first)
        for event in events:
            event["prediction"] = "H" if days_ago else "A"
        store.append_events(frame_of(events[:4] if first == 1 else events))
        found = daily_checks(
            store, CheckContext(settings=settings, now=NOW, new_id=lambda: make_id(first))
        )
        return [drift["column"] for drift in found["drift"]]

    assert columns(10, 1) == []
    assert "prediction" not in columns(0, 1000)
    assert "prediction" in columns(12, 2000)


def clusters(store: Store) -> DecayAlert:
    """The one alert of its cause; the made-up inputs have drifted as well."""
    alerts = store.list_alerts(model_name=MODEL_NAME)
    (alert,) = [alert for alert in alerts if alert.cause is Cause.ERROR_CLUSTERS]
    return alert


def test_errors_that_cluster_are_alerted_of_once_and_retrain_nothing(tmp_path: Path) -> None:
    store = LocalStore.open(tmp_path / "store")
    with_champion(store)
    settings = Settings().changed({"model_name": MODEL_NAME})

    def check_on(now: datetime, events: list[dict[str, Any]], number: int) -> dict[str, Any]:
        store.append_events(frame_of(events))
        return daily_checks(
            store,
            CheckContext(settings=settings, now=now, new_id=lambda: make_id(6_000_000 + number)),
        )

    in_a_row = outcomes(NOW, 7, 0.8)
    for place, event in enumerate(in_a_row):
        event["actual_result"] = "A" if place % 70 < 14 else "H"
    found = check_on(NOW, in_a_row, 1)["errors_in_order"]
    assert found["clustered"] is True
    check_on(NOW, [], 2)
    alert = clusters(store)
    assert alert.status is AlertStatus.PENDING
    assert (alert.recent, alert.baseline) == (found["runs"], found["expected_runs"])
    assert "84 errors in 420 predictions" in alert.message
    check_on(NOW + timedelta(days=7), outcomes(NOW + timedelta(days=7), 7, 0.8, first=90_000), 3)
    assert clusters(store).status is AlertStatus.RESOLVED
    assert store.list_requests(model_name=MODEL_NAME) == []


def test_before_labels_arrive_the_estimate_stands_beside_the_realised_accuracy(
    store: LocalStore,
) -> None:
    waiting = [
        make_event(300_000 + n, timestamp=NOW - timedelta(hours=2), actual_result=None,
                   confidence=0.75)
        for n in range(50)
    ]  # fmt: skip
    store.append_events(frame_of(waiting))
    settings = Settings().changed({"model_name": MODEL_NAME})
    found = daily_checks(store, CheckContext(settings=settings, now=NOW, new_id=lambda: make_id(1)))
    assert found["realised_accuracy"] == 0.5
    estimate = found["estimate"]
    assert (estimate["rows"], estimate["accuracy"]) == (50, pytest.approx(0.75))
    assert 0.6 < estimate["low"] < 0.75 < estimate["high"] < 0.9


def test_noise_alone_never_alarms(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    store = LocalStore.open(tmp_path / "store")
    events = outcomes(NOW, DAYS, 0.75)
    for event in events:
        event["actual_result"] = "H" if draw.random() < 0.75 else "A"
    store.append_events(frame_of(events))
    settings = Settings().changed({"model_name": MODEL_NAME})
    found = check_decay(store, CheckContext(settings=settings, now=NOW, new_id=lambda: make_id(1)))
    assert found.verdict.decayed is None
    assert found.verdict.sentence.startswith("No decay. In the last 7 days the model was right")
