"""When has a model decayed, and when has it recovered? The rules, without side effects."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from statistics import NormalDist
from typing import Any

from ml_pipeline.config.sections import DecaySettings
from ml_pipeline.decay import messages
from ml_pipeline.decay.measures import (
    ALIKE,
    LabelWeights,
    Measure,
    Window,
    baseline_window,
    compare,
    measure,
    recent_window,
    settled_before,
    spread,
    stored_share,
)
from ml_pipeline.evaluation.intervals import wilson_interval
from ml_pipeline.store.alerts import Cause, DailyAccuracy, DecayAlert, LearningCycle, Severity

RECOVERY_LEVEL = 0.95
LASTING_DAYS = 2
ORDER = ("accuracy", "log_loss", "confident_errors", "calibration", "abstention")


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """One metric of recent days against the baseline. `worse` is positive for the worse.

    `bound` is the least worsening at the confidence level, `relative` what part was lost.
    """

    metric: str
    window_days: int
    baseline: float
    recent: float
    baseline_rows: int
    recent_rows: int
    worse: float
    relative: float
    bound: float
    threshold: float
    since: date
    alarming: bool
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """The signal as plain JSON values."""
        return asdict(self) | {"since": self.since.isoformat()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the signals say together; `decayed` is the one that lost the most, if one alarms."""

    signals: tuple[Signal, ...]
    decayed: Signal | None
    severity: Severity | None
    sentence: str


# ------------------------------------------------------------------------------------- rules


def judge(  # noqa: PLR0913 - what is known of the days, and how they count
    days: Sequence[DailyAccuracy],
    cycles: Sequence[LearningCycle],
    settings: DecaySettings,
    *,
    now: datetime,
    closed: Sequence[DecayAlert] = (),
    weights: LabelWeights = ALIKE,
) -> Verdict:
    """Compare recent days with the baseline.

    `days` are those of the champion's lineage, in any order. `closed` are the earlier alerts
    of the same cause. `weights` say for how many answers those stand that got a label.
    """
    today, settled = now.date(), settled_before(closed)
    baseline = baseline_window(days, settings, today, closed, weights)
    fresh = [day for day in days if settled is None or day.day > settled]
    longest = recent_window(fresh, today, max(settings.recent_days), weights)
    usual = _Usual(baseline=baseline, recent=longest, spread=spread(longest, baseline))
    signals = [
        signal
        for metric in ORDER
        for length in settings.recent_days
        if (signal := _signal(
            metric, recent_window(longest.days, today, length, weights), usual, length, settings
        )) is not None
    ]  # fmt: skip
    rate = accept_rate(cycles, settings, after=settled)
    return _verdict(signals if rate is None else [*signals, rate], settings)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Usual:
    """What recent days are compared with, and the days of the longest recent window."""

    baseline: Window
    recent: Window
    spread: float

    def lasts(self, metric: str, before: Measure) -> bool:
        """Whether each of the last two days is worse than before: it is not one bad day."""
        sign = -1 if metric == "accuracy" else 1
        days = sorted({day.day for day in self.recent.days}, reverse=True)
        last: list[Measure] = []
        for date_ in days:
            same = tuple(day for day in self.recent.days if day.day == date_)
            window = replace(self.recent, days=same)
            found = measure(metric, window)
            if found is not None:
                last.append(found)
            if len(last) == LASTING_DAYS:
                return all(sign * (day.value - before.value) > 0 for day in last)
        return False


def _verdict(signals: Sequence[Signal], settings: DecaySettings) -> Verdict:
    alarming = [signal for signal in signals if signal.alarming]
    if not alarming:
        return Verdict(signals=tuple(signals), decayed=None, severity=None, sentence=_calm(signals))
    worst = max(alarming, key=lambda signal: (signal.metric == "accuracy", signal.relative))
    return Verdict(
        signals=tuple(signals),
        decayed=worst,
        severity=severity(worst.relative, settings),
        sentence=worst.sentence,
    )


