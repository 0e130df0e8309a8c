"""Evaluation events as frames: the rows to write, and the frame that was read.

Whoever imports this loads pandas; `event_row` knows the rows themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype

from ml_pipeline.errors import StoreRefused
from ml_pipeline.store.alerts import SAMPLE_COLUMNS
from ml_pipeline.store.event_row import WRITTEN_EVENT_COLUMNS
from ml_pipeline.store.records import EVENT_COLUMNS

EVENT_TIMES: Final = ("timestamp", "evaluated_at")
_EVENT_NUMBERS: Final = ("confidence", "accuracy")

TimeReader = Callable[[str, Sequence[Any]], "pd.Series[Any]"]


def _texts(column: pd.Series[Any]) -> list[str | None]:
    missing = column.isna()
    kind = "empty" if missing.all() else infer_dtype(column, skipna=True)
    if kind not in {"string", "empty"}:
        message = f"Events cannot be stored: {column.name} holds {kind} values, not text."
        raise StoreRefused(message)
    texts = column.astype(object).to_numpy(copy=True)
    texts[missing.to_numpy()] = None
    return list(texts)


def _numbers(column: pd.Series[Any]) -> list[float | None]:
    try:
        numbers = column.astype("float64").tolist()
    except (TypeError, ValueError) as error:
        message = f"Events cannot be stored: {column.name} is not a number everywhere ({error})."
        raise StoreRefused(message) from error
    return [None if number != number else number for number in numbers]  # noqa: PLR0124 - NaN


def _time_texts(column: pd.Series[Any]) -> list[str | None]:
    if not isinstance(column.dtype, pd.DatetimeTZDtype):
        for moment in column[column.notna()]:
            if not isinstance(moment, datetime) or moment.tzinfo is None:
                message = f"Events cannot be stored: {column.name} {moment!r} has no time zone."
                raise StoreRefused(message)
        column = pd.to_datetime(column, utc=True)
    plain = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]")
    texts = np.datetime_as_string(plain, unit="us").tolist()
    return [None if text == "NaT" else f"{text}+00:00" for text in texts]


def _column_to_write(frame: pd.DataFrame, name: str) -> Sequence[object]:
    if name not in frame.columns:
        return ["prediction" if name == "event_type" else None] * len(frame)
    if name in EVENT_TIMES:
        return _time_texts(frame[name])
    if name in _EVENT_NUMBERS:
        return _numbers(frame[name])
    return _texts(frame[name])


def event_rows(frame: pd.DataFrame, size: int) -> Iterator[list[dict[str, Any]]]:
    """The rows to write, `size` at a time. Without an outcome there is no `evaluated_at`."""
    for start in range(0, len(frame), size):
        part = frame.iloc[start : start + size]
        columns = [_column_to_write(part, name) for name in WRITTEN_EVENT_COLUMNS]
        rows = [
            dict(zip(WRITTEN_EVENT_COLUMNS, values, strict=True))
            for values in zip(*columns, strict=True)
        ]
        for row in rows:
            if row["actual_result"] is None:
                row["evaluated_at"] = None
        yield rows


def times_of_one_width(_name: str, texts: Sequence[str | None]) -> pd.Series[Any]:
    """UTC texts that all have their microseconds.

    numpy reads ISO 8601 several times faster than pandas, but refuses a zone.
    """
    plain = np.array([None if text is None else text[:26] for text in texts], "datetime64[us]")
    return pd.Series(plain).dt.tz_localize("UTC")


def event_frame(
    rows: Sequence[Sequence[Any]], read_times: TimeReader = times_of_one_width
) -> pd.DataFrame:
    """Rows that begin with the cells of `EVENT_COLUMNS`, as a frame of these columns.

    `read_times` makes a column of UTC times from a column's name and its texts.
    """
    columns = list(zip(*rows, strict=True)) or [()] * len(EVENT_COLUMNS)

    def read(name: str, values: Sequence[Any]) -> pd.Series[Any]:
        if name in EVENT_TIMES:
            return read_times(name, values)
        return pd.Series(values, dtype="float64" if name in _EVENT_NUMBERS else object)

    return pd.DataFrame(
        {name: read(name, columns[place]) for place, name in enumerate(EVENT_COLUMNS)}
    )


def sample_frame(
    rows: Sequence[Sequence[Any]], read_times: TimeReader = times_of_one_width
) -> pd.DataFrame:
    """Rows of the cells of `SAMPLE_COLUMNS` as a frame of these columns."""
    columns = list(zip(*rows, strict=True)) or [()] * len(SAMPLE_COLUMNS)

    def read(name: str, values: Sequence[Any]) -> pd.Series[Any]:
        if name in {"timestamp", "known_at"}:
            return read_times(name, values)
        return pd.Series(values, dtype="float64" if name == "confidence" else object)

    return pd.DataFrame(
        {name: read(name, columns[place]) for place, name in enumerate(SAMPLE_COLUMNS)}
    )
