"""Rows are held out in time or by chance, and nothing leaks from one part into the other."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ml_pipeline.datasets.splits import Split, assert_disjoint, split, split_stable
from ml_pipeline.errors import DataError
from tests.support import streams


def test_the_last_rows_in_time_are_held_out_wherever_they_stand() -> None:
    features, labels = streams.draw(1, 10)
    days = [3, 9, 1, 7, 0, 8, 2, 6, 4, 5]
    data = streams.dataset(features, labels, moments=[streams.moment_of(day) for day in days])
    parts = split(data, test_size=0.2, seed=1)
    assert [days[row] for row in parts.holdout] == [9, 8]
    assert [days[row] for row in parts.train] == [3, 1, 7, 0, 2, 6, 4, 5]


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 8)), min_size=2, max_size=40),
    st.floats(0.05, 0.6),
)
def test_a_match_is_never_on_both_sides(rows: list[tuple[int, int]], test_size: float) -> None:
    moments = [streams.moment_of(day) for day, _ in rows]
    groups = [f"match {match}" for _, match in rows]
    features, labels = streams.draw(1, len(rows))
    data = streams.dataset(features, labels, moments=moments, groups=groups)
    assume(len(rows) - max(1, round(len(rows) * test_size)) >= 1)
    try:
        parts = split(data, test_size=test_size, seed=1)
    except DataError as error:
        assert "none can be held out" in error.message  # noqa: PT017 - one of two right answers
        return
    assert sorted([*parts.train, *parts.holdout]) == list(range(len(rows)))
    sides = [{groups[row] for row in side} for side in (parts.train, parts.holdout)]
    assert sides[0].isdisjoint(sides[1])
    assert 1 <= len(parts.holdout) <= max(1, round(len(rows) * test_size))
    # A held-out row is not older than any row that was trained on for its own sake.
    past = sorted(moments)[: len(rows) - max(1, round(len(rows) * test_size))]
    assert min(moments[row] for row in parts.holdout) >= past[-1]


def test_a_match_that_reaches_over_the_cut_is_trained_on() -> None:
    features, labels = streams.draw(1, 10)
    groups = [*"abcdefg", "late", "late", "last"]
    moments = [streams.moment_of(day) for day in range(10)]
    data = streams.dataset(features, labels, moments=moments, groups=groups)
    parts = split(data, test_size=0.2, seed=1)
    assert parts.holdout.tolist() == [9]


@given(
    st.lists(st.sampled_from("HDA"), min_size=2, max_size=60),
    st.sampled_from([0.2, 0.5, 0.9]),
    st.integers(0, 99),
)
def test_without_times_every_class_keeps_a_row_to_train_on(
    labels: list[str], test_size: float, seed: int
) -> None:
    assume(len(set(labels)) < len(labels))
    assume(round(len(labels) * test_size) < len(labels))
    data = streams.dataset(streams.draw(1, len(labels))[0], labels)
    parts = split(data, test_size=test_size, seed=seed)
    assert sorted([*parts.train, *parts.holdout]) == list(range(len(labels)))
    assert {labels[row] for row in parts.train} == set(labels)
    assert len(parts.holdout) >= 1


def test_without_times_classes_are_held_out_in_proportion_and_by_seed() -> None:
    labels = ["H"] * 100 + ["D"] * 50 + ["A"] * 10
    data = streams.dataset(streams.draw(1, 160)[0], labels)
    one, same, other = (split(data, test_size=0.2, seed=seed) for seed in (1, 1, 2))
    held = [labels[row] for row in one.holdout]
    assert [held.count(name) for name in "HDA"] == [20, 10, 2]
    assert one.holdout.tolist() == same.holdout.tolist()
    assert one.holdout.tolist() != other.holdout.tolist()


def test_defect_7_a_class_of_one_row_is_split_without_a_fault() -> None:
    """Defect 7: a stratified split raises as soon as a class has one row."""
    labels = ["H"] * 30 + ["A"] * 20 + ["D"]
    parts = split(streams.dataset(streams.draw(1, 51)[0], labels), test_size=0.2, seed=1)
    assert 50 in parts.train
    assert len(parts.holdout) == 10


def test_a_single_row_cannot_be_split() -> None:
    data = streams.dataset(streams.draw(1, 1)[0], ["H"])
    with pytest.raises(DataError, match="has 1 rows: too few to hold any out"):
        split(data, test_size=0.2, seed=1)


def test_rows_of_one_match_cannot_be_split() -> None:
    features, labels = streams.draw(1, 6)
    moments = [streams.moment_of(0) + timedelta(hours=n) for n in range(6)]
    data = streams.dataset(features, labels, moments=moments, groups=["m"] * 6)
    with pytest.raises(DataError, match="all rows belong to one group"):
        split(data, test_size=0.5, seed=1)


def test_defect_16_leakage_is_refused_by_row_and_by_match() -> None:
    shared = Split(train=np.array([0, 1]), holdout=np.array([1, 2]))
    with pytest.raises(DataError, match="Leakage: 1 would be both learned and judged on"):
        assert_disjoint(None, shared)
    apart = Split(train=np.array([0, 1]), holdout=np.array([2]))
    with pytest.raises(DataError, match="Leakage: m would be both learned and judged on"):
        assert_disjoint(np.array(["m", "n", "m"]), apart)
    assert_disjoint(np.array(["m", "n", "o"]), apart)
    assert_disjoint(None, apart)


def test_of_a_class_that_came_up_lately_most_is_learned_and_its_last_rows_are_held_out() -> None:
    features, labels = streams.draw(1, 200)
    labels[160:] = "A"
    labels[:160] = np.where(labels[:160] == "A", "H", labels[:160])
    data = streams.dataset(features, labels, moments=[streams.moment_of(day) for day in range(200)])
    parts = split_stable(data, streams.SETTINGS)
    assert parts.holdout.tolist() == [*range(128, 160), *range(192, 200)]
    assert set(data.labels[parts.train]) == {"H", "D", "A"}
    plain = split_stable(data.take(np.arange(160)), streams.SETTINGS)
    assert plain.holdout.tolist() == list(range(128, 160))
