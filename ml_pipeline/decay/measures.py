"""What a model's outcomes come to on some days: windows, metrics, and bounds of their change.

Every window is a set of whole UTC days and weighs its days by their rows. The recent windows end
today; the baseline ends before the longest of them begins, so no row is compared with itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta
from operator import attrgetter
from statistics import NormalDist
from typing import Any

from ml_pipeline.config.sections import DecaySettings
from ml_pipeline.evaluation.intervals import wilson_interval
from ml_pipeline.store.alerts import AlertStatus, DailyAccuracy, DecayAlert

HORIZON_BASELINES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Sums over some days. `first` and `last` are the first and last of them that have rows."""

    days: tuple[DailyAccuracy, ...]

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
    """A metric on a window: its value, its rows and its standard error."""

    value: float
    rows: int
    error: float
    hits: int | None = None


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
    """The metric on a window, None without rows."""
    answered, correct = window.total("answered"), window.total("correct")
    scored = window.total("scored")
    if metric == "accuracy":
        return _share(correct, answered)
    if metric == "confident_errors":
        return _share(window.total("confident_errors"), window.total("confident"))
    if metric == "abstention":
        return _share(window.total("uncertain"), window.total("evaluated"))
    if not scored:
        return None
    if metric == "log_loss":
        mean = window.total("loss_sum") / scored
        variance = max(0.0, window.total("loss_square_sum") / scored - mean * mean)
        return Measure(value=mean, rows=int(scored), error=math.sqrt(variance / scored))
    # The confidence of a calibrated model varies no more than its being right does.
    right = window.total("scored_correct") / scored
    gap = window.total("confidence_sum") / scored - right
    return Measure(value=gap, rows=int(scored), error=math.sqrt(right * (1 - right) / scored))


def _share(hits: float, rows: float) -> Measure | None:
    if not rows:
        return None
    share = hits / rows
    error = math.sqrt(share * (1 - share) / rows)
    return Measure(value=share, rows=int(rows), error=error, hits=int(hits))


def spread(recent: Window, baseline: Window) -> float:
    """How much more the accuracy differs between days than chance lets it, at least 1.

    Pearson's chi-square of the days around the mean of their window, divided by its degrees of
    freedom. Bounds are widened by its root, so that a noisy week is no decay.
    """
    total, freedom = 0.0, 0
    for window in (recent, baseline):
        share = measure("accuracy", window)
        by_day = window.by_day()
        if share is None or not 0 < share.value < 1 or len(by_day) < 2:  # noqa: PLR2004
            continue
        variance = share.value * (1 - share.value)
        total += sum((hits - n * share.value) ** 2 / (n * variance) for hits, n in by_day)
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
    high = wilson_interval(before.hits, before.rows, 2 * level - 1).high
    low = wilson_interval(after.hits, after.rows, 2 * level - 1).low
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
    return Measure(value=1 - share.value, rows=share.rows, error=share.error, hits=hits)


# ----------------------------------------------------------------------------------- windows


def horizon(settings: DecaySettings, today: date) -> date:
    """The first day that may count."""
    days = max(settings.recent_days) + HORIZON_BASELINES * settings.baseline_days
    return today - timedelta(days=days - 1)


def recent_window(days: Iterable[DailyAccuracy], today: date, length: int) -> Window:
    """The last `length` days, today among them."""
    first = today - timedelta(days=length - 1)
    return Window(days=tuple(day for day in days if first <= day.day <= today))


def baseline_window(
    days: Iterable[DailyAccuracy],
    settings: DecaySettings,
    today: date,
    closed: Sequence[DecayAlert] = (),
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
    return Window(days=tuple(day for day in usable if day.day in kept))


def _is_within(day: date, alert: DecayAlert) -> bool:
    if alert.status is not AlertStatus.RESOLVED or alert.resolved_at is None:
        return False
    return alert.window_start.date() <= day <= alert.resolved_at.date()


def settled_before(closed: Sequence[DecayAlert]) -> date | None:
    """The last day that an alert has already been about; only later days alarm again."""
    ends = [alert.resolved_at.date() for alert in closed if alert.resolved_at is not None]
    return max(ends, default=None)
