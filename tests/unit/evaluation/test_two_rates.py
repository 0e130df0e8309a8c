"""Two rates are told apart at every sample size, and equal ones hardly ever."""

from __future__ import annotations

import numpy as np
import pytest

from ml_pipeline.evaluation.two_rates import Rate, chance_of_equal


def test_equal_rates_are_told_apart_less_often_than_promised_however_often_one_looks() -> None:
    rng = np.random.default_rng(0)
    for share in (0.6, 0.95):
        lives, wrong = 300, 0
        for _ in range(lives):
            old = np.cumsum(rng.random(400) < share)
            new = np.cumsum(rng.random(400) < share)
            looks = range(9, 400, 10)
            wrong += any(
                chance_of_equal(Rate(hits=int(old[at]), rows=at + 1),
                                Rate(hits=int(new[at]), rows=at + 1)) <= 0.05
                for at in looks
            )  # fmt: skip
        assert wrong / lives <= 0.05


@pytest.mark.parametrize(("rows", "is_told"), [(10, False), (60, True), (600, True)])
def test_a_great_difference_shows_after_a_day_or_two(rows: int, is_told: bool) -> None:  # noqa: FBT001
    old, new = Rate(hits=108, rows=180), Rate(hits=round(0.93 * rows), rows=rows)
    assert (chance_of_equal(old, new) <= 0.05) is is_told
    assert chance_of_equal(old, new) == pytest.approx(chance_of_equal(new, old))


def test_without_rows_or_with_none_wrong_nothing_is_divided_by_nothing() -> None:
    none, all_right = Rate(hits=0, rows=0), Rate(hits=50, rows=50)
    assert chance_of_equal(none, none) == 1.0
    assert chance_of_equal(none, all_right) == 1.0
    assert chance_of_equal(all_right, all_right) == 1.0
    assert chance_of_equal(Rate(hits=0, rows=50), all_right) < 1e-10
    assert 0 <= chance_of_equal(Rate(hits=0, rows=10**7), Rate(hits=10**7, rows=10**7)) < 1e-10
    with pytest.raises(ValueError, match="cannot be"):
        Rate(hits=2, rows=1)
