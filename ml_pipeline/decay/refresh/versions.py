"""The new version that a command made against the old one, from the answers of both in the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from ml_pipeline.evaluation.two_rates import Rate, chance_of_equal
from ml_pipeline.store.alerts import (
    TOGETHER,
    DailyAccuracy,
    DecayAlert,
    LearningCycle,
    WatchLedger,
)

# The detail of an alert that names the version which its command made.
NEW_VERSION: Final = "new_model_id"
# The detail with the last comparison.
COMPARED: Final = "versions"
# How improbable a difference of equal versions has to be.
LEVEL: Final = 0.05
ACCEPT_RATE: Final = "accept_rate"
# As many learning cycles are read at most.
MOST_CYCLES: Final = 1000


def new_version(alert: DecayAlert) -> str | None:
    """The version that the alert's command made, if it named one."""
    name = alert.details.get(NEW_VERSION)
    return name if isinstance(name, str) and name else None


def sentence_of(alert: DecayAlert) -> str:
    """What the last comparison came to; nothing where no command made a version."""
    compared = alert.details.get(COMPARED) or {}
    return str(compared.get("sentence", ""))


@dataclass(frozen=True, kw_only=True, slots=True)
class Versions:
    """The right, or accepted, answers of two versions since the decay began: different samples.

    `chance` is the most with which equal versions ever differ as much (`two_rates`), whenever and
    however often it is looked at.
    """

    old_ids: tuple[str, ...]
    new_id: str
    old: Rate
    new: Rate
    verb: str = "right"

    def has_rate_of(self, alert: DecayAlert) -> bool:
        """Whether what the alert is about is a rate that is compared here, with its counts."""
        if alert.metric == ACCEPT_RATE:
            return self.verb == "accepted" and self.new.rows > 0
        return alert.metric == "accuracy"

    @property
    def chance(self) -> float:
        """Of so great a difference by chance alone; 1 without answers."""
        return chance_of_equal(self.old, self.new)

    @property
    def is_better(self) -> bool:
        """Whether the new version is right more often, for certain."""
        return self._differs and self.new.share > self.old.share

    @property
    def is_worse(self) -> bool:
        """Whether it is right less often, for certain."""
        return self._differs and self.new.share < self.old.share

    @property
    def _differs(self) -> bool:
        return min(self.old.rows, self.new.rows) > 0 and self.chance <= LEVEL

    @property
    def sentence(self) -> str:
        """What the two versions came to, and how sure it is."""
        if not self.new.rows:
            return f"The new version {self.new_id} has no results yet; the alert waits for them."
        new = f"The new version {self.new_id} was {self.verb} {_shown(self.new)}"
        if not self.old.rows:
            return f"{new}; of the old one there are none since the decay began."
        both = f"{new}, the old one {_shown(self.old)}."
        if not (self.is_better or self.is_worse):
            return f"{both} That is no certain difference yet."
        how = "better" if self.is_better else "worse"
        return f"{both} It is {how}: equal versions differ as much in {_rarely(self.chance)}."

    def as_json(self) -> dict[str, Any]:
        """The comparison as plain JSON values."""
        return {
            "old_model_ids": list(self.old_ids),
            "new_model_id": self.new_id,
            "counted": self.verb,
            "old": {"right": self.old.hits, "rows": self.old.rows},
            "new": {"right": self.new.hits, "rows": self.new.rows},
            "chance": self.chance,
            "better": self.is_better,
            "worse": self.is_worse,
            "sentence": self.sentence,
        }


def _shown(rate: Rate) -> str:
    return f"{100 * rate.share:.1f} % of the time ({rate.rows:,} new results)"


def _rarely(chance: float) -> str:
    often = f"at most {100 * chance:.2g}" if chance >= 1e-4 else "under 0.01"  # noqa: PLR2004
    return f"{often} % of the cases"


def first_day(alert: DecayAlert) -> date:
    """The day on which the decay began."""
    return alert.window_start.date()


def compare_versions(
    store: WatchLedger,
    alert: DecayAlert,
    new_id: str,
    days: Sequence[DailyAccuracy],
    watched: Sequence[DailyAccuracy],
) -> Versions:
    """The new version that the alert's command made against the old ones.

    `days` are everybody's, `watched` those of the models that the alert is about. Where it is about
    the accept rate, the answers of the learning cycles are compared that counted them.
    """
    if alert.metric == ACCEPT_RATE:
        return _compare_cycles(store, alert, new_id)
    ids = {day.model_id for day in watched}
    since = [day for day in days if day.day >= first_day(alert) and day.model_id != TOGETHER]
    new = [day for day in since if day.model_id == new_id]
    old = [
        day for day in since if day.model_id != new_id and (TOGETHER in ids or day.model_id in ids)
    ]
    return Versions(
        old_ids=tuple(sorted({day.model_id for day in old if day.answered})),
        new_id=new_id,
        old=_rate(old),
        new=_rate(new),
    )


def _compare_cycles(store: WatchLedger, alert: DecayAlert, new_id: str) -> Versions:
    found = store.learning_cycles(model_name=alert.model_name, limit=MOST_CYCLES)
    counted = [it for it in found if it.at >= alert.window_start and it.total and it.model_id]
    old = [cycle for cycle in counted if cycle.model_id != new_id]
    return Versions(
        old_ids=tuple(sorted({cycle.model_id for cycle in old if cycle.model_id})),
        new_id=new_id,
        old=_accepted(old),
        new=_accepted([cycle for cycle in counted if cycle.model_id == new_id]),
        verb="accepted",
    )


def _accepted(cycles: Sequence[LearningCycle]) -> Rate:
    totals = [(cycle.accept_rate, cycle.total or 0) for cycle in cycles]
    return Rate(
        hits=sum(round(rate * total) for rate, total in totals),
        rows=sum(total for _, total in totals),
    )


def _rate(days: Sequence[DailyAccuracy]) -> Rate:
    return Rate(hits=sum(day.correct for day in days), rows=sum(day.answered for day in days))


def days_of_everybody(store: WatchLedger, alert: DecayAlert) -> list[DailyAccuracy]:
    """The days of every model since the decay began."""
    return store.list_days(model_name=alert.model_name, since=first_day(alert))


def answering(store: WatchLedger, alert: DecayAlert) -> frozenset[str]:
    """Who answered since the decay began, or a little before."""
    since = first_day(alert) - timedelta(days=90)
    days = store.list_days(model_name=alert.model_name, since=since)
    return frozenset(day.model_id for day in days if day.evaluated)
