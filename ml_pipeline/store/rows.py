"""Records as rows of a table and back: what both adapters do alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype

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
from ml_pipeline.store.event_row import WRITTEN_EVENT_COLUMNS
from ml_pipeline.store.records import (
    EVENT_COLUMNS,
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

# A label that a person gave: table `ml_data`.
TRUTH_COLUMNS = (
    "id",
    "created_at",
    "model_name",
    "query",
    "features",
    "label",
    "source",
    "metadata",
)

_EVENT_TIMES = ("timestamp", "evaluated_at")
_EVENT_NUMBERS = ("confidence", "accuracy")


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
                message = f"Events cannot be stored: {column.name} {moment!r} carries no time zone."
                raise StoreRefused(message)
        column = pd.to_datetime(column, utc=True)
    plain = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]")
    texts = np.datetime_as_string(plain, unit="us").tolist()
    return [None if text == "NaT" else f"{text}+00:00" for text in texts]


def _written(frame: pd.DataFrame, name: str) -> Sequence[object]:
    if name not in frame.columns:
        return ["prediction" if name == "event_type" else None] * len(frame)
    if name in _EVENT_TIMES:
        return _time_texts(frame[name])
    if name in _EVENT_NUMBERS:
        return _numbers(frame[name])
    return _texts(frame[name])


def event_rows(frame: pd.DataFrame, size: int) -> Iterator[list[dict[str, Any]]]:
    """The rows to write, `size` at a time. Without an outcome there is no `evaluated_at`."""
    for start in range(0, len(frame), size):
        part = frame.iloc[start : start + size]
        columns = [_written(part, name) for name in WRITTEN_EVENT_COLUMNS]
        rows = [
            dict(zip(WRITTEN_EVENT_COLUMNS, values, strict=True))
            for values in zip(*columns, strict=True)
        ]
        for row in rows:
            if row["actual_result"] is None:
                row["evaluated_at"] = None
        yield rows


def event_frame(rows: Sequence[Sequence[Any]]) -> pd.DataFrame:
    """Rows that begin with `EVENT_COLUMNS` as a frame."""
    columns = list(zip(*rows, strict=True)) or [()] * len(EVENT_COLUMNS)
    return pd.DataFrame(
        {name: _read(name, columns[place]) for place, name in enumerate(EVENT_COLUMNS)}
    )


def _read(name: str, values: Sequence[Any]) -> pd.Series[Any]:
    if name in _EVENT_NUMBERS:
        return pd.Series(values, dtype="float64")
    if name in _EVENT_TIMES:
        # numpy reads ISO 8601 several times faster than pandas, but refuses a zone.
        plain = np.array([None if text is None else text[:26] for text in values], "datetime64[us]")
        return pd.Series(plain).dt.tz_localize("UTC")
    return pd.Series(values, dtype=object)


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


def check_same(stored: Record, given: Record, *moving: str) -> None:
    """Refuse other content under a known id; the `moving` fields change in the row's life."""
    expected = replace(given, **{name: getattr(stored, name) for name in moving})
    old, new = to_row(stored), to_row(expected)
    changed = sorted(name for name in old if old[name] != new[name])
    if changed:
        key = " / ".join(str(old[name]) for name in _KEYS[type(stored)])
        message = f"{key} stands in {_TABLES[type(stored)]} with another {', '.join(changed)}."
        raise StoreRefused(message)


_DEFAULTS: Final = {"model_name": "default", "source": "feedback", "metadata": {}}


def truth_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A label as the table holds it. Raises StoreRefused for what it cannot hold."""
    unknown = sorted(set(row) - set(TRUTH_COLUMNS))
    if unknown or not row.get("id") or row.get("created_at") is None:
        raise StoreRefused(
            "A label needs an id and a time (created_at), and may have "
            f"{', '.join(TRUTH_COLUMNS[2:])}; got {', '.join(map(str, row)) or 'nothing'}."
        )
    full: dict[str, Any] = {**dict.fromkeys(TRUTH_COLUMNS), **_DEFAULTS, **row}
    for name in ("features", "metadata"):
        if full[name] is not None:
            full[name] = json_text(full[name], name)
    return full | {"created_at": time_text(full["created_at"])}


def refuse_other_labels(given: Sequence[Mapping[str, Any]], known: Mapping[str, Any]) -> None:
    """Raise StoreRefused when a known id comes with another label; `known` is label by id."""
    labels = dict(known)
    other = [
        row["id"] for row in given if labels.setdefault(row["id"], row["label"]) != row["label"]
    ]
    if other:
        shown = ", ".join(sorted(set(map(str, other)))[:5])
        raise StoreRefused(
            f"Known ids came with another label: {shown}.", hint="Nothing was written."
        )


def truth_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a frame of texts; None where nothing stands."""
    import pandas as pd

    return pd.DataFrame(
        {name: pd.Series([_cell(row[name]) for row in rows], dtype=object) for name in rows[0]}
    )


def _cell(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json_text(value, "a cell") if isinstance(value, (dict, list)) else str(value)


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
    """The columns of a row of `prediction_accuracy_daily`; sums stand in `details`."""
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
    """The day that stands in a row; raise StoreCorrupt when none can."""
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
        raise StoreCorrupt(f"Something else than a day's sums came: {error}.") from error


def cycle_of(row: Row) -> LearningCycle:
    """The learning cycle in a row; raise StoreCorrupt when none can."""
    try:
        return LearningCycle(
            at=parse_utc(row["at"]),
            accept_rate=float(row["accept_rate"]),
            total=None if row["total"] is None else int(row["total"]),
            model_id=row["model_id"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreCorrupt(f"A row of learning_stats cannot be used: {error}.") from error
