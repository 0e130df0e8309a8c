"""Heads: multinomial logistic layers on top of a base's log odds, fitted by Newton steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.config.sections import TrainingSettings
from ml_pipeline.evaluation.metrics import Codes, Floats

MIN_PROBABILITY = 1e-3
MAX_STANDARDISED = 8.0
MAX_HEAD_FEATURES = 64
# Beyond this a head's curvature matrix would cost more than it can learn.
MAX_HEAD_PARAMETERS = 1500
STOP_AT_RELATIVE_GAIN = 1e-6
MAX_HALVINGS = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Settings of the heads: half-lives in nights, the rest without unit.

    `rows_per_night` sets the weight of the starting point; None takes the first night's count.
    """

    half_lives: tuple[float, ...] = (5.0, 15.0, 60.0, 200.0)
    vote_rate: float = 0.1
    vote_share: float = 0.02
    initial_head_weight: float = 0.1
    ridge: float = 5.0
    prior_rows: float = 0.02
    rows_per_night: float | None = None
    epochs: int = 5

    def __post_init__(self) -> None:
        if not self.half_lives or min(self.half_lives) <= 0:
            message = "half_lives must be positive"
            raise ValueError(message)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as a model carries them."""
        return asdict(self) | {"half_lives": list(self.half_lives)}

    @property
    def decays(self) -> Floats:
        """What one night leaves of each head's memory, in (0, 1)."""
        return np.asarray(0.5 ** (1 / np.asarray(self.half_lives)), dtype=np.float64)


def rates_of(training: TrainingSettings) -> dict[str, Any]:
    """The settings by which heads start, learn and vote, as a model carries them."""
    adaptive = training.adaptive
    return {
        "half_lives": list(adaptive.half_lives),
        "vote_rate": adaptive.vote_rate,
        "vote_share": adaptive.vote_share,
        "initial_head_weight": adaptive.initial_head_weight,
        "ridge": adaptive.ridge,
        "prior_rows": adaptive.prior_rows,
        "rows_per_night": adaptive.rows_per_night,
        "epochs": training.epochs,
    }


def changed_rates(kept: Mapping[str, Any], training: TrainingSettings) -> tuple[str, ...]:
    """The settings, by their dotted names, by which a model that carries `kept` did not learn."""
    wanted = rates_of(training)
    plain = {**Rates().as_dict(), **kept}
    return tuple(
        "training.epochs" if name == "epochs" else f"training.adaptive.{name}"
        for name, value in wanted.items()
        if plain[name] != value
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """One night to learn: n rows that were scored first.

    `inputs` (n, p) are what the heads see, `actual` (n,) codes, `weights` (n,), `opinions`
    (V, n, K) the probabilities of everything that votes, before learning. `fresh` (n,) marks the
    rows on which the vote may be judged: those of entities that were not learned before, by
    default all.
    """

    inputs: Floats
    actual: Codes
    weights: Floats
    opinions: Floats
    fresh: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=bool))

    def __post_init__(self) -> None:
        if not len(self.fresh):
            object.__setattr__(self, "fresh", np.ones(len(self.actual), dtype=bool))


def softmax(scores: Floats) -> Floats:
    """Rows of probabilities over the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float64)


def fit_head(
    start: Floats, precision: Floats, lesson: Lesson, rates: Rates
) -> tuple[Floats, Floats]:
    """Minimise `Σ wᵢ lossᵢ + ½ Δᵀ (precision + ridge I) Δ` by damped Newton.

    Returns the weights (p, K) and the curvature (Kp, Kp) of the loss alone at the solution.
    """
    goal = _Goal(
        start=start, penalty=precision + rates.ridge * np.eye(len(precision)), lesson=lesson
    )
    reached = goal.at(np.zeros(len(precision)))
    for _ in range(rates.epochs + 1):
        step = np.linalg.solve(
            _hessian(reached.probabilities, lesson) + goal.penalty,
            _gradient(reached.probabilities, lesson) + goal.penalty @ reached.delta,
        )
        moved = goal.downhill(reached, np.asarray(step, dtype=np.float64))
        if moved is None:
            break
        gain, reached = reached.value - moved.value, moved
        if gain <= STOP_AT_RELATIVE_GAIN * abs(reached.value):
            break
    return start + goal.shaped(reached.delta), _hessian(reached.probabilities, lesson)


@dataclass(frozen=True, slots=True)
class _Point:
    """A displacement (Kp,) from the start, what it predicts, and what the goal is there."""

    delta: Floats
    probabilities: Floats
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Goal:
    """What one head minimises in one night."""

    start: Floats
    penalty: Floats
    lesson: Lesson

    def at(self, delta: Floats) -> _Point:
        lesson = self.lesson
        probabilities = softmax(lesson.inputs @ (self.start + self.shaped(delta)))
        chosen = probabilities[np.arange(len(lesson.actual)), lesson.actual]
        loss = -(np.log(np.maximum(chosen, 1e-300)) @ lesson.weights)
        return _Point(delta, probabilities, float(loss + 0.5 * delta @ self.penalty @ delta))

    def downhill(self, origin: _Point, step: Floats) -> _Point | None:
        """Halve the step until the goal falls; None when it cannot."""
        for halvings in range(MAX_HALVINGS):
            candidate = self.at(origin.delta - step / 2**halvings)
            if candidate.value <= origin.value:
                return candidate
        return None

    def shaped(self, delta: Floats) -> Floats:
        return np.asarray(delta.reshape(self.start.shape[1], self.start.shape[0]).T)


def _gradient(probabilities: Floats, lesson: Lesson) -> Floats:
    residual = probabilities.copy()
    residual[np.arange(len(lesson.actual)), lesson.actual] -= 1
    return np.asarray(((residual * lesson.weights[:, None]).T @ lesson.inputs).ravel())


def _hessian(probabilities: Floats, lesson: Lesson) -> Floats:
    classes, width = probabilities.shape[1], lesson.inputs.shape[1]
    hessian = np.empty((classes, width, classes, width))
    for row in range(classes):
        for column in range(row, classes):
            factor = -probabilities[:, row] * probabilities[:, column]
            if row == column:
                factor = factor + probabilities[:, row]
            block = (lesson.inputs * (factor * lesson.weights)[:, None]).T @ lesson.inputs
            hessian[row, :, column] = block
            hessian[column, :, row] = block.T
    return hessian.reshape(classes * width, classes * width)
