"""The numbers of a report are scikit-learn's where it has them, and are never NaN."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
)

from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.metrics import (
    PROBABILITY_FLOOR,
    evaluate,
    expected_calibration_error,
    row_losses,
)

HDA = ("H", "D", "A")


def exactly(expected: Any) -> Any:  # noqa: ANN401 - whatever pytest.approx takes
    """Equal but for rounding."""
    return pytest.approx(expected, rel=1e-12, abs=1e-12)


@st.composite
def scored_rows(draw: st.DrawFn) -> tuple[list[str], NDArray[Any], list[str]]:
    """Labels in sorted order, as scikit-learn's metrics insist, and probabilities for each row."""
    labels = [f"label {number}" for number in range(draw(st.integers(2, 5)))]
    rows = draw(st.integers(1, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    spread = draw(st.sampled_from([0.05, 1.0, 20.0]))
    rng = np.random.default_rng(seed)
    chances = rng.dirichlet(np.full(len(labels), spread), size=rows)
    chances = np.clip(chances, 1e-12, None)
    chances /= chances.sum(axis=1, keepdims=True)
    used = draw(st.integers(1, len(labels)))
    return [labels[code] for code in rng.integers(0, used, rows)], chances, labels


@given(scored_rows())
def test_accuracy_and_the_weighted_scores_are_those_of_scikit_learn(
    rows: tuple[list[str], NDArray[Any], list[str]],
) -> None:
    actual, chances, labels = rows
    predicted = [labels[code] for code in chances.argmax(axis=1)]
    report = evaluate(actual, chances, labels, ordered=False)
    weighted = precision_recall_fscore_support(
        actual, predicted, labels=labels, average="weighted", zero_division=0
    )
    assert report.accuracy == exactly(accuracy_score(actual, predicted))
    assert (report.precision, report.recall, report.f1_score) == exactly(weighted[:3])


@given(scored_rows())
def test_the_table_per_class_and_the_confusion_matrix_are_those_of_scikit_learn(
    rows: tuple[list[str], NDArray[Any], list[str]],
) -> None:
    actual, chances, labels = rows
    predicted = [labels[code] for code in chances.argmax(axis=1)]
    report = evaluate(actual, chances, labels, ordered=False)
    columns = precision_recall_fscore_support(actual, predicted, labels=labels, zero_division=0)
    for place, label in enumerate(labels):
        assert list(report.per_class[label].values()) == exactly(
            [column[place] for column in columns]
        )
    assert np.array_equal(report.confusion, confusion_matrix(actual, predicted, labels=labels))


@given(scored_rows())
def test_log_loss_and_brier_are_those_of_scikit_learn(
    rows: tuple[list[str], NDArray[Any], list[str]],
) -> None:
    actual, chances, labels = rows
    report = evaluate(actual, chances, labels, ordered=False)
    assert report.log_loss == exactly(log_loss(actual, chances, labels=labels))
    expected = brier_score_loss(actual, chances, labels=labels, scale_by_half=False)
    assert report.brier == exactly(expected)


@given(scored_rows())
def test_the_log_loss_of_a_report_is_the_mean_of_its_row_losses(
    rows: tuple[list[str], NDArray[Any], list[str]],
) -> None:
    actual, chances, labels = rows
    losses = row_losses(np.array([labels.index(label) for label in actual]), chances)
    assert losses.shape == (len(actual),)
    assert losses.min() >= 0
    report = evaluate(actual, chances, labels, ordered=False)
    assert report.log_loss == exactly(losses.mean())


@given(scored_rows())
def test_every_number_of_a_report_is_finite_and_in_its_range(
    rows: tuple[list[str], NDArray[Any], list[str]],
) -> None:
    actual, chances, labels = rows
    report = evaluate(actual, chances, labels, ordered=True)
    summary = report.summary()
    assert summary.pop("log_loss") >= 0
    assert 0 <= summary.pop("brier") <= 2
    assert all(0 <= value <= 1 for value in summary.values())
    assert sum(map(sum, report.confusion)) == report.rows == len(actual)


@given(scored_rows())
def test_the_order_of_the_rows_does_not_matter(
    rows: tuple[list[str], NDArray[Any], list[str]],
) -> None:
    actual, chances, labels = rows
    forwards = evaluate(actual, chances, labels, ordered=True)
    backwards = evaluate(actual[::-1], chances[::-1], labels, ordered=True)
    assert backwards.summary() == exactly(forwards.summary())
    assert backwards.confusion == forwards.confusion


def test_a_perfect_model_scores_one_and_loses_nothing() -> None:
    report = evaluate(["H", "D", "A", "H"], np.eye(3)[[0, 1, 2, 0]], HDA, ordered=True)
    assert (report.accuracy, report.precision, report.recall, report.f1_score) == (1, 1, 1, 1)
    assert (report.brier, report.ece, report.rps) == (0, 0, 0)
    assert report.log_loss == pytest.approx(0, abs=1e-14)
    assert report.confusion == ((2, 0, 0), (0, 1, 0), (0, 0, 1))


def test_a_sure_model_that_is_always_wrong_loses_a_finite_amount() -> None:
    report = evaluate(["H", "H"], np.array([[0.0, 0.0, 1.0]] * 2), HDA, ordered=True)
    assert report.log_loss == pytest.approx(-math.log(PROBABILITY_FLOOR))
    assert (report.accuracy, report.brier, report.ece, report.rps) == (0, 2, 1, 1)


def test_a_class_missing_from_the_actuals_has_no_support_and_does_no_harm() -> None:
    report = evaluate(["H", "A"], np.array([[0.8, 0.1, 0.1], [0.2, 0.2, 0.6]]), HDA, ordered=False)
    assert report.per_class["D"] == {"precision": 0, "recall": 0, "f1_score": 0, "support": 0}
    assert report.f1_score == 1


def test_one_class_only_is_scored() -> None:
    report = evaluate(["H", "H"], np.ones((2, 1)), ["H"], ordered=True)
    assert (report.accuracy, report.log_loss, report.rps) == (1, 0, 0)


def test_the_first_of_equally_probable_labels_is_the_prediction() -> None:
    report = evaluate(["D"], np.array([[0.4, 0.4, 0.2]]), HDA, ordered=False)
    assert report.confusion == ((0, 0, 0), (1, 0, 0), (0, 0, 0))


def test_a_near_miss_costs_less_than_a_far_one_when_labels_have_an_order() -> None:
    near = evaluate(["H"], np.array([[0.0, 1.0, 0.0]]), HDA, ordered=True)
    far = evaluate(["H"], np.array([[0.0, 0.0, 1.0]]), HDA, ordered=True)
    assert (near.rps, far.rps) == (0.5, 1.0)


def test_the_ranked_probability_score_is_what_the_formula_gives_by_hand() -> None:
    # Half of .35 squared and .10 squared.
    report = evaluate(["H"], np.array([[0.65, 0.25, 0.10]]), HDA, ordered=True)
    assert report.rps == pytest.approx(0.06625)


def test_labels_without_an_order_have_no_ranked_probability_score() -> None:
    report = evaluate(["H"], np.array([[0.5, 0.3, 0.2]]), HDA, ordered=False)
    assert report.rps is None
    assert "rps" not in report.summary()


def test_labels_may_come_as_a_list_an_array_or_a_column() -> None:
    chances = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], dtype=np.float32)
    listed = evaluate(["H", "A"], chances, HDA, ordered=True)
    assert evaluate(np.array(["H", "A"]), chances, HDA, ordered=True) == listed
    column = pd.Series(["H", "A"], index=[7, 9])
    assert evaluate(column.to_numpy(), chances, HDA, ordered=True) == listed


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        evaluate([], np.empty((0, 3)), HDA, ordered=False)