def _calm(signals: Sequence[Signal]) -> str:
    """What to say when nothing alarms: the accuracy of the longest window, if it is known."""
    if not signals:
        return "Too few new results to tell."
    known = [signal for signal in signals if signal.metric == "accuracy"]
    if not known:
        return "No decay."
    longest = max(known, key=lambda signal: signal.window_days)
    return "No decay. " + messages.compared(
        "accuracy",
        days=longest.window_days,
        recent=(longest.recent, longest.recent_rows),
        usual=(longest.baseline, longest.baseline_rows),
    )


def severity(relative: float, settings: DecaySettings) -> Severity:
    """How urgent the loss of that part is."""
    if relative >= settings.severe:
        return Severity.SEVERE
    return Severity.CRITICAL if relative >= settings.critical else Severity.WARNING


def _signal(
    metric: str, recent: Window, usual: _Usual, length: int, settings: DecaySettings
) -> Signal | None:
    before, after = measure(metric, usual.baseline), measure(metric, recent)
    if before is None or after is None or recent.first is None:
        return None
    if after.rows < settings.min_rows or before.rows < settings.min_rows:
        return None
    worse, bound, relative = compare(metric, before, after, settings, usual.spread)
    threshold = settings.loss_threshold if metric == "log_loss" else settings.threshold
    is_large = worse >= threshold or (metric == "accuracy" and relative >= settings.warning)
    return Signal(
        metric=metric,
        window_days=length,
        baseline=before.value,
        recent=after.value,
        baseline_rows=before.rows,
        recent_rows=after.rows,
        worse=worse,
        relative=relative,
        bound=bound,
        threshold=threshold,
        since=recent.first,
        alarming=metric in settings.alarm_on
        and is_large
        and bound > 0
        and usual.lasts(metric, before),
        sentence=messages.compared(
            metric,
            days=length,
            recent=(after.value, after.rows),
            usual=(before.value, before.rows),
        )
        + " "
        + messages.certainty(metric, at_least=bound, level=settings.confidence_level),
    )


def accept_rate(
    cycles: Sequence[LearningCycle], settings: DecaySettings, *, after: date | None
) -> Signal | None:
    """The rate of accepted answers in the latest learning cycles against its threshold.

    With totals the cycles are weighted by them and bounded by Wilson; without, they count alike
    and Student's bound of their mean is used. None when there are too few cycles.
    """
    fresh = [cycle for cycle in cycles if after is None or cycle.at.date() > after]
    latest = sorted(fresh, key=lambda cycle: cycle.at)[-settings.accept_rate_window :]
    if len(latest) < settings.accept_rate_min_cycles:
        return None
    level, threshold = settings.accept_rate_confidence, settings.accept_rate_threshold
    counted = "answers" if all(cycle.total for cycle in latest) else "cycles"
    if counted == "answers":
        rows = sum(cycle.total or 0 for cycle in latest)
        if rows < settings.min_rows:
            return None
        hits = sum(round(cycle.accept_rate * (cycle.total or 0)) for cycle in latest)
        rate, high = hits / rows, wilson_interval(hits, rows, 2 * level - 1).high
    else:
        rows = len(latest)
        rate, high = _mean_below([cycle.accept_rate for cycle in latest], level)
    worse = threshold - rate
    return Signal(
        metric="accept_rate",
        window_days=(latest[-1].at.date() - latest[0].at.date()).days + 1,
        baseline=threshold,
        recent=rate,
        baseline_rows=0,
        recent_rows=rows,
        worse=worse,
        relative=worse / threshold,
        bound=threshold - high,
        threshold=threshold,
        since=latest[0].at.date(),
        alarming="accept_rate" in settings.alarm_on and high < threshold,
        sentence=f"In the last {len(latest)} learning cycles {100 * rate:.1f} % of the answers "
        f"were accepted ({rows:,} {counted}). That is at most {100 * high:.1f} % with "
        f"{100 * level:g} % confidence; {100 * threshold:g} % is required.",
    )


