"""From rows to what a model sees, and the preprocessing of numbers that travels inside it.

Rows are floats (n, d) whatever the kinds of the features (`store.inputs.cells` says what stands for
a level, a truth, an instant). Rows with a text are objects (n, d + 1), the text last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets import texts
from ml_pipeline.datasets.csv_file import number_hint
from ml_pipeline.datasets.times import parsed_times
from ml_pipeline.errors import DataError
from ml_pipeline.store.inputs import cells
from ml_pipeline.store.inputs.columns import listed
from ml_pipeline.store.inputs.labels import NO_VALUES, SPACE
from ml_pipeline.store.inputs.times import time_hint

Inputs = NDArray[Any]
Kinds = Mapping[str, Kind]
# Every feature is a number.
NUMBERS: Final[Kinds] = MappingProxyType({})

SHOWN = 5
LARGEST = cells.LARGEST


def matrix(
    frame: pd.DataFrame, features: Sequence[str], kinds: Kinds = NUMBERS
) -> NDArray[np.float64]:
    """The features (n, d) in their configured order; a missing value is NaN.

    `kinds` are those of features that are no numbers. Raises DataError naming missing columns and
    the first cells that are not of their kind.
    """
    missing = [name for name in features if name not in frame.columns]
    if missing:
        message = f"Feature columns are missing: {', '.join(missing)}."
        hint = f"The data has: {listed(list(frame.columns))}."
        raise DataError(message, hint=hint)
    columns = [_column(frame[name], name, kinds.get(name, Kind.NUMBER)) for name in features]
    return np.column_stack(columns) if columns else np.empty((len(frame), 0))


def _column(values: pd.Series, name: str, kind: Kind) -> NDArray[np.float64]:
    """The numbers (n,) that stand for a column's cells."""
    if kind is Kind.NUMBER:
        return _numbers(values, name)
    numbers, faults = numbers_of(values, kind)
    if faults.any():
        places = np.flatnonzero(faults)
        shown = [repr(str(value)[:60]) for value in values.iloc[places[:SHOWN]]]
        rows = ", ".join(str(place + 1) for place in places[:SHOWN])
        what, hint = _COMPLAINTS[kind]
        if kind is Kind.DATETIME:
            hint = time_hint(str(values.iloc[places[0]]))
        raise DataError(
            f"Feature {name} holds {', '.join(shown)} in row {rows} ({len(places)} such rows): "
            f"{what}.",
            hint=f"{_REPAIR} {hint}".rstrip(),
        )
    return numbers


_REPAIR: Final = "Remove or repair these rows, or name another kind in data.features."
_COMPLAINTS: Final = {
    Kind.CATEGORY: (
        f"a level's name has at most {cells.MAX_LEVEL_CHARACTERS:,} characters, all of them valid",
        "A text is named in data.text_column.",
    ),
    Kind.BOOLEAN: ("neither true nor false", ""),
    Kind.DATETIME: ("not an ISO 8601 time", ""),
}


def numbers_of(values: pd.Series, kind: Kind) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The numbers (n,) that stand for cells of a kind other than number, and which cells are none.

    Each different cell is read once, as a single one is (`cells.read_cell`).
    """
    if kind is Kind.DATETIME:
        return _instants(values)
    codes, distinct = pd.factorize(values.to_numpy(dtype=object), use_na_sentinel=True)
    read = [_cell(kind, value) for value in distinct]
    known = np.asarray([np.nan, *(number for number, _ in read)])
    is_fault = np.asarray([False, *(fault for _, fault in read)])
    return known[codes + 1], is_fault[codes + 1]


def _cell(kind: Kind, value: object) -> tuple[float, bool]:
    if kind is Kind.CATEGORY:
        name = cells.level_name(value)
        is_fault = bool(cells.level_fault(name))
        return (np.nan if is_fault else cells.level_code(name)), is_fault
    try:
        return cells.truth(str(value)), False
    except ValueError:
        return np.nan, True


def _instants(values: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    texts = values.astype(object).where(values.notna(), "").astype(str).str.strip(SPACE)
    texts = texts.mask(texts.str.lower().isin(NO_VALUES), "")
    times = parsed_times(texts).reset_index(drop=True)
    micros = times.dt.as_unit("us").astype("int64").to_numpy()
    is_time = times.notna().to_numpy()
    numbers = np.where(is_time, micros / 1e6, np.nan)
    return numbers, ~is_time & (texts != "").to_numpy()


def unreadable(values: pd.Series, kind: Kind) -> NDArray[np.bool_]:
    """Which cells (n,) of a column are not of its kind and no missing ones either."""
    return _read_numbers(values)[1] if kind is Kind.NUMBER else numbers_of(values, kind)[1]


def _read_numbers(values: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    blank = values.isna() | values.astype(str).str.strip().str.lower().isin(NO_VALUES)
    return numbers, ~(np.abs(numbers) <= LARGEST) & ~blank.to_numpy()


def _numbers(values: pd.Series, name: str) -> NDArray[np.float64]:
    numbers, bad = _read_numbers(values)
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


def read_rows(
    frame: pd.DataFrame,
    features: Sequence[str],
    text_column: str | None,
    kinds: Kinds = NUMBERS,
) -> Inputs:
    """The rows of a frame of texts, their features and their text.

    Raises DataError for what `matrix` refuses, and naming the first rows whose text is unusable.
    """
    numbers = matrix(frame, features, kinds)
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
