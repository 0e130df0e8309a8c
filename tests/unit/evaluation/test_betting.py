"""How often chance alone gets through the gate, over years of nights, and how soon a gain is seen.

The wealth of every night is computed for whole years at once; one test holds it against the gate's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ml_pipeline.config.sections import PromotionSettings
from ml_pipeline.evaluation.betting import CLIP, STAKES, Wealth, stake_weights
from ml_pipeline.evaluation.checks import (
    confidence_sequence,
    is_regression,
    is_thin,
    normal_bounds,
)
from ml_pipeline.evaluation.ledger import PairedGain

Floats = NDArray[np.float64]
NIGHTS, ALPHA, HORIZON = 365, 0.05, 1000
GAINS = st.lists(st.floats(-20, 20), min_size=1, max_size=60).map(np.array)


def bounds(gains: Floats) -> tuple[float, float]:
    """The gate's bounds of the mean."""
    found = confidence_sequence(PairedGain.of_rows(gains, 1), alpha=ALPHA, horizon_rows=HORIZON)
    return found.lower, found.upper


# ------------------------------------------------------------------------------- the bounds


def test_the_lower_bound_is_where_the_capital_of_the_bets_is_twenty() -> None:
    gains = np.array([0.4, -0.3, 0.9, 0.5, -7.0, 0.2] * 40 + [0.8] * 400)
    lower, _ = bounds(gains)
    capital = 0.0
    for stake, weight in zip(STAKES, stake_weights(ALPHA, HORIZON), strict=True):
        odds = [
            (1 + stake * max(-5.0, min(5.0, gain)) / 5) / (1 + stake * lower / 5) for gain in gains
        ]
        capital += weight * math.prod(odds)
    assert lower > 0
    assert capital == pytest.approx(20, rel=1e-6)


def test_without_a_row_nothing_is_known_but_the_clip() -> None:
    assert bounds(np.empty(0)) == (-CLIP, CLIP)


@given(GAINS)
def test_the_bounds_hold_the_mean_of_the_clipped_gains_and_mirror_each_other(gains: Floats) -> None:
    lower, upper = bounds(gains)
    assert lower <= np.clip(gains, -CLIP, CLIP).mean() <= upper
    assert bounds(-gains) == pytest.approx((-upper, -lower), abs=1e-9)


@given(GAINS, st.integers(0, 60))
def test_wealth_adds_up_in_any_parts_and_survives_being_written_down(
    gains: Floats, cut: int
) -> None:
    whole = Wealth.of(gains)
    parts = Wealth.of(gains[:cut]).plus(Wealth.of(gains[cut:]))
    assert parts.as_list() == pytest.approx(whole.as_list(), abs=1e-9)
    assert Wealth.from_list(whole.as_list()) == whole


@given(GAINS)
def test_the_sums_of_an_earlier_version_prove_less_than_the_rows(gains: Floats) -> None:
    inside = np.clip(gains, -CLIP, CLIP)
    sums = Wealth.of_sums(len(inside), float(inside.sum()), float((inside**2).sum()))
    assert (np.array(sums.logs) <= np.array(Wealth.of(inside).logs) + 1e-9).all()


def test_a_wealth_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="3 capitals of 5 results are no wealth"):
        Wealth(logs=(0.0, 0.0, 0.0), units=5)


def test_more_rows_until_a_verdict_give_the_small_stakes_more_weight() -> None:
    few, many = stake_weights(ALPHA, 100), stake_weights(ALPHA, 100_000)
    assert few.sum() == pytest.approx(1)
    assert few[0] > many[0]
    assert few[-1] < many[-1]


# ------------------------------------------------------------------------------ by chance


def nights_of(
    draw: Callable[[tuple[int, int]], Floats], *, rows: int, years: int, nights: int = NIGHTS
) -> Floats:
    """The running logs of the stakes on a gain, (S, years, nights)."""
    logs = np.empty((len(STAKES), years, nights))
    for year in range(years):
        bets = np.clip(draw((nights, rows)), -CLIP, CLIP) / CLIP
        for place, stake in enumerate(STAKES):
            logs[place, year] = np.log1p(stake * bets).sum(axis=1).cumsum()
    return logs


