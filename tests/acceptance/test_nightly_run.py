"""One run of the loop on the embedded store: rows, files and probabilities afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Failed, Order, RunOutcome, Skipped, Trained
from ml_pipeline.store.contract import Store
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import (
    ModelState,
    Outcome,
    Priority,
    PromotionEvent,
    PromotionKind,
    RequestStatus,
    RetrainingRequest,
    RunStatus,
    Source,
)
from tests.conftest import FirstModel
from tests.support import league
from tests.support.places import long_but

NOW = datetime(2026, 3, 14, 2, 0, tzinfo=UTC)
ROWS = league.play(99, 200).features

Pass = Callable[..., RunOutcome]


@pytest.fixture
def store(tmp_path: Path, first_model: FirstModel) -> LocalStore:
    """A champion that was good, and five nights on which the truth has turned."""
    nights = league.nights_before(NOW, 5)
    return league.open_league(tmp_path / "store", first_model.path, first_model.model, nights)


def order(folder: Path, *, now: datetime = NOW, **changes: Any) -> Order:  # noqa: ANN401
    count = iter(range(1000))
    values: dict[str, Any] = {
        "settings": league.settings_for(),
        "work_dir": folder / "work",
        "clock": lambda: now,
        "new_id": lambda: league.event_id(f"{now} {next(count)}"),
    }
    return Order(**values | changes)


def serving(store: Store) -> Any:  # noqa: ANN401 - AdaptiveClassifier
    champion = store.champion(model_name="default")
    assert champion is not None
    return load_model_version(store, champion)


def champion_id(store: Store) -> str:
    champion = store.champion(model_name="default")
    assert champion is not None
    return champion.model_id


def test_defect_8_a_run_learns_from_what_became_known_and_promotes(
    store: Store, tmp_path: Path
) -> None:
    before = serving(store).predict_proba(ROWS)

    outcome = recording.run(store, order(tmp_path))

    assert isinstance(outcome, Trained)
    result = outcome.result
    assert (result["status"], result["outcome"]) == ("completed", "promoted")
    assert result["source"] == "auto_daily"
    assert result["champion"] == result["challenger"] == champion_id(store)
    assert result["training_rows"] == 200
    assert result["dataset_size"] >= 10
    for name in ("accuracy", "precision", "recall", "f1_score", "log_loss"):
        assert isinstance(result["metrics"][name], float)
    assert np.abs(serving(store).predict_proba(ROWS) - before).max() > 0.05
    turned = league.play(7, 1000, turned=True)
    assert (serving(store).predict(turned.features) == turned.labels).mean() > 0.6


def test_defect_3_the_row_holds_what_the_run_printed(store: Store, tmp_path: Path) -> None:
    outcome = recording.run(store, order(tmp_path))
    row = store.get_run(outcome.run.run_id)

    assert row.status is RunStatus.COMPLETED
    assert row.outcome is Outcome.PROMOTED
    assert row.metrics == outcome.result["metrics"]
    assert row.outcome_reason == outcome.result["outcome_reason"]
    assert row.champion_id == row.challenger_id == champion_id(store)
    for digest in (row.training_digest, row.holdout_digest, row.config_digest):
        assert digest is not None
        assert digest.startswith("sha256:")
    assert row.log_url is not None
    path = row.log_url.removeprefix("file://")
    assert f"Run {row.run_id} started" in Path(path).read_text()


def test_the_error_samples_are_the_csv_and_the_rows_to_learn_stand_beside_it(
    store: Store, tmp_path: Path
) -> None:
    result = recording.run(store, order(tmp_path)).result
    errors = pd.read_csv(result["dataset_path"])
    rows = pd.read_csv(result["training_path"])

    assert Path(result["dataset_path"]).name == "finetune_20260314_020000.csv"
    assert len(errors) == result["dataset_size"]
    assert (errors["confidence"] > 0.7).all()
    assert (errors["prediction"] != errors["result"]).all()
    assert len(rows) == 200
    assert set(rows.loc[rows["is_error"], "event_id"]) == set(errors["event_id"])


def test_a_second_pass_has_nothing_new_to_learn(store: Store, tmp_path: Path) -> None:
    recording.run(store, order(tmp_path))
    first = champion_id(store)

    outcome = recording.run(store, order(tmp_path, now=NOW + timedelta(minutes=5)))

    assert isinstance(outcome, Skipped)
    assert outcome.result["outcome"] == "skipped_no_new_data"
    assert champion_id(store) == first


def with_errors(store: LocalStore, model: Any, wanted: int) -> None:  # noqa: ANN401
    """Log matches of yesterday until exactly `wanted` of them are confident errors."""
    night = league.Night(day=(NOW - timedelta(days=1)).date(), matches=400)
    events = league.events_of(model, night)
    wrong = events["prediction"] != events["actual_result"]
    is_error = wrong & (events["confidence"] > 0.7)
    chosen = pd.concat([events[is_error].head(wanted), events[~is_error].head(60)])
    store.append_events(chosen.sort_values("event_id"))


@pytest.mark.parametrize(
    ("errors", "kind", "outcome"),
    [
        (0, Skipped, "skipped_insufficient_errors"),
        (9, Skipped, "skipped_insufficient_errors"),
        (10, Trained, "promoted"),
    ],
)
def test_ten_confident_errors_are_enough_and_nine_are_not(
    tmp_path: Path, first_model: FirstModel, errors: int, kind: type, outcome: str
) -> None:
    store = league.open_league(tmp_path / "store", first_model.path, first_model.model, [])
    with_errors(store, first_model.model, errors)

    result = recording.run(store, order(tmp_path))

    assert isinstance(result, kind)
    assert result.result["dataset_size"] == errors
    assert result.result["outcome"] == outcome
    if kind is Skipped:
        assert result.result["outcome_reason"] == (
            f"Skipped: {errors} confident errors (confidence over 0.7) in the last 7 days, "
            f"10 are needed to train. {60 + errors} new results wait for a later run; "
            "`run.trigger: labels` learns from them without errors."
        )
        assert champion_id(store) == league.FIRST_MODEL


def test_an_empty_log_is_a_skip_and_no_failure(tmp_path: Path, first_model: FirstModel) -> None:
    store = league.open_league(tmp_path / "store", first_model.path, first_model.model, [])
    outcome = recording.run(store, order(tmp_path))
    assert outcome.result["outcome"] == "skipped_insufficient_errors"


def test_defect_14_errors_of_an_earlier_model_do_not_train_this_one(
    tmp_path: Path, first_model: FirstModel
) -> None:
    store = league.open_league(tmp_path / "store", first_model.path, first_model.model, [])
    for night in league.nights_before(NOW, 3):
        store.append_events(league.events_of(first_model.model, night, model_id="long-gone"))

    outcome = recording.run(store, order(tmp_path))

    assert outcome.result["outcome"] == "skipped_insufficient_errors"
    assert outcome.result["dataset_size"] == 0
    assert outcome.result["waiting_rows"] == 120


def test_a_dry_run_says_what_would_happen_and_writes_nothing(
    store: LocalStore, tmp_path: Path
) -> None:
    outcome = recording.run(store, order(tmp_path, dry_run=True))

    assert outcome.result["outcome"] == "promoted"
    assert champion_id(store) == league.FIRST_MODEL
    assert store.list_runs(model_name="default", limit=10) == []
    assert len(store.list_models(model_name="default")) == 1
    artifacts = [p for p in (tmp_path / "store" / "artifacts").rglob("*") if p.is_file()]
    assert len(artifacts) == 1


def write_log(path: Path, events: pd.DataFrame, bad: int) -> None:
    broken = events.head(bad).copy()
    broken["event_id"] = [f"bad-{number}" for number in range(bad)]
    broken["confidence"] = 85
    pd.concat([events, broken]).to_csv(path, index=False)


def test_too_many_bad_rows_fail_the_run_and_train_nothing(
    tmp_path: Path, first_model: FirstModel
) -> None:
    store = league.open_league(tmp_path / "store", first_model.path, first_model.model, [])
    nights = [league.events_of(first_model.model, n) for n in league.nights_before(NOW, 3)]
    path = tmp_path / "log.csv"
    write_log(path, pd.concat(nights), bad=20)

    outcome = recording.run(
        store, order(tmp_path, settings=league.settings_for(log__source=str(path)))
    )

    assert isinstance(outcome, Failed)
    row = store.get_run(outcome.run.run_id)
    assert (row.status, row.outcome) == (RunStatus.FAILED, Outcome.FAILED)
    assert row.error_message is not None
    assert row.error_message.startswith("loading the evaluation log: ")
    assert "percent" in row.error_message
    assert row.log_url is not None
    assert champion_id(store) == league.FIRST_MODEL
    assert len(store.list_models(model_name="default")) == 1


def test_a_few_bad_rows_are_reported_and_the_rest_is_learned(
    tmp_path: Path, first_model: FirstModel
) -> None:
    store = league.open_league(tmp_path / "store", first_model.path, first_model.model, [])
    nights = [league.events_of(first_model.model, n) for n in league.nights_before(NOW, 3)]
    path = tmp_path / "log.csv"
    write_log(path, pd.concat(nights), bad=3)

    result = recording.run(
        store, order(tmp_path, settings=league.settings_for(log__source=str(path)))
    ).result

    assert result["outcome"] == "promoted"
    assert result["load_report"]["bad"] == 3
    assert result["training_rows"] == 120


def test_a_csv_log_and_the_table_teach_the_same(tmp_path: Path, first_model: FirstModel) -> None:
    nights = league.nights_before(NOW, 3)
    table = league.open_league(tmp_path / "a", first_model.path, first_model.model, nights)
    file = league.open_league(tmp_path / "b", first_model.path, first_model.model, [])
    path = tmp_path / "log.csv.gz"
    pd.concat([league.events_of(first_model.model, n) for n in nights]).to_csv(path, index=False)

    one = recording.run(table, order(tmp_path / "a")).result
    other = recording.run(
        file, order(tmp_path / "b", settings=league.settings_for(log__source=str(path)))
    ).result

    assert one["metrics"] == other["metrics"]
    np.testing.assert_allclose(
        serving(table).predict_proba(ROWS), serving(file).predict_proba(ROWS), rtol=0, atol=1e-12
    )


def test_three_nightly_runs_one_late_run_and_a_rebuild_end_in_the_same_model(
    tmp_path: Path, first_model: FirstModel
) -> None:
    nights = league.nights_before(NOW, 4, matches=35)
    nightly = league.open_league(tmp_path / "a", first_model.path, first_model.model, nights[:1])
    settings = league.settings_for(run__trigger="any")
    for ago, night in zip((3, 2, 1), nights, strict=False):
        # Each run also sees the morning of its own day, which is not settled yet.
        recording.run(
            nightly, order(tmp_path / "a", now=NOW - timedelta(days=ago), settings=settings)
        )
        following = league.Night(day=night.day + timedelta(days=1), matches=35)
        nightly.append_events(league.events_of(first_model.model, following))
    recording.run(nightly, order(tmp_path / "a", settings=settings))
    late = league.open_league(tmp_path / "b", first_model.path, first_model.model, nights)
    recording.run(late, order(tmp_path / "b", settings=settings))

    assert len(nightly.list_runs(model_name="default", limit=10)) == 4
    np.testing.assert_allclose(
        serving(nightly).predict_proba(ROWS), serving(late).predict_proba(ROWS), rtol=0, atol=1e-12
    )


def test_rows_of_the_open_day_serve_at_once_and_are_taken_up_again_when_it_is_over(
    tmp_path: Path, first_model: FirstModel
) -> None:
    evening = NOW.replace(hour=21)
    today = league.Night(day=NOW.date(), hour=20)
    settings = league.settings_for(run__trigger="any")
    store = league.open_league(tmp_path / "a", first_model.path, first_model.model, [today])
    before = serving(store).predict_proba(ROWS)

    recording.run(store, order(tmp_path / "a", now=evening, settings=settings))
    assert np.abs(serving(store).predict_proba(ROWS) - before).max() > 0.01
    extra = league.events_of(first_model.model, replace(today, matches=35, hour=22), tag="late ")
    store.append_events(extra)
    recording.run(store, order(tmp_path / "a", now=evening + timedelta(hours=6), settings=settings))

    other = league.open_league(tmp_path / "b", first_model.path, first_model.model, [today])
    other.append_events(extra)
    recording.run(other, order(tmp_path / "b", now=evening + timedelta(hours=6), settings=settings))
    np.testing.assert_allclose(
        serving(store).predict_proba(ROWS), serving(other).predict_proba(ROWS), rtol=0, atol=1e-12
    )


def test_rows_that_turn_up_for_a_settled_day_rebuild_the_line(
    tmp_path: Path, first_model: FirstModel
) -> None:
    nights = league.nights_before(NOW, 4)
    store = league.open_league(tmp_path / "a", first_model.path, first_model.model, nights)
    recording.run(store, order(tmp_path / "a"))
    late = league.events_of(first_model.model, nights[1], tag="late ")
    store.append_events(late)
    tomorrow = NOW + timedelta(days=1)
    result = recording.run(store, order(tmp_path / "a", now=tomorrow)).result

    assert result.get("rebuilt") or result["learned_again_since"]
    whole = league.open_league(tmp_path / "b", first_model.path, first_model.model, nights)
    whole.append_events(late)
    recording.run(whole, order(tmp_path / "b", now=tomorrow))
    np.testing.assert_allclose(
        serving(store).predict_proba(ROWS), serving(whole).predict_proba(ROWS), rtol=0, atol=1e-12
    )


def test_a_line_that_does_harm_is_rejected_and_its_anchor_serves(
    tmp_path: Path, first_model: FirstModel
) -> None:
    """One night of turned labels misleads the line: the guard lets the anchor serve."""
    settings = league.settings_for(
        run__trigger="any",
        training__adaptive__half_lives=[60.0],
        # The vote stays with the head, or it would go back to the base by itself.
        training__adaptive__initial_head_weight=0.99,
        training__adaptive__vote_rate=1e-9,
        training__adaptive__vote_share=0.0,
    )
    store = league.open_league(tmp_path / "s", first_model.path, first_model.model, [])
    outcomes, states = [], []
    for number in range(5):
        now = NOW + timedelta(days=number)
        turned = number == 0
        night = league.Night(day=(now - timedelta(days=1)).date(), matches=120, turned=turned)
        store.append_events(league.events_of(first_model.model, night))
        outcomes.append(
            recording.run(store, order(tmp_path / "s", now=now, settings=settings)).result
        )
        states.append(champion_id(store))

    verdicts = [result["outcome"] for result in outcomes]
    assert verdicts[:2] == ["promoted"] * 2
    assert "rejected" in verdicts
    rejected = verdicts.index("rejected")
    assert states[rejected] == league.FIRST_MODEL
    assert outcomes[rejected]["champion"] == league.FIRST_MODEL
    assert "did worse than the approved one" in outcomes[rejected]["outcome_reason"]
    event = store.promotion_events(model_name="default")[-(rejected + 2)]
    assert event.kind is PromotionKind.DEMOTION
    shadow = store.get_model("default", outcomes[rejected]["challenger"])
    assert shadow.state is ModelState.SHADOW


def test_after_a_rollback_a_person_has_to_approve(store: Store, tmp_path: Path) -> None:
    promoted = recording.run(store, order(tmp_path)).result["champion"]
    store.promote(
        PromotionEvent(
            event_id=league.event_id("rollback"),
            model_name="default",
            kind=PromotionKind.ROLLBACK,
            to_model_id=league.FIRST_MODEL,
            from_model_id=promoted,
            reason="the app looked odd",
            actor="person",
            created_at=NOW,
        )
    )
    result = recording.run(store, order(tmp_path, now=NOW + timedelta(hours=1))).result

    assert result["outcome"] == "awaiting_approval"
    assert "the app looked odd" in result["outcome_reason"]
    assert champion_id(store) == league.FIRST_MODEL
    waiting = store.get_model("default", result["challenger"])
    assert waiting.state is ModelState.AWAITING


def test_without_a_champion_the_first_one_comes_from_the_log(
    tmp_path: Path, first_model: FirstModel
) -> None:
    store = LocalStore.open(tmp_path / "store")
    for night in league.nights_before(NOW, 5):
        store.append_events(league.events_of(first_model.model, night))

    result = recording.run(store, order(tmp_path)).result

    assert result["outcome"] == "promoted"
    assert "first champion" in result["outcome_reason"]
    turned = league.play(7, 1000, turned=True)
    assert (serving(store).predict(turned.features) == turned.labels).mean() > 0.6


def test_without_a_champion_49_rows_are_too_few(tmp_path: Path, first_model: FirstModel) -> None:
    store = LocalStore.open(tmp_path / "store")
    night = league.Night(day=(NOW - timedelta(days=1)).date(), matches=49)
    store.append_events(league.events_of(first_model.model, night))

    result = recording.run(store, order(tmp_path)).result

    assert result["outcome"] == "skipped_insufficient_errors"
    assert result["outcome_reason"] == (
        "Skipped: no model serves yet, and 49 results are too few to train a first one (50 are "
        "needed). Wait for more outcomes, or register a model that was trained elsewhere with "
        "`ml-pipeline train --register`."
    )
    assert store.champion(model_name="default") is None


@pytest.mark.parametrize("strategy", ["refit", "sgd", "errors_only"])
def test_other_strategies_are_judged_as_new_bases(
    store: Store, tmp_path: Path, strategy: str
) -> None:
    settings = league.settings_for(training__strategy=strategy)
    result = recording.run(store, order(tmp_path, settings=settings)).result

    assert result["status"] == "completed"
    assert result["outcome"] in {"promoted", "rejected", "awaiting_approval"}
    names = [check["name"] for check in result["decision"]["checks"]]
    assert names[:2] == ["confidence_sequence", "recent"]
    challenger = store.get_model("default", result["challenger"])
    assert challenger.anchor_id == challenger.model_id


def failing(**changes: Any) -> Settings:  # noqa: ANN401
    return league.settings_for(**changes)


def test_a_trainer_that_takes_too_long_is_stopped_and_recorded(
    store: Store, tmp_path: Path
) -> None:
    outcome = recording.run(store, order(tmp_path, settings=failing(training__time_limit_s=0.05)))

    assert isinstance(outcome, Failed)
    assert outcome.run.error_message is not None
    assert outcome.run.error_message.startswith("training: Training ran past its time limit")
    assert champion_id(store) == league.FIRST_MODEL


def test_a_trainer_that_wants_too_much_memory_is_a_failed_run(store: Store, tmp_path: Path) -> None:
    outcome = recording.run(store, order(tmp_path, settings=failing(training__memory_limit_mb=128)))

    assert isinstance(outcome, Failed)
    assert str(outcome.run.error_message).startswith("training: ")
    assert store.get_run(outcome.run.run_id).status is RunStatus.FAILED


def submit(store: Store, name: str, priority: Priority, minute: int) -> RetrainingRequest:
    return store.submit(
        RetrainingRequest(
            request_id=league.event_id(name),
            model_name="default",
            priority=priority,
            status=RequestStatus.PENDING,
            created_at=NOW - timedelta(minutes=60 - minute),
            requested_by=league.event_id("a user"),
        )
    )


def test_defect_9_requests_that_wait_together_are_served_by_one_run_the_urgent_first(
    store: Store, tmp_path: Path
) -> None:
    low = submit(store, "low", Priority.LOW, 1)
    high = submit(store, "high", Priority.HIGH, 2)
    normal = submit(store, "normal", Priority.NORMAL, 3)

    outcome = recording.run(store, order(tmp_path))

    wanted = [high.request_id, normal.request_id, low.request_id]
    assert outcome.result["request_ids"] == wanted
    assert outcome.result["source"] == "manual"
    assert outcome.run.source is Source.MANUAL
    for request_id in wanted:
        request = store.get_request(request_id)
        assert request.status is RequestStatus.COMPLETED
        assert request.run_id == outcome.run.run_id


def test_defect_11_a_failed_run_fails_its_request(store: Store, tmp_path: Path) -> None:
    request = submit(store, "wish", Priority.NORMAL, 1)
    outcome = recording.run(store, order(tmp_path, settings=failing(training__time_limit_s=0.05)))

    assert isinstance(outcome, Failed)
    failed = store.get_request(request.request_id)
    assert failed.status is RequestStatus.FAILED
    assert str(failed.error_message) == f"run {outcome.run.run_id} failed"


@pytest.mark.parametrize("nights", long_but([4], [4, 10]))
def test_nights_in_a_row_leave_one_champion_and_a_whole_history(
    tmp_path: Path, first_model: FirstModel, nights: int
) -> None:
    store = league.open_league(tmp_path / "s", first_model.path, first_model.model, [])
    settings = league.settings_for(run__trigger="any")
    for number in range(nights):
        now = NOW + timedelta(days=number)
        night = league.Night(day=(now - timedelta(days=1)).date())
        store.append_events(league.events_of(serving(store), night, model_id=champion_id(store)))
        result = recording.run(store, order(tmp_path / "s", now=now, settings=settings)).result
        assert result["outcome"] == "promoted"
        assert result["training_rows"] == 40

    models = store.list_models(model_name="default")
    assert [m.state for m in models].count(ModelState.CHAMPION) == 1
    assert len(store.promotion_events(model_name="default")) == nights + 1
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    folders = [p for p in (tmp_path / "s" / "work").iterdir() if p.is_dir()]
    assert len(folders) == nights
