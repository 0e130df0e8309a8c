"""From rows to what a model sees, and the preprocessing of numbers that travels inside it.

Rows of numbers are floats (n, d). Rows with a text are objects (n, d + 1), the text last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.datasets import texts
from ml_pipeline.datasets.csv_file import number_hint
from ml_pipeline.errors import DataError
from ml_pipeline.store.inputs.columns import listed

Inputs = NDArray[Any]

SHOWN = 5
# Squares of larger numbers overflow when features are standardised.
LARGEST = 1e150


def matrix(frame: pd.DataFrame, features: Sequence[str]) -> NDArray[np.float64]:
    """The features (n, d) in their configured order; a missing value is NaN.

    Raises DataError naming missing columns and the first texts that are not numbers.
    """
    missing = [name for name in features if name not in frame.columns]
    if missing:
        message = f"Feature columns are missing: {', '.join(missing)}."
        hint = f"The data has: {listed(list(frame.columns))}."
        raise DataError(message, hint=hint)
    columns = [_numbers(frame[name], name) for name in features]
    return np.column_stack(columns) if columns else np.empty((len(frame), 0))


def _numbers(values: pd.Series, name: str) -> NDArray[np.float64]:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    blank = values.isna() | values.astype(str).str.strip().isin(["", "nan", "NaN", "None"])
    bad = ~(np.abs(numbers) <= LARGEST) & ~blank.to_numpy()
    if bad.any():
        shown = [repr(value) for value in values[bad].head(SHOWN)]
        rows = [str(row) for row in np.flatnonzero(bad)[:SHOWN] + 1]
        message = (
            f"Feature {name} holds {', '.join(shown)} in row {', '.join(rows)} "
            f"({int(bad.sum())} such rows): not a finite number."
        )
        hint = "Remove or repair these rows; an empty cell is allowed."
        raise DataError(message, hint=f"{hint} {number_hint(shown[0])}".rstrip())
    return numbers


def read_rows(frame: pd.DataFrame, features: Sequence[str], text_column: str | None) -> Inputs:
    """The rows of a frame of texts, their features and their text.

    Raises DataError for what `matrix` refuses, and naming the first rows whose text is unusable.
    """
    numbers = matrix(frame, features)
    if text_column is None:
        return numbers
    if text_column not in frame.columns:
        message = f"The text column {text_column} is missing."
        raise DataError(message, hint=f"The data has: {listed(list(frame.columns))}.")
    written = frame[text_column].fillna("").astype(str)
    faults = written.map(texts.fault).to_numpy(dtype=str)
    bad = np.flatnonzero(faults != "")
    if len(bad):
        shown = ", ".join(str(row) for row in bad[:SHOWN] + 1)
        message = f"The text {text_column} {faults[bad[0]]} in row {shown} ({len(bad)} such rows)."
        raise DataError(message, hint="Remove or repair these rows.")
    return joined(numbers, written.tolist())


def joined(numbers: NDArray[np.float64], written: Sequence[str] | None) -> Inputs:
    """Rows from numbers (n, d) and n texts, if there are texts."""
    if written is None:
        return numbers
    rows = np.empty((len(numbers), numbers.shape[1] + 1), dtype=object)
    rows[:, :-1] = numbers
    rows[:, -1] = written
    return rows


def has_text(rows: Inputs) -> bool:
    """Whether these are rows with a text."""
    return rows.dtype == object


def parted(rows: Inputs) -> tuple[NDArray[np.float64], list[str] | None]:
    """The inverse of `joined`."""
    if not has_text(rows):
        return np.asarray(rows, dtype=np.float64), None
    return np.asarray(rows[:, :-1], dtype=np.float64), rows[:, -1].tolist()


def content(rows: Inputs) -> bytes:
    """Numbers and texts of the rows as bytes, for a digest."""
    numbers, written = parted(rows)
    marked = [f"\n{len(text)} {text}".encode() for text in written or ()]
    return np.ascontiguousarray(numbers).tobytes() + b"".join(marked)


def check_usable(values: NDArray[np.float64], features: Sequence[str]) -> None:
    """Raise DataError when a feature has no value at all in the training rows."""
    empty = [name for index, name in enumerate(features) if not np.isfinite(values[:, index]).any()]
    if empty:
        message = f"Features without a single value: {', '.join(empty)}."
        raise DataError(message, hint="Take them out of data.features, or log them.")
