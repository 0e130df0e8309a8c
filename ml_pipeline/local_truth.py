"""Ground truth in the embedded store: labels that people gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ml_pipeline.domain import TRUTH_COLUMNS
from ml_pipeline.errors import NotFound, StoreRefused
from ml_pipeline.local_database import Connection, Database
from ml_pipeline.local_tables import json_text, time_text

if TYPE_CHECKING:
    import pandas as pd

TRUTH_CHUNK: Final = 10_000
_INSERT = (
    f"INSERT INTO ml_data ({', '.join(TRUTH_COLUMNS)}) VALUES (:{', :'.join(TRUTH_COLUMNS)}) "  # noqa: S608
    "ON CONFLICT (id) DO NOTHING"
)
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


class LocalTruth:
    """`GroundTruth` on SQLite."""

    _database: Database

    def add_labels(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Add labels to `ml_data`; return how many were new."""
        written = [truth_row(row) for row in rows]
        with self._database.writing() as db:
            ids = [row["id"] for row in written]
            refuse_other_labels(written, _known_labels(db, ids))
            before = db.total_changes
            db.executemany(_INSERT, written)
            return db.total_changes - before

    def read_table(self, table: str, *, key: str) -> Iterator[pd.DataFrame]:
        """Every row of a table in frames, ordered by its key."""
        after: object = None
        with self._database.reading() as db:
            _check_columns(db, table, key)
            query = (
                f'SELECT * FROM "{table}" WHERE :after IS NULL OR "{key}" > :after '  # noqa: S608
                f'ORDER BY "{key}" LIMIT {TRUTH_CHUNK}'
            )
            while page := db.execute(query, {"after": after}).fetchall():
                yield truth_frame([dict(row) for row in page])
                after = page[-1][key]


def _known_labels(db: Connection, ids: Sequence[str]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        marks = ", ".join("?" * len(part))
        rows = db.execute(f"SELECT id, label FROM ml_data WHERE id IN ({marks})", part)  # noqa: S608
        known.update({row["id"]: row["label"] for row in rows})
    return known


def _check_columns(db: Connection, table: str, key: str) -> None:
    """Raise NotFound for a table or a key that is not there: both become part of a statement."""
    columns = [row["name"] for row in db.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    if not columns:
        raise NotFound(f"There is no table {table}.", hint="Set ground_truth.table.")
    if key not in columns:
        raise NotFound(
            f"{table} has no column {key}; it has {', '.join(columns)}.",
            hint="Set ground_truth.id_column.",
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
