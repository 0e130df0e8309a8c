"""Records as rows of their tables and back: what both adapters do alike.

A row is a mapping from column to value: times are UTC text of one width, objects JSON text, states
their stored values. Events have modules of their own: `event_row` for one, `event_frames` for many.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ml_pipeline.errors import StoreCorrupt, StoreRefused
from ml_pipeline.store.alerts import (
    ActionState,
    AlertStatus,
    Cause,
    DailyAccuracy,
    DecayAlert,
    LearningCycle,
    Severity,
)
from ml_pipeline.store.event_row import some
from ml_pipeline.store.records import (
    ArtifactRef,
    Lineage,
    ModelBrief,
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

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]


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


Record = TypeVar(
    "Record", RetrainingRun, RetrainingRequest, ModelVersion, PromotionEvent, DecayAlert
)

TABLES: Mapping[type, str] = {
    RetrainingRun: "model_retraining_runs",
    RetrainingRequest: "model_retraining_requests",
    ModelVersion: "model_metadata",
    PromotionEvent: "model_promotion_events",
    DecayAlert: "prediction_decay_events",
}
KEYS: Mapping[type, tuple[str, ...]] = {
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
OBJECT_COLUMNS = ("details", "library_versions", "lineage", "metrics", "verdict")
_READERS: Mapping[str, Callable[[Any], object]] = {
    **dict.fromkeys(_TIMES, parse_utc),
    **dict.fromkeys(OBJECT_COLUMNS, json.loads),
    "action_state": ActionState,
    "cause": Cause,
    "fine_tune": bool,
    "kind": PromotionKind,
    "lineage": lambda text: Lineage.from_json(dict(json.loads(text))),
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


def _stored(value: object, name: str) -> object:
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, Mapping):
        return json_text(value, name)
    if isinstance(value, Lineage):
        return json_text(value.as_json(), name)
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
    """The record in a row. Raises StoreCorrupt for a row that holds none."""
    try:
        values: dict[str, Any] = {item.name: _field(kind, item.name, row) for item in fields(kind)}
        return kind(**values)
    except (TypeError, ValueError, KeyError) as error:
        message = f"A row of {TABLES[kind]} cannot be read: {error}."
        raise StoreCorrupt(message) from error


def brief_from_row(row: Row) -> ModelBrief:
    """The record in those columns of a model's row. Raises StoreCorrupt for a row without."""
    since = row["shadow_since"]
    try:
        return ModelBrief(
            model_id=row["model_id"],
            anchor_id=row["anchor_id"],
            created_at=parse_utc(row["created_at"]),
            state=ModelState(row["state"]),
            run_id=row["run_id"],
            shadow_since=None if since is None else date.fromisoformat(since),
            settled_night=row["settled_night"],
            rebuilds=row["rebuilds"],
        )
    except (TypeError, ValueError) as error:
        message = f"A row of model_metadata cannot be read: {error}."
        raise StoreCorrupt(message) from error


def check_same(stored: Record, record: Record, *moving: str) -> None:
    """Raise StoreRefused for other content under a known id; `moving` fields may differ."""
    expected = replace(record, **{name: getattr(stored, name) for name in moving})
    old, new = to_row(stored), to_row(expected)
    changed = sorted(name for name in old if old[name] != new[name])
    if changed:
        key = " / ".join(str(old[name]) for name in KEYS[type(stored)])
        message = f"{key} is in {TABLES[type(stored)]} already, with another {', '.join(changed)}."
        raise StoreRefused(message)


SUMS: Final = (
    "scored",
    "scored_correct",
    "confident",
    "confident_errors",
    "confidence_sum",
    "loss_sum",
    "loss_square_sum",
)


def day_row(day: DailyAccuracy) -> dict[str, Any]:
    """The columns of a row of `prediction_accuracy_daily`; its sums go into `details`."""
    return {
        "model_name": day.model_name,
        "day": day.day.isoformat(),
        "model_id": day.model_id,
        "evaluated": day.evaluated,
        "correct": day.correct,
        "uncertain": day.uncertain,
        "log_loss": day.loss_sum / day.scored if day.scored else None,
        "details": {name: getattr(day, name) for name in SUMS},
    }


