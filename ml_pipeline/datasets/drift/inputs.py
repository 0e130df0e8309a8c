"""How far the inputs of logged rows drifted from what a base was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import inf, isfinite
from pathlib import Path
from typing import Any, Final

import pandas as pd

from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets.drift.measures import Drift, level_drift, numeric_drift
from ml_pipeline.datasets.features import numbers_of
from ml_pipeline.datasets.reference import ColumnSummary, LevelSummary, input_columns

MIN_DRIFT_ROWS: Final = 200
# Of fewer rows chance alone moves an index further than any threshold.
LEAST_ROWS: Final = 40
ROWS_COMPARED: Final = 20_000
KEPT: Final = 30


def input_drift(reference: Mapping[str, Any], recent: pd.DataFrame) -> list[Drift]:
    """How far each input has moved from what the base was trained on."""
    names, column = list(reference["features"]), reference["text_column"]
    logged = _columns(recent, [*names, *([column] if column else [])]).copy()
    summaries, kinds = reference["columns"], reference.get("kinds", {})
    levels = [name for name in names if kinds.get(name) == Kind.CATEGORY and name in summaries]
    moved: list[Drift | None] = [*_level_drifts(reference, logged)]
    for name in (name for name in names if kinds.get(name) == Kind.BOOLEAN):
        logged[name], _ = numbers_of(logged[name], Kind.BOOLEAN)
    numbers = logged[names].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    written = logged[column].tolist() if column else None
    moved += [
        numeric_drift(name, ColumnSummary.from_json(summaries[name]), values)
        for name, values in input_columns(numbers, names, written, column).items()
        if name in summaries and name not in levels
    ]
    return [drift for drift in moved if drift is not None]


def _level_drifts(reference: Mapping[str, Any], logged: pd.DataFrame) -> list[Drift]:
    """How far the levels of each category among the columns have moved."""
    kinds, summaries = reference.get("kinds", {}), reference["columns"]
    names = [n for n in summaries if kinds.get(n) == Kind.CATEGORY and n in logged.columns]
    found = [
        level_drift(name, LevelSummary.from_json(summaries[name]), logged[name].tolist())
        for name in names
    ]
    return [drift for drift in found if drift is not None]


def drift_of_file(reference: Mapping[str, Any], path: Path, rows: int) -> list[Drift]:
    """That of the newest of a file's `rows` labelled rows, the inputs that drifted most first.

    Nothing is said of fewer than LEAST_ROWS.
    """
    if rows < LEAST_ROWS:
        return []
    column = reference["text_column"]
    names = {*reference["features"], *([column] if column else [])}
    logged = pd.read_csv(
        path, usecols=names.__contains__, dtype=str, keep_default_na=False,
        skiprows=range(1, 1 + max(0, rows - ROWS_COMPARED)),
    )  # fmt: skip
    # An input that the log has not is missing in every row.
    whole = logged.reindex(columns=sorted(names), fill_value="")
    found = input_drift(reference, whole)
    return sorted(found, key=lambda drift: (-drift.psi, drift.column))[:KEPT]


def _columns(events: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """What events say of those names, in columns of their own or in their features' JSON."""
    if set(names) <= set(events.columns):
        return events[list(names)]
    rows = [_inputs(text, names) for text in events["features"]]
    # As they are: a column of whole numbers with gaps would be of floats, which round long codes.
    return pd.DataFrame(rows, index=events.index, dtype=object).reindex(columns=list(names))


def _inputs(text: object, names: Sequence[str]) -> dict[str, object]:
    """What an event's JSON says of those names; an application may have written any."""
    found = json.loads(text) if isinstance(text, str) else None
    if not isinstance(found, dict):
        return {}
    return {name: _cell(found[name]) for name in names if name in found}


def _cell(value: object) -> object:
    if isinstance(value, dict | list):
        return json.dumps(value)
    try:
        is_number = type(value) is not int or isfinite(value)
    except OverflowError:  # more digits than a number has
        is_number = False
    return value if is_number else inf
