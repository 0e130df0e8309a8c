"""Streaks, transitions and randomness tests say what is in a sequence, and not more."""

from __future__ import annotations

import itertools
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipeline.evaluation.sequences import (
    Streak,
    chi_square,
    independence,
    runs_test,
    strange_days,
    streak_summary,
    streaks,
    transitions,
)

STATES = ("H", "D", "A")
letters = st.lists(st.sampled_from(STATES), max_size=60)


def random_letters(rows: int, seed: int = 1, shares: tuple[float, ...] = (1 / 3,) * 3) -> list[str]:
    return list(np.random.default_rng(seed).choice(STATES, rows, p=shares))


def test_streaks_are_maximal_and_in_order() -> None:
    assert streaks("HHDH") == [
        Streak(value="H", length=2, start=0),
        Streak(value="D", length=1, start=2),
        Streak(value="H", length=1, start=3),
    ]
    assert streak_summary("HHHDDH") == {
        "current": {"value": "H", "length": 1},
        "longest": {"D": 2, "H": 3},
    }
    assert streak_summary([]) == {"current": None, "longest": {}}


@given(letters)
def test_streaks_put_together_are_the_sequence(values: list[str]) -> None:
    found = streaks(values)
    assert [streak.value for streak in found for _ in range(streak.length)] == values
    assert all(one.value != two.value for one, two in itertools.pairwise(found))


def test_transitions_are_smoothed_by_one_for_each_of_three_outcomes() -> None:
    matrix = transitions("HHHD", STATES)
    assert matrix.counts == ((2, 1, 0), (0, 0, 0), (0, 0, 0))
    assert matrix.probabilities[0] == pytest.approx((3 / 6, 2 / 6, 1 / 6))
    assert matrix.probabilities[1] == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert matrix.weight == pytest.approx((0.5, 0, 0))


@given(letters)
def test_every_row_of_transitions_adds_up_to_one(values: list[str]) -> None:
    matrix = transitions(values, STATES)
    for row in matrix.probabilities:
        assert sum(row) == pytest.approx(1)
        assert min(row) > 0
    assert sum(map(sum, matrix.counts)) == max(0, len(values) - 1)


def test_transitions_grow_confident_with_their_sample() -> None:
    matrix = transitions("H" * 120 + "D" * 40 + "A" * 3, STATES)
    assert matrix.confidence == ("high", "medium", "low")


def test_a_value_that_is_no_state_breaks_the_chain() -> None:
    assert transitions(["H", "?", "H"], STATES).counts == ((0, 0, 0),) * 3


def test_chi_square_knows_fair_outcomes_from_loaded_ones() -> None:
    fair = chi_square(random_letters(600), STATES)
    loaded = chi_square(random_letters(600, shares=(0.5, 0.25, 0.25)), STATES)
    assert fair.p_value is not None
    assert fair.p_value > 0.01
    assert loaded.p_value is not None
    assert loaded.p_value < 1e-6
    as_given = {"H": 0.5, "D": 0.25, "A": 0.25}
    against = chi_square(random_letters(600, shares=(0.5, 0.25, 0.25)), STATES, as_given)
    assert against.p_value is not None
    assert against.p_value > 0.01
    assert "too few" in chi_square(["H"] * 5, STATES).sentence
    with pytest.raises(ValueError, match="shares"):
        chi_square(["H"], STATES, {"H": 1.0})


def test_independence_sees_outcomes_that_follow_each_other() -> None:
    alternating = ["H", "D", "A"] * 100
    assert independence(transitions(alternating, STATES)).p_value == pytest.approx(0, abs=1e-12)
    p = independence(transitions(random_letters(600), STATES)).p_value
    assert p is not None
    assert p > 0.01
    assert independence(transitions("HDA", STATES)).p_value is None


def test_the_runs_test_tells_clustered_errors_from_scattered_ones() -> None:
    clustered = runs_test([True] * 100 + [False] * 20 + [True] * 100 + [False] * 20)
    assert clustered.clustered
    assert clustered.runs == 4
    assert clustered.expected_runs == pytest.approx(2 * 200 * 40 / 240 + 1)
    scattered = runs_test(([True] * 5 + [False]) * 40)
    assert not scattered.clustered
    assert "as chance would" in scattered.sentence
    few = runs_test([True] * 100 + [False] * 9)
    assert (few.p_value, few.clustered) == (None, False)


def test_random_errors_are_called_clustered_about_as_often_as_the_level_says() -> None:
    draw = np.random.default_rng(7)
    called = sum(runs_test(list(draw.random(200) < 0.7)).clustered for _ in range(1000))
    assert called <= 20


def test_a_strange_day_is_found_among_ordinary_ones_and_none_without_it() -> None:
    first = date(2026, 3, 1)
    draw = np.random.default_rng(3)
    days = [(first + timedelta(n), 100, int(draw.binomial(100, 0.7))) for n in range(30)]
    assert strange_days(days) == []
    days[12] = (days[12][0], 100, 40)
    (found,) = strange_days(days)
    assert found.day == days[12][0]
    assert found.share == 0.4
    assert 0.65 < found.expected < 0.75
    assert strange_days([(first, 50, 10)]) == []
    assert strange_days([(first, 0, 0)]) == []
