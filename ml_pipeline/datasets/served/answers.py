"""What people were answered, row by row: a probability for each class, as the log has it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.config.data import DataSettings
from ml_pipeline.datasets.times import read_times
from ml_pipeline.errors import DataError, InputError
from ml_pipeline.store.inputs.incumbents import MIN_PROBABILITY
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.inputs.probabilities import SUM_WITHIN, checked_shares

# Columns of a file of logged rows, beside `event_id` and `known_at`.
PREDICTED_AT, PROBABILITIES = "predicted_at", "probabilities"
OF_LINE = "of_line"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """The JSON text of each row's probabilities, (n,), '' where none was logged."""

    texts: NDArray[np.object_]
    labels: Labels
    source: str

    def take(self, rows: NDArray[np.int64]) -> Answers:
        """Some of the rows, in that order."""
        return Answers(texts=self.texts[rows], labels=self.labels, source=self.source)

    def table(
        self, classes: Sequence[str], wanted: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """The probabilities (n, K) of `classes` in their order; rows sum to 1 or are NaN.

        Where `wanted` (n,) is given the others are not read, and NaN.
        NaN where none was logged, and where the answer gave all to classes that are not asked for;
        what it gave to some of those is shared by the others in proportion. A class that the answer
        does not name gets MIN_PROBABILITY before that. Raises DataError naming the row whose text
        is no such object.
        """
        wide = np.full((len(self.texts), len(classes)), np.nan)
        places = {name: place for place, name in enumerate(classes)}
        plain = set(self.labels.names)
        for row, text in enumerate(self.texts):
            if text and (wanted is None or wanted[row]):
                wide[row] = _placed(self._read(text, row, plain), places)
        sums = wide.sum(axis=1, keepdims=True)
        return np.asarray(wide / sums)

    def _read(self, text: str, row: int, plain: set[str]) -> Mapping[str, float]:
        """One row's; names in `plain`, which grows, are those of classes as they stand."""
        try:
            named = json.loads(text)
            if _is_plain(named, plain):
                return dict(named)
            shares = checked_shares(named, self.labels)
        except (InputError, ValueError) as error:
            message = f"{self.source}: {PROBABILITIES} of row {row + 1}: {error}"
            raise DataError(message, hint='They are written as {"H": 0.6, "A": 0.4}.') from None
        plain.update(shares.keys() & named.keys())
        return shares


def _is_plain(named: object, plain: set[str]) -> bool:
    """What most rows are, seen quickly: numbers of known classes that sum to 1."""
    return (
        type(named) is dict
        and named.keys() <= plain
        and set(map(type, named.values())) == {float}
        and min(named.values()) >= 0
        and abs(sum(named.values()) - 1) <= SUM_WITHIN
    )


def _placed(shares: Mapping[str, float], places: Mapping[str, int]) -> NDArray[np.float64]:
    row = np.full(len(places), MIN_PROBABILITY)
    asked = 0.0
    for name, share in shares.items():
        place = places.get(name)
        if place is not None:
            row[place] = share
            asked += share
    # To one who was sure of something else it says nothing about these.
    return row if asked > MIN_PROBABILITY else np.full(len(places), np.nan)


def answers_of(frame: pd.DataFrame, data: DataSettings, source: str) -> Answers | None:
    """What the rows of a frame were answered; None where it does not say."""
    if PROBABILITIES not in frame.columns:
        return None
    texts = frame[PROBABILITIES].fillna("").to_numpy(dtype=object)
    return Answers(texts=texts, labels=Labels.of(data), source=source)


def predicted_days(frame: pd.DataFrame, known: pd.Series, source: str) -> NDArray[np.int64] | None:
    """The UTC day on which each row was predicted, (n,) proleptic ordinals; None without a column.

    Where it is empty, or later than the day on which the outcome was `known`, it is that day.
    Raises DataError naming what is no time.
    """
    if PREDICTED_AT not in frame.columns:
        return None
    texts = frame[PREDICTED_AT].fillna("").astype(str).str.strip().reset_index(drop=True)
    days = ordinals(known)
    is_dated = (texts != "").to_numpy()
    if is_dated.any():
        days[is_dated] = np.minimum(days[is_dated], ordinals(read_times(texts[is_dated], source)))
    return days


def rows_of_line(frame: pd.DataFrame) -> NDArray[np.bool_] | None:
    """Which rows the line that is to learn them answered itself, (n,); None without a column."""
    if OF_LINE not in frame.columns:
        return None
    return np.asarray(frame[OF_LINE].astype(str).str.lower() == "true")


def ordinals(times: pd.Series) -> NDArray[np.int64]:
    """The UTC days of moments as proleptic ordinals, (n,)."""
    days = times.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[D]")
    epoch = 719_163  # date(1970, 1, 1).toordinal()
    return np.asarray(days.astype(np.int64) + epoch, dtype=np.int64)
