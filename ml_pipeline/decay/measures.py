"""What a model's outcomes come to on some days: windows, metrics, and bounds of their change.

Every window is a set of whole UTC days and weighs its days by their rows. The recent windows end
today; the baseline ends before the longest of them begins, so no row is compared with itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from operator import attrgetter
from statistics import NormalDist
from typing import Any, Final, Self

from ml_pipeline.config.sections import AdaptiveSettings, DecaySettings
from ml_pipeline.evaluation.intervals import Interval, wilson_interval
from ml_pipeline.store.alerts import AlertStatus, DailyAccuracy, DecayAlert

HORIZON_BASELINES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelWeights:
    """For how many answers a right and a wrong one stand that got a label; UNCERTAIN is not wrong.

    They are 1 over `training.adaptive.label_probability_right` and `…_wrong`.
    """

    right: float = 1.0
    wrong: float = 1.0

    @classmethod
    def of(cls, settings: AdaptiveSettings) -> Self:
        """Those that the settings tell."""
        return cls(right=settings.right_weight, wrong=settings.wrong_weight)


ALIKE: Final = LabelWeights()


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Sums over some days. `first` and `last` are the first and last of them that have rows."""

    days: tuple[DailyAccuracy, ...]
    weights: LabelWeights = ALIKE

    def total(self, name: str) -> float:
        """The sum of one field."""
        return float(sum(map(attrgetter(name), self.days)))

    def by_day(self) -> list[tuple[int, int]]:
        """Right answers and answers of each day that has some, in order."""
        found: dict[date, tuple[int, int]] = {}
        for day in self.days:
            hits, n = found.get(day.day, (0, 0))
            found[day.day] = (hits + day.correct, n + day.answered)
        return [found[day] for day in sorted(found) if found[day][1]]

    @property
    def first(self) -> date | None:
        """The first day with rows."""
        return min((day.day for day in self.days), default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """A metric on a window: its value, its rows and its standard error.

    For a share, `hits` of the `rows` count towards it, and one that does stands for `odds` times as
    many answers as one that does not.
    """

    value: float
    rows: int
    error: float
    hits: int | None = None
    odds: float = 1.0

    def bounds(self, confidence: float) -> Interval:
        """Wilson's two-sided interval of a share, of all answers for which the rows stand."""
        found = wilson_interval(self.hits or 0, self.rows, confidence)
        return Interval(low=_tilted(found.low, self.odds), high=_tilted(found.high, self.odds))


# ---------------------------------------------------------------------------------- measures


def added(days: Sequence[DailyAccuracy], *, model_id: str) -> DailyAccuracy:
    """Days of several models as one; there must be at least one."""
    sums: dict[str, Any] = {
        field.name: sum(getattr(day, field.name) for day in days)
        for field in fields(DailyAccuracy)
        if field.name not in {"model_name", "day", "model_id"}
    }
    first = days[0]
    return DailyAccuracy(model_name=first.model_name, day=first.day, model_id=model_id, **sums)


def measure(metric: str, window: Window) -> Measure | None:
    """The metric on a window, None without rows.

    Shares are those of all answers, weighted by `window.weights`. Log loss and mean confidence are
    of the labelled ones: their sums are not kept apart for right and wrong answers.
    """
    answered, correct = window.total("answered"), window.total("correct")
    scored, weights = window.total("scored"), window.weights
    odds = weights.right / weights.wrong
    if metric == "accuracy":
        return _share(correct, answered, odds)
    if metric == "confident_errors":
        return _share(window.total("confident_errors"), window.total("confident"), 1 / odds)
    if metric == "abstention":
        stood_for = correct * weights.right + (answered - correct) * weights.wrong
        odds = weights.right * answered / stood_for if answered else 1.0
        return _share(window.total("uncertain"), window.total("evaluated"), odds)
    if not scored:
        return None
    if metric == "log_loss":
        mean = window.total("loss_sum") / scored
        variance = max(0.0, window.total("loss_square_sum") / scored - mean * mean)
        return Measure(value=mean, rows=int(scored), error=math.sqrt(variance / scored))
    # The confidence of a calibrated model varies no more than its being right does.
    right = share_of(window.total("scored_correct"), scored, odds)
    gap = window.total("confidence_sum") / scored - right.value
    return Measure(value=gap, rows=int(scored), error=right.error)


def _share(hits: float, rows: float, odds: float) -> Measure | None:
    return share_of(hits, rows, odds) if rows else None


def share_of(hits: float, rows: float, odds: float = 1.0) -> Measure:
    """The share of hits among all answers for which the rows stand; there must be some rows.

    Its error is that of the counted share by the delta method.
    """
    share = hits / rows
    slope = odds / (odds * share + 1 - share) ** 2
    return Measure(
        value=_tilted(share, odds),
        rows=int(rows),
        error=slope * math.sqrt(share * (1 - share) / rows),
        hits=int(hits),
        odds=odds,
    )


def stored_share(value: float, rows: int, odds: float) -> Measure:
    """The share that had this value on so many rows; the inverse of `share_of`, to a whole hit."""
    return replace(share_of(round(_tilted(value, 1 / odds) * rows), rows, odds), value=value)


def _tilted(share: float, odds: float) -> float:
    """A share among labelled answers as one among all answers."""
    return share if odds == 1 else odds * share / (odds * share + 1 - share)


def spread(recent: Window, baseline: Window) -> float:
    """How much more the accuracy differs between days than chance lets it, at least 1.

    Pearson's chi-square of the days around the mean of their window, divided by its degrees of
    freedom. Bounds are widened by its root, so that a noisy week is no decay.
    """
    total, freedom = 0.0, 0
    for window in (recent, baseline):
        by_day = window.by_day()
        share = window.total("correct") / max(1.0, window.total("answered"))
        if not 0 < share < 1 or len(by_day) < 2:  # noqa: PLR2004
            continue
        variance = share * (1 - share)
        total += sum((hits - n * share) ** 2 / (n * variance) for hits, n in by_day)
        freedom += len(by_day) - 1
    return max(1.0, total / freedom) if freedom else 1.0


def least_change(before: Measure, after: Measure, level: float, spread: float = 1.0) -> float:
    """The one-sided lower bound of `after - before`.

    For shares Newcombe's (Statistics in Medicine 17, 1998), from two Wilson intervals; for means
    the normal one. Both are widened by the root of `spread`.
    """
    change = after.value - before.value
    if before.hits is None or after.hits is None:
        z = NormalDist().inv_cdf(level)
        return change - z * math.hypot(before.error, after.error) * math.sqrt(spread)
    high = before.bounds(2 * level - 1).high
    low = after.bounds(2 * level - 1).low
    return change - math.hypot(high - before.value, after.value - low) * math.sqrt(spread)


def compare(
    metric: str, before: Measure, after: Measure, settings: DecaySettings, spread: float = 1.0
) -> tuple[float, float, float]:
    """How much worse it got, at least, and which part was lost."""
    level = settings.confidence_level
    if metric == "accuracy":
        worse, bound = before.value - after.value, _least_drop(before, after, level, spread)
    else:
        worse, bound = after.value - before.value, least_change(before, after, level, spread)
    whole = {
        "accuracy": before.value,
        "log_loss": before.value,
        "calibration": 1.0,
    }.get(metric, 1 - before.value)
    return worse, bound, worse / whole if whole > 0 else 0.0


def _least_drop(before: Measure, after: Measure, level: float, spread: float) -> float:
    """The bound of the loss is that of the gain of the complements."""
    return least_change(_complement(before), _complement(after), level, spread)


def _complement(share: Measure) -> Measure:
    hits = None if share.hits is None else share.rows - share.hits
    return replace(share, value=1 - share.value, hits=hits, odds=1 / share.odds)


# ----------------------------------------------------------------------------------- windows


def horizon(settings: DecaySettings, today: date) -> date:
    """The first day that may count."""
    days = max(settings.recent_days) + HORIZON_BASELINES * settings.baseline_days
    return today - timedelta(days=days - 1)


def recent_window(
    days: Iterable[DailyAccuracy], today: date, length: int, weights: LabelWeights = ALIKE
) -> Window:
    """The last `length` days, today among them."""
    first = today - timedelta(days=length - 1)
    kept = tuple(day for day in days if first <= day.day <= today)
    return Window(days=kept, weights=weights)


def baseline_window(
    days: Iterable[DailyAccuracy],
    settings: DecaySettings,
    today: date,
    closed: Sequence[DecayAlert] = (),
    weights: LabelWeights = ALIKE,
) -> Window:
    """The last `baseline_days` days with rows before the longest recent window.

    Days of a decay that was resolved say nothing about what is normal. A decay that a person
    overrode is the new normal: the baseline begins with it.
    """
    last = today - timedelta(days=max(settings.recent_days))
    first = horizon(settings, today)
    for alert in closed:
        if alert.status is AlertStatus.OVERRIDDEN:
            first = max(first, alert.window_start.date())
    usable = [
        day
        for day in days
        if first <= day.day <= last and not any(_is_within(day.day, alert) for alert in closed)
    ]
    kept = set(sorted({day.day for day in usable})[-settings.baseline_days :])
    return Window(days=tuple(day for day in usable if day.day in kept), weights=weights)


def _is_within(day: date, alert: DecayAlert) -> bool:
    if alert.status is not AlertStatus.RESOLVED or alert.resolved_at is None:
        return False
    return alert.window_start.date() <= day <= alert.resolved_at.date()


def settled_before(closed: Sequence[DecayAlert]) -> date | None:
    """The last day that an alert has already been about; only later days alarm again."""
    ends = [alert.resolved_at.date() for alert in closed if alert.resolved_at is not None]
    return max(ends, default=None)
