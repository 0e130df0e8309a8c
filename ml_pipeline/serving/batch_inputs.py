"""The rows of a batch as a model takes them: cells that DuckDB read, by the features' kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets.features import numbers_of
from ml_pipeline.errors import InputError
from ml_pipeline.serving.answering import logged_values
from ml_pipeline.serving.artifact import BatchScorer
from ml_pipeline.store.inputs import cells

# Usable or not, the features, and the texts where the model reads one.
Columns = Sequence[NDArray[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchInputs:
    """The usable rows of a chunk: `values` (n, d), `texts` n or none, and which rows they are.

    `levels` has the names of a category's levels, n each, '' for a missing one. `shares` (n, K) are
    the probabilities of the incumbent whose answers are corrected, or none (n, 0).
    """

    values: NDArray[np.float64]
    shares: NDArray[np.float64]
    texts: list[str] | None
    usable: NDArray[np.bool_]
    levels: Mapping[str, list[str]]

    @property
    def whole(self) -> NDArray[np.float64]:
        """The numbers that the model takes, (n, d + K)."""
        return np.hstack([self.values, self.shares])

    def logged(self, scorer: BatchScorer, place: int) -> dict[str, object]:
        """What the log keeps of a row."""
        numbers = self.values[place].tolist()
        kept = logged_values(scorer.features, numbers)
        for name, kind, number in zip(scorer.features, scorer.kinds, numbers, strict=False):
            if kind == Kind.CATEGORY:
                kept[name] = self.levels[name][place] or None
            elif kind != Kind.NUMBER:
                kept[name] = cells.logged(Kind(kind), number)
        if scorer.text_column and self.texts is not None:
            kept[scorer.text_column] = self.texts[place]
        return kept


def inputs_from(columns: Columns, scorer: BatchScorer, shares: NDArray[np.float64]) -> BatchInputs:
    """The usable rows of what was read; `shares` are those of all rows."""
    first, *arrays = columns
    usable = np.asarray(first, dtype=bool)
    width = len(scorer.features)
    kinds = scorer.kinds or [str(Kind.NUMBER)] * width
    values, levels = np.empty((int(usable.sum()), width)), dict[str, list[str]]()
    for place, (name, kind) in enumerate(zip(scorer.features, kinds, strict=True)):
        if kind == Kind.NUMBER:
            numbers = np.ma.filled(arrays[place], np.nan).astype(np.float64)
            values[:, place] = numbers[usable]
            continue
        texts = _texts(arrays[place])[usable]
        values[:, place], _ = numbers_of(texts, Kind(kind))
        if kind == Kind.CATEGORY:
            names = {text: cells.level_name(text) for text in texts.unique()}
            levels[name] = texts.map(names).tolist()
    written = np.asarray(arrays[-1], dtype=object)[usable] if scorer.text_column else None
    return BatchInputs(
        values=values,
        shares=shares[usable],
        texts=None if written is None else written.tolist(),
        usable=usable,
        levels=levels,
    )


def kind_faults(columns: Columns, scorer: BatchScorer) -> dict[int, str]:
    """What is wrong with usable rows, by their place among all, in the words of one prediction."""
    first, *arrays = columns
    usable = np.asarray(first, dtype=bool)
    found = dict[int, str]()
    for name, kind, array in zip(scorer.features, scorer.kinds, arrays, strict=False):
        if kind == Kind.NUMBER:
            continue
        texts = _texts(array)
        _, faults = numbers_of(texts, Kind(kind))
        for place in np.flatnonzero(faults & usable).tolist():
            found.setdefault(place, _fault(Kind(kind), texts[place], name))
    return found


def _texts(array: NDArray[Any]) -> pd.Series:
    return pd.Series(np.ma.filled(array.astype(object), ""), dtype=object).fillna("")


def _fault(kind: Kind, text: str, name: str) -> str:
    try:
        cells.read_cell(kind, text, name)
    except InputError as error:
        return error.message
    return f"{name} cannot be read."
