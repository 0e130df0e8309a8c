"""One night's step of one head: penalised maximum likelihood by damped Newton.

A head of p inputs has C columns of weights: one for each of the K classes but the last, whose
score is 0 (C = K - 1), or one for each class (C = K), as in models of before. Its curvature is a
whole matrix (Cp, Cp), or, where that would cost more than it can learn, one block (p, p) for each
column: with `pₖ x xᵀ` in each block an upper bound of the whole (Böhning 1992).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.evaluation.metrics import Codes, Floats

STOP_AT_RELATIVE_GAIN = 1e-6
MAX_HALVINGS = 30
FEW_CLASSES = 7
# Weights over which a curvature is kept in blocks.
MAX_WHOLE = 400


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
        return tuple(
            [fit_head(*one, inputs, self, epochs) for one in zip(start, penalty, strict=True)]
            for start, penalty, inputs in zip(starts, penalties, self.inputs, strict=True)
        )


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


def unit_precision(width: int, columns: int, n_classes: int) -> Floats:
    """The curvature of a spherical prior over the heads, of size 1.

    Against a reference class it is the one that heads with a column for each class, on centred log
    probabilities, would have: whichever class is the last changes nothing. Between columns that
    is `I - 11ᵀ/K`, between the first inputs, which are log odds, `I + 11ᵀ`.
    """
    between, among = np.eye(columns), np.eye(width)
    if columns < n_classes:
        between -= 1 / n_classes
        among[:columns, :columns] += 1
        if columns * width > MAX_WHOLE:
            return np.asarray(np.multiply.outer(np.diag(between), among))
    return np.asarray(np.kron(between, among))


def fit_head(start: Floats, penalty: Floats, inputs: Floats, lesson: Lesson, epochs: int) -> Fitted:
    """Minimise `Σ wᵢ lossᵢ + ½ Δᵀ penalty Δ` by damped Newton.

    Returns the weights (p, C) and the curvature of the loss alone at the solution, in the form of
    the penalty.
    """
    goal = _Goal(start=start, penalty=penalty, inputs=inputs, lesson=lesson)
    reached = goal.at(np.zeros(start.size))
    for _ in range(epochs + 1):
        step = solved(
            goal.curvature(reached.probabilities) + goal.penalty,
            goal.gradient(reached.probabilities) + times(goal.penalty, reached.delta),
        )
        moved = goal.downhill(reached, step)
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

    def at(self, delta: Floats) -> _Point:
        lesson = self.lesson
        heads = self.start + self.shaped(delta)
        probabilities = answers(self.inputs, heads, lesson.opinions.shape[-1])
        chosen = probabilities[np.arange(len(lesson.actual)), lesson.actual]
        loss = -(np.log(np.maximum(chosen, 1e-300)) @ lesson.weights)
        value = loss + 0.5 * delta @ times(self.penalty, delta)
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
        if self.penalty.ndim == 3:  # noqa: PLR2004 - blocks
            return blocks(probabilities, self.inputs, self.lesson, columns)
        return hessian(probabilities, self.inputs, self.lesson, columns)


def times(matrix: Floats, delta: Floats) -> Floats:
    """A curvature, whole or in blocks, times weights (Cp,)."""
    if matrix.ndim == 2:  # noqa: PLR2004 - whole
        return matrix @ delta
    return np.asarray((matrix @ delta.reshape(len(matrix), -1, 1)).ravel())


def solved(matrix: Floats, vector: Floats) -> Floats:
    """The weights (Cp,) that times a curvature, whole or in blocks, are the vector."""
    if matrix.ndim == 2:  # noqa: PLR2004 - whole
        return np.asarray(np.linalg.solve(matrix, vector), dtype=np.float64)
    solution = np.linalg.solve(matrix, vector.reshape(len(matrix), -1, 1))
    return np.asarray(solution.ravel(), dtype=np.float64)


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


def blocks(probabilities: Floats, inputs: Floats, lesson: Lesson, columns: int) -> Floats:
    """An upper bound of the Hessian, column by column, (C, p, p)."""
    factors = probabilities[:, :columns] * lesson.weights[:, None]
    return np.stack([(inputs * factor[:, None]).T @ inputs for factor in factors.T])
