"""A simulated year of hourly checks: two real decays, a noisy week, a week of five predictions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.decay.context import CheckContext
from ml_pipeline.decay.watchdog import check_decay
from ml_pipeline.store.alerts import ActionState, AlertStatus
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import Outcome, RequestStatus
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
from tests.support.places import EMBEDDED, Place

START = datetime(2025, 1, 1, tzinfo=UTC)
ROWS = 120
GOOD, BAD = 0.72, 0.55
ARRIVALS = (9, 15, 21)
RETRAINED_AT = 2
CYCLE = "INSERT INTO learning_stats (timestamp, accept_rate, total, model_name) VALUES (?, ?, ?, ?)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Calendar:
    """How many days are lived, and on which of them something happens."""

    days: int
    decays: tuple[int, ...]
    noisy_week: range
    thin_week: range
    every_hours: int = 1


YEAR = Calendar(days=365, decays=(100, 260), noisy_week=range(180, 187), thin_week=range(320, 327))
QUARTER = Calendar(
    days=80,
    decays=(35,),
    noisy_week=range(52, 59),
    thin_week=range(70, 77),
    every_hours=3,
)


@dataclass
class World:
    """An application whose model decays twice, and whose retrains cure it."""

    place: Place
    store: Store
    calendar: Calendar
    draw: np.random.Generator = field(default_factory=lambda: np.random.default_rng(11))
    is_bad: bool = False
    made: int = 0

    def live(self, number: int) -> None:
        """The outcomes of a day, and the learning cycle that sums them up."""
        self.is_bad = self.is_bad or number in self.calendar.decays
        rows, right = ROWS, BAD if self.is_bad else GOOD
        if number in self.calendar.noisy_week:
            right = GOOD + (-0.15 if number % 2 else 0.12)
        if number in self.calendar.thin_week:
            rows, right = int(number - self.calendar.thin_week.start < 5), 0.0
        hits = self.draw.random(rows) < right
        day = START + timedelta(days=number)
        events = []
        for hit in hits:
            self.made += 1
            known = day + timedelta(hours=ARRIVALS[self.made % 3])
            events.append(
                make_event(
                    self.made, timestamp=known - timedelta(hours=4), evaluated_at=known,
                    confidence=min(max(self.draw.normal(GOOD, 0.05), 0.4), 0.99),
                    prediction="H", actual_result="H" if hit else "A", model_id="m-1",
                )
            )  # fmt: skip
        self.store.append_events(frame_of(events))
        if rows:
            self._cycle(day + timedelta(hours=23), float(hits.mean()), rows)

    def _cycle(self, at: datetime, rate: float, rows: int) -> None:
        answered = (at.isoformat(timespec="microseconds"), rate, rows, MODEL_NAME)
        if self.place.project is not None:
            self.place.project.sql(CYCLE.replace("?", "%s"), answered)
            return
        file = Path(self.place.variables["ML_PIPELINE_LOCAL"]) / "store.db"
        with closing(sqlite3.connect(file)) as db, db:
            db.execute(CYCLE, answered)

    def retrain(self, now: datetime) -> None:
        """The nightly run: serve what is queued, and be good again."""
        run_id = make_id(9_000_000 + self.made)
        request = self.store.claim(
            model_name=MODEL_NAME, run_id=run_id, now=now, lease=timedelta(hours=1)
        )
        if request is None:
            return
        times = {"started_at": now, "heartbeat_at": now}
        number = 9_000_000 + self.made
        self.store.start_run(make_run(number, **times))
        self.store.finish_run(make_finished_run(number, **times, completed_at=now))
        self.store.complete(request.request_id, run_id=run_id, now=now)
        self.is_bad = False


def seeds_rule(store: Store) -> bool:
    """The original documents: the plain mean of the last five cycles is under 0.6."""
    rates = [cycle.accept_rate for cycle in store.learning_cycles(model_name=MODEL_NAME, limit=5)]
    return len(rates) >= 3 and sum(rates) / len(rates) < 0.6


def ids() -> Iterator[str]:
    number = 5_000_000
    while True:
        number += 1
        yield make_id(number)


def every_hour(_calendar: Calendar, _day: int) -> range:
    return range(24)


def around_what_happens(calendar: Calendar, day: int) -> range | tuple[int, ...]:
    """Every few hours of the weeks in which something happens, else after outcomes arrive."""
    days = [*calendar.decays, *calendar.noisy_week, *calendar.thin_week]
    is_near = any(-2 <= day - other <= 7 for other in days)
    if not is_near:
        return (2, 10, 16, 22)
    return range(RETRAINED_AT % calendar.every_hours, 24, calendar.every_hours)


def live(
    place: Place, calendar: Calendar, hours_of: Callable[[Calendar, int], Iterable[int]]
) -> None:
    """Check at those hours of every day; each decay has to bring one alert and one retrain."""
    store = place.open()
    store.register(make_model("m-1", created_at=START))
    store.promote(make_promotion("m-1", None, created_at=START))
    world = World(place=place, store=store, calendar=calendar)
    settings = Settings().changed({"model_name": MODEL_NAME})
    new_id, alarms = ids(), 0
    for number in range(calendar.days):
        world.live(number)
        for hour in hours_of(calendar, number):
            now = START + timedelta(days=number, hours=hour, minutes=5)
            if hour == RETRAINED_AT:
                world.retrain(now)
            check_decay(
                store, CheckContext(settings=settings, now=now, new_id=lambda: next(new_id))
            )
        # Its cycles come once a day, so it says the same every hour.
        alarms += 24 * seeds_rule(store)

    alerts = store.list_alerts(model_name=MODEL_NAME)[::-1]
    requests = store.list_requests(model_name=MODEL_NAME)
    store.close()
    assert len(alerts) == len(calendar.decays), [alert.message for alert in alerts]
    assert len(requests) == len(calendar.decays)
    assert [alert.request_id for alert in alerts] == [
        request.request_id for request in sorted(requests, key=lambda r: r.created_at)
    ]
    assert {request.status for request in requests} == {RequestStatus.COMPLETED}
    for alert, began in zip(alerts, calendar.decays, strict=True):
        delay = (alert.detected_at - START).days - began
        assert 0 <= delay <= 4
        assert (alert.status, alert.attempts) == (AlertStatus.RESOLVED, 1)
        assert alert.action_state is ActionState.SUCCEEDED
        assert alert.details["run_outcome"] == Outcome.PROMOTED
    # The original rule fires every hour on the same five cycles, also in the two harmless weeks.
    assert alarms > 50 * len(calendar.decays), alarms


@pytest.mark.parametrize(
    "calendar", [QUARTER, pytest.param(YEAR, marks=pytest.mark.long)], ids=["quarter", "year"]
)
def test_defect_23_each_decay_gives_one_alert_and_one_retrain_and_noise_gives_none(
    tmp_path: Path, calendar: Calendar
) -> None:
    store = str(tmp_path / "store")
    place = Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": store})
    # A connection that stays open keeps SQLite from tidying its files up after each check.
    place.open()
    with closing(sqlite3.connect(tmp_path / "store" / "store.db")) as kept:
        kept.execute("SELECT count(*) FROM leases").fetchone()
        live(place, calendar, around_what_happens)


@pytest.mark.year
def test_a_year_of_hourly_checks_on_either_store(place: Place) -> None:
    live(place, YEAR, every_hour)
