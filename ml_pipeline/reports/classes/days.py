"""How often results of each class were answered right, day by day: what a run's row keeps of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Self

from ml_pipeline.evaluation_log.classes.counts import ClassCount

# A run's row is read by whoever looks at the page: with more classes it has fewer days.
DAYS_KEPT: Final = 120
CLASSES_KEPT: Final = 30
CELLS_KEPT: Final = 1200


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassDays:
    """Counts of days, in order, by class.

    `labels` are the classes, the configured ones first, then by how many results they have.
    """

    labels: tuple[str, ...]
    counts: tuple[ClassCount, ...]

    @classmethod
    def after(
        cls,
        earlier: Self | None,
        counted: Sequence[ClassCount],
        learn_from: datetime | None,
        classes: Sequence[str],
    ) -> Self:
        """What was `counted` since `learn_from`, and the days that an earlier run had counted."""
        first = None if learn_from is None else learn_from.date()
        before = () if earlier is None or first is None else earlier.counts
        kept = [each for each in before if first is not None and each.day < first]
        return cls.of([*kept, *counted], classes)

    @classmethod
    def of(cls, counts: Sequence[ClassCount], classes: Sequence[str] = ()) -> Self:
        """The last days of the classes with the most results, as many as a run's row keeps."""
        results: Counter[str] = Counter(dict.fromkeys(classes, 0))
        for each in counts:
            results[each.label] += each.results
        labels = [*classes, *(name for name, _ in results.most_common() if name not in classes)]
        labels = labels[:CLASSES_KEPT]
        most = min(DAYS_KEPT, CELLS_KEPT // max(1, len(labels)))
        days = set(sorted({each.day for each in counts})[-most:])
        chosen = [each for each in counts if each.day in days and each.label in labels]
        chosen.sort(key=lambda each: (each.day, labels.index(each.label)))
        return cls(labels=tuple(labels), counts=tuple(chosen))

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """From what `as_json` made."""
        labels = kept["labels"]
        return cls(
            labels=tuple(labels),
            counts=tuple(
                ClassCount(
                    day=date.fromisoformat(day), label=labels[place], results=results,
                    answered=answered, named=named, right=right,
                )
                for day, rows in kept["days"].items()
                for place, results, answered, named, right in rows
            ),
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Plain values: by day `[place of the class, results, answered, named, right]` for each."""
        days: dict[str, list[list[int]]] = {}
        for each in self.counts:
            place = self.labels.index(each.label)
            numbers = [each.results, each.answered, each.named, each.right]
            days.setdefault(each.day.isoformat(), []).append([place, *numbers])
        return {"labels": list(self.labels), "days": days}
