"""Intervals of shares and means against published figures and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ml_pipeline.evaluation.intervals import Interval, mean_bounds, wilson_interval


def test_the_wilson_interval_is_that_of_the_published_table() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    published = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0, 0.1611)}
    for (successes, n), bounds in published.items():
        interval = wilson_interval(successes, n, 0.95)
        assert (interval.low, interval.high) == pytest.approx(bounds, abs=5e-5)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.floats(0.01, 0.9999))
def test_a_wilson_interval_holds_its_share_and_mirrors(one: int, two: int, level: float) -> None:
    successes, n = min(one, two), max(one, two)
    interval = wilson_interval(successes, n, level)
    mirrored = wilson_interval(n - successes, n, level)
    assert interval.low == pytest.approx(1 - mirrored.high, abs=1e-12)
    assert 0 <= interval.low <= (successes / n if n else 0.5) <= interval.high <= 1


def test_nothing_is_known_without_trials() -> None:
    assert wilson_interval(0, 0, 0.95) == Interval(low=0, high=1)


@pytest.mark.parametrize(
    ("successes", "n", "confidence"), [(3, 2, 0.9), (-1, 2, 0.9), (1, 2, 1.0), (1, 2, 0.0)]
)
def test_impossible_counts_and_confidences_are_refused(
    successes: int, n: int, confidence: float
) -> None:
    with pytest.raises(ValueError, match=r"cannot be|not between"):
        wilson_interval(successes, n, confidence)


def test_an_interval_does_not_end_before_it_starts() -> None:
    with pytest.raises(ValueError, match="not an interval"):
        Interval(low=0.7, high=0.2)


def test_the_bounds_of_a_mean_are_the_normal_ones_and_one_value_bounds_nothing() -> None:
    values = np.random.default_rng(1).normal(2, 3, 500)
    expected = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    assert mean_bounds(values, 0.95) == pytest.approx(expected)
    assert mean_bounds(np.array([4.0]), 0.95) == (4.0, 4.0)