def test_an_unknown_label_is_refused_with_its_row() -> None:
    with pytest.raises(DataError, match=r"Row 1 has the actual label 'X', not one of H, D, A"):
        evaluate(["H", "X"], np.full((2, 3), 1 / 3), HDA, ordered=False)


@pytest.mark.parametrize("missing", [None, float("nan"), ""])
def test_a_missing_label_is_refused(missing: object) -> None:
    actual = np.array(["H", missing], dtype=object)
    with pytest.raises(DataError, match="Row 1"):
        evaluate(actual, np.full((2, 3), 1 / 3), HDA, ordered=False)


def test_a_label_named_twice_is_refused() -> None:
    with pytest.raises(DataError, match="'H' is named twice"):
        evaluate(["H"], np.array([[0.5, 0.5]]), ["H", "H"], ordered=False)


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (3,), (2, 3, 1)])
def test_shapes_that_disagree_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"need \(2, 3\)"):
        evaluate(["H", "D"], np.full(shape, 1 / 3), HDA, ordered=False)


def test_labels_in_two_columns_are_refused() -> None:
    with pytest.raises(DataError, match="one column"):
        evaluate(np.array([["H"], ["D"]]), np.full((2, 3), 1 / 3), HDA, ordered=False)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ([math.nan, 0.5, 0.5], "not a number"),
        ([math.inf, 0.0, 0.0], "not a number"),
        ([-0.1, 0.6, 0.5], "under 0"),
        ([0.5, 0.5, 0.00001], "do not sum to 1"),
        ([0.0, 0.0, 0.0], "do not sum to 1"),
    ],
)
def test_what_is_no_probability_is_refused_with_its_row(row: list[float], fault: str) -> None:
    chances = np.array([[0.2, 0.3, 0.5], row])
    with pytest.raises(DataError, match=f"Row 1 has .*{fault}"):
        evaluate(["H", "H"], chances, HDA, ordered=False)
    with pytest.raises(DataError, match=f"Row 1 has .*{fault}"):
        row_losses(np.array([0, 0]), chances)


