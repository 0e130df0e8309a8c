"""A new base that learns beside the champion before anybody is served by it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.datasets.splits import taken_in
from ml_pipeline.datasets.weights import fitting_weights
from ml_pipeline.errors import DataError
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.brought.incumbent import fitted_base
from ml_pipeline.training.online_model import OnlineState
from ml_pipeline.training.strategies import Challenger, evidence_on, new_model


def base_in_shadow(
    data: Dataset,
    champion: AdaptiveClassifier,
    today: date,
    settings: Settings,
    *,
    carry_heads: bool,
) -> Challenger:
    """A new base from every logged row of the days before today, whose heads learn from there on.

    Nothing is held out: what the days to come bring is the evidence.
    """
    if data.times is None or "event_id" not in data.frame.columns:
        raise DataError(f"{data.source} has no event_id and time: nights cannot be told apart.")
    settled = data.times < pd.Timestamp(today, tz="UTC")
    rows = np.flatnonzero(settled.to_numpy())
    learned = data.take(rows)
    least = settings.training.min_training_samples
    if len(learned) < least:
        raise DataError(f"{len(learned)} settled rows are too few for a new base ({least}).")
    training, weights = settings.training, fitting_weights(learned, settings.training.adaptive)
    fit = (training.algorithm, learned.features, learned.labels, settings)
    base = fitted_base(*fit, weights=weights)
    classes = [str(label) for label in champion.classes_]
    taken = taken_in(data, rows, today)
    model = new_model(base, learned.features, classes, settings, taken=taken)
    _carry(champion, model, heads=carry_heads)
    return Challenger(
        model=model,
        evidence=evidence_on(model, data.take(np.empty(0, dtype=np.int64)), None, settings),
        rows_learned=len(learned),
        training_digest=learned.digest(),
    )


def _carry(champion: AdaptiveClassifier, model: AdaptiveClassifier, *, heads: bool) -> None:
    """Give a new base the champion's experts, and its heads as well if so wished.

    The heads as they were when the last day was settled: the new base learns the open day itself.
    """
    memory, state = OnlineState.of(champion).memory, OnlineState.of(model)
    if heads:
        model.take_heads_of(champion)
    else:
        weight = model.rates_().initial_head_weight
        memory = state.memory.with_experts(memory.experts, weight=weight)
    model.set_memory(memory)
    state = replace(state, memory=memory, votes=np.empty((0, len(memory.vote))))
    model.line_ = (model.line_ or {}) | state.as_dict()