def first_promotions(logs: Floats, *, rows: int) -> Floats:
    """The night of each year on which the gate would let the challenger in, or infinity."""
    weighted = logs + np.log(stake_weights(ALPHA, HORIZON))[:, None, None]
    capital = np.exp(np.minimum(weighted, 50)).sum(axis=0)
    night = np.arange(1, logs.shape[2] + 1)
    passed = (capital >= 1 / ALPHA) & (night >= 3) & (night * rows >= 100)
    return np.where(passed.any(axis=1), passed.argmax(axis=1) + 1.0, np.inf)


def heavy(rng: np.random.Generator, mean: float, deviation: float = 0.3) -> Callable[..., Floats]:
    """Heavy-tailed gains (Student's t of 4 degrees)."""
    return lambda shape: np.asarray(mean + rng.standard_t(4, size=shape) * deviation / math.sqrt(2))


def skewed(rng: np.random.Generator, usual: float, rare: float) -> Callable[..., Floats]:
    """A little better as a rule, much worse in a hundredth of the rows: on the whole equal."""
    return lambda shape: np.where(rng.random(shape) < 0.01, rare, usual)


def test_the_simulated_nights_are_those_of_the_gate() -> None:
    rng = np.random.default_rng(5)
    gains = heavy(rng, 0.05)((40, 30))
    logs = nights_of(lambda _: gains, rows=30, years=1, nights=40)
    (first,) = first_promotions(logs, rows=30)
    passed = [bounds(gains[: night + 1].ravel())[0] > 0 and night >= 3 for night in range(40)]
    assert passed.index(True) + 1 == first


@pytest.mark.parametrize(
    ("usual", "rare"), [(0.02, -1.98), (0.03, -2.97), (0.05, -4.95), (-0.02, 1.98)]
)
def test_an_equal_challenger_of_skewed_gains_is_promoted_in_at_most_a_twentieth_of_the_years(
    usual: float, rare: float
) -> None:
    draw = skewed(np.random.default_rng(13), usual, rare)
    logs = nights_of(draw, rows=100, years=100)
    assert np.isfinite(first_promotions(logs, rows=100)).mean() <= 0.05


def test_an_equal_challenger_is_promoted_in_at_most_a_twentieth_of_the_years() -> None:
    logs = nights_of(heavy(np.random.default_rng(2026), 0.0), rows=30, years=300)
    assert np.isfinite(first_promotions(logs, rows=30)).mean() <= 0.05


def test_a_worse_challenger_is_promoted_in_at_most_a_hundredth_of_the_years() -> None:
    logs = nights_of(heavy(np.random.default_rng(2027), -0.02), rows=30, years=300)
    assert np.isfinite(first_promotions(logs, rows=30)).mean() <= 0.01
    worse = nights_of(skewed(np.random.default_rng(3), 0.0, -2.0), rows=100, years=100)
    assert np.isfinite(first_promotions(worse, rows=100)).mean() <= 0.01


def test_a_better_challenger_is_seen_within_weeks() -> None:
    better = nights_of(heavy(np.random.default_rng(1), 0.05), rows=30, years=200, nights=60)
    assert np.median(first_promotions(better, rows=30)) <= 20
    assert np.quantile(first_promotions(better, rows=30), 0.9) <= 30
    many = nights_of(heavy(np.random.default_rng(1), 0.05), rows=100, years=100, nights=30)
    assert np.median(first_promotions(many, rows=100)) <= 6
    little = nights_of(heavy(np.random.default_rng(1), 0.02), rows=30, years=100)
    assert np.median(first_promotions(little, rows=30)) <= 90


