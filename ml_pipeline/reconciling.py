"""Compare the CSV log with the store's table, event by event, in one join.

Both sides become one small row an event: a digest of what was predicted, and the outcome. Only
events whose digests differ are looked at field by field.
"""

# ruff: noqa: S608 - statements are made of constants; paths are quoted

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from math import isclose
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from ml_pipeline.domain import EVENT_COLUMNS, parse_utc
from ml_pipeline.errors import DataError, StoreRefused
from ml_pipeline.evaluation_logger import EvaluationLogger
from ml_pipeline.event_csv import row_of
from ml_pipeline.event_row import Row, utc_text
from ml_pipeline.log_rules import quote
from ml_pipeline.store import EvaluationLog

SHOWN = 100
SENT_AT_ONCE = 1000
MEMORY_MB = 200
FACTS = (
    "timestamp", "model_name", "model_id", "match_id", "prediction", "confidence", "features",
    "metadata",
)  # fmt: skip
COMPARED = (*FACTS, "actual_result", "evaluated_at")


def _name(column: str) -> str:
    return f'"{column}"'


_NAMES = ", ".join(map(_name, EVENT_COLUMNS))
_KEY = "coalesce(TRY_CAST(event_id AS UUID), md5(event_id)::UUID)"
# Times as microseconds and confidences as numbers: both sides may write the same one differently.
_EVENT = f"""{_KEY} AS key, model_id, actual_result AS actual,
    hash(epoch_us(TRY_CAST(timestamp AS TIMESTAMPTZ)), model_name, model_id, match_id, prediction,
        TRY_CAST(confidence AS DOUBLE), features, metadata) AS said,
    epoch_us(TRY_CAST(evaluated_at AS TIMESTAMPTZ)) AS known, prediction = actual_result AS correct,
    prediction = 'UNCERTAIN' AS uncertain"""
_CSV_SIDE = f"""CREATE TABLE csv_side AS
SELECT key, min(said) AS said, max(said) AS also_said, any_value(model_id) AS model_id,
    min(actual) AS actual, max(actual) AS also_actual, min(known) AS known,
    bool_or(correct) AS correct, bool_or(uncertain) AS uncertain,
    count(*) > count(actual) + 1 OR count(actual) > 1 AS is_double
FROM (SELECT {_EVENT} FROM csv_lines WHERE event_id IS NOT NULL) GROUP BY key"""
_JOIN = f"""CREATE TABLE both_sides AS
SELECT key, c.key IS NULL AS not_in_csv, t.key IS NULL AS not_in_table,
    coalesce(t.model_id, c.model_id) AS model_id, coalesce(is_double, false) AS is_double,
    t.actual IS NULL AND c.actual IS NOT NULL AND t.key IS NOT NULL AS outcome_not_in_table,
    c.actual IS NULL AND t.actual IS NOT NULL AND c.key IS NOT NULL AS outcome_not_in_csv,
    c.actual IS NULL AND t.actual IS NULL AS is_pending,
    coalesce(t.correct, c.correct) AS correct,
    coalesce(t.uncertain, c.uncertain, false) AS uncertain,
    coalesce(c.said <> t.said, false) OR coalesce(c.actual <> t.actual, false)
        OR coalesce(c.known <> t.known, false) OR coalesce(c.said <> c.also_said, false)
        OR coalesce(c.actual <> c.also_actual, false) AS differs
FROM csv_side c FULL OUTER JOIN (SELECT {_EVENT} FROM table_lines) t USING (key)"""
_COUNTED = (
    "not_in_csv", "not_in_table", "outcome_not_in_csv", "outcome_not_in_table", "is_double",
    "is_pending", "differs",
)  # fmt: skip


def reconcile(
    logger: EvaluationLogger, store: EvaluationLog | None, *, repair: bool
) -> dict[str, Any]:
    """Compare, repair if asked, and report as plain JSON values.

    Repairing adds what is missing on either side; what differs is listed and never overwritten.
    """
    with TemporaryDirectory(prefix="ml_pipeline_") as folder, _database(Path(folder)) as db:
        _load(db, logger, store, Path(folder) / "table.csv")
        report = _report(db, logger, store)
        if repair and store is not None:
            report["repaired"] = {
                "sent_to_table": _fill_table(db, store),
                "appended_to_csv": _fill_csv(db, logger),
            }
    return report


