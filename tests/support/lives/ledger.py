"""What has to hold of a life, counted by hand: no code of the package is asked.

An entry is an event that the log has accepted. Days are those of the time at which the outcome
became known, as ordinals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

NO_CLASS = "outcome is no class of the model"


@dataclass(kw_only=True, slots=True)
class Entry:
    """An accepted event.

    `flaw` is what is wrong with its features, `is_foreign` that no model knows its outcome,
    `is_bad` that it is no result at all.
    """

    event_id: str
    match_id: str | None
    model_id: str | None
    prediction: str
    confidence: float
    features: str | None
    made: datetime
    flaw: str | None = None
    outcome: str | None = None
    known: datetime | None = None
    is_foreign: bool = False
    is_bad: bool = False
    is_delivered: bool = True

    @property
    def fault(self) -> str | None:
        """Why it cannot be learned."""
        return NO_CLASS if self.is_foreign else self.flaw

    @property
    def day(self) -> int:
        """The day on which its outcome became known."""
        assert self.known is not None
        return self.known.date().toordinal()

    def is_error(self, window: timedelta, now: datetime, threshold: float) -> bool:
        """Whether it counts as a confident error; `window` ends now."""
        if self.known is None or self.is_bad:
            return False
        return (
            self.prediction not in {self.outcome, "UNCERTAIN"}
            and self.confidence > threshold
            and now - window <= self.known < now
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """How far the lineage has come: days up to `settled`, and `open` events of the day after it.

    `counted` results of settled days were in the log when they were learned.
    """

    settled: int | None = None
    open: frozenset[str] = frozenset()
    counted: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What a run has to find: results, those that cannot be learned by reason, and new ones."""

    labelled: int
    unusable: Mapping[str, int]
    fresh: int
    errors: int
    is_rebuilt: bool
    rows: tuple[str, ...]


@dataclass(kw_only=True, slots=True)
class Ledger:
    """Every accepted event, and what each model has learned.

    `stale` are models that had learned something before an outcome was corrected or erased.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    learned: dict[str, frozenset[str]] = field(default_factory=dict)
    head: Head = field(default_factory=Head)
    is_corrected: bool = False
    was_corrected: bool = False
    stale: set[str] = field(default_factory=set)

    @property
    def is_delivered(self) -> bool:
        """Whether the table holds what was accepted, all of it."""
        return all(entry.is_delivered for entry in self.entries.values())

    @property
    def is_certain(self) -> bool:
        """Whether the next run can be foretold: nothing is on its way, nothing was corrected."""
        return self.is_delivered and not self.is_corrected

    def correct(self) -> None:
        """An outcome was corrected or erased, which whoever has learned it has to learn again."""
        self.is_corrected = self.was_corrected = True
        self.stale |= {model_id for model_id, learned in self.learned.items() if learned}

    def results(self, now: datetime) -> list[Entry]:
        """Events whose outcome was known by then, in the order of learning."""
        known = (e for e in self.entries.values() if e.known is not None and e.known <= now)
        return sorted(known, key=lambda entry: (entry.day, entry.event_id))

    def to_learn(self, now: datetime) -> list[Entry]:
        """Those of them that can be learned."""
        return [e for e in self.results(now) if e.fault is None and not e.is_bad]

    def expected(
        self,
        now: datetime,
        *,
        mine: Iterable[str],
        days: float,
        sure: float,
        restart: int | None = None,
    ) -> Expected:
        """What a run at that time has to find; the errors of the models `mine` count.

        When late results are there, it learns again from the first day on, or after `restart`.
        """
        results, head, models = self.results(now), self.head, set(mine)
        late = head.settled is not None and _until(results, head.settled) > head.counted
        settled = restart if late else head.settled
        there = [e for e in results if settled is None or e.day > settled]
        good = [e for e in there if e.fault is None and not e.is_bad]
        is_open = frozenset() if late and restart is None else head.open
        window = timedelta(days=days)
        return Expected(
            labelled=sum(not e.is_bad for e in there),
            unusable=Counter(e.fault for e in there if e.fault is not None and not e.is_bad),
            fresh=sum(e.event_id not in is_open for e in good),
            errors=sum(e.is_error(window, now, sure) and e.model_id in models for e in results),
            is_rebuilt=late,
            rows=tuple(e.event_id for e in good),
        )

    def head_after(self, now: datetime) -> Head:
        """How far a model has come that has learned everything known by then."""
        today = now.date().toordinal()
        rows = self.to_learn(now)
        before = [e for e in rows if e.day < today]
        settled = before[-1].day if before else None
        open_ids = {e.event_id for e in rows if e.day == today}
        counted = 0 if settled is None else _until(self.results(now), settled)
        return Head(settled=settled, open=frozenset(open_ids), counted=counted)


def _until(results: Iterable[Entry], day: int) -> int:
    return sum(entry.day <= day for entry in results)
