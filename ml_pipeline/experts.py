"""Experts: classifiers of their own in the vote, fitted anew every so often on all that is known.

When one is due and what it learns depend on the labelled rows alone, as everything of the live
line does: however the runs fell, the same rows bring the same experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipeline import algorithms
from ml_pipeline.adaptive import Expert
from ml_pipeline.arrays import Codes, Floats, encode
from ml_pipeline.features import Inputs
from ml_pipeline.live_line import LineState
from ml_pipeline.parallel import spread
from ml_pipeline.training_settings import ExpertSettings, TrainingSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownRows:
    """Every labelled row, in the order of learning: what experts may be fitted on.

    `nights` (n,) rise, `actual` (n,) are codes of `classes`, `weights` (n,).
    """

    nights: NDArray[np.int64]
    features: Inputs
    actual: Codes
    weights: Floats
    classes: NDArray[Any]

    def until(self, night: int) -> KnownRows:
        """The rows that were known when `night` was over."""
        return self.first(int(np.searchsorted(self.nights, night, side="right")))

    def first(self, count: int) -> KnownRows:
        """So many rows from the start."""
        return KnownRows(
            nights=self.nights[:count],
            features=self.features[:count],
            actual=self.actual[:count],
            weights=self.weights[:count],
            classes=self.classes,
        )


def refreshed(state: LineState, known: KnownRows, training: TrainingSettings) -> LineState:
    """The line with new experts if they are due after its last night, else as it is.

    With too few rows, or rows of one class alone, the line goes on as it is and they stay due.
    So they do while rows wait to be scored: what learns a row before may not be judged on it.
    """
    fitted = {expert.name: expert.night for expert in state.memory.experts}
    if state.night is None or len(state.waiting) or not training.experts_due(fitted, state.night):
        return state
    rows = known.until(state.night)
    if training.experts and (
        len(rows.nights) < training.min_training_samples or len(set(rows.actual.tolist())) < 2  # noqa: PLR2004
    ):
        return state
    experts = fit_experts(rows, state.night, training)
    return state.with_experts(experts, weight=training.adaptive.initial_head_weight)


def fit_experts(rows: KnownRows, night: int, training: TrainingSettings) -> tuple[Expert, ...]:
    """Fit every configured expert on the rows, beside each other.

    An expert with a half-life weighs a row by 0.5^(age/half-life); ages count back from `night`.
    """
    labels = rows.classes[rows.actual]

    def fitted(expert: ExpertSettings) -> Expert:
        weights = rows.weights
        if expert.half_life_days is not None:
            weights = weights * 0.5 ** ((night - rows.nights) / expert.half_life_days)
        model = algorithms.fit(expert.algorithm, rows.features, labels, training, weights=weights)
        columns = encode(np.asarray(model.classes_), rows.classes)
        return Expert(name=expert.name, model=model, columns=columns, night=night)

    return tuple(spread(fitted, training.experts))
