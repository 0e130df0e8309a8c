"""How far a model's confidence can be trusted, and over which threshold it answers."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.errors import DataError

BINS: Final = 10
# A share of fewer answers than these says nothing about the next ones.
MIN_ANSWERS: Final = 30


def calibrate(
    correct: NDArray[np.bool_],
    confidences: NDArray[np.float64],
    *,
    threshold: float,
    target_accuracy: float | None,
) -> dict[str, Any]:
    """Reliability and abstention on rows that the model has not learned, as plain JSON values.

    `correct` and `confidences` are (n,) for the most probable labels. With a target the threshold
    is the lowest one over which the answers were right that often; when none is, it is 1.0 and
    the model abstains. `coverage` is the share of rows that get an answer, `accuracy` the share
    of right ones among those (None without answers).
    """
    if len(correct) != len(confidences):
        raise DataError(f"{len(confidences)} confidences do not go with {len(correct)} outcomes.")
    if target_accuracy is not None:
        threshold = _lowest_threshold(correct, confidences, target_accuracy)
    answered = confidences >= threshold
    return {
        "threshold": float(threshold),
        "target_accuracy": target_accuracy,
        "rows": len(correct),
        "coverage": float(answered.mean()) if len(correct) else None,
        "abstention_rate": float(1 - answered.mean()) if len(correct) else None,
        "accuracy": float(correct[answered].mean()) if answered.any() else None,
        "reliability": reliability(correct, confidences),
    }


def _lowest_threshold(
    correct: NDArray[np.bool_], confidences: NDArray[np.float64], target: float
) -> float:
    """The lowest confidence over which answers reach the target."""
    order = np.argsort(-confidences, kind="stable")
    sorted_confidences = confidences[order]
    right = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    # Rows of one confidence are answered together or not at all.
    last = np.append(sorted_confidences[1:] != sorted_confidences[:-1], values=True)[: len(order)]
    enough = np.arange(1, len(order) + 1) >= MIN_ANSWERS
    reached = np.flatnonzero(last & enough & (right >= target))
    return float(sorted_confidences[reached[-1]]) if len(reached) else 1.0


def reliability(
    correct: NDArray[np.bool_], confidences: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Per tenth of confidence with rows in it: how many, how sure, and how often right."""
    place = np.clip(np.ceil(confidences * BINS).astype(int) - 1, 0, BINS - 1)
    return [
        {
            "over": bin_ / BINS,
            "rows": int((place == bin_).sum()),
            "confidence": float(confidences[place == bin_].mean()),
            "accuracy": float(correct[place == bin_].mean()),
        }
        for bin_ in range(BINS)
        if (place == bin_).any()
    ]
