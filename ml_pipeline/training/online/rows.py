"""Labelled rows in the order in which they are learned, and the days that they make."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.config.sections import AdaptiveSettings
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.datasets.entities import Entities, entities_of
from ml_pipeline.datasets.features import Inputs, content, joined
from ml_pipeline.datasets.times import days_of
from ml_pipeline.datasets.weights import label_weights
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.metrics import Codes, Floats, encode
from ml_pipeline.training.adaptive import AdaptiveClassifier

# The day of a prediction whose outcome was known at once, or of which it is not known.
AT_ONCE: Final = np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Labelled rows of one day or a batch of days, in the order in which they are learned.

    `features` as `features.read_rows` has them, `base` (n, K) the base's probabilities,
    `actual` codes (n,), `weights` (n,), `event_ids` n texts, `entities` (n,) as `entities_of` has
    them (by default none belongs to any). `predicted` (n,) are the days on which they were
    predicted, by default that of the outcome; `served` (n, K) what people were answered by the
    model that learns here, NaN where that is not known.
    """

    features: Inputs
    base: Floats
    actual: Codes
    weights: Floats
    event_ids: tuple[str, ...]
    entities: Entities = field(default_factory=lambda: np.empty(0, dtype=np.uint32))
    predicted: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    served: Floats = field(default_factory=lambda: np.empty((0, 0)))

    def __post_init__(self) -> None:
        count = len(self.actual)
        if not len(self.entities):
            object.__setattr__(self, "entities", np.zeros(count, dtype=np.uint32))
        if not len(self.predicted):
            object.__setattr__(self, "predicted", np.full(count, AT_ONCE))
        if not len(self.served):
            object.__setattr__(self, "served", np.full((count, self.base.shape[1]), np.nan))

    def __len__(self) -> int:
        return len(self.actual)

    @classmethod
    def none(cls, model: AdaptiveClassifier) -> Rows:
        """No rows for the model."""
        return cls(
            features=joined(np.empty((0, model.n_features_in_)), [] if model.reads_text_ else None),
            base=np.empty((0, len(model.classes_))),
            actual=np.empty(0, dtype=np.int64),
            weights=np.empty(0),
            event_ids=(),
        )

    def on_base(self, model: AdaptiveClassifier) -> Rows:
        """The same rows for a model on another base, which has answered none of them."""
        return replace(self.unserved(), base=model.base_proba(self.features))

    def unserved(self) -> Rows:
        """The same rows, of which the model that learns has answered none."""
        return replace(self, served=np.full(self.served.shape, np.nan))

    def followed_by(self, other: Rows) -> Rows:
        """These rows and then the others."""
        if not len(self):
            return other
        return Rows(
            features=np.vstack([self.features, other.features]),
            base=np.vstack([self.base, other.base]),
            actual=np.concatenate([self.actual, other.actual]),
            weights=np.concatenate([self.weights, other.weights]),
            event_ids=self.event_ids + other.event_ids,
            entities=np.concatenate([self.entities, other.entities]),
            predicted=np.concatenate([self.predicted, other.predicted]),
            served=np.vstack([self.served, other.served]),
        )

    def take(self, positions: NDArray[np.int64] | slice) -> Rows:
        """Some of the rows, in that order."""
        if isinstance(positions, slice):
            event_ids = self.event_ids[positions]
        else:
            event_ids = tuple(self.event_ids[position] for position in positions)
        return Rows(
            features=self.features[positions],
            base=self.base[positions],
            actual=self.actual[positions],
            weights=self.weights[positions],
            event_ids=event_ids,
            entities=self.entities[positions],
            predicted=self.predicted[positions],
            served=self.served[positions],
        )

    def digest(self, previous: str, night: int) -> str:
        """`previous` chained with every id, label and feature of the rows."""
        chain = hashlib.sha256(f"{previous}|{night}|".encode())
        chain.update("\n".join(self.event_ids).encode())
        chain.update(self.actual.tobytes())
        chain.update(content(self.features))
        return chain.hexdigest()


def nightly_rows(
    data: Dataset, model: AdaptiveClassifier, adaptive: AdaptiveSettings
) -> tuple[NDArray[np.int64], Rows]:
    """Labelled rows by UTC day and event id: (nights, rows)."""
    if data.times is None or "event_id" not in data.frame.columns:
        raise DataError(f"{data.source} has no event_id and time: nights cannot be told apart.")
    nights = days_of(data.times)
    event_ids = data.frame["event_id"].astype(str)
    order = np.lexsort((event_ids.to_numpy(dtype=str), nights))
    # A row is learned once, also when a file holds it twice.
    order = order[~event_ids.iloc[order].duplicated().to_numpy()]
    predicted = np.full(len(data), AT_ONCE) if data.predicted is None else data.predicted
    rows = Rows(
        features=data.features[order],
        base=model.base_proba(data.features[order]),
        actual=encode(data.labels[order], model.classes_),
        weights=label_weights(data, adaptive)[order],
        event_ids=tuple(event_ids.iloc[order].tolist()),
        entities=entities_of(data)[order],
        predicted=predicted[order],
        served=_served(data, model)[order],
    )
    return nights[order], rows


def _served(data: Dataset, model: AdaptiveClassifier) -> Floats:
    """What the line itself answered, (n, K), NaN where it was another model or is not known."""
    classes = [str(label) for label in model.classes_]
    if data.answers is None or data.of_line is None:
        return np.full((len(data), len(classes)), np.nan)
    return data.answers.table(classes, data.of_line)


def by_day(nights: Sequence[int] | NDArray[np.int64], rows: Rows) -> Iterator[tuple[int, Rows]]:
    """Cut rows that are sorted by night into (night, rows)."""
    values = np.asarray(nights)
    if not len(values):
        return
    cuts = np.flatnonzero(np.diff(values)) + 1
    for start, end in zip([0, *cuts], [*cuts, len(values)], strict=True):
        yield int(values[start]), rows.take(slice(start, end))