def test_probabilities_that_are_words_are_refused() -> None:
    with pytest.raises(DataError, match="not an array of numbers"):
        evaluate(["H"], np.array([["much", "some", "none"]]), HDA, ordered=False)


def test_rounding_of_the_sum_is_forgiven_and_never_makes_a_loss_negative() -> None:
    losses = row_losses(np.array([0, 0]), np.array([[1.0000005, 0.0], [0.9999995, 0.0]]))
    assert losses == pytest.approx([0, 0], abs=1e-12)
    assert losses.min() >= 0


def test_no_rows_have_no_losses() -> None:
    assert row_losses(np.array([], dtype=int), np.empty((0, 3))).shape == (0,)


@pytest.mark.parametrize("code", [-1, 3])
def test_a_code_outside_the_columns_is_refused(code: int) -> None:
    with pytest.raises(DataError, match=f"Row 1 has label code {code}"):
        row_losses(np.array([0, code]), np.full((2, 3), 1 / 3))


def test_codes_that_are_not_whole_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="whole numbers"):
        row_losses(np.array([0.0, 1.0]), np.full((2, 3), 1 / 3))


def test_a_flat_row_of_probabilities_is_refused() -> None:
    with pytest.raises(DataError, match="shape"):
        row_losses(np.array([0]), np.array([1.0]))


def test_calibration_error_weighs_the_gap_of_each_bin_by_its_rows() -> None:
    # Two bins: .9 sure and right half of the time, .5 sure and always right.
    trust = np.array([0.9, 0.9, 0.5, 0.5])
    error = expected_calibration_error(trust, np.array([True, False, True, True]))
    assert error == pytest.approx(0.5 * 0.4 + 0.5 * 0.5)


def test_gaps_of_one_bin_cancel_and_gaps_of_different_bins_do_not() -> None:
    outcomes = np.array([True, False])
    assert expected_calibration_error(np.array([0.5, 0.5]), outcomes) == 0
    assert expected_calibration_error(np.array([0.45, 0.55]), outcomes, bins=2) == pytest.approx(
        0.55
    )


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    trust, outcomes = np.array([0.5, 0.4]), np.array([False, True])
    assert expected_calibration_error(trust, outcomes, bins=2) == pytest.approx(0.05)


def test_calibration_error_needs_rows_that_agree() -> None:
    with pytest.raises(DataError, match="no rows"):
        expected_calibration_error(np.array([]), np.array([]))
    with pytest.raises(DataError, match="do not go with"):
        expected_calibration_error(np.array([0.5]), np.array([True, False]))


def test_scoring_does_not_need_scikit_learn() -> None:
    program = "import sys, ml_pipeline.evaluation.metrics; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
