"""The evaluation log of the embedded store."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from ml_pipeline.errors import NotFound, StoreRefused
from ml_pipeline.store.contract import EXPORT_DELIMITER, EXPORT_QUOTE
from ml_pipeline.store.embedded.database import Connection, Database
from ml_pipeline.store.embedded.serving_view import KNOWN_EVENTS, SET_OUTCOME, insert_rows
from ml_pipeline.store.embedded.tables import CHOSEN, IN_WINDOW, chosen, within
from ml_pipeline.store.event_row import refuse_early_outcomes, refuse_other_content, some
from ml_pipeline.store.records import EVENT_COLUMNS, UNCERTAIN, LookbackWindow
from ml_pipeline.store.rows import time_text

if TYPE_CHECKING:
    import pandas as pd

EVENT_CHUNK: Final = 50_000
_EVENTS = ", ".join(EVENT_COLUMNS)
# The conditions of the partial indexes stand here word for word, else SQLite does not use them.
_LABELLED = (
    f"SELECT {_EVENTS}, known_at FROM evaluation_log "  # noqa: S608 - constants
    f"WHERE actual_result IS NOT NULL AND {IN_WINDOW}"
)
_PENDING = (
    f"SELECT {_EVENTS}, known_at FROM evaluation_log "  # noqa: S608 - constants
    f"WHERE actual_result IS NULL AND {IN_WINDOW}"
)
_IN_ORDER = "ORDER BY known_at, event_id"
_MODELS = (
    "SELECT event_id, model_name FROM evaluation_log "
    "WHERE event_id IN (SELECT value FROM json_each(:event_ids))"
)
_FOUND = (
    f"SELECT {_EVENTS} FROM evaluation_log WHERE model_name = :model_name "  # noqa: S608 - constants
    "AND (event_id IN (SELECT value FROM json_each(:event_ids)) "
    "OR match_id IN (SELECT value FROM json_each(:match_ids))) ORDER BY event_id"
)
_WRONG = (
    f"SELECT {_EVENTS}, known_at FROM evaluation_log "  # noqa: S608 - constants
    f"WHERE accuracy = 0.0 AND {CHOSEN} AND confidence > :threshold"
)
# Of an answer that was not given its best guess counts.
ERROR_SAMPLES = (
    f"{_WRONG} AND prediction <> '{UNCERTAIN}' UNION ALL {_WRONG} AND prediction = '{UNCERTAIN}' "
    f"AND json_extract(metadata, '$.best_guess') <> actual_result {_IN_ORDER}"
)
EXPORTED_AT_ONCE: Final = 2000
EXPORTED_TO_A_FILE: Final = 100 * EXPORTED_AT_ONCE
# One call of `printf` a row, and one value for thousands of rows: a value that becomes an object of
# Python costs more than all that is done with it. 17 digits hold a number exactly.
_DIGITS = "%!.17g"
_PLAIN = "printf('{}\n', {})".format(
    EXPORT_DELIMITER.join(_DIGITS if name == "confidence" else "%s" for name in EVENT_COLUMNS),
    _EVENTS,
)
_SURE = f"CASE WHEN confidence IS NOT NULL THEN printf('{_DIGITS}', confidence) END"
_QUOTED = "printf('{}\n', {})".format(
    EXPORT_DELIMITER.join([f"{EXPORT_QUOTE}%s{EXPORT_QUOTE}"] * len(EVENT_COLUMNS)),
    ", ".join(
        _SURE
        if name == "confidence"
        else f"replace({name}, '{EXPORT_QUOTE}', '{EXPORT_QUOTE * 2}')"
        for name in EVENT_COLUMNS
    ),
)
_EXPORT, _EXPORT_QUOTED = (
    f"SELECT CAST(group_concat({line}, '') AS BLOB), count(*), count(confidence) "  # noqa: S608
    "FROM evaluation_log "
    "WHERE model_name = :model_name AND rowid >= :first AND rowid < :first + :most"
    for line in (_PLAIN, _QUOTED)
)
_LABELLED_PER_DAY = (
    "SELECT substr(known_at, 1, 10) AS day, count(*) AS events FROM evaluation_log "  # noqa: S608
    f"WHERE actual_result IS NOT NULL AND {IN_WINDOW} GROUP BY 1"
)


def _export(db: Connection, path: Path, rowids: range, model_name: str) -> None:
    """Write those events; while lines are checked and written, the next are queried."""
    with path.open("wb") as file, ThreadPoolExecutor(max_workers=1) as writer:
        parts = [
            {"model_name": model_name, "first": first, "most": rowids.step} for first in rowids
        ]
        written = [
            writer.submit(_write_plain, file, *db.execute(_EXPORT, part).fetchone())
            for part in parts
        ]
        for part, done in zip(parts, written, strict=True):
            if not done.result():
                file.write(db.execute(_EXPORT_QUOTED, part).fetchone()[0])


def _write_plain(file: BinaryIO, lines: bytes | None, rows: int, numbers: int) -> bool:
    """Write the lines unless a cell holds what ends a cell or a line, or a number is missing."""
    if lines is None:
        return True
    is_plain = (
        rows == numbers == lines.count(b"\n")
        and lines.count(EXPORT_DELIMITER.encode()) == rows * (len(EVENT_COLUMNS) - 1)
        and not any(mark in lines for mark in (b"\r", EXPORT_QUOTE.encode()))
    )
    if is_plain:
        file.write(lines)
    return is_plain


def events_query(*, labelled_only: bool) -> str:
    """The statement of `read_events`; each half comes in order from its own index."""
    query = _LABELLED if labelled_only else f"{_LABELLED} UNION ALL {_PENDING}"
    return f"{query} {_IN_ORDER}"


def _check_outcomes(outcomes: Mapping[str, str], known: Mapping[str, str | None]) -> None:
    unknown = [event_id for event_id in outcomes if event_id not in known]
    if unknown:
        message = f"There are no events {some(unknown)}; no outcome was recorded."
        raise NotFound(message)
    other = [name for name, label in outcomes.items() if known[name] not in {None, label}]
    if other:
        message = f"{some(other)} have another outcome already; no outcome was recorded."
        raise StoreRefused(message)


class LocalLog:
    """`EvaluationLog` on one table."""

    _database: Database

    def append_events(self, events: pd.DataFrame) -> int:
        """Add events; return how many were new."""
        from ml_pipeline.store.event_frames import event_rows

        return self._append(event_rows(events, EVENT_CHUNK))

    def append_rows(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Add events given as rows; return how many were new."""
        refuse_early_outcomes(rows)
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
            rows = {row["event_id"]: row for row in db.execute(KNOWN_EVENTS, {"ids": ids})}
            known = {event_id: row["actual_result"] for event_id, row in rows.items()}
            _check_outcomes(outcomes, known)
            new = [
                {**rows[event_id], "actual_result": label, "evaluated_at": moment}
                for event_id, label in outcomes.items()
                if known[event_id] is None
            ]
            refuse_early_outcomes(new)
            db.executemany(SET_OUTCOME, new)
        return len(new)

    def read_events(
        self, window: LookbackWindow, *, model_name: str, labelled_only: bool = True
    ) -> Iterator[pd.DataFrame]:
        """Events of the window in order, in frames; one empty frame when there are none.

        A statement reads one state of the database, so writers meanwhile change nothing.
        """
        from ml_pipeline.store.event_frames import event_frame

        with self._database.reading() as db:
            cursor = db.execute(
                events_query(labelled_only=labelled_only), within(window, model_name)
            )
            rows = cursor.fetchmany(EVENT_CHUNK)
            yield event_frame(rows)
            while rows := cursor.fetchmany(EVENT_CHUNK):
                yield event_frame(rows)

    def find_events(
        self, *, model_name: str, event_ids: Collection[str], match_ids: Collection[str]
    ) -> pd.DataFrame:
        """The events with those ids and of those matches, ordered by event id."""
        from ml_pipeline.store.event_frames import event_frame

        values = {
            "model_name": model_name,
            "event_ids": json.dumps(list(event_ids)),
            "match_ids": json.dumps(list(match_ids)),
        }
        with self._database.reading() as db:
            return event_frame(db.execute(_FOUND, values).fetchall())

    def models_of_events(self, event_ids: Collection[str]) -> dict[str, str]:
        """The name of the model of each of those events that there is, of whatever model."""
        with self._database.reading() as db:
            return dict(db.execute(_MODELS, {"event_ids": json.dumps(list(event_ids))}).fetchall())

    def export_events(self, folder: Path, *, model_name: str) -> Iterator[Path]:
        """Write every event as a line of text, see the store's contract."""
        with self._database.reading() as db:
            db.execute("BEGIN")  # one state for all statements
            first, last = db.execute("SELECT min(rowid), max(rowid) FROM evaluation_log").fetchone()
            for start in () if first is None else range(first, last + 1, EXPORTED_TO_A_FILE):
                path = folder / f"{start}.events"
                rowids = range(start, start + EXPORTED_TO_A_FILE, EXPORTED_AT_ONCE)
                _export(db, path, rowids, model_name)
                yield path

    def read_error_samples(
        self,
        window: LookbackWindow,
        *,
        model_name: str,
        confidence_threshold: float,
        model_ids: Sequence[str] | None,
    ) -> pd.DataFrame:
        """Labelled events that are wrong with confidence strictly over the threshold."""
        from ml_pipeline.store.event_frames import event_frame

        values = chosen(window, model_name, model_ids) | {"threshold": float(confidence_threshold)}
        with self._database.reading() as db:
            return event_frame(db.execute(ERROR_SAMPLES, values).fetchall())

    def count_labelled(self, window: LookbackWindow, *, model_name: str) -> dict[date, int]:
        """Labelled events per UTC day of the time they became known."""
        with self._database.reading() as db:
            rows = db.execute(_LABELLED_PER_DAY, within(window, model_name)).fetchall()
        return {date.fromisoformat(row["day"]): row["events"] for row in rows}
