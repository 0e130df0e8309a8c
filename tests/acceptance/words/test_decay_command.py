"""A command that makes a new version: what it gets, what is kept of it, what closes the alert."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.decay.context import CheckContext
from ml_pipeline.decay.watchdog import DecayCheck, check_decay
from ml_pipeline.store.alerts import ActionState, AlertStatus, DecayAlert, Severity
from ml_pipeline.store.contract import Store
from tests.support.factories import (
    MODEL_NAME,
    frame_of,
    make_event,
    make_id,
    make_model,
    make_promotion,
)
from tests.support.places import EMBEDDED, Place

NOW = datetime(2026, 3, 14, 20, 0, tzinfo=UTC)
ROWS = 60
# Says what it was given, then which version it made.
PROGRAM = """
import json, pathlib, sys
path, run_id = sys.argv[1:3]
rows = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
pathlib.Path(sys.argv[3]).write_text(json.dumps([len(rows), rows[0], run_id, path]))
print("\\x1b[31mepoch 1\\x1b[0m")
print(sys.argv[4])
raise SystemExit(int(sys.argv[5]))
"""
Check = Callable[..., DecayCheck]


def tickets(first: int, day: datetime, right: float, model_id: str) -> list[dict[str, Any]]:
    """A day's answers of a model that gives its confidence each time, evenly right."""
    return [
        make_event(
            first + number, timestamp=day - timedelta(hours=3), evaluated_at=day, confidence=0.9,
            model_id=model_id, features=json.dumps({"size": number}),
            actual_result="H" if int((number + 1) * right) > int(number * right) else "A",
        )
        for number in range(ROWS)
    ]  # fmt: skip


def spoilt(model_id: str = "llm-1") -> list[dict[str, Any]]:
    """36 days of answers that were 93 % right, 60 % in the last three."""
    days = [(ago, 0.6 if ago < 3 else 0.93) for ago in range(36)]
    return [
        row
        for ago, right in days
        for row in tickets(1000 * ago, NOW - timedelta(days=ago, hours=1), right, model_id)
    ]


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    with place.opened() as store:
        store.append_events(frame_of(spoilt()))
        yield store


@pytest.fixture
def check(store: Store, tmp_path: Path) -> Check:
    """Check the store some days after NOW; `says` and `code` are the last line and exit code."""
    numbers = iter(range(7_000_000, 8_000_000))
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)

    def act(days: float = 0, *, says: str = "", code: int = 0, **changes: object) -> DecayCheck:
        command = [sys.executable, str(program), "{dataset}", "{run_id}",
                   str(tmp_path / "given.json"), says, str(code)]  # fmt: skip
        settings = Settings().changed({
            "model_name": MODEL_NAME, "data.features": ["size"], "decay.action": "command",
            "decay.alarm_on": ["accuracy"], "decay.command": command, "decay.cool_down_hours": 24,
        } | changes)  # fmt: skip
        context = CheckContext(
            settings=settings,
            now=NOW + timedelta(days=days),
            new_id=lambda: make_id(next(numbers)),
            work_dir=tmp_path / "work",
        )
        return check_decay(store, context)

    return act


def alert_of(store: Store) -> DecayAlert:
    (alert,) = store.list_alerts(model_name=MODEL_NAME)
    return alert


def answered(store: Store, day: int, right: float, model_id: str) -> None:
    made = tickets(900_000 + 1000 * day, NOW + timedelta(days=day, hours=-1), right, model_id)
    store.append_events(frame_of(made))


def test_a_first_champion_ends_no_alert_about_those_who_answered_before_it(
    store: Store, check: Check
) -> None:
    settings = {"decay.action": "alert"}
    assert check(**settings).verdict.severity is Severity.CRITICAL
    store.register(make_model("m-1", created_at=NOW))
    store.promote(make_promotion("m-1", None, created_at=NOW))
    later = check(days=0.1, **settings)
    assert later.verdict.severity is Severity.CRITICAL, "the same answers are as bad as before"
    assert [alert.status for alert in later.alerts] == [AlertStatus.PENDING]
    for day in range(1, 5):
        answered(store, day, 0.93, "llm-1" if day % 2 else "m-1")
    assert not check(days=4, **settings).alerts
    assert "Recovered" in alert_of(store).details["resolved_because"]


