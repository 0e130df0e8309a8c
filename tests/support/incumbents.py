"""A classifier that is not ours: fitted once on the first rows of a stream, and never again."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from ml_pipeline.config.sections import TrainingSettings
from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation.metrics import Floats
from ml_pipeline.store.inputs.incumbent_columns import share_columns
from ml_pipeline.training import algorithms
from ml_pipeline.training.backtest import Replay, backtest
from ml_pipeline.training.policies import History

Told = Literal["probabilities", "label", "overconfident"]


def frozen_answers(history: History) -> Floats:
    """What boosting on the initial rows answers of every row, (n, K) in the classes' order."""
    start = slice(0, history.initial)
    with threadpool_limits(1):
        model = algorithms.fit(
            "HistGradientBoosting", history.features[start], history.labels[start],
            TrainingSettings(),
        )  # fmt: skip
        shares = np.asarray(model.predict_proba(history.features), dtype=np.float64)
    known = [str(label) for label in model.classes_]
    return shares[:, [known.index(label) for label in history.classes]]


def told(shares: Floats, what: Told) -> Floats:
    """What is known of such answers: all; label and confidence alone; the same of p³, a lie."""
    if what == "probabilities":
        return shares
    if what == "overconfident":
        shares = shares**3 / (shares**3).sum(axis=1, keepdims=True)
    best, count = shares.argmax(axis=1), shares.shape[1]
    confidence = shares[np.arange(len(shares)), best]
    known = np.repeat(((1 - confidence) / (count - 1))[:, None], count, axis=1)
    known[np.arange(len(shares)), best] = confidence
    return known


def answered(history: History, shares: Floats) -> History:
    """The stream with an incumbent's answers beside its features."""
    return replace(
        history,
        features=np.hstack([history.features, shares]),
        names=[*history.names, *share_columns(history.classes)],
    )


def corrected(history: History, shares: Floats) -> dict[str, Replay]:
    """The incumbent (`frozen`) and its corrected answers (`adaptive`), night by night."""
    settings = Settings().changed({"training.algorithm": "Incumbent"})
    with threadpool_limits(1):
        return backtest(
            answered(history, shares), settings, ["adaptive"], lambda _name, _total: lambda: None
        )
