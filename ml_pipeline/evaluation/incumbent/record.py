"""The record of a challenger beside an incumbent: the same rows, day by day, in sums.

The incumbent's answers are those that were logged. Rows that the challenger had learned are not
among them, nor rows of which the incumbent gave no answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.evaluation.betting import CLIP, Wealth
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.ledger import (
    ENOUGH_NIGHTS,
    Clusters,
    GainSums,
    PairedGain,
    cluster_codes,
)
from ml_pipeline.evaluation.metrics import Floats, row_losses

# Days that are kept one by one; earlier ones stand in one sum.
DAYS_KEPT: Final = 60
# Of more ids than that on a day none is a version.
MOST_VERSIONS: Final = 5
# From such a share of rows with logged probabilities on these decide, and not the labels.
ENOUGH_PROBABILITIES: Final = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedAnswers:
    """What an incumbent was logged to answer for the rows of evidence.

    `answered` (n,) marks the rows that it answered, `right` (n,) those that it answered rightly.
    `probabilities` (n, K) are NaN where none were logged, `model_ids` (n,) say who answered.
    """

    answered: NDArray[np.bool_]
    right: NDArray[np.bool_]
    probabilities: Floats
    model_ids: NDArray[np.object_]


@dataclass(frozen=True, kw_only=True, slots=True)
class DayRecord:
    """The sums of one day; they add up over days.

    `theirs` and `mine` are the weights of right answers. `accuracy` are the sums of differences of
    being right (mine minus theirs, each -1, 0 or 1), `losses` those of log-loss differences (theirs
    minus mine, nats) over rows with logged probabilities: rows, then what a gain has. The wealth of
    the former is that of differences times CLIP, so that bets on them use the whole range.
    `versions` are the ids that answered, nothing where they are too many to be versions.
    """

    night: int
    theirs: float
    mine: float
    accuracy: tuple[float, ...]
    losses: tuple[float, ...]
    versions: frozenset[str] = frozenset()

    def plus(self, other: DayRecord) -> DayRecord:
        """Both together, as of the later day."""
        return DayRecord(
            night=max(self.night, other.night),
            theirs=self.theirs + other.theirs,
            mine=self.mine + other.mine,
            accuracy=_added(self.accuracy, other.accuracy),
            losses=_added(self.losses, other.losses),
            versions=_versions(self.versions | other.versions),
        )

    def is_of(self, version: str) -> bool:
        """Whether that version answered on the day, as far as versions can be told apart."""
        return not self.versions or version in self.versions

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "night": self.night,
            "right": [self.theirs, self.mine],
            "accuracy": list(self.accuracy),
            "losses": list(self.losses),
            "versions": sorted(self.versions),
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`."""
        return cls(
            night=int(kept["night"]),
            theirs=float(kept["right"][0]),
            mine=float(kept["right"][1]),
            accuracy=tuple(map(float, kept["accuracy"])),
            losses=tuple(map(float, kept["losses"])),
            versions=frozenset(map(str, kept.get("versions", ()))),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class IncumbentRecord:
    """A challenger beside the incumbent: single `days` in their order, and all `earlier` ones."""

    days: tuple[DayRecord, ...] = ()
    earlier: DayRecord | None = None
    earlier_days: int = 0

    @classmethod
    def of(cls, evidence: Evidence, answers: LoggedAnswers, *, full_weight: float | None) -> Self:
        """The record of these rows alone; a row weighs `full_weight` at most."""
        nights = np.unique(evidence.nights[answers.answered])
        days = [
            _day(int(night), evidence, answers, (evidence.nights == night) & answers.answered,
                 full_weight)
            for night in nights
        ]  # fmt: skip
        return cls(days=tuple(days))

    def plus(self, later: IncumbentRecord) -> IncumbentRecord:
        """Both records; days that are in either are added, and only the last ones kept single."""
        days: dict[int, DayRecord] = {}
        for day in (*self.days, *later.days):
            days[day.night] = days[day.night].plus(day) if day.night in days else day
        ordered = [days[night] for night in sorted(days)]
        merged, kept = ordered[:-DAYS_KEPT], ordered[-DAYS_KEPT:]
        earlier = self.earlier
        for day in merged:
            earlier = day if earlier is None else earlier.plus(day)
        return replace(
            self,
            days=tuple(kept),
            earlier=earlier,
            earlier_days=self.earlier_days + len(merged),
        )

    def beside(self, version: str | None) -> IncumbentRecord:
        """The days on which that version answered: it is the one that would be replaced."""
        if version is None:
            return self
        days = tuple(day for day in self.days if day.is_of(version))
        if self.earlier is None or self.earlier.is_of(version):
            return replace(self, days=days)
        return IncumbentRecord(days=days)

    @property
    def rows(self) -> int:
        """Results that both answered."""
        return int(sum(day.accuracy[0] for day in self._all()))

    @property
    def right(self) -> tuple[float, float]:
        """The shares of right answers, theirs and mine, of the same rows; 0 without rows."""
        weight = sum(day.accuracy[4] for day in self._all())
        theirs, mine = (
            sum(getattr(day, name) for day in self._all()) for name in ("theirs", "mine")
        )
        return (theirs / weight, mine / weight) if weight else (0.0, 0.0)

    @property
    def by_probabilities(self) -> bool:
        """Whether enough rows have logged probabilities to judge by these."""
        rows = sum(day.losses[0] for day in self._all())
        return self.rows > 0 and rows >= ENOUGH_PROBABILITIES * self.rows

    def gain(self, name: str, *, after: int | None = None) -> PairedGain:
        """The gain in `accuracy` or in `losses`, on everything or on the days after one."""
        days = [day for day in self._all() if after is None or day.night > after]
        sums = [getattr(day, name) for day in days]
        counted = [one for one in sums if one[0]]
        single = [getattr(day, name) for day in self.days if getattr(day, name)[0]]
        nights = len(counted)
        if self.earlier is not None and self.earlier in days and nights:
            nights += self.earlier_days - 1
        gain = _gain(counted, nights, self.right)
        if len(single) < ENOUGH_NIGHTS or after is not None:
            return gain
        return replace(gain, night_error=_night_error(single))

    def _all(self) -> tuple[DayRecord, ...]:
        return self.days if self.earlier is None else (self.earlier, *self.days)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values, from which the next run goes on."""
        return {
            "days": [day.as_json() for day in self.days],
            "earlier": None if self.earlier is None else self.earlier.as_json(),
            "earlier_days": self.earlier_days,
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`."""
        earlier = kept.get("earlier")
        return cls(
            days=tuple(DayRecord.from_json(day) for day in kept.get("days", ())),
            earlier=None if earlier is None else DayRecord.from_json(earlier),
            earlier_days=int(kept.get("earlier_days", 0)),
        )


def _day(
    night: int,
    evidence: Evidence,
    answers: LoggedAnswers,
    rows: NDArray[np.bool_],
    full_weight: float | None,
) -> DayRecord:
    weights, clusters = evidence.weights, cluster_codes(evidence.entities)
    mine = evidence.challenger.argmax(axis=1) == evidence.actual
    better = mine.astype(np.float64) - answers.right
    probable = rows & np.isfinite(answers.probabilities).all(axis=1)
    actual = evidence.actual[probable]
    theirs = row_losses(actual, answers.probabilities[probable])
    losses = theirs - row_losses(actual, evidence.challenger[probable])

    def sums(gains: Floats, of: NDArray[np.bool_], scale: float = 1.0) -> tuple[float, ...]:
        found, scaled = (
            GainSums.of(it, weights=weights[of], clusters=clusters[of], full_weight=full_weight)
            for it in (gains, gains * scale)
        )
        parts = found.clusters
        return (
            float(of.sum()), found.total, found.squares, float(parts.units), parts.weight,
            parts.squares, parts.products, *scaled.wealth.as_list(),
        )  # fmt: skip

    return DayRecord(
        night=night,
        theirs=float(weights[rows & answers.right].sum()),
        mine=float(weights[rows & mine].sum()),
        accuracy=sums(better[rows], rows, CLIP),
        losses=sums(losses, probable),
        versions=_versions(answers.model_ids[rows].tolist()),
    )


def _versions(names: Iterable[str]) -> frozenset[str]:
    """Ids as versions; none of more than a few, as where each answer has an id of its own."""
    found = frozenset(names)
    return found if len(found) <= MOST_VERSIONS else frozenset()


def _added(one: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _gain(sums: Iterable[Sequence[float]], nights: int, right: tuple[float, float]) -> PairedGain:
    total: tuple[float, ...] | None = None
    for one in sums:
        total = tuple(one) if total is None else _added(total, one)
    if total is None:
        return PairedGain(nights=0, rows=0, total=0.0, squares=0.0, wealth=Wealth())
    rows, gained, squares, units, weight, weights, products, *wealth = total
    return PairedGain(
        nights=nights,
        rows=int(rows),
        total=gained,
        squares=squares,
        right=right,
        clusters=Clusters(units=int(units), weight=weight, squares=weights, products=products),
        wealth=Wealth.from_list(wealth),
    )


def _night_error(days: Sequence[Sequence[float]]) -> float:
    """The standard error of the mean with days as clusters: results of one day have it in common.

    As in the ledger of an online model.
    """
    gained = np.asarray([day[1] for day in days])
    weights = np.asarray([day[4] for day in days])
    mean = gained.sum() / weights.sum()
    spread = ((gained - mean * weights) ** 2).sum() * len(days) / (len(days) - 1)
    return float(math.sqrt(spread) / weights.sum())
