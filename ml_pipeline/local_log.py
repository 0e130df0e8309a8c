"""The evaluation log of the embedded store: frames to rows and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype

from ml_pipeline.domain import EVENT_COLUMNS, UNCERTAIN, LookbackWindow
from ml_pipeline.errors import NotFound, StoreRefused
from ml_pipeline.local_database import Database
from ml_pipeline.local_events import (
    KNOWN_EVENTS,
    SET_OUTCOME,
    WRITTEN_EVENT_COLUMNS,
    insert_rows,
    refuse_other_content,
    some,
)
from ml_pipeline.local_tables import time_text

EVENT_CHUNK: Final = 50_000
_EVENT_TIMES = ("timestamp", "evaluated_at")
_EVENT_NUMBERS = ("confidence", "accuracy")
_EVENTS = ", ".join(EVENT_COLUMNS)
_IN_WINDOW = "model_name = :model_name AND known_at >= :start AND known_at < :end"
# The conditions of the partial indexes stand here word for word, else SQLite does not use them.
_LABELLED = (
    f"SELECT {_EVENTS}, known_at FROM evaluation_log "  # noqa: S608 - constants
    f"WHERE actual_result IS NOT NULL AND {_IN_WINDOW}"
)
_PENDING = (
    f"SELECT {_EVENTS}, known_at FROM evaluation_log "  # noqa: S608 - constants
    f"WHERE actual_result IS NULL AND {_IN_WINDOW}"
)
_IN_ORDER = "ORDER BY known_at, event_id"
ERROR_SAMPLES = (
    f"SELECT {_EVENTS} FROM evaluation_log "  # noqa: S608 - constants
    f"WHERE accuracy = 0.0 AND prediction <> '{UNCERTAIN}' AND {_IN_WINDOW} "
    "AND confidence > :threshold "
    "AND (:models IS NULL OR model_id IN (SELECT value FROM json_each(:models))) "
    f"{_IN_ORDER}"
)
EXPORTED_AT_ONCE: Final = 10_000
# One call of `printf` a row, and one text for thousands of rows: a value that becomes an object of
# Python costs more than all that is done with it. `%w` doubles quotation marks, and `quote` writes
# as many digits as a number needs.
_UNQUOTED = {"timestamp", "evaluated_at", "accuracy", "status", "confidence"}
_LINE = "printf('{}\n', {})".format(
    ",".join("%s" if name in _UNQUOTED else '"%w"' for name in EVENT_COLUMNS),
    ", ".join(name if name in _UNQUOTED else f"coalesce({name}, '')" for name in EVENT_COLUMNS),
).replace(" confidence,", " nullif(quote(confidence), 'NULL'),")
_EXPORT = (
    f"SELECT group_concat({_LINE}, '') FROM evaluation_log "  # noqa: S608 - constants
    "WHERE model_name = :model_name AND rowid >= :first AND rowid < :last"
)
_LABELLED_PER_DAY = (
    "SELECT substr(known_at, 1, 10) AS day, count(*) AS events FROM evaluation_log "  # noqa: S608
    f"WHERE actual_result IS NOT NULL AND {_IN_WINDOW} GROUP BY 1"
)


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


def _event_frame(rows: Sequence[Sequence[Any]]) -> pd.DataFrame:
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


def events_query(*, labelled_only: bool) -> str:
    """The statement of `read_events`; each half comes in order from its own index."""
    query = _LABELLED if labelled_only else f"{_LABELLED} UNION ALL {_PENDING}"
    return f"{query} {_IN_ORDER}"


def _within(window: LookbackWindow, model_name: str) -> dict[str, object]:
    start, end = time_text(window.start), time_text(window.end)
    return {"model_name": model_name, "start": start, "end": end}


def _check_outcomes(outcomes: Mapping[str, str], known: Mapping[str, str | None]) -> None:
    unknown = [event_id for event_id in outcomes if event_id not in known]
    if unknown:
        message = f"There are no events {some(unknown)}; no outcome was recorded."
        raise NotFound(message)
    other = [name for name, label in outcomes.items() if known[name] not in {None, label}]
    if other:
        message = f"Another outcome stands for {some(other)}; no outcome was recorded."
        raise StoreRefused(message)


class LocalLog:
    """`EvaluationLog` on one table."""

    _database: Database

    def append_events(self, events: pd.DataFrame) -> int:
        """Add events; return how many were new."""
        return self._append(event_rows(events, EVENT_CHUNK))

    def append_rows(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Add events given as rows; return how many were new."""
        return self._append([rows])

    def _append(self, chunks: Iterable[Sequence[Mapping[str, Any]]]) -> int:
        added, refused = 0, list[str]()
        with self._database.writing() as db:
            for rows in chunks:
                new, contradicting = insert_rows(db, rows)
                added += new
                refused += contradicting
            refuse_other_content(refused)
        return added

    def record_outcomes(self, outcomes: Mapping[str, str], *, evaluated_at: datetime) -> int:
        """Set `actual_result` by event id; return how many were new."""
        strange = [event_id for event_id, label in outcomes.items() if not isinstance(label, str)]
        if strange:
            message = f"Outcomes must be text: {some(strange)}."
            raise StoreRefused(message)
        moment = time_text(evaluated_at)
        with self._database.writing() as db:
            ids = json.dumps(list(outcomes))
            known = {
                row["event_id"]: row["actual_result"]
                for row in db.execute(KNOWN_EVENTS, {"ids": ids})
            }
            _check_outcomes(outcomes, known)
            new = [
                {"event_id": event_id, "actual_result": label, "evaluated_at": moment}
                for event_id, label in outcomes.items()
                if known[event_id] is None
            ]
            db.executemany(SET_OUTCOME, new)
        return len(new)

    def read_events(
        self, window: LookbackWindow, *, model_name: str, labelled_only: bool = True
    ) -> Iterator[pd.DataFrame]:
        """Events of the window in order, in frames; one empty frame when there are none.

        A statement reads one state of the database, so writers meanwhile change nothing.
        """
        with self._database.reading() as db:
            cursor = db.execute(
                events_query(labelled_only=labelled_only), _within(window, model_name)
            )
            rows = cursor.fetchmany(EVENT_CHUNK)
            yield _event_frame(rows)
            while rows := cursor.fetchmany(EVENT_CHUNK):
                yield _event_frame(rows)

    def export_events(self, path: Path, *, model_name: str) -> None:
        """Write every event as a line of CSV, see the store's contract."""
        with self._database.reading() as db, path.open("w", encoding="utf-8", newline="") as file:
            db.execute("BEGIN")  # one state for all statements
            bounds = "SELECT min(rowid), max(rowid) FROM evaluation_log"
            first, last = db.execute(bounds).fetchone()
            for start in range(first, last + 1, EXPORTED_AT_ONCE) if first is not None else ():
                part = {"model_name": model_name, "first": start, "last": start + EXPORTED_AT_ONCE}
                file.write(db.execute(_EXPORT, part).fetchone()[0] or "")

    def read_error_samples(
        self,
        window: LookbackWindow,
        *,
        model_name: str,
        confidence_threshold: float,
        model_ids: Sequence[str] | None,
    ) -> pd.DataFrame:
        """Labelled events that are wrong with confidence strictly over the threshold."""
        values = {
            **_within(window, model_name),
            "threshold": float(confidence_threshold),
            "models": None if model_ids is None else json.dumps(list(model_ids)),
        }
        with self._database.reading() as db:
            return _event_frame(db.execute(ERROR_SAMPLES, values).fetchall())

    def count_labelled(self, window: LookbackWindow, *, model_name: str) -> dict[date, int]:
        """Labelled events per UTC day of the time they became known."""
        with self._database.reading() as db:
            rows = db.execute(_LABELLED_PER_DAY, _within(window, model_name)).fetchall()
        return {date.fromisoformat(row["day"]): row["events"] for row in rows}
