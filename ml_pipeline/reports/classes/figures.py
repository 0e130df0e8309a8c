"""Recall and precision of each class over time, drawn and put into words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final, Self

from ml_pipeline.evaluation.intervals import Interval, wilson_interval
from ml_pipeline.evaluation.sentences import counted, percent
from ml_pipeline.evaluation_log.classes.counts import ClassCount
from ml_pipeline.reports.charts import Axis, Chart, Series, days_axis, draw, percent_text
from ml_pipeline.reports.classes.days import ClassDays

DRAWN: Final = 6
# With fewer results of some class a day, days say little: they are joined to weeks.
A_DAY: Final = 20
LATELY: Final = timedelta(days=7)
LEVEL: Final = 0.95
# Of fewer results a share is known to 18 points at best.
RARE: Final = 30
NAMED: Final = 3
# Whoever always answers with such a class is right so often that accuracy says little.
COMMON: Final = 0.8


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """So many of `rows`."""

    hits: int
    rows: int

    @property
    def value(self) -> float | None:
        """Between 0 and 1; None of no rows."""
        return self.hits / self.rows if self.rows else None

    @property
    def interval(self) -> Interval:
        """Where it may lie at 95 % (Wilson)."""
        return wilson_interval(self.hits, self.rows, LEVEL)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassSum:
    """The results of a class over some days, and the answers that named it."""

    label: str
    results: int
    answered: int
    named: int
    right: int

    @classmethod
    def of(cls, label: str, counts: Sequence[ClassCount]) -> Self:
        """The sums of its counts among those."""
        own = [each for each in counts if each.label == label]
        return cls(
            label=label,
            **{
                name: sum(getattr(each, name) for each in own)
                for name in ("results", "answered", "named", "right")
            },
        )

    @property
    def recall(self) -> Share:
        """Of its results that got an answer, those with the right one."""
        return Share(hits=self.right, rows=self.answered)

    @property
    def precision(self) -> Share:
        """Of the answers that named it, the right ones."""
        return Share(hits=self.right, rows=self.named)


def class_view(kept: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the report and the page show; empty where no result was counted."""
    found = None if not kept else ClassDays.from_json(kept)
    if found is None or not any(each.results for each in found.counts):
        return {}
    last = found.counts[-1].day
    lately = [each for each in found.counts if each.day > last - LATELY]
    sums = [ClassSum.of(label, found.counts) for label in found.labels]
    return {
        "since": found.counts[0].day,
        "rows": [(each, ClassSum.of(each.label, lately)) for each in sums],
        "warnings": warnings(sums, found.counts[0].day),
        "charts": _charts(found, sums),
    }


def warnings(sums: Sequence[ClassSum], since: date) -> list[str]:
    """What is to be known before the figures are read: one class is nearly all, others are rare."""
    total = sum(each.results for each in sums)
    most = max(sums, key=lambda each: each.results)
    sentences = []
    if len(sums) > 1 and most.results >= COMMON * total:
        sentences.append(
            f"{percent(most.results / total)} of the results are {most.label}: always answering so "
            "would be right as often. How many of the others are found says more than accuracy."
        )
    rare = sorted((each for each in sums if each.results < RARE), key=lambda each: each.results)
    sentences += [_rare(each, since) for each in rare[:NAMED]]
    if rare[NAMED:]:
        more = counted(len(rare) - NAMED, "further class").replace("classs", "classes")
        sentences.append(f"The same goes for {more} with fewer than {RARE} results.")
    return sentences


def _rare(each: ClassSum, since: date) -> str:
    """That little is known of a class, and what its recall may be."""
    if not each.results:
        return f"Of {each.label} no result is known since {since}: nobody can tell how it is found."
    known = f"Of {each.label} only {counted(each.results, 'result')} "
    known += f"{'is' if each.results == 1 else 'are'} known since {since}"
    if not each.answered:
        return f"{known}, and none of them was answered: nobody can tell how it is found."
    between = each.recall.interval
    return (
        f"{known}: {each.right} of {each.answered} answered right may as well mean "
        f"{percent(between.low)} as {percent(between.high)}, so its figures are unsure."
    )


def _charts(found: ClassDays, sums: Sequence[ClassSum]) -> list[Any]:
    """Recall and precision of the classes with the most results, by day or by week."""
    drawn = sorted(sums, key=lambda each: -each.results)[:DRAWN]
    labels = [each.label for each in drawn if each.results or each.named]
    days = sorted({each.day for each in found.counts})
    is_daily = min(each.results for each in drawn) >= A_DAY * len(days)
    periods: dict[date, list[ClassCount]] = {}
    for each in found.counts:
        start = each.day if is_daily else each.day - timedelta(days=each.day.weekday())
        periods.setdefault(start, []).append(each)
    by = {label: [(day, ClassSum.of(label, rows)) for day, rows in periods.items()]
          for label in labels}  # fmt: skip
    return [_chart(name, by, len(found.labels), is_daily=is_daily) for name in _MEANING]


_MEANING: Final = {
    "recall": "How many of a class's results were answered right",
    "precision": "How many of the answers that name a class were right",
}


def _chart(
    name: str, by: Mapping[str, Sequence[tuple[date, ClassSum]]], classes: int, *, is_daily: bool
) -> Any:  # noqa: ANN401 - markup
    shares = {
        label: [(float(day.toordinal()), getattr(each, name)) for day, each in sums]
        for label, sums in by.items()
    }
    of = "" if len(by) == classes else f" Of {classes} classes those {len(by)} with most results."
    when = "day" if is_daily else "week (its Monday)"
    return draw(
        Chart(
            name=f"class-{name}",
            title=f"{name.capitalize()} by {'day' if is_daily else 'week'}",
            summary=(
                f"{_MEANING[name]}, by the {when} in which the outcome became known. UNCERTAIN is "
                f"no answer.{of}"
            ),
            detail=" ".join(f"{label}: {_over_all(every)}." for label, every in shares.items()),
            series=[
                Series(
                    name=label,
                    points=[(day, share.value) for day, share in every if share.value is not None],
                )
                for label, every in shares.items()
            ],
            x=days_axis(day for every in shares.values() for day, _ in every),
            y=Axis(title=name.capitalize(), text=percent_text),
            y_range=(0.0, 1.0),
        )
    )


def _over_all(shares: Sequence[tuple[float, Share]]) -> str:
    whole = Share(
        hits=sum(share.hits for _, share in shares), rows=sum(share.rows for _, share in shares)
    )
    return "none" if whole.value is None else f"{percent(whole.value)} of {whole.rows}"
