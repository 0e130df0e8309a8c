"""The rules of decay: windows that do not overlap, bounds, volume, severities, recovery."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from ml_pipeline.config.sections import DecaySettings
from ml_pipeline.decay.measures import (
    ALIKE,
    LabelWeights,
    Measure,
    Window,
    baseline_window,
    least_change,
    measure,
    recent_window,
)
from ml_pipeline.decay.rules import Verdict, follow_up, judge
from ml_pipeline.store.alerts import AlertStatus, DailyAccuracy, DecayAlert, LearningCycle, Severity
from tests.support.factories import NOW, make_alert, make_day

SETTINGS = DecaySettings()
TODAY = NOW.date()


def day(ago: int, share: float, rows: int = 200, **changes: Any) -> DailyAccuracy:  # noqa: ANN401
    right = round(share * rows)
    values: dict[str, Any] = {
        "day": TODAY - timedelta(days=ago), "evaluated": rows, "correct": right, "uncertain": 0,
        "scored": rows, "scored_correct": right, "confident": 0, "confident_errors": 0,
        "confidence_sum": 0.75 * rows, "loss_sum": 0.6 * rows, "loss_square_sum": 0.5 * rows,
    }  # fmt: skip
    return make_day(1, **(values | changes))


def history(recent: dict[int, float], usual: float = 0.75, rows: int = 200) -> list[DailyAccuracy]:
    """Sixty days; `recent` gives some days (ago) another accuracy."""
    return [day(ago, recent.get(ago, usual), rows) for ago in range(60)]


def verdict(days: list[DailyAccuracy], **changes: Any) -> Verdict:  # noqa: ANN401
    return judge(days, [], DecaySettings(**changes), now=NOW)


LAST_WEEK = dict.fromkeys(range(7), 0.6)


def test_defect_24_the_recent_windows_and_the_baseline_share_no_day() -> None:
    days = history({})
    baseline = {d.day for d in baseline_window(days, SETTINGS, TODAY).days}
    for length in SETTINGS.recent_days:
        recent = {d.day for d in recent_window(days, TODAY, length).days}
        assert len(recent) == length
        assert not recent & baseline
    assert len(baseline) == SETTINGS.baseline_days
    assert max(baseline) == TODAY - timedelta(days=7)


def test_a_steady_model_has_not_decayed() -> None:
    found = verdict(history({}))
    assert found.decayed is None
    assert {s.window_days for s in found.signals if s.metric == "accuracy"} == {3, 7}


def test_a_drop_is_found_with_its_numbers() -> None:
    found = verdict(history(LAST_WEEK))
    assert found.decayed is not None
    assert found.decayed.metric == "accuracy"
    assert (found.decayed.baseline, found.decayed.recent) == (0.75, 0.60)
    assert found.decayed.baseline_rows == 5600
    assert 0 < found.decayed.bound < 0.15
    assert found.decayed.since == TODAY - timedelta(days=found.decayed.window_days - 1)
    assert "the model was right 60.0 % of the time" in found.sentence
    assert "against 75.0 % on the 5,600 results before" in found.sentence
    assert "points worse, with 99.99 % confidence" in found.sentence


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.69, Severity.WARNING), (0.60, Severity.WARNING), (0.52, Severity.CRITICAL),
     (0.40, Severity.SEVERE)],
)  # fmt: skip
def test_the_relative_loss_makes_the_severity(share: float, expected: Severity) -> None:
    assert verdict(history(dict.fromkeys(range(7), share))).severity is expected


def test_a_drop_under_the_threshold_is_no_decay_however_certain() -> None:
    days = history(dict.fromkeys(range(7), 0.71), rows=20_000)
    assert verdict(days).decayed is None
    assert verdict(days, threshold=0.03).decayed is not None


def test_days_weigh_by_their_rows() -> None:
    days = [d for d in history({}) if d.day < TODAY - timedelta(days=2)]
    days += [day(0, 0.0, rows=20), day(1, 0.74, rows=1000), day(2, 0.75, rows=1000)]
    assert verdict(days).decayed is None


def test_a_week_of_five_predictions_says_nothing() -> None:
    days = [d for d in history({}) if d.day <= TODAY - timedelta(days=7)]
    days += [day(ago, 0.0, rows=1) for ago in range(5)]
    found = verdict(days)
    assert found.decayed is None
    assert found.sentence == "Too few new results to tell."


def test_one_bad_day_is_no_decay_yet() -> None:
    assert verdict(history({0: 0.3})).decayed is None
    assert verdict(history({0: 0.3, 1: 0.3})).decayed is not None


def test_days_that_swing_widen_the_bounds() -> None:
    swing = {ago: 0.75 - 0.12 + (0.16 if ago in {2, 5} else 0.0) for ago in range(7)}
    calm = {ago: sum(swing.values()) / 7 for ago in range(7)}
    bounds = [
        min(s.bound for s in verdict(history(recent)).signals if s.metric == "accuracy")
        for recent in (swing, calm)
    ]
    assert bounds[0] < bounds[1]


def test_uncertain_answers_are_neither_right_nor_wrong() -> None:
    days = [
        replace(d, evaluated=300, uncertain=100) if d.day > TODAY - timedelta(days=7) else d
        for d in history({})
    ]
    found = verdict(days, alarm_on=["accuracy", "abstention"])
    assert found.decayed is not None
    assert found.decayed.metric == "abstention"
    assert all(s.recent == 0.75 for s in found.signals if s.metric == "accuracy")


def test_log_loss_and_confident_errors_alarm_too() -> None:
    def worse(d: DailyAccuracy) -> DailyAccuracy:
        if d.day <= TODAY - timedelta(days=7):
            return replace(d, confident=100, confident_errors=10)
        right = d.correct - 4
        return replace(d, loss_sum=0.9 * 200, loss_square_sum=0.9 * 200, confident=100,
                       confident_errors=35, correct=right, scored_correct=right)  # fmt: skip

    found = verdict([worse(d) for d in history({})])
    assert {s.metric for s in found.signals if s.alarming} == {"log_loss", "confident_errors"}
    assert verdict([worse(d) for d in history({})], alarm_on=["accuracy"]).decayed is None


def test_newcombes_bound_is_the_published_one() -> None:
    # Newcombe 1998, table II: 56/70 against 48/80, method 10, 95 % two-sided: 0.0524 to 0.3339.
    first = Measure(value=48 / 80, rows=80, error=0.0, hits=48)
    second = Measure(value=56 / 70, rows=70, error=0.0, hits=56)
    assert least_change(first, second, 0.975) == pytest.approx(0.0524, abs=5e-5)


# ------------------------------------------------------------------------------ learning cycles


def cycles(*rates: float, total: int | None = 100) -> list[LearningCycle]:
    last = len(rates)
    return [
        LearningCycle(at=NOW - timedelta(hours=last - place), accept_rate=rate, total=total)
        for place, rate in enumerate(rates)
    ]


def rate_of(found: list[LearningCycle]) -> Verdict:
    return judge([], found, SETTINGS, now=NOW)


def test_a_low_accept_rate_alarms_and_two_cycles_say_nothing() -> None:
    found = rate_of(cycles(0.5, 0.45, 0.5))
    assert found.decayed is not None
    assert found.decayed.metric == "accept_rate"
    assert rate_of(cycles(0.1, 0.1)).signals == ()
    assert rate_of(cycles(0.59, 0.6, 0.58)).decayed is None


def test_defect_23_cycles_weigh_by_their_totals() -> None:
    small = cycles(0.0, 0.0, 0.0, total=10)
    large = cycles(0.8, 0.8, total=1000)
    found = rate_of([*small, *large])
    assert found.decayed is None
    assert found.signals[0].recent == pytest.approx(1600 / 2030)


def test_cycles_without_totals_count_alike() -> None:
    assert rate_of(cycles(0.4, 0.42, 0.38, 0.41, total=None)).decayed is not None
    assert rate_of(cycles(0.2, 0.9, 0.3, total=None)).decayed is None


def test_five_tiny_cycles_say_nothing() -> None:
    assert rate_of(cycles(0.0, 0.0, 0.0, 0.0, 0.0, total=1)).decayed is None


# ------------------------------------------------------------------------------------ afterwards


def closed(status: AlertStatus, began: int, ended: int) -> DecayAlert:
    return make_alert(
        status=status, resolved_at=NOW - timedelta(days=ended),
        window_start=NOW - timedelta(days=began),
    )  # fmt: skip


def test_only_days_after_a_closed_alert_alarm_again() -> None:
    days = history(LAST_WEEK)
    done = closed(AlertStatus.RESOLVED, 6, 1)
    assert judge(days, [], SETTINGS, now=NOW, closed=[done]).decayed is None


def test_days_of_a_resolved_decay_are_not_what_is_normal() -> None:
    days = history({**dict.fromkeys(range(10, 25), 0.5)})
    without = baseline_window(days, SETTINGS, TODAY)
    cleaned = baseline_window(days, SETTINGS, TODAY, [closed(AlertStatus.RESOLVED, 24, 10)])
    assert {d.correct for d in cleaned.days} == {150}
    assert len(cleaned.days) == 28
    assert {d.correct for d in without.days} == {100, 150}


def test_what_a_person_overrode_is_the_new_normal() -> None:
    days = history({**dict.fromkeys(range(20), 0.6)})
    over = closed(AlertStatus.OVERRIDDEN, 19, 15)
    found = judge(days, [], SETTINGS, now=NOW, closed=[over])
    assert found.decayed is None
    assert {s.baseline for s in found.signals if s.metric == "accuracy"} == {0.6}


def later(share: float, rows: int = 200) -> list[DailyAccuracy]:
    return [day(ago, share, rows) for ago in range(3)]


OPEN = make_alert(baseline=0.75, recent=0.6, threshold=0.05, baseline_rows=5600, recent_rows=600)
SINCE = date.fromordinal(TODAY.toordinal() - 3)


def test_an_alert_has_recovered_when_the_metric_is_back() -> None:
    back = follow_up(OPEN, later(0.74), [], SETTINGS, since=SINCE)
    assert (back.recovered, back.still_down) == (True, False)
    down = follow_up(OPEN, later(0.6), [], SETTINGS, since=SINCE)
    assert (down.recovered, down.still_down) == (False, True)
    between = follow_up(OPEN, later(0.71), [], SETTINGS, since=SINCE)
    assert (between.recovered, between.still_down) == (False, False)
    few = follow_up(OPEN, later(0.75, rows=4), [], SETTINGS, since=SINCE)
    assert (few.recovered, few.still_down) == (False, False)
    assert "50 are needed" in few.sentence


# ------------------------------------------------------------------------- labels of errors


WEIGHTS = LabelWeights(right=10.0)


def labelled_errors(share: float, rows: int = 2000) -> DailyAccuracy:
    """A day of so many answers: each error got its label, and one in ten of the right ones."""
    right, wrong = round(share * rows / 10), round((1 - share) * rows)
    return day(
        0, right / (right + wrong), right + wrong, uncertain=round(rows / 100),
        evaluated=right + wrong + round(rows / 100), correct=right,
        confident=right // 2 + wrong // 4, confident_errors=wrong // 4,
    )  # fmt: skip


def biased_history(recent: float, usual: float) -> list[DailyAccuracy]:
    return [
        replace(labelled_errors(recent if ago < 7 else usual), day=TODAY - timedelta(days=ago))
        for ago in range(60)
    ]


def test_rates_of_biased_labels_are_those_of_all_answers() -> None:
    window = Window(days=(labelled_errors(0.75),), weights=WEIGHTS)
    accuracy, blind = (
        measure("accuracy", window),
        measure("accuracy", replace(window, weights=ALIKE)),
    )
    assert accuracy is not None
    assert blind is not None
    assert accuracy.value == pytest.approx(0.75)
    assert blind.value == pytest.approx(150 / 650)
    assert accuracy.rows == 650
    errors, abstention = measure("confident_errors", window), measure("abstention", window)
    assert errors is not None
    assert errors.value == pytest.approx(125 / (125 + 10 * 75))
    assert abstention is not None
    assert abstention.value == pytest.approx(200 / (200 + 500 + 1500))
    bounds = accuracy.bounds(0.95)
    assert bounds.low < 0.75 < bounds.high
    half = (bounds.high - bounds.low) / 2
    assert half == pytest.approx(1.96 * accuracy.error, rel=0.05)


def test_a_fall_of_all_answers_is_judged_by_its_size_and_not_by_that_of_labelled_ones() -> None:
    """.75 to .70 of all answers are .23 to .19 of the labelled ones."""
    days = biased_history(0.70, 0.75)
    found = judge(days, [], SETTINGS, now=NOW, weights=WEIGHTS)
    signal = next(s for s in found.signals if (s.metric, s.window_days) == ("accuracy", 7))
    assert signal.baseline == pytest.approx(0.75)
    assert signal.recent == pytest.approx(0.70)
    assert 0 < signal.bound < signal.worse
    assert signal.worse == pytest.approx(0.05)


def test_an_alert_of_biased_labels_recovers_by_the_same_measure() -> None:
    days = [
        replace(labelled_errors(0.75), day=TODAY + timedelta(days=ahead)) for ahead in range(1, 4)
    ]
    alert = make_alert(
        metric="accuracy", baseline=0.75, recent=0.6, threshold=0.05, baseline_rows=5600,
        recent_rows=1400,
    )  # fmt: skip
    then = follow_up(alert, days, [], SETTINGS, since=TODAY, weights=WEIGHTS)
    assert then.recovered
    assert then.value == pytest.approx(0.75)
    assert follow_up(alert, days, [], SETTINGS, since=TODAY).still_down
