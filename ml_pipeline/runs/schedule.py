"""When a run is due, by the clock and the rows of earlier runs; how flags name times."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from ml_pipeline.store.records import RetrainingRun, RunStatus

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """A run each `every`, counted in UTC from `at` after midnight.

    A slot in which `attempts` runs failed is left to the next one: a fault that lasts shall not
    fill the table.
    """

    every: timedelta
    at: timedelta = timedelta(0)
    attempts: int = 5

    def slot(self, now: datetime) -> datetime:
        """When the slot began that `now` is in."""
        first = EPOCH + self.at
        since: timedelta = (now - first) % self.every
        return now - since

    def is_due(self, runs: Sequence[RetrainingRun], *, now: datetime) -> bool:
        """Whether this slot's run is still to be made; `runs` are the latest ones.

        Whatever asked for it, a run that was completed since the slot began was the slot's.
        """
        begun = self.slot(now)
        # A run that a wrong clock dated years ahead must not stand for all slots until then.
        end = begun + self.every
        here = [run.status for run in runs if begun <= run.started_at < end]
        failed = here.count(RunStatus.FAILED)
        return RunStatus.COMPLETED not in here and failed < self.attempts


def holder_of(
    runs: Sequence[RetrainingRun], *, now: datetime, stale_after: timedelta
) -> RetrainingRun | None:
    """The run that holds the model and is alive."""
    for run in runs:
        if run.status is RunStatus.RUNNING and abs(now - run.heartbeat_at) <= stale_after:
            return run
    return None


def backoff(failures: int, *, first: timedelta, longest: timedelta) -> timedelta:
    """How long to wait after so many failures in a row: doubling, up to `longest`."""
    doubled = first * (1 << min(failures - 1, 30))
    return max(first, min(doubled, longest))


def duration(text: str) -> timedelta:
    """Read 90s, 30m, 24h or 7d. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None or not float(found[1]):
        raise ValueError(f"{text!r} is no length of time such as 90s, 30m, 24h or 7d")
    return timedelta(**{_UNITS[found[2]]: float(found[1])})


def time_of_day(text: str) -> timedelta:
    """Read 02:00 as the time since midnight. Raises ValueError."""
    found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)", text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no time of day such as 02:00")
    return timedelta(hours=int(found[1]), minutes=int(found[2]))
