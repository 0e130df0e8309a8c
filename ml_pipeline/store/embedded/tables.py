"""Rows of the embedded store: records to columns and back."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from ml_pipeline.errors import NotFound
from ml_pipeline.store.embedded.database import Connection, Database
from ml_pipeline.store.records import LookbackWindow
from ml_pipeline.store.rows import (
    KEYS,
    LABEL_COLUMNS,
    TABLES,
    Record,
    Row,
    from_row,
    label_row,
    refuse_other_labels,
    require_key,
    require_whole,
    text_frame,
    time_text,
    to_row,
)
from ml_pipeline.store.sql_text import identifier

if TYPE_CHECKING:
    import pandas as pd

# Of which events, with the values of `within` or `chosen`.
IN_WINDOW: Final = "model_name = :model_name AND known_at >= :start AND known_at < :end"
CHOSEN: Final = (
    f"{IN_WINDOW} AND (:models IS NULL OR model_id IN (SELECT value FROM json_each(:models)))"  # noqa: S608
)


def within(window: LookbackWindow, model_name: str) -> dict[str, object]:
    """The values of `IN_WINDOW`."""
    start, end = time_text(window.start), time_text(window.end)
    return {"model_name": model_name, "start": start, "end": end}


def chosen(
    window: LookbackWindow, model_name: str, model_ids: Sequence[str] | None
) -> dict[str, object]:
    """The values of `CHOSEN`; None chooses the events of every model."""
    models = None if model_ids is None else json.dumps(list(model_ids))
    return within(window, model_name) | {"models": models}


def insert(db: Connection, record: object) -> None:
    """Add the record's row."""
    row = to_row(record)
    names = f"({', '.join(row)}) VALUES (:{', :'.join(row)})"
    db.execute(f"INSERT INTO {TABLES[type(record)]} {names}", row)


def update(db: Connection, record: Record) -> Record:
    """Write every column of the record's row; return the record."""
    row = to_row(record)
    changes = ", ".join(f"{name} = :{name}" for name in row)
    where = " AND ".join(f"{name} = :{name}" for name in KEYS[type(record)])
    db.execute(f"UPDATE {TABLES[type(record)]} SET {changes} WHERE {where}", row)  # noqa: S608
    return record


def select(db: Connection, kind: type[Record], rest: str, **values: object) -> list[Record]:
    """The rows whose columns hold `values` (None: any); `rest` follows the WHERE clause."""
    chosen = {name: value for name, value in values.items() if value is not None}
    where = " AND ".join(f"{name} = :{name}" for name in chosen) or "true"
    rows = db.execute(f"SELECT * FROM {TABLES[kind]} WHERE {where} {rest}", chosen)  # noqa: S608
    return [from_row(kind, row) for row in rows]


def find(db: Connection, kind: type[Record], *key: str) -> Record | None:
    """The row under that key."""
    return next(iter(select(db, kind, "", **dict(zip(KEYS[kind], key, strict=True)))), None)


def get(db: Connection, kind: type[Record], *key: str) -> Record:
    """The row under that key. Raises NotFound."""
    found = find(db, kind, *key)
    if found is None:
        message = f"There is no {' / '.join(key)} in {TABLES[kind]}."
        raise NotFound(message)
    return found


TRUTH_CHUNK: Final = 10_000
_INSERT = (
    f"INSERT INTO ml_data ({', '.join(LABEL_COLUMNS)}) VALUES (:{', :'.join(LABEL_COLUMNS)}) "  # noqa: S608
    "ON CONFLICT (id) DO UPDATE SET label = excluded.label "
    "WHERE ml_data.label IS NULL AND excluded.label IS NOT NULL"
)


class LocalTruth:
    """`GroundTruth` on SQLite."""

    _database: Database

    def add_labels(self, rows: Sequence[Row]) -> int:
        """Add labels to `ml_data`; return how many were new."""
        written = [label_row(row) for row in rows]
        with self._database.writing() as db:
            ids = [row["id"] for row in written]
            refuse_other_labels(written, _known_labels(db, ids))
            before = db.total_changes
            db.executemany(_INSERT, written)
            return db.total_changes - before

    def known_labels(
        self, ids: Collection[str], *, model_name: str | None = None
    ) -> dict[str, str | None]:
        """The label of each id that is in `ml_data`, None for one that waits."""
        with self._database.reading() as db:
            return _known_labels(db, list(ids), model_name)

    def read_table(self, table: str, *, key: str) -> Iterator[pd.DataFrame]:
        """Every row of a table in frames, ordered by its key; the count of rows is checked."""
        after, read = None, 0
        with self._database.reading() as db:
            _check_columns(db, table, key)
            query = (
                f"SELECT * FROM {identifier(table)} "  # noqa: S608 - quoted
                f"WHERE :after IS NULL OR {identifier(key)} > :after "
                f"ORDER BY {identifier(key)} LIMIT {TRUTH_CHUNK}"
            )
            counted = db.execute(f"SELECT count(*) FROM {identifier(table)}")  # noqa: S608 - quoted
            total = int(counted.fetchone()[0])
            while page := db.execute(query, {"after": after}).fetchall():
                require_key(table, key, page[-1][key], after)
                yield text_frame([dict(row) for row in page])
                after, read = page[-1][key], read + len(page)
        require_whole(table, total, read)


def _known_labels(
    db: Connection, ids: Sequence[str], model_name: str | None = None
) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        marks = ", ".join("?" * len(part))
        rows = db.execute(
            f"SELECT id, label, model_name FROM ml_data WHERE id IN ({marks})",  # noqa: S608
            part,
        )
        known.update({r["id"]: r["label"] for r in rows if model_name in {None, r["model_name"]}})
    return known


def _check_columns(db: Connection, table: str, key: str) -> None:
    """Raise NotFound for a table or a key that is not there: both become part of a statement."""
    columns = [row["name"] for row in db.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    if not columns:
        raise NotFound(
            f"There is no table {table}.", hint="Correct ground_truth.table in the settings."
        )
    if key not in columns:
        raise NotFound(
            f"{table} has no column {key}; it has {', '.join(columns)}.",
            hint="Correct ground_truth.id_column in the settings.",
        )
