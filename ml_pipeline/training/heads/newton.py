"""One night's step of one head: penalised maximum likelihood by damped Newton.

A head of p inputs has C columns of weights: one for each of the K classes but the last, whose
score is 0 (C = K - 1), or one for each class (C = K), as in models of before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.evaluation.metrics import Codes, Floats
from ml_pipeline.training.heads.curvature import (
    Basis,
    is_short,
    moments_of,
    short_form,
    solved,
    times,
)

STOP_AT_RELATIVE_GAIN = 1e-6
MAX_HALVINGS = 30
FEW_CLASSES = 7


# A head's weights (p, C) and the curvature of the loss there.
Fitted = tuple[Floats, Floats]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """One night to learn: n rows that were scored first.

    `inputs` (n, p) for each family of heads, `actual` (n,) codes, `weights` (n,), `opinions`
    (V, n, K) the probabilities of everything that votes, before learning. `fresh` (n,) marks the
    rows on which the vote may be judged: those of entities that were not learned before, by
    default all.
    """

    inputs: tuple[Floats, ...]
    actual: Codes
    weights: Floats
    opinions: Floats
    fresh: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=bool))

    def __post_init__(self) -> None:
        if not len(self.fresh):
            object.__setattr__(self, "fresh", np.ones(len(self.actual), dtype=bool))

    def __len__(self) -> int:
        return len(self.actual)

    @property
    def n_classes(self) -> int:
        """Of the model."""
        return int(self.opinions.shape[2])

    def voters_losses(self) -> Floats | None:
        """Of everything that votes on rows on which it may be judged, (V,); None without any."""
        return voters_losses(self.opinions, self.actual, self.weights, self.fresh)

    def fitted(
        self, starts: tuple[Floats, ...], penalties: tuple[Floats, ...], epochs: int
    ) -> tuple[list[Fitted], ...]:
        """Heads from `starts` (H, p, C) of each family, and their curvatures; see `fit_head`."""
        return tuple(map(partial(self._fitted, epochs), starts, penalties, self.inputs))

    def _fitted(
        self, epochs: int, starts: Floats, penalties: Floats, inputs: Floats
    ) -> list[Fitted]:
        moments = moments_of(inputs, self.weights) if is_short(penalties[0]) else None
        return [
            fit_head(start, penalty, inputs, self, epochs, moments)
            for start, penalty in zip(starts, penalties, strict=True)
        ]


def voters_losses(
    opinions: Floats, actual: Codes, weights: Floats, fresh: NDArray[np.bool_]
) -> Floats | None:
    """Losses (V,) of probabilities (V, n, K) on the `fresh` rows; None without any."""
    if not fresh.any():
        return None
    chosen = opinions[:, np.arange(len(actual)), actual]
    return np.asarray(-np.log(np.maximum(chosen, 1e-15)) @ (weights * fresh))


def softmax(scores: Floats) -> Floats:
    """Rows of probabilities over the last axis."""
    powers = np.exp(scores - _over_classes(np.maximum, scores))
    return np.asarray(powers / _over_classes(np.add, powers), dtype=np.float64)


def _over_classes(operation: np.ufunc, values: Floats) -> Floats:
    """The last axis reduced to 1; numpy is slow over a short one, and equal to the last bit."""
    if values.shape[-1] > FEW_CLASSES:
        return np.asarray(operation.reduce(values, axis=-1, keepdims=True))
    found = values[..., :1]
    for place in range(1, values.shape[-1]):
        found = operation(found, values[..., place : place + 1])
    return found


def answers(inputs: Floats, heads: Floats, n_classes: int) -> Floats:
    """Probabilities (..., n, K) of heads (..., p, C) for inputs (n, p)."""
    scores = inputs @ heads
    if heads.shape[-1] < n_classes:
        scores = np.concatenate([scores, np.zeros((*scores.shape[:-1], 1))], axis=-1)
    return softmax(scores)


def fit_head(  # noqa: PLR0913, PLR0917 - a head, and the night that it learns
    start: Floats,
    penalty: Floats,
    inputs: Floats,
    lesson: Lesson,
    epochs: int,
    moments: Floats | None = None,
) -> Fitted:
    """Minimise `Σ wᵢ lossᵢ + ½ Δᵀ penalty Δ` by damped Newton.

    Returns the weights (p, C) and the curvature of the loss alone at the solution, in the form of
    the penalty; `moments` are those of the inputs, for a short form.
    """
    if moments is None and is_short(penalty):
        moments = moments_of(inputs, lesson.weights)
    goal = _Goal(start=start, penalty=penalty, inputs=inputs, lesson=lesson, moments=moments)
    columns, basis = start.shape[1], None
    reached = goal.at(np.zeros(start.size))
    for _ in range(epochs + 1):
        curvature = goal.curvature(reached.probabilities) + goal.penalty
        if is_short(penalty) and basis is None:
            basis = Basis.of(curvature, columns)
        slope = goal.gradient(reached.probabilities) + times(goal.penalty, reached.delta, columns)
        moved = goal.downhill(reached, solved(curvature, slope, columns, basis))
        if moved is None:
            break
        gain, reached = reached.value - moved.value, moved
        if gain <= STOP_AT_RELATIVE_GAIN * abs(reached.value):
            break
    return start + goal.shaped(reached.delta), goal.curvature(reached.probabilities)


@dataclass(frozen=True, slots=True)
class _Point:
    """A displacement (Cp,) from the start, what it predicts, and what the goal is there."""

    delta: Floats
    probabilities: Floats
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Goal:
    """What one head minimises in one night."""

    start: Floats
    penalty: Floats
    inputs: Floats
    lesson: Lesson
    moments: Floats | None

    def at(self, delta: Floats) -> _Point:
        lesson = self.lesson
        heads = self.start + self.shaped(delta)
        probabilities = answers(self.inputs, heads, lesson.opinions.shape[-1])
        chosen = probabilities[np.arange(len(lesson.actual)), lesson.actual]
        loss = -(np.log(np.maximum(chosen, 1e-300)) @ lesson.weights)
        value = loss + 0.5 * delta @ times(self.penalty, delta, self.start.shape[1])
        return _Point(delta, probabilities, float(value))

    def downhill(self, origin: _Point, step: Floats) -> _Point | None:
        """Halve the step until the goal falls; None when it cannot."""
        for halvings in range(MAX_HALVINGS):
            candidate = self.at(origin.delta - step / 2**halvings)
            if candidate.value <= origin.value:
                return candidate
        return None

    def shaped(self, delta: Floats) -> Floats:
        return np.asarray(delta.reshape(self.start.shape[1], self.start.shape[0]).T)

    def gradient(self, probabilities: Floats) -> Floats:
        return gradient(probabilities, self.inputs, self.lesson, self.start.shape[1])

    def curvature(self, probabilities: Floats) -> Floats:
        columns = self.start.shape[1]
        if self.moments is not None:
            return short_form(self.moments, probabilities, self.lesson.weights, columns)
        return hessian(probabilities, self.inputs, self.lesson, columns)


def gradient(probabilities: Floats, inputs: Floats, lesson: Lesson, columns: int) -> Floats:
    """Of the loss, (Cp,)."""
    residual = probabilities.copy()
    residual[np.arange(len(lesson.actual)), lesson.actual] -= 1
    residual = residual[:, :columns] * lesson.weights[:, None]
    return np.asarray((residual.T @ inputs).ravel())


def hessian(probabilities: Floats, inputs: Floats, lesson: Lesson, columns: int) -> Floats:
    """Of the loss, (Cp, Cp)."""
    width = inputs.shape[1]
    whole = np.empty((columns, width, columns, width))
    for row in range(columns):
        for column in range(row, columns):
            factor = -probabilities[:, row] * probabilities[:, column]
            if row == column:
                factor = factor + probabilities[:, row]
            block = (inputs * (factor * lesson.weights)[:, None]).T @ inputs
            whole[row, :, column] = block
            whole[column, :, row] = block.T
    return whole.reshape(columns * width, columns * width)