@contextmanager
def _database(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as db:
        db.execute(f"SET memory_limit = '{MEMORY_MB}MB'")
        db.execute(f"SET temp_directory = {quote(str(folder))}")
        db.execute("SET TimeZone = 'UTC'")
        db.execute("SET preserve_insertion_order = false")
        yield db


def _load(
    db: duckdb.DuckDBPyConnection,
    logger: EvaluationLogger,
    store: EvaluationLog | None,
    table: Path,
) -> None:
    table.touch()
    with ThreadPoolExecutor(max_workers=1) as aside:
        # SQLite writes the one side while DuckDB reads the other.
        exported = aside.submit(_export, store, table, logger.model_name)
        _see_lines(
            db,
            "csv_lines",
            Path(logger.csv.path),
            "header = true, ignore_errors = true, store_rejects = true",
        )
        try:
            db.execute(_CSV_SIDE)
        except duckdb.Error as error:
            raise DataError(f"{logger.csv.path} cannot be read: {error}.") from error
        exported.result()
    _see_lines(db, "table_lines", table, "header = false")
    db.execute(_JOIN)


def _export(store: EvaluationLog | None, path: Path, model_name: str) -> None:
    if store is not None:
        store.export_events(path, model_name=model_name)


def _see_lines(db: duckdb.DuckDBPyConnection, name: str, path: Path, options: str) -> None:
    columns = ", ".join(f"{quote(column)}: 'VARCHAR'" for column in EVENT_COLUMNS)
    source = (
        f"read_csv({quote(str(path))}, columns = {{{columns}}}, auto_detect = false, delim = ',', "
        f"quote = '\"', escape = '\"', {options})"
    )
    if not path.exists() or not path.stat().st_size:
        nothing = ", ".join(f"NULL::VARCHAR AS {_name(column)}" for column in EVENT_COLUMNS)
        source = f"(SELECT {nothing} LIMIT 0)"
    db.execute(f"CREATE VIEW {name} AS SELECT {_NAMES} FROM {source}")


# -------------------------------------------------------------------------------- reporting


def _report(
    db: duckdb.DuckDBPyConnection, logger: EvaluationLogger, store: EvaluationLog | None
) -> dict[str, Any]:
    sums = ", ".join(f"count(*) FILTER ({name})" for name in _COUNTED)
    counts = dict(zip(_COUNTED, _row(db, f"SELECT {sums} FROM both_sides"), strict=True))
    if store is None:
        counts["not_in_table"] = counts["outcome_not_in_table"] = 0
    differences = _differences(db)
    fields: dict[str, int] = {}
    for difference in differences:
        fields[difference["field"]] = fields.get(difference["field"], 0) + 1
    missing = ("not_in_csv", "not_in_table", "outcome_not_in_csv", "outcome_not_in_table")
    bad = _row(db, "SELECT count(DISTINCT line) FROM reject_errors")[0] if logger.csv.size() else 0
    in_table = _row(db, "SELECT count(*) FROM both_sides WHERE NOT not_in_table")[0]
    return {
        "status": "completed",
        "consistent": not (differences or bad or any(counts[name] for name in missing)),
        "csv": logger.csv.path,
        "csv_events": _row(db, "SELECT count(*) FROM csv_side")[0],
        "table_events": None if store is None else in_table,
        "missing_in_table": counts["not_in_table"],
        "missing_in_csv": counts["not_in_csv"],
        "outcome_missing_in_table": counts["outcome_not_in_table"],
        "outcome_missing_in_csv": counts["outcome_not_in_csv"],
        "differing": len({difference["event_id"] for difference in differences}),
        "differing_fields": fields,
        "differences": differences[:SHOWN],
        "duplicates": counts["is_double"],
        "bad_lines": bad,
        "pending": counts["is_pending"],
        "models": _models(db),
        "ids": {name: _ids(db, name) for name in missing if counts[name]},
    }


def _row(db: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = db.execute(query).fetchone()
    return () if row is None else row


def _models(db: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    rows = db.execute(
        "SELECT coalesce(model_id, ''), count(*), count(correct), avg(correct::INT), "
        "avg(uncertain::INT) "
        "FROM both_sides GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return {
        model: {
            "events": events,
            "evaluated": known,
            "accuracy": accuracy,
            "abstention_rate": abstained,
        }
        for model, events, known, accuracy, abstained in rows
    }


def _ids(db: duckdb.DuckDBPyConnection, name: str) -> list[str]:
    query = f"SELECT key FROM both_sides WHERE {name} ORDER BY key LIMIT {SHOWN}"
    return [str(key) for (key,) in db.execute(query).fetchall()]


def _differences(db: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """What differs, field by field, between the table and each line, or between two lines."""
    if not _row(db, "SELECT count(*) FROM both_sides WHERE differs")[0]:
        return []
    stored = {str(row["event_id"]): row for row in _lines(db, "table_lines", "differs")}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    first: dict[str, Row] = {}
    for row in _lines(db, "csv_lines", "differs"):
        event_id = str(row["event_id"])
        other = stored.get(event_id) or first.setdefault(event_id, row)
        for name in COMPARED:
            if _differs(name, row[name], other[name]):
                found.setdefault(
                    (event_id, name),
                    {"event_id": event_id, "field": name, "csv": row[name], "table": other[name]},
                )
    return [found[key] for key in sorted(found)]


def _differs(name: str, line: object, other: object) -> bool:
    """What a line does not say contradicts nothing."""
    if line is None or (other is None and name in {"actual_result", "evaluated_at"}):
        return False
    if other is None or line == other:
        return other is None
    try:
        return not _SAME.get(name, _never)(str(line), str(other))
    except ValueError:
        return True


def _never(_line: str, _other: str) -> bool:
    return False


def _same_json(line: str, other: str) -> bool:
    return bool(json.loads(line) == json.loads(other))


def _same_time(line: str, other: str) -> bool:
    return parse_utc(line) == parse_utc(other)


def _same_number(line: str, other: str) -> bool:
    return isclose(float(line), float(other), rel_tol=1e-14)


# What may be written in several ways.
_SAME = {
    "features": _same_json, "metadata": _same_json, "timestamp": _same_time,
    "evaluated_at": _same_time, "confidence": _same_number,
}  # fmt: skip


# -------------------------------------------------------------------------------- repairing


def _lines(db: duckdb.DuckDBPyConnection, side: str, condition: str) -> Iterator[Row]:
    """Lines of that side whose event is of that kind."""
    cursor = db.cursor().execute(
        f"SELECT {_NAMES} FROM {side} WHERE {_KEY} IN "
        f"(SELECT key FROM both_sides WHERE {condition}) "
        "ORDER BY event_id, actual_result NULLS FIRST"
    )
    while cells := cursor.fetchmany(SENT_AT_ONCE):
        yield from filter(None, (row_of([cell or "" for cell in line]) for line in cells))


def _fill_table(db: duckdb.DuckDBPyConnection, store: EvaluationLog) -> int:
    """Send events and outcomes that only the CSV has; return how many lines were taken."""
    sent = 0
    batch: list[Row] = []
    for row in _lines(db, "csv_lines", "(not_in_table OR outcome_not_in_table) AND NOT differs"):
        batch.append(_uniform(row))
        if len(batch) == SENT_AT_ONCE:
            sent += _send(store, batch)
            batch = []
    return sent + _send(store, batch)


def _uniform(row: Row) -> Row:
    times = {
        name: utc_text(parse_utc(str(row[name])))
        for name in ("timestamp", "evaluated_at")
        if row[name] is not None
    }
    return {**row, **times, "event_type": row["event_type"] or "prediction"}


def _send(store: EvaluationLog, rows: Sequence[Row]) -> int:
    """Append what the store does not refuse."""
    if not rows:
        return 0
    try:
        store.append_rows(rows)
    except StoreRefused:
        if len(rows) == 1:
            return 0
        middle = len(rows) // 2
        return _send(store, rows[:middle]) + _send(store, rows[middle:])
    return len(rows)


def _fill_csv(db: duckdb.DuckDBPyConnection, logger: EvaluationLogger) -> int:
    """Append events and outcomes that only the table has; return how many lines."""
    appended = 0
    rows = _lines(db, "table_lines", "(not_in_csv OR outcome_not_in_csv) AND NOT differs")
    while batch := list(islice(rows, SENT_AT_ONCE)):
        logger.csv.append(batch)
        appended += len(batch)
    return appended
