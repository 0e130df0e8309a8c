"""When a run is due, by the clock and the rows of earlier runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ml_pipeline.runs.schedule import Schedule, backoff, duration, holder_of, time_of_day
from ml_pipeline.store.records import Outcome, RetrainingRun, RunStatus, Source
from tests.support import league

HOUR = timedelta(hours=1)
NIGHTLY = Schedule(every=24 * HOUR, at=2 * HOUR)
TWO = datetime(2026, 3, 14, 2, tzinfo=UTC)


def run(at: datetime, status: RunStatus = RunStatus.COMPLETED, **changes: Any) -> RetrainingRun:  # noqa: ANN401
    values: dict[str, Any] = {
        "run_id": league.event_id(at),
        "model_name": "default",
        "source": Source.AUTO_DAILY,
        "status": status,
        "started_at": at,
        "heartbeat_at": at,
    }
    if status is not RunStatus.RUNNING:
        values |= {"outcome": Outcome.FAILED, "completed_at": at, "error_message": "no"}
    return RetrainingRun(**values | changes)


def test_a_slot_is_counted_from_its_time_of_day() -> None:
    assert NIGHTLY.slot(TWO) == TWO
    assert NIGHTLY.slot(TWO - timedelta(seconds=1)) == TWO - 24 * HOUR
    assert Schedule(every=6 * HOUR, at=2 * HOUR).slot(TWO + 7 * HOUR) == TWO + 6 * HOUR


def test_a_restart_neither_skips_nor_doubles_a_night() -> None:
    assert NIGHTLY.is_due([], now=TWO)
    late = [run(TWO + 3 * HOUR)]
    assert not NIGHTLY.is_due(late, now=TWO + 4 * HOUR)
    assert not NIGHTLY.is_due(late, now=TWO + 23.9 * HOUR)
    assert NIGHTLY.is_due(late, now=TWO + 24 * HOUR)
    assert NIGHTLY.is_due(late, now=TWO + 80 * HOUR)


def test_a_run_that_a_wrong_clock_dated_ahead_does_not_stand_for_this_slot() -> None:
    assert NIGHTLY.is_due([run(TWO + 30 * 24 * HOUR)], now=TWO + HOUR)


def test_a_failed_night_is_tried_again_but_not_for_ever() -> None:
    failed = [run(TWO + minute * timedelta(minutes=1), RunStatus.FAILED) for minute in range(5)]
    assert NIGHTLY.is_due(failed[:4], now=TWO + HOUR)
    assert not NIGHTLY.is_due(failed, now=TWO + HOUR)
    assert NIGHTLY.is_due(failed, now=TWO + 24 * HOUR)


def test_a_run_holds_the_model_while_it_is_heard_of() -> None:
    running = [run(TWO, RunStatus.RUNNING)]
    assert holder_of(running, now=TWO + HOUR, stale_after=HOUR) is running[0]
    assert holder_of(running, now=TWO + 1.1 * HOUR, stale_after=HOUR) is None
    # A wrong clock made that heartbeat: the next run closes it.
    assert holder_of(running, now=TWO - 2 * HOUR, stale_after=HOUR) is None
    assert holder_of([run(TWO)], now=TWO, stale_after=HOUR) is None


def test_pauses_double_up_to_the_longest() -> None:
    pauses = [backoff(n, first=HOUR, longest=5 * HOUR) / HOUR for n in (1, 2, 3, 4, 10_000)]
    assert pauses == [1, 2, 4, 5, 5]
    assert backoff(9, first=6 * HOUR, longest=5 * HOUR) == 6 * HOUR


def test_lengths_and_times_are_read_as_people_write_them() -> None:
    lengths = [duration(text) for text in ("90s", "30m", "24h", "7d", "0.5h")]
    assert lengths == [HOUR / 40, HOUR / 2, 24 * HOUR, 168 * HOUR, HOUR / 2]
    assert time_of_day("02:30") == 2.5 * HOUR
    for wrong in ("24", "h", "-1h", "0s", "1w"):
        with pytest.raises(ValueError, match="no length of time"):
            duration(wrong)
    for wrong in ("24:00", "2:00", "02:60"):
        with pytest.raises(ValueError, match="no time of day"):
            time_of_day(wrong)
