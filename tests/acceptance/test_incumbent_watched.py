"""A classifier of the person's own answers: the watchdog looks after it, whatever we train."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.decay.context import CheckContext
from ml_pipeline.decay.daily_checks import daily_checks
from ml_pipeline.decay.watchdog import DecayCheck, check_decay
from ml_pipeline.store.alerts import AlertStatus, Cause, DecayAlert, Severity
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import PromotionKind
from tests.support.factories import (
    MODEL_NAME,
    frame_of,
    make_event,
    make_id,
    make_model,
    make_promotion,
)
from tests.support.places import FAR_IS_LONG, Place

NOW = datetime(2026, 3, 14, 20, 0, tzinfo=UTC)
TICKETS = 30
SERVES = {"incumbent.serves": True}

pytestmark = FAR_IS_LONG

Check = Callable[..., DecayCheck]


def tickets(
    until: datetime, days: int, right: float, *, first: int, model_id: str | None = "llm-1"
) -> list[dict[str, Any]]:
    """`TICKETS` results on each of the `days` until then, evenly right."""
    made: list[dict[str, Any]] = []
    for ago in range(days):
        known = until - timedelta(days=ago, hours=1)
        for number in range(TICKETS):
            hit = int((number + 1) * right) > int(number * right)
            made.append(
                make_event(
                    first + len(made), timestamp=known - timedelta(hours=3), evaluated_at=known,
                    confidence=0.9, actual_result="H" if hit else "A", model_id=model_id,
                )
            )  # fmt: skip
    return made


def decayed(model_id: str | None = "llm-1") -> list[dict[str, Any]]:
    """33 days with 93 % right, then three with 60 %."""
    before = tickets(NOW - timedelta(days=3), 33, 0.93, first=10_000, model_id=model_id)
    return [*before, *tickets(NOW, 3, 0.6, first=1, model_id=model_id)]


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    with place.opened() as store:
        yield store


@pytest.fixture
def check(store: Store) -> Check:
    numbers = iter(range(7_000_000, 8_000_000))

    def act(days: float = 0, **changes: Any) -> DecayCheck:  # noqa: ANN401 - settings
        dotted = {name.replace("__", "."): value for name, value in changes.items()}
        settings = Settings().changed({"model_name": MODEL_NAME, **SERVES, **dotted})
        return check_decay(store, context(settings, NOW + timedelta(days=days), numbers))

    return act


def context(settings: Settings, now: datetime, numbers: Iterator[int]) -> CheckContext:
    return CheckContext(settings=settings, now=now, new_id=lambda: make_id(next(numbers)))


def alert_of(store: Store) -> DecayAlert:
    (alert,) = store.list_alerts(model_name=MODEL_NAME)
    return alert


def promote(store: Store, model_id: str, before: str | None = None, number: int = 1) -> None:
    store.register(make_model(model_id, created_at=NOW))
    store.promote(make_promotion(model_id, before, number, created_at=NOW))


def test_nothing_in_the_registry_ends_the_alert_about_their_model(
    store: Store, check: Check
) -> None:
    store.append_events(frame_of(decayed()))
    found = check()
    assert found.as_json()["answering"] == "Answering: llm-1 (yours)."
    assert (found.verdict.severity, found.model_id) == (Severity.CRITICAL, "llm-1")
    assert alert_of(store).model_id == "llm-1"
    promote(store, "adaptive-20260314-200000-0f3a5c7e")
    assert check(0.1).verdict.severity is Severity.CRITICAL
    promote(store, "m-2", "adaptive-20260314-200000-0f3a5c7e", 2)
    back = make_promotion("adaptive-20260314-200000-0f3a5c7e", "m-2", 3, created_at=NOW)
    store.promote(replace(back, kind=PromotionKind.ROLLBACK))
    assert check(0.2).verdict.severity is Severity.CRITICAL
    assert alert_of(store).status.is_open
    # Our own answers, right as they are, say nothing about theirs.
    soon = NOW + timedelta(days=1)
    store.append_events(frame_of(tickets(soon, 1, 1.0, first=50_000, model_id="m-2")))
    check(1)
    assert alert_of(store).status.is_open


def test_their_own_answers_end_it_and_so_do_those_of_their_new_version(
    store: Store, check: Check
) -> None:
    store.append_events(frame_of(decayed()))
    check()
    later = NOW + timedelta(days=3)
    store.append_events(frame_of(tickets(later, 3, 0.93, first=50_000, model_id="llm-2")))
    found = check(3)
    assert found.model_id == "llm-2"
    done = alert_of(store)
    assert (done.status, done.model_id) == (AlertStatus.RESOLVED, "llm-1")
    assert done.details["resolved_because"].startswith("Recovered: ")


def test_two_of_theirs_in_turn_are_measured_by_what_people_were_used_to(
    store: Store, check: Check
) -> None:
    store.append_events(frame_of(tickets(NOW - timedelta(days=3), 33, 0.93, first=10_000)))
    store.append_events(frame_of(tickets(NOW, 3, 0.6, first=1, model_id="llm-2")))
    check()
    alert = alert_of(store)
    assert (alert.model_id, alert.severity) == ("llm-2", Severity.CRITICAL)
    assert alert.baseline == pytest.approx(0.9, abs=0.01)
    # Going back to the old version ends it: people get what they were used to.
    later = NOW + timedelta(days=3)
    store.append_events(frame_of(tickets(later, 3, 0.93, first=50_000)))
    check(3)
    assert alert_of(store).status is AlertStatus.RESOLVED


def test_answers_that_name_no_model_are_theirs(store: Store, check: Check) -> None:
    store.append_events(frame_of(decayed(None)))
    found = check()
    assert found.verdict.severity is Severity.CRITICAL
    assert found.as_json()["answering"] == "Answering: a model that is not named (yours)."


def test_only_the_named_ones_are_theirs_and_an_id_like_ours_must_be_named(
    store: Store, check: Check
) -> None:
    like_ours = "adaptive-20260101-000000-abcdef12"
    store.append_events(frame_of(decayed(like_ours)))
    assert check().verdict.decayed is None
    assert check(incumbent__model_ids=["another"]).verdict.decayed is None
    found = check(incumbent__model_ids=[like_ours])
    assert (found.verdict.severity, found.model_id) == (Severity.CRITICAL, like_ours)


def test_an_alert_about_ours_ends_when_theirs_answers_by_the_settings(
    store: Store, check: Check
) -> None:
    promote(store, "m-1")
    store.append_events(frame_of(decayed("m-1")))
    check(incumbent__serves=False)
    assert alert_of(store).model_id == "m-1"
    store.append_events(
        frame_of(tickets(NOW + timedelta(days=1), 1, 0.9, first=50_000, model_id="llm-1"))
    )
    check(1)
    assert "llm-1 answers people now, not m-1" in alert_of(store).details["resolved_because"]


def test_an_alert_about_theirs_goes_on_when_the_setting_is_taken_back(
    store: Store, check: Check
) -> None:
    store.append_events(frame_of(decayed()))
    check()
    promote(store, "m-1")
    check(0.1, incumbent__serves=False)
    assert alert_of(store).status.is_open
    # What people are answered by then ends it.
    later = NOW + timedelta(days=3)
    store.append_events(frame_of(tickets(later, 3, 0.93, first=50_000, model_id="m-1")))
    check(3, incumbent__serves=False)
    assert alert_of(store).status is AlertStatus.RESOLVED


def test_without_the_setting_a_check_proposes_it(store: Store, check: Check) -> None:
    store.append_events(frame_of(decayed()))
    said = check(incumbent__serves=False).as_json()["answering"]
    assert "1,080 results of the log were answered by llm-1, which the registry" in said
    assert "`incumbent: {serves: true}`" in said
    promote(store, "llm-1")
    assert check(0.1, incumbent__serves=False).answering is None


def test_the_daily_checks_look_at_their_answers(store: Store) -> None:
    store.append_events(frame_of(decayed()))
    promote(store, "m-1")
    settings = Settings().changed({"model_name": MODEL_NAME, **SERVES})
    found = daily_checks(store, context(settings, NOW, iter(range(9_000_000, 9_000_100))))
    assert found["realised_accuracy"] == pytest.approx(0.786, abs=0.03)
    assert found["drift_reason"].startswith("llm-1 is not trained here")
    advised = store.list_alerts(model_name=MODEL_NAME)
    assert {alert.model_id for alert in advised if alert.cause is not Cause.PERFORMANCE} <= {
        "llm-1"
    }