def test_an_ordinary_test_looked_at_every_night_would_be_fooled() -> None:
    noise = heavy(np.random.default_rng(9), 0.0)((300, NIGHTS, 30))
    looks = 30 * np.arange(1, NIGHTS + 1)
    mean = noise.sum(axis=2).cumsum(axis=1) / looks
    error = np.sqrt(((noise**2).sum(axis=2).cumsum(axis=1) / looks - mean**2) / looks)
    assert (mean - 1.6448536 * error > 0)[:, 3:].any(axis=1).mean() > 0.25


# ------------------------------------------------------------------- entities and weights


def test_rows_of_one_entity_prove_no_more_than_one_row() -> None:
    rng = np.random.default_rng(4)
    gains = heavy(rng, 0.1)((200,))
    alone = PairedGain.of_rows(gains, 5)
    copied = PairedGain.of_rows(np.repeat(gains, 7), 5, clusters=np.repeat(np.arange(200), 7))
    assert (copied.rows, copied.units, alone.units) == (1400, 200, 200)
    assert copied.mean == pytest.approx(alone.mean)
    assert copied.standard_error == pytest.approx(alone.standard_error)
    assert copied.proof().as_list() == pytest.approx(alone.proof().as_list())
    blind = PairedGain.of_rows(np.repeat(gains, 7), 5)
    assert blind.standard_error < 0.4 * alone.standard_error


def test_an_equal_challenger_is_not_promoted_by_entities_of_many_rows() -> None:
    """Ten matches a night of ten rows each, and the gains differ by match alone."""
    rng, promoted, fooled = np.random.default_rng(8), 0, 0
    for _ in range(20):
        of_matches = heavy(rng, 0.0)((60, 10))
        rows, matches = np.repeat(of_matches.ravel(), 10), np.repeat(np.arange(600), 10)
        for night in range(10, 61, 10):
            seen, known = rows[: night * 100], matches[: night * 100]
            gain = PairedGain.of_rows(seen, night, clusters=known)
            if gain.proof().lower_bound(alpha=ALPHA, horizon_rows=HORIZON) > 0:
                promoted += 1
                break
        fooled += any(bounds(rows[: night * 100])[0] > 0 for night in range(10, 61, 10))
    assert promoted <= 1
    assert fooled > 1


def years_promoted(draw: Callable[[tuple[int, int]], Floats], *, years: int) -> float:
    """The share of years in which a challenger gets in: ten entities a night of five rows each."""
    weights, promoted = stake_weights(ALPHA, HORIZON), 0
    rows_of = np.repeat(np.arange(10), 5)
    for _ in range(years):
        wealth = Wealth()
        for of_entities in draw((NIGHTS, 10)):
            gain = PairedGain.of_rows(np.repeat(of_entities, 5), 1, clusters=rows_of)
            wealth = wealth.plus(gain.proof())
            capital = float(weights @ np.exp(np.minimum(wealth.logs[: len(STAKES)], 50)))
            if wealth.units >= 100 and capital >= 1 / ALPHA:
                promoted += 1
                break
    return promoted / years


@pytest.mark.long
def test_in_a_year_entities_promote_an_equal_or_worse_challenger_as_seldom_as_rows_do() -> None:
    rng = np.random.default_rng(17)
    for equal in (heavy(rng, 0.0), skewed(rng, 0.02, -1.98), skewed(rng, 0.05, -4.95)):
        assert years_promoted(equal, years=100) <= 0.05
    for worse in (heavy(rng, -0.02), skewed(rng, 0.0, -2.0)):
        assert years_promoted(worse, years=100) <= 0.01


def test_only_entities_count_towards_enough_to_judge() -> None:
    gains = np.full(700, -1.0)
    one_week = PairedGain.of_rows(gains, 7, clusters=np.resize(np.arange(30), 700))
    assert is_thin(one_week, PromotionSettings())
    assert not is_thin(PairedGain.of_rows(gains, 7), PromotionSettings())


