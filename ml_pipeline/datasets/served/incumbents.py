"""The answers of an incumbent in a file of rows, see `store.inputs.incumbents`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.datasets.features import SHOWN, matrix
from ml_pipeline.errors import DataError, InputError
from ml_pipeline.store.inputs.incumbent_columns import (
    ANSWER,
    ANSWER_CONFIDENCE,
    LOGGED_ANSWER,
    share_columns,
)
from ml_pipeline.store.inputs.incumbents import shares_of, written
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.inputs.probabilities import SUM_WITHIN

_HINT = (
    'Give each row its incumbent\'s answer: columns {columns}, or a column incumbent with {{"H": '
    "0.6, …}} or a label, and then its confidence in incumbent_confidence."
)


def with_shares(
    frame: pd.DataFrame, classes: Sequence[str], labels: Labels, source: str
) -> pd.DataFrame:
    """The frame with the incumbent's probability of each class as a number.

    Read from columns of those names, else from the column `incumbent`: a JSON object, or a label
    beside `incumbent_confidence`. Raises DataError naming the rows of which none is known, or bad.
    """
    columns = share_columns(classes)
    if set(columns) <= set(frame.columns):
        shares = matrix(frame, columns)
        _check(shares, columns, source)
    elif {ANSWER, LOGGED_ANSWER} & set(frame.columns):
        column = LOGGED_ANSWER if LOGGED_ANSWER in frame.columns else ANSWER
        shares = _read(frame, column, classes, labels, source)
    else:
        raise DataError(f"{source} does not say what the incumbent answered.", hint=_hint(columns))
    return frame.assign(**dict(zip(columns, shares.T, strict=True)))


def _check(shares: NDArray[np.float64], columns: Sequence[str], source: str) -> None:
    total = shares.sum(axis=1)
    is_empty = np.isnan(shares).any(axis=1)
    wrong = ~(np.abs(total - 1) <= SUM_WITHIN) | ~(shares >= -SUM_WITHIN).all(axis=1)
    if is_empty.any():
        raise _lacking(np.flatnonzero(is_empty), columns, source)
    if wrong.any():
        rows = np.flatnonzero(wrong)
        shown = ", ".join(f"{value:g}" for value in shares[rows[0]])
        raise DataError(
            f"{source}: the incumbent's probabilities in row {rows[0] + 1} ({len(rows)} such rows) "
            f"are {shown}: no numbers from 0 to 1 that sum to 1 (within {SUM_WITHIN:f}).",
            hint="Percent are to be divided by 100.",
        )


def _read(
    frame: pd.DataFrame, column: str, classes: Sequence[str], labels: Labels, source: str
) -> NDArray[np.float64]:
    texts = frame[column].fillna("").astype(str).str.strip()
    confidences = pd.Series("", index=frame.index)
    if ANSWER_CONFIDENCE in frame.columns:
        confidences = frame[ANSWER_CONFIDENCE].fillna("").astype(str).str.strip()
    is_empty = (texts == "").to_numpy()
    if is_empty.any():
        raise _lacking(np.flatnonzero(is_empty), share_columns(classes), source)
    known = dict[tuple[str, str], list[float]]()
    wide = np.empty((len(frame), len(classes)))
    for row, cells in enumerate(zip(texts, confidences, strict=True)):
        if cells not in known:
            try:
                known[cells] = shares_of(written(*cells), classes, labels)
            except InputError as error:
                message = f"{source}: {column} of row {row + 1}: {error}"
                raise DataError(message, hint=_hint(share_columns(classes))) from None
        wide[row] = known[cells]
    return wide


def _lacking(rows: NDArray[np.intp], columns: Sequence[str], source: str) -> DataError:
    shown = ", ".join(str(row + 1) for row in rows[:SHOWN])
    return DataError(
        f"{source}: of row {shown} ({len(rows)} such rows) nothing says what the incumbent "
        "answered.",
        hint=_hint(columns),
    )


def _hint(columns: Sequence[str]) -> str:
    return _HINT.format(columns=", ".join(columns))