def _mean_below(rates: Sequence[float], level: float) -> tuple[float, float]:
    from scipy import stats

    n, mean = len(rates), sum(rates) / len(rates)
    variance = sum((rate - mean) ** 2 for rate in rates) / max(1, n - 1)
    # One cycle more or less always moves the rate a little, however equal the few seen are.
    error = max(math.sqrt(variance / n), 1e-9)
    return mean, mean + float(stats.t.ppf(level, max(1, n - 1))) * error


# ---------------------------------------------------------------------------------- recovery


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowUp:
    """How an open alert's metric did since: back, still down, or too few rows to say."""

    recovered: bool
    still_down: bool
    sentence: str
    value: float | None = None
    rows: int = 0


def follow_up(  # noqa: PLR0913 - an alert, what is known since, and how it counts
    alert: DecayAlert,
    days: Sequence[DailyAccuracy],
    cycles: Sequence[LearningCycle],
    settings: DecaySettings,
    *,
    since: date,
    weights: LabelWeights = ALIKE,
) -> FollowUp:
    """Judge the days after `since` against the alert's own baseline.

    Recovered: within half the threshold of the baseline, and certainly better than it was. Still
    down: what would have raised the alert.
    """
    if alert.metric == "accept_rate":
        return _rate_follow_up(cycles, settings, since)
    fresh = Window(days=tuple(day for day in days if day.day > since), weights=weights)
    after = measure(alert.metric, fresh)
    if after is None or after.rows < settings.min_rows:
        rows = 0 if after is None else after.rows
        sentence = f"{rows} new results since {since}; {settings.min_rows} are needed to tell."
        return FollowUp(recovered=False, still_down=False, sentence=sentence, rows=rows)
    before = _stored(alert.metric, alert.baseline, alert.baseline_rows, after.odds)
    was = _stored(alert.metric, alert.recent, alert.recent_rows, after.odds)
    worse, bound, _ = compare(alert.metric, before, after, settings)
    better = _bettered(alert.metric, was, after)
    return FollowUp(
        recovered=worse < alert.threshold / 2 and better,
        still_down=worse >= alert.threshold and bound > 0,
        sentence=messages.since_then(alert, after.value, after.rows, since=since),
        value=after.value,
        rows=after.rows,
    )


def _stored(metric: str, value: float, rows: int, odds: float) -> Measure:
    rows = max(rows, 1)
    if metric in {"accuracy", "confident_errors", "abstention"}:
        return stored_share(value, rows, odds)
    return Measure(value=value, rows=rows, error=0.0)


def _bettered(metric: str, was: Measure, after: Measure) -> bool:
    """Whether it is better than the alert's level for certain; its own noise is left out."""
    z = NormalDist().inv_cdf(RECOVERY_LEVEL)
    if metric == "accuracy":
        return after.value - z * after.error > was.value
    return after.value + z * after.error < was.value


def _rate_follow_up(
    cycles: Sequence[LearningCycle], settings: DecaySettings, since: date
) -> FollowUp:
    rate = accept_rate(cycles, settings, after=since)
    if rate is None:
        needed = settings.accept_rate_min_cycles
        sentence = f"Fewer than {needed} learning cycles since {since}: too few to tell."
        return FollowUp(recovered=False, still_down=False, sentence=sentence)
    return FollowUp(
        recovered=rate.recent >= rate.threshold,
        still_down=rate.bound > 0,
        sentence=rate.sentence,
        value=rate.recent,
        rows=rate.recent_rows,
    )


def of_cause(alerts: Iterable[DecayAlert], cause: Cause) -> list[DecayAlert]:
    """The closed alerts of a cause."""
    return [alert for alert in alerts if alert.cause is cause and not alert.status.is_open]
