"""Labelled streams with a known truth: seeded, small, of three classes and three features."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.training import algorithms
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.learned_rows import Champion
from ml_pipeline.training.strategies import new_model

Floats = NDArray[np.float64]
Labels = NDArray[np.str_]

CLASSES = ["H", "D", "A"]
FEATURES = ["form", "strength", "rest"]
SETTINGS = Settings().changed({"data.features": FEATURES})
DAY_ONE = date(2025, 1, 1)
_TRUTH = np.array([[2.0, 0.0, -2.0], [0.0, 1.5, -1.5], [0.3, -0.3, 0.0]])


def draw(seed: int, rows: int, *, turn: float = 0.0) -> tuple[Floats, Labels]:
    """Features (rows, 3) and labels; `turn` rotates the truth of the first two, in radians."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 3))
    turned = features.copy()
    turned[:, 0] = np.cos(turn) * features[:, 0] - np.sin(turn) * features[:, 1]
    turned[:, 1] = np.sin(turn) * features[:, 0] + np.cos(turn) * features[:, 1]
    codes = (turned @ _TRUTH + rng.gumbel(size=(rows, 3))).argmax(axis=1)
    return features, np.asarray(CLASSES)[codes]


def dataset(
    features: Floats,
    labels: Sequence[str] | Labels,
    *,
    moments: Sequence[datetime] | None = None,
    groups: Sequence[str] | None = None,
    **columns: Any,  # noqa: ANN401 - whatever a column holds
) -> Dataset:
    """Rows as the readers hand them on; `columns` are further columns of the frame."""
    times = None if moments is None else pd.Series(pd.to_datetime(list(moments), utc=True))
    return Dataset(
        features=np.asarray(features, dtype=np.float64),
        labels=np.asarray(labels, dtype=str),
        times=times,
        groups=None if groups is None else np.asarray(groups, dtype=str),
        frame=pd.DataFrame({"row": range(len(labels)), **columns}),
        source="the test",
    )


def moment_of(day: int, minute: float = 0.0) -> datetime:
    """A time of the `day`th day, counted from 0."""
    start = datetime(DAY_ONE.year, DAY_ONE.month, DAY_ONE.day, tzinfo=UTC)
    return start + timedelta(days=day, minutes=minute)


def stream(
    day_sizes: Sequence[int], *, seed: int = 1, turn_per_day: float = 0.0, turn: float = 0.0
) -> Dataset:
    """Labelled events, `day_sizes[i]` of them known on the `i`th day, a minute apart."""
    features, labels, moments, event_ids = [np.empty((0, 3))], [np.empty(0, dtype=str)], [], []
    for day, size in enumerate(day_sizes):
        drawn = draw(1000 * seed + day, size, turn=turn + turn_per_day * day)
        features.append(drawn[0])
        labels.append(drawn[1])
        moments += [moment_of(day, minute) for minute in range(size)]
        # An id says nothing of the time: ids of a day are not in the order of its minutes.
        event_ids += [f"{day:03d}-{(7919 * minute) % 1009:04d}" for minute in range(size)]
    return dataset(np.vstack(features), np.concatenate(labels), moments=moments, event_id=event_ids)


@functools.cache
def base(algorithm: str = "LogisticRegression", rows: int = 300) -> Any:  # noqa: ANN401
    """A base fitted on `rows` rows of the truth that has not turned."""
    return algorithms.fit(algorithm, *draw(7, rows), SETTINGS.training)


def model(settings: Settings = SETTINGS, *, rows: int = 300) -> AdaptiveClassifier:
    """Fresh heads on `base`, and a line that has seen nothing."""
    return new_model(base(rows=rows), draw(7, rows)[0], CLASSES, settings)


def serving(served: AdaptiveClassifier, model_id: str = "champion") -> Champion:
    """The champion."""
    return Champion(model_id=model_id, model=served)


def loss(probabilities: Floats, labels: Sequence[str] | Labels) -> float:
    """Mean log loss in nats, columns as in `CLASSES`."""
    codes = [CLASSES.index(label) for label in labels]
    return float(-np.log(probabilities[np.arange(len(codes)), codes]).mean())


def accuracy(probabilities: Floats, labels: Sequence[str] | Labels) -> float:
    """Share of rows whose most probable label happened, columns as in `CLASSES`."""
    return float((np.asarray(CLASSES)[probabilities.argmax(axis=1)] == np.asarray(labels)).mean())
