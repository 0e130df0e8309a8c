"""Columns of times, read as `store.inputs.times` reads one."""

from __future__ import annotations

from datetime import date
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.errors import DataError
from ml_pipeline.store.inputs.times import read_time, time_hint

_SHOWN = 5
_EPOCH: Final = date(1970, 1, 1).toordinal()
_SHORTEST = len("20260314")


def parsed_times(column: pd.Series) -> pd.Series:
    """The moments (n,) in UTC to the microsecond, NaT for what is none."""
    texts = column.fillna("").astype(str).str.strip()
    times = pd.to_datetime(texts, utc=True, errors="coerce", format="ISO8601")
    # Nanoseconds, of which one text may make all, end with the year 2262.
    times = times.dt.as_unit("us")
    # To pandas a year is a time.
    times = times.mask(texts.str.len() < _SHORTEST)
    rest = times.isna() & (texts != "")
    if rest.any():
        known = {text: _moment(text) for text in texts[rest].unique()}
        times = times.where(~rest, pd.to_datetime(texts.map(known), utc=True))
    return times


def _moment(text: str) -> pd.Timestamp | None:
    try:
        return pd.Timestamp(read_time(text))
    except ValueError:
        return None


def read_times(column: pd.Series, source: str) -> pd.Series:
    """The same. Raises DataError naming what is no time, and in which rows."""
    times = parsed_times(column).reset_index(drop=True)
    if times.isna().any():
        texts = column.fillna("").astype(str).reset_index(drop=True)
        rows = np.flatnonzero(times.isna().to_numpy())[:_SHOWN]
        shown = ", ".join(f"{texts[row]!r} (row {row + 1})" for row in rows)
        message = f"{source}: {column.name} is not an ISO 8601 time: {shown}."
        raise DataError(message, hint=time_hint(texts[rows[0]]))
    return times


def days_of(times: pd.Series) -> NDArray[np.int64]:
    """The UTC days (n,) of moments, proleptic ordinals. Raises ValueError where one is missing."""
    moments = pd.to_datetime(times, utc=True)
    if moments.isna().any():
        message = "a missing moment has no day"
        raise ValueError(message)
    days = moments.dt.tz_localize(None).to_numpy(dtype="datetime64[D]")
    return days.astype(np.int64) + _EPOCH