def test_only_the_new_versions_own_answers_close_the_alert(
    store: Store, check: Check, tmp_path: Path
) -> None:
    found = check(says='{"model_id": "llm-2"}')
    rows, first, run_id, path = json.loads((tmp_path / "given.json").read_text())
    assert (rows, first["features"], first["label"]) == (36 * ROWS, {"size": 0}, "A")
    assert not Path(path).exists()
    assert not list((tmp_path / "work").iterdir())
    alert = alert_of(store)
    assert (alert.action_state, alert.status) == (ActionState.SUCCEEDED, AlertStatus.TRIGGERED)
    assert alert.details["new_model_id"] == "llm-2"
    assert alert.details["command_run_id"] == run_id
    assert alert.details["output"].splitlines()[0] == "\ufffd[31mepoch 1\ufffd[0m"
    assert found.alerts[0].status.is_open, "the command's success closes nothing"

    answered(store, 1, 0.95, "llm-1")  # the old one had a good day
    (alert,) = check(1, says='{"model_id": "llm-3"}').alerts
    assert "llm-2 has no results yet" in alert.details["versions"]["sentence"]
    answered(store, 2, 0.94, "llm-2")
    check(2)
    alert = alert_of(store)
    assert alert.status is AlertStatus.RESOLVED
    assert alert.details["versions"]["new"] == {"right": 56, "rows": 60}
    assert alert.details["versions"]["old"]["rows"] == 240
    assert (
        "llm-2 was right 93.3 % of the time (60 new results)" in alert.details["resolved_because"]
    )


def test_a_new_version_that_is_as_bad_leaves_it_open_and_the_command_runs_again(
    store: Store, check: Check
) -> None:
    check(says='{"model_id": "llm-2"}')
    answered(store, 1, 0.55, "llm-2")
    (alert,) = check(1.1, says='{"model_id": "llm-3"}').alerts
    assert (alert.attempts, alert.fruitless) == (2, 1)
    assert alert.details["new_model_id"] == "llm-3"
    answered(store, 2, 0.95, "llm-2")
    assert check(2).alerts, "another version than the last one answered"
    answered(store, 3, 0.95, "llm-3")
    assert not check(3).alerts


@pytest.mark.parametrize("place", [EMBEDDED], indirect=True)
def test_a_person_is_asked_when_one_version_after_the_other_is_as_bad(
    store: Store, check: Check
) -> None:
    for day in range(4):
        check(day * 1.1, says=f'{{"model_id": "llm-{day + 2}"}}')
        answered(store, day + 1, 0.5, f"llm-{day + 2}")
    alert = alert_of(store)
    assert (alert.attempts, alert.fruitless, alert.needs_person) == (3, 3, True)


@pytest.mark.parametrize("place", [EMBEDDED], indirect=True)
@pytest.mark.parametrize(
    ("says", "code"),
    [
        ("done", 0),
        ('{"model_id": 3}', 0),
        ('{"model_id": "a\\u001b]0;x"}', 0),
        ('["model_id"]', 0),
        ('{"model_id": "llm-2"}', 3),
        ('{"model_id": "llm-1"}', 0),
    ],
)
def test_a_command_that_names_no_usable_version_is_followed_as_before(
    store: Store, check: Check, says: str, code: int
) -> None:
    check(says=says, code=code)
    alert = alert_of(store)
    assert (alert.details["exit_code"], alert.details["new_model_id"]) == (code, None)
    answered(store, 1, 0.94, "llm-1")
    check(1)
    assert alert_of(store).status is AlertStatus.RESOLVED


def test_a_log_that_cannot_be_read_is_a_failed_action(
    store: Store, check: Check, tmp_path: Path
) -> None:
    check(says='{"model_id": "llm-2"}', **{"export.format": "parquet", "data.features": ["A", "a"]})
    alert = alert_of(store)
    assert alert.action_state is ActionState.FAILED
    assert "names differ in case alone" in str(alert.details["error"])
    assert not (tmp_path / "given.json").exists()
    assert alert.status is AlertStatus.PENDING


def cycle(place: Place, at: datetime, accepted: int, model_id: str) -> None:
    """What an application writes after a learning cycle of 100 answers."""
    values = (at.isoformat(timespec="microseconds"), accepted / 100, accepted, 100, MODEL_NAME)
    names = "timestamp, accept_rate, accepted, total, model_name, model_id"
    if place.project is not None:
        place.project.sql(
            f"insert into learning_stats ({names}) values (%s, %s, %s, %s, %s, %s)",  # noqa: S608
            [*values, model_id],
        )
        return
    path = Path(place.variables["ML_PIPELINE_LOCAL"]) / "store.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"INSERT INTO learning_stats ({names}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
                   [*values, model_id])  # fmt: skip


def test_the_accept_rate_of_the_new_version_closes_its_alert(
    store: Store, check: Check, place: Place
) -> None:
    rates: dict[str, object] = {"decay.alarm_on": ["accept_rate"]}
    for hours in range(5):
        cycle(place, NOW - timedelta(hours=hours + 1), 45, "llm-1")
    check(says='{"model_id": "llm-2"}', **rates)
    assert alert_of(store).metric == "accept_rate"
    for hours in range(5):
        cycle(place, NOW + timedelta(hours=24 + hours), 65, "llm-1")
    assert check(1.5, says="", **rates).alerts, "the old one's cycles are not the new one's"
    for hours in range(3):
        cycle(place, NOW + timedelta(hours=48 + hours), 80, "llm-2")
    check(2.5, **rates)
    alert = alert_of(store)
    assert alert.status is AlertStatus.RESOLVED
    why = alert.details["resolved_because"]
    assert "llm-2 was accepted 80.0 % of the time (300 new results)" in why
