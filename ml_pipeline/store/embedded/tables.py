"""Rows of the embedded store: records to columns and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from ml_pipeline.alerts import ActionState, AlertStatus, Cause, DecayAlert, Severity
from ml_pipeline.domain import (
    ArtifactRef,
    ModelState,
    ModelVersion,
    Outcome,
    Priority,
    PromotionEvent,
    PromotionKind,
    RequestStatus,
    RetrainingRequest,
    RetrainingRun,
    RunStatus,
    Source,
    parse_utc,
    require_utc,
)
from ml_pipeline.errors import NotFound, StoreCorrupt, StoreRefused
from ml_pipeline.local_database import Connection

Record = TypeVar(
    "Record", RetrainingRun, RetrainingRequest, ModelVersion, PromotionEvent, DecayAlert
)
Row = Mapping[str, Any]

_TABLES: Mapping[type, str] = {
    RetrainingRun: "model_retraining_runs",
    RetrainingRequest: "model_retraining_requests",
    ModelVersion: "model_metadata",
    PromotionEvent: "model_promotion_events",
    DecayAlert: "prediction_decay_events",
}
_KEYS: Mapping[type, tuple[str, ...]] = {
    RetrainingRun: ("id",),
    RetrainingRequest: ("id",),
    ModelVersion: ("model_name", "model_id"),
    PromotionEvent: ("event_id",),
    DecayAlert: ("id",),
}

# Where the seeds' column is called otherwise than the record's field.
_COLUMNS: Mapping[type, Mapping[str, str]] = {
    RetrainingRun: {"run_id": "id", "fine_tune": "fine_tune_flag"},
    RetrainingRequest: {"request_id": "id", "run_id": "retraining_run_id"},
    DecayAlert: {"alert_id": "id"},
}
_TIMES = (
    "acted_at",
    "claimed_at",
    "completed_at",
    "created_at",
    "detected_at",
    "heartbeat_at",
    "lease_until",
    "processed_at",
    "pruned_at",
    "resolved_at",
    "started_at",
    "updated_at",
    "window_end",
    "window_start",
)
_MAPPINGS = ("details", "library_versions", "lineage", "metrics", "verdict")
_READERS: Mapping[str, Callable[[Any], object]] = {
    **dict.fromkeys(_TIMES, parse_utc),
    **dict.fromkeys(_MAPPINGS, json.loads),
    "action_state": ActionState,
    "cause": Cause,
    "fine_tune": bool,
    "kind": PromotionKind,
    "needs_person": bool,
    "outcome": Outcome,
    "priority": Priority,
    "severity": Severity,
    "source": Source,
    "state": ModelState,
}
_STATUSES: Mapping[type, type[StrEnum]] = {
    RetrainingRun: RunStatus,
    RetrainingRequest: RequestStatus,
    DecayAlert: AlertStatus,
}


def time_text(moment: datetime) -> str:
    """UTC text of one width, so that text order is time order."""
    return require_utc(moment, "time").isoformat(timespec="microseconds")


def json_text(value: object, name: str) -> str:
    """Strict JSON; raise StoreRefused for NaN and for what JSON cannot hold."""
    try:
        plain = dict(value) if isinstance(value, Mapping) else value
        return json.dumps(plain, allow_nan=False, sort_keys=True, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        message = f"{name} cannot be stored as JSON: {error}."
        raise StoreRefused(message) from error


def _stored(value: object, name: str) -> object:
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, Mapping):
        return json_text(value, name)
    if isinstance(value, StrEnum):
        return value.value
    return value


def to_row(record: object) -> dict[str, object]:
    """The columns of a record's row."""
    names = _COLUMNS.get(type(record), {})
    row: dict[str, object] = {}
    for item in fields(record):  # type: ignore[arg-type]
        value = getattr(record, item.name)
        if isinstance(value, ArtifactRef):
            row.update(
                {f"artifact_{part.name}": getattr(value, part.name) for part in fields(value)}
            )
        else:
            row[names.get(item.name, item.name)] = _stored(value, item.name)
    return row


def _field(kind: type, name: str, row: Row) -> object:
    if name == "artifact":
        parts = {part.name: row[f"artifact_{part.name}"] for part in fields(ArtifactRef)}
        return ArtifactRef(**parts)
    value = row[_COLUMNS.get(kind, {}).get(name, name)]
    if value is None:
        return None
    reader = _STATUSES[kind] if name == "status" else _READERS.get(name)
    return value if reader is None else reader(value)


def from_row(kind: type[Record], row: Row) -> Record:
    """The record that stands in a row; raise StoreCorrupt when none can."""
    try:
        values: dict[str, Any] = {item.name: _field(kind, item.name, row) for item in fields(kind)}
        return kind(**values)
    except (TypeError, ValueError, KeyError) as error:
        message = f"A row of {_TABLES[kind]} cannot be read: {error}."
        raise StoreCorrupt(message) from error


def insert(db: Connection, record: object) -> None:
    """Add the record's row."""
    row = to_row(record)
    names = f"({', '.join(row)}) VALUES (:{', :'.join(row)})"
    db.execute(f"INSERT INTO {_TABLES[type(record)]} {names}", row)


def update(db: Connection, record: Record) -> Record:
    """Write every column of the record's row; return the record."""
    row = to_row(record)
    changes = ", ".join(f"{name} = :{name}" for name in row)
    where = " AND ".join(f"{name} = :{name}" for name in _KEYS[type(record)])
    db.execute(f"UPDATE {_TABLES[type(record)]} SET {changes} WHERE {where}", row)  # noqa: S608
    return record


def select(db: Connection, kind: type[Record], rest: str, **values: object) -> list[Record]:
    """The rows whose columns hold `values` (None: any); `rest` follows the WHERE clause."""
    chosen = {name: value for name, value in values.items() if value is not None}
    where = " AND ".join(f"{name} = :{name}" for name in chosen) or "true"
    rows = db.execute(f"SELECT * FROM {_TABLES[kind]} WHERE {where} {rest}", chosen)  # noqa: S608
    return [from_row(kind, row) for row in rows]


def find(db: Connection, kind: type[Record], *key: str) -> Record | None:
    """The row under that key."""
    return next(iter(select(db, kind, "", **dict(zip(_KEYS[kind], key, strict=True)))), None)


def get(db: Connection, kind: type[Record], *key: str) -> Record:
    """The row under that key. Raises NotFound."""
    found = find(db, kind, *key)
    if found is None:
        message = f"There is no {' / '.join(key)} in {_TABLES[kind]}."
        raise NotFound(message)
    return found


def check_same(stored: Record, given: Record, *moving: str) -> None:
    """Refuse other content under a known id; the `moving` fields change in the row's life."""
    expected = replace(given, **{name: getattr(stored, name) for name in moving})
    old, new = to_row(stored), to_row(expected)
    changed = sorted(name for name in old if old[name] != new[name])
    if changed:
        key = " / ".join(str(old[name]) for name in _KEYS[type(stored)])
        message = f"{key} stands in {_TABLES[type(stored)]} with another {', '.join(changed)}."
        raise StoreRefused(message)
