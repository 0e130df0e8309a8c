"""Rows of Supabase: records to JSON objects with the columns' names, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ml_pipeline.errors import StoreCorrupt
from ml_pipeline.local_tables import Record, from_row, to_row

_OBJECTS: Final = ("details", "library_versions", "lineage", "metrics", "verdict")
_FLOATS: Final = ("confidence_threshold", "baseline", "recent", "threshold")


def to_json(record: Record) -> dict[str, object]:
    """The columns of a record's row. Raises StoreRefused for what JSON cannot hold."""
    row = to_row(record)
    return row | {name: json.loads(str(row[name])) for name in _OBJECTS if name in row}


def from_json(kind: type[Record], row: object) -> Record:
    """The record that stands in a row; raise StoreCorrupt when none can."""
    if not isinstance(row, Mapping):
        message = f"A row was to come, and {type(row).__name__} came."
        raise StoreCorrupt(message)
    plain: dict[str, Any] = {
        **row,
        **{name: json.dumps(row[name]) for name in _OBJECTS if name in row},
    }
    # JSON writes a whole number without its point.
    for name in _FLOATS:
        if isinstance(plain.get(name), int):
            plain[name] = float(plain[name])
    return from_row(kind, plain)


def from_array(kind: type[Record], rows: object) -> list[Record]:
    """The records that stand in an array of rows."""
    if not isinstance(rows, list):
        message = f"An array of rows was to come, and {type(rows).__name__} came."
        raise StoreCorrupt(message)
    return [from_json(kind, row) for row in rows]