def test_weights_move_the_mean_to_that_of_all_answers_and_never_the_size_of_a_bet() -> None:
    """Every error gets a label and a tenth of the right answers: weights 1 and 10."""
    gains = np.array([-0.4] * 100 + [0.1] * 90)
    weights = np.array([1.0] * 100 + [10.0] * 90)
    weighted = PairedGain.of_rows(gains, 5, weights=weights, full_weight=10.0)
    assert PairedGain.of_rows(gains, 5).mean < 0
    assert weighted.mean == pytest.approx((-40 + 90) / 1000)
    assert weighted.weight == 1000
    everybody = PairedGain.of_rows(np.repeat(gains, weights.astype(int)), 5)
    assert weighted.mean == pytest.approx(everybody.mean)
    assert weighted.standard_error > everybody.standard_error
    lower = weighted.proof().lower_bound(alpha=ALPHA, horizon_rows=HORIZON)
    sure = everybody.proof().lower_bound(alpha=ALPHA, horizon_rows=HORIZON)
    assert lower < weighted.mean
    assert lower < sure


# ------------------------------------------------------------------------------- the guard


@pytest.mark.parametrize("deviation", [0.005, 0.05, 0.3, 0.6])
@pytest.mark.parametrize("rows_of_an_entity", [1, 5])
def test_a_right_model_is_taken_off_on_at_most_a_fiftieth_of_the_nights_of_three_years(
    deviation: float, rows_of_an_entity: int
) -> None:
    """The heads of a right base lose three ten thousandths of a nat for ever."""
    rng = np.random.default_rng(31)
    settings, off, nights = PromotionSettings(), 0, 3 * NIGHTS
    units = 30
    sums = heavy(rng, -0.0003, deviation)((nights, units))
    for night in range(5, nights + 1, 10):
        for start in (0, max(0, night - 30)):
            of_entities = sums[start:night].ravel()
            seen = PairedGain.of_rows(
                np.repeat(of_entities, rows_of_an_entity),
                night - start,
                clusters=np.repeat(np.arange(len(of_entities)), rows_of_an_entity),
            )
            if is_regression(seen, settings) and not is_thin(seen, settings):
                off += 1
                break
    assert off / (nights / 10) <= 0.02


def nights_off(deviation: float, *, lives: int) -> float:
    """The same share over many lives of three years at once, from sums by night; rows alone."""
    settings, rng = PromotionSettings(), np.random.default_rng(31)
    probe = PairedGain.of_rows(np.resize([1.0, -1.0], 100), 5)
    errors = normal_bounds(probe, settings).upper / probe.standard_error
    gains = heavy(rng, -0.0003, deviation)((lives, 3 * NIGHTS, 30))
    totals, squares = (
        np.pad(part.sum(axis=2).cumsum(axis=1), ((0, 0), (1, 0))) for part in (gains, gains**2)
    )
    ends = np.arange(5, 3 * NIGHTS + 1)
    off = np.zeros((lives, len(ends)), dtype=bool)
    for starts in (np.zeros_like(ends), np.maximum(0, ends - 30)):
        rows = 30 * (ends - starts)
        mean = (totals[:, ends] - totals[:, starts]) / rows
        spread = (squares[:, ends] - squares[:, starts]) / rows - mean**2
        off |= mean + errors * np.sqrt(spread / (rows - 1)) < -settings.least_regression
    return float(off.mean())


@pytest.mark.parametrize("deviation", [0.3, 0.6, 2.0])
def test_however_much_its_gains_vary_a_right_model_is_seldom_taken_off(deviation: float) -> None:
    assert nights_off(deviation, lives=100) <= 0.02


def test_a_model_that_is_worse_is_taken_off_within_weeks() -> None:
    rng, settings = np.random.default_rng(6), PromotionSettings()
    gains = heavy(rng, -0.05)((40, 30))
    found = [
        is_regression(PairedGain.of_rows(gains[:night].ravel(), night), settings)
        for night in range(1, 41)
    ]
    assert found.index(True) <= 25
    assert all(found[28:])
