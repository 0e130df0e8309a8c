"""The threshold for a target accuracy, and what it leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.calibration import MIN_ANSWERS, WINDOW_ANSWERS, Answers, calibrate


def calibrated(
    correct: NDArray[np.bool_],
    confidences: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
    **how: float | None,
) -> dict[str, Any]:
    weights = np.ones(len(correct)) if weights is None else weights
    answers = Answers(correct=correct, confidences=confidences, weights=weights)
    return calibrate(answers, threshold=0.6, target_accuracy=how["target_accuracy"])


RANDOM = np.random.default_rng(7)
CONFIDENCES = RANDOM.uniform(0.34, 1.0, WINDOW_ANSWERS)
CORRECT = RANDOM.random(WINDOW_ANSWERS) < CONFIDENCES


@pytest.mark.parametrize("target", [0.7, 0.8, 0.9])
def test_over_the_chosen_threshold_the_answers_are_right_as_often_as_wanted(target: float) -> None:
    found = calibrated(CORRECT, CONFIDENCES, target_accuracy=target)
    answered = found["threshold"] <= CONFIDENCES
    assert CORRECT[answered].mean() == pytest.approx(found["accuracy"])
    assert found["accuracy"] >= target
    assert found["coverage"] == pytest.approx(answered.mean())
    assert found["coverage"] + found["abstention_rate"] == pytest.approx(1)
    for lower in np.unique(CONFIDENCES[found["threshold"] > CONFIDENCES])[::50]:
        assert CORRECT[lower <= CONFIDENCES].mean() < target


def test_a_target_that_nothing_reaches_leaves_the_threshold_as_it_was() -> None:
    found = calibrated(np.zeros(100, bool), np.full(100, 0.9), target_accuracy=0.9)
    assert (found["threshold"], found["target_reached"]) == (0.6, False)


@pytest.mark.parametrize("sure", [True, False])
def test_no_threshold_is_ever_1(sure: bool) -> None:  # noqa: FBT001 - a column
    correct = np.r_[np.ones(150, bool), np.zeros(150, bool)]
    confidences = np.r_[np.ones(150), np.full(150, 1.0 if sure else 0.9)]
    found = calibrated(correct, confidences, target_accuracy=0.95)
    assert (found["threshold"], found["target_reached"]) == (0.6, False)


@pytest.mark.parametrize("rows", [0, 1, 29, 40, 99])
def test_with_few_answers_the_threshold_stays(rows: int) -> None:
    found = calibrated(np.ones(rows, bool), np.full(rows, 0.9), target_accuracy=0.9)
    assert (found["threshold"], found["target_reached"]) == (0.6, False)


def test_the_last_answers_count() -> None:
    old = Answers(correct=np.zeros(5000, bool), confidences=np.full(5000, 0.9))
    both = [np.concatenate([getattr(old, name), now]) for name, now in (
        ("correct", CORRECT), ("confidences", CONFIDENCES),
    )]  # fmt: skip
    assert calibrated(*both, target_accuracy=0.8) == calibrated(
        CORRECT, CONFIDENCES, target_accuracy=0.8
    )


@pytest.mark.parametrize(("count", "left"), [(0, 0), (1, 1), (3, 3), (4, 3)])
def test_of_the_last_answers_there_are_as_many_as_asked_for(count: int, left: int) -> None:
    answers = Answers(correct=np.array([True, False, True]), confidences=np.array([0.5, 0.6, 0.7]))
    kept = answers.last(count)
    assert kept.confidences.tolist() == answers.confidences.tolist()[3 - left :]
    assert len(kept.correct) == left


@pytest.mark.parametrize("target", [0.8, 0.9])
def test_labels_that_errors_get_more_often_choose_the_threshold_of_all_answers(
    target: float,
) -> None:
    """Every error has its label, and one in ten of the right answers, which stands for ten."""
    rng = np.random.default_rng(3)
    confidences = rng.uniform(0.5, 1.0, 4000)
    correct = rng.random(4000) < confidences
    is_labelled = ~correct | (rng.random(4000) < 0.1)
    labelled = correct[is_labelled], confidences[is_labelled]
    fair = calibrated(correct[:1000], confidences[:1000], target_accuracy=target)
    blind = calibrated(*labelled, target_accuracy=target)
    weighed = calibrated(*labelled, np.where(labelled[0], 10.0, 1.0), target_accuracy=target)
    assert not blind["target_reached"] or blind["threshold"] > fair["threshold"] + 0.2
    assert weighed["threshold"] == pytest.approx(fair["threshold"], abs=0.05)
    assert weighed["accuracy"] == pytest.approx(target, abs=0.01)
    assert weighed["coverage"] == pytest.approx(fair["coverage"], abs=0.1)
    for bin_ in weighed["reliability"]:
        assert bin_["accuracy"] == pytest.approx(bin_["confidence"], abs=0.1)
    assert sum(bin_["rows"] for bin_ in weighed["reliability"]) == weighed["rows"]


def test_a_few_lucky_answers_are_not_enough() -> None:
    confidences = np.linspace(0.99, 0.5, 200)
    correct = np.arange(200) < MIN_ANSWERS - 1
    found = calibrated(correct, confidences, target_accuracy=0.99)
    assert (found["threshold"], found["target_reached"]) == (0.6, False)


def test_rows_of_one_confidence_are_answered_together() -> None:
    confidences = np.repeat([0.9, 0.7], 50)
    correct = np.r_[np.ones(50, bool), np.ones(25, bool), np.zeros(25, bool)]
    found = calibrated(correct, confidences, target_accuracy=0.8)
    assert (found["threshold"], found["accuracy"]) == (0.9, 1.0)


def test_without_a_target_the_configured_threshold_stays_and_is_reported() -> None:
    found = calibrated(CORRECT, CONFIDENCES, target_accuracy=None)
    assert found["threshold"] == 0.6
    assert found["coverage"] == pytest.approx((CONFIDENCES >= 0.6).mean())
    assert sum(bin_["rows"] for bin_ in found["reliability"]) == WINDOW_ANSWERS
    for bin_ in found["reliability"]:
        assert bin_["accuracy"] == pytest.approx(bin_["confidence"], abs=0.12)


def test_nothing_to_judge_is_said_as_nothing() -> None:
    found = calibrated(np.zeros(0, bool), np.zeros(0), target_accuracy=None)
    assert (found["coverage"], found["accuracy"], found["reliability"]) == (None, None, [])
    with pytest.raises(DataError, match="do not go with"):
        calibrated(np.zeros(2, bool), np.zeros(3), target_accuracy=None)
    with pytest.raises(DataError, match="3 weights do not go with 2 outcomes"):
        calibrated(np.zeros(2, bool), np.zeros(2), np.ones(3), target_accuracy=None)