def day_of(row: Row, model_name: str) -> DailyAccuracy:
    """The day in a row, its sums beside its columns. Raises StoreCorrupt."""
    try:
        sums: dict[str, Any] = {
            name: float(row[name]) if name.endswith("_sum") else int(row[name]) for name in SUMS
        }
        return DailyAccuracy(
            model_name=model_name,
            day=date.fromisoformat(row["day"]),
            model_id=str(row["model_id"]),
            evaluated=int(row["evaluated"]),
            correct=int(row["correct"]),
            uncertain=int(row["uncertain"]),
            **sums,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreCorrupt(f"A row of daily sums cannot be read: {error}.") from error


def cycle_of(row: Row) -> LearningCycle:
    """The learning cycle in a row. Raises StoreCorrupt."""
    try:
        return LearningCycle(
            at=parse_utc(row["at"]),
            accept_rate=float(row["accept_rate"]),
            total=None if row["total"] is None else int(row["total"]),
            model_id=row["model_id"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreCorrupt(f"A row of learning_stats cannot be read: {error}.") from error


# ---------------------------------------------------------------------- labels of people

LABEL_COLUMNS: Final = (
    "id", "created_at", "model_name", "query", "features", "label", "source", "metadata",
)  # fmt: skip
_LABEL_OBJECTS: Final = ("features", "metadata")
_LABEL_DEFAULTS: Final = {"model_name": "default", "source": "feedback", "metadata": {}}


def label_row(row: Row) -> dict[str, Any]:
    """The row of `ml_data` for a label. Raises StoreRefused for what the table cannot hold."""
    unknown = sorted(set(row) - set(LABEL_COLUMNS))
    if unknown or not row.get("id") or row.get("created_at") is None:
        raise StoreRefused(
            "A label needs an id and a time (created_at), and may have "
            f"{', '.join(LABEL_COLUMNS[2:])}; got {', '.join(map(str, row)) or 'nothing'}."
        )
    full: dict[str, Any] = {**dict.fromkeys(LABEL_COLUMNS), **_LABEL_DEFAULTS, **row}
    for name in _LABEL_OBJECTS:
        if full[name] is not None:
            full[name] = json_text(full[name], name)
    return full | {"created_at": time_text(full["created_at"])}


def refuse_other_labels(rows: Sequence[Row], known: Mapping[str, Any]) -> None:
    """Raise StoreRefused when a known id comes with another label; `known` is label by id.

    One that waits for its label may have any.
    """
    labels = {key: label for key, label in known.items() if label is not None}
    other = [
        row["id"] for row in rows if labels.setdefault(row["id"], row["label"]) != row["label"]
    ]
    if other:
        shown = some(sorted(set(map(str, other))))
        raise StoreRefused(
            f"Known ids came with another label: {shown}.", hint="Nothing was written."
        )


def require_key(table: str, key: str, last: object, before: object) -> None:
    """Raise StoreCorrupt when a page ends without a value, or where the one before it ended."""
    if last is None or last == before:
        raise StoreCorrupt(f"{table}.{key} is not a key: it is empty or the same in several rows.")


def require_whole(table: str, rows: int, read: int) -> None:
    """Raise StoreCorrupt when fewer rows could be read, page by page, than there were before.

    Rows that were added meanwhile may or may not have been met; none may have been missed.
    """
    if read < rows:
        raise StoreCorrupt(
            f"{table} has {rows} rows, but only {read} could be read.",
            hint="Choose a ground_truth.id_column that is unique and never empty.",
        )


def text_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows of any table as a frame of texts: objects as JSON, None where there is no value."""
    import pandas as pd

    return pd.DataFrame(
        {name: pd.Series([_cell(row[name]) for row in rows], dtype=object) for name in rows[0]}
    )


def _cell(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json_text(value, "a cell") if isinstance(value, (dict, list)) else str(value)
