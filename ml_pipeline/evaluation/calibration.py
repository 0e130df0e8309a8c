"""How far a model's confidence can be trusted, and over which threshold it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.errors import DataError

BINS: Final = 10
# A share of fewer answers than these says nothing about the next ones.
MIN_ANSWERS: Final = 30
# A threshold is chosen on the last answers, and on fewer than the least number not at all.
WINDOW_ANSWERS: Final = 1000
MIN_WINDOW_ANSWERS: Final = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What turned out right: `correct` and `confidences` (n,) of the most probable labels.

    In the order in which their outcomes became known. `weights` (n,) say for how many answers each
    stands where right and wrong ones do not get labels alike (by default 1).
    """

    correct: NDArray[np.bool_]
    confidences: NDArray[np.float64]
    weights: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        if not len(self.weights):
            object.__setattr__(self, "weights", np.ones(len(self.correct)))
        if len(self.weights) != len(self.correct):
            message = f"{len(self.weights)} weights do not go with {len(self.correct)} outcomes."
            raise DataError(message)
        if len(self.correct) != len(self.confidences):
            raise DataError(
                f"{len(self.confidences)} confidences do not go with {len(self.correct)} outcomes."
            )

    def __len__(self) -> int:
        return len(self.correct)

    def last(self, count: int) -> Answers:
        """The last ones; none for a count of 0."""
        start = max(0, len(self) - count)
        return Answers(
            correct=self.correct[start:],
            confidences=self.confidences[start:],
            weights=self.weights[start:],
        )


def calibrate(
    answers: Answers, *, threshold: float, target_accuracy: float | None
) -> dict[str, Any]:
    """Reliability and abstention on rows that the model has not learned, as plain JSON values.

    With a target the threshold is the lowest one over which the last WINDOW_ANSWERS answers were
    right that often. When none is, or when there are fewer than MIN_WINDOW_ANSWERS, `threshold`
    stays, and `target_reached` is false. `coverage` is the share of rows that get an answer,
    `accuracy` the share of right ones among those (None without answers), both weighted.
    """
    chosen = None
    if target_accuracy is not None:
        answers = answers.last(WINDOW_ANSWERS)
        chosen = _lowest_threshold(answers, target_accuracy)
    threshold = threshold if chosen is None else chosen
    correct, confidences, weights = answers.correct, answers.confidences, answers.weights
    answered = confidences >= threshold
    coverage = _share(answered, weights)
    return {
        "threshold": float(threshold),
        "target_accuracy": target_accuracy,
        "target_reached": None if target_accuracy is None else chosen is not None,
        "rows": len(correct),
        "coverage": coverage,
        "abstention_rate": None if coverage is None else 1 - coverage,
        "accuracy": _share(correct[answered], weights[answered]),
        "reliability": reliability(answers),
    }


def _share(found: NDArray[np.bool_], weights: NDArray[np.float64]) -> float | None:
    return float(np.average(found, weights=weights)) if len(found) else None


def _lowest_threshold(answers: Answers, target: float) -> float | None:
    """The lowest confidence over which answers reach the target; None without one under 1."""
    correct, confidences = answers.correct, answers.confidences
    if len(answers) < MIN_WINDOW_ANSWERS:
        return None
    order = np.argsort(-confidences, kind="stable")
    sorted_confidences = confidences[order]
    weights = answers.weights[order]
    right = np.cumsum(correct[order] * weights) / np.cumsum(weights)
    # Rows of one confidence are answered together or not at all.
    last = np.append(sorted_confidences[1:] != sorted_confidences[:-1], values=True)[: len(order)]
    enough = np.arange(1, len(order) + 1) >= MIN_ANSWERS
    reached = np.flatnonzero(last & enough & (right >= target))
    lowest = float(sorted_confidences[reached[-1]]) if len(reached) else 1.0
    return lowest if lowest < 1 else None


def reliability(answers: Answers) -> list[dict[str, Any]]:
    """Per tenth of confidence with rows in it: how many, how sure, and how often right."""
    correct, confidences, weights = answers.correct, answers.confidences, answers.weights
    place = np.clip(np.ceil(confidences * BINS).astype(int) - 1, 0, BINS - 1)
    found = []
    for bin_ in range(BINS):
        rows = place == bin_
        if rows.any():
            found.append(
                {
                    "over": bin_ / BINS,
                    "rows": int(rows.sum()),
                    "confidence": float(np.average(confidences[rows], weights=weights[rows])),
                    "accuracy": _share(correct[rows], weights[rows]),
                }
            )
    return found
