"""The threshold for a target accuracy, and what it leaves."""

from __future__ import annotations

import numpy as np
import pytest

from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.calibration import MIN_ANSWERS, calibrate

RANDOM = np.random.default_rng(7)
CONFIDENCES = RANDOM.uniform(0.34, 1.0, 4000)
CORRECT = RANDOM.random(4000) < CONFIDENCES


@pytest.mark.parametrize("target", [0.7, 0.8, 0.9])
def test_over_the_chosen_threshold_the_answers_are_right_as_often_as_wanted(target: float) -> None:
    found = calibrate(CORRECT, CONFIDENCES, threshold=0.6, target_accuracy=target)
    answered = found["threshold"] <= CONFIDENCES
    assert CORRECT[answered].mean() == pytest.approx(found["accuracy"])
    assert found["accuracy"] >= target
    assert found["coverage"] == pytest.approx(answered.mean())
    assert found["coverage"] + found["abstention_rate"] == pytest.approx(1)
    for lower in np.unique(CONFIDENCES[found["threshold"] > CONFIDENCES])[::50]:
        assert CORRECT[lower <= CONFIDENCES].mean() < target


def test_a_target_that_nothing_reaches_leaves_no_answers() -> None:
    found = calibrate(np.zeros(100, bool), np.full(100, 0.9), threshold=0.6, target_accuracy=0.9)
    assert (found["threshold"], found["coverage"], found["accuracy"]) == (1.0, 0.0, None)


def test_a_few_lucky_answers_are_not_enough() -> None:
    confidences = np.linspace(0.99, 0.5, 200)
    correct = np.arange(200) < MIN_ANSWERS - 1
    found = calibrate(correct, confidences, threshold=0.6, target_accuracy=0.99)
    assert found["threshold"] == 1.0


def test_rows_of_one_confidence_are_answered_together() -> None:
    confidences = np.repeat([0.9, 0.7], 50)
    correct = np.r_[np.ones(50, bool), np.ones(25, bool), np.zeros(25, bool)]
    found = calibrate(correct, confidences, threshold=0.6, target_accuracy=0.8)
    assert (found["threshold"], found["accuracy"]) == (0.9, 1.0)


def test_without_a_target_the_configured_threshold_stays_and_is_reported() -> None:
    found = calibrate(CORRECT, CONFIDENCES, threshold=0.6, target_accuracy=None)
    assert found["threshold"] == 0.6
    assert found["coverage"] == pytest.approx((CONFIDENCES >= 0.6).mean())
    assert sum(bin_["rows"] for bin_ in found["reliability"]) == 4000
    for bin_ in found["reliability"]:
        assert bin_["accuracy"] == pytest.approx(bin_["confidence"], abs=0.08)


def test_nothing_to_judge_is_said_as_nothing() -> None:
    found = calibrate(np.zeros(0, bool), np.zeros(0), threshold=0.6, target_accuracy=None)
    assert (found["coverage"], found["accuracy"], found["reliability"]) == (None, None, [])
    with pytest.raises(DataError, match="do not go with"):
        calibrate(np.zeros(2, bool), np.zeros(3), threshold=0.6, target_accuracy=None)
