"""Compare the CSV log with the store's table, event by event, in one join.

Both sides become one small row an event: a digest of what was predicted, and the outcome. Only
events whose digests differ are looked at field by field.
"""

# ruff: noqa: S608 - statements are made of constants; paths are quoted

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from ml_pipeline.domain import EVENT_COLUMNS, LookbackWindow, parse_utc
from ml_pipeline.errors import DataError, StoreRefused
from ml_pipeline.evaluation_logger import EvaluationLogger
from ml_pipeline.event_csv import row_of
from ml_pipeline.event_row import Row, utc_text
from ml_pipeline.log_rules import quote
from ml_pipeline.store import EvaluationLog

EVER = LookbackWindow(start=datetime(1970, 1, 1, tzinfo=UTC), end=datetime(9000, 1, 1, tzinfo=UTC))
SHOWN = 100
SENT_AT_ONCE = 1000
MEMORY_MB = 200
FACTS = (
    "timestamp", "model_name", "model_id", "match_id", "prediction", "confidence", "features",
    "metadata",
)  # fmt: skip
COMPARED = (*FACTS, "actual_result", "evaluated_at")

# Times as microseconds and confidences as numbers: both sides may write the same one differently.
_DIGEST = (
    "hash(epoch_us({timestamp}), model_name, model_id, match_id, prediction, {confidence}, "
    "features, metadata)"
)


def _name(column: str) -> str:
    return f'"{column}"'


_NAMES = ", ".join(map(_name, EVENT_COLUMNS))
_KEY = "coalesce(TRY_CAST(event_id AS UUID), md5(event_id)::UUID)"
_CSV_SIDE = f"""CREATE TABLE csv_side AS
SELECT {_KEY} AS key, min(said) AS said, max(said) AS also_said, any_value(model_id) AS model_id,
    min(actual_result) AS actual, max(actual_result) AS also_actual, min(known) AS known,
    bool_or(correct) AS correct, bool_or(uncertain) AS uncertain,
    count(*) > count(actual_result) + 1 OR count(actual_result) > 1 AS is_double
FROM (SELECT event_id, model_id, actual_result, {{digest}} AS said,
    epoch_us(TRY_CAST(evaluated_at AS TIMESTAMPTZ)) AS known, prediction = actual_result AS correct,
    prediction = 'UNCERTAIN' AS uncertain FROM csv_lines WHERE event_id IS NOT NULL)
GROUP BY key""".replace("{digest}", _DIGEST.format(
    timestamp="TRY_CAST(timestamp AS TIMESTAMPTZ)", confidence="TRY_CAST(confidence AS DOUBLE)"
))  # fmt: skip
_TABLE_SIDE = f"""INSERT INTO table_side
SELECT {_KEY}, {{digest}}, model_id, actual_result, epoch_us(evaluated_at),
    prediction = actual_result, prediction = 'UNCERTAIN' FROM frame""".replace(
    "{digest}", _DIGEST.format(timestamp="timestamp", confidence="confidence")
)
_JOIN = """CREATE TABLE both_sides AS
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
FROM csv_side c FULL OUTER JOIN table_side t USING (key)"""
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
        _load(db, logger, store)
        report = _report(db, logger, store)
        if repair and store is not None:
            report["repaired"] = {
                "sent_to_table": _fill_table(db, store),
                "appended_to_csv": _fill_csv(db, logger, store),
            }
    return report


@contextmanager
def _database(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(folder / "scratch.duckdb")) as db:
        db.execute(f"SET memory_limit = '{MEMORY_MB}MB'")
        db.execute("SET TimeZone = 'UTC'")
        db.execute("SET preserve_insertion_order = false")
        yield db


def _load(
    db: duckdb.DuckDBPyConnection, logger: EvaluationLogger, store: EvaluationLog | None
) -> None:
    columns = ", ".join(f"{quote(name)}: 'VARCHAR'" for name in EVENT_COLUMNS)
    source = (
        f"read_csv({quote(logger.csv.path)}, columns = {{{columns}}}, header = true, "
        "auto_detect = false, delim = ',', quote = '\"', escape = '\"', ignore_errors = true, "
        "store_rejects = true)"
    )
    if not logger.csv.size():
        source = f"(SELECT {', '.join(f'NULL::VARCHAR AS {_name(n)}' for n in EVENT_COLUMNS)})"
    db.execute(f"CREATE VIEW csv_lines AS SELECT {_NAMES} FROM {source}")
    try:
        db.execute(_CSV_SIDE)
    except duckdb.Error as error:
        raise DataError(f"{logger.csv.path} cannot be read: {error}.") from error
    db.execute(
        "CREATE TABLE table_side (key UUID, said UBIGINT, model_id VARCHAR, actual VARCHAR, "
        "known BIGINT, correct BOOLEAN, uncertain BOOLEAN)"
    )
    if store is not None:
        for frame in store.read_events(EVER, model_name=logger.model_name, labelled_only=False):
            db.register("frame", frame)
            db.execute(_TABLE_SIDE)
            db.unregister("frame")
    db.execute(_JOIN)


# -------------------------------------------------------------------------------- reporting


def _report(
    db: duckdb.DuckDBPyConnection, logger: EvaluationLogger, store: EvaluationLog | None
) -> dict[str, Any]:
    sums = ", ".join(f"count(*) FILTER ({name})" for name in _COUNTED)
    counts = dict(zip(_COUNTED, _row(db, f"SELECT {sums} FROM both_sides"), strict=True))
    if store is None:
        counts["not_in_table"] = counts["outcome_not_in_table"] = 0
    differences = _differences(db, logger, store)
    fields: dict[str, int] = {}
    for difference in differences:
        fields[difference["field"]] = fields.get(difference["field"], 0) + 1
    missing = ("not_in_csv", "not_in_table", "outcome_not_in_csv", "outcome_not_in_table")
    bad = _row(db, "SELECT count(DISTINCT line) FROM reject_errors")[0] if logger.csv.size() else 0
    return {
        "status": "completed",
        "consistent": not (differences or bad or any(counts[name] for name in missing)),
        "csv": logger.csv.path,
        "csv_events": _row(db, "SELECT count(*) FROM csv_side")[0],
        "table_events": None if store is None else _row(db, "SELECT count(*) FROM table_side")[0],
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


def _differences(
    db: duckdb.DuckDBPyConnection, logger: EvaluationLogger, store: EvaluationLog | None
) -> list[dict[str, Any]]:
    """What differs, field by field, between the table and each line, or between two lines."""
    suspects = {str(key) for (key,) in db.execute(
        "SELECT key FROM both_sides WHERE differs").fetchall()}  # fmt: skip
    if not suspects:
        return []
    stored = {} if store is None else {
        str(row["event_id"]): row for row in _stored(store, logger.model_name, suspects)
    }  # fmt: skip
    found: dict[tuple[str, str], dict[str, Any]] = {}
    first: dict[str, Row] = {}
    for row in _lines(db, "differs"):
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
        if name in {"features", "metadata"}:
            return bool(json.loads(str(line)) != json.loads(str(other)))
        if name in {"timestamp", "evaluated_at"}:
            return parse_utc(str(line)) != parse_utc(str(other))
    except ValueError:
        return True
    return True


# -------------------------------------------------------------------------------- repairing


def _lines(db: duckdb.DuckDBPyConnection, condition: str) -> Iterator[Row]:
    """Lines of the CSV whose event is of that kind."""
    cursor = db.cursor().execute(
        f"SELECT {_NAMES} FROM csv_lines WHERE {_KEY} IN "
        f"(SELECT key FROM both_sides WHERE {condition}) "
        "ORDER BY event_id, actual_result NULLS FIRST"
    )
    while cells := cursor.fetchmany(SENT_AT_ONCE):
        yield from filter(None, (row_of([cell or "" for cell in line]) for line in cells))


def _stored(store: EvaluationLog, model_name: str, keys: set[str]) -> Iterator[Row]:
    for frame in store.read_events(EVER, model_name=model_name, labelled_only=False):
        for record in frame[frame["event_id"].isin(keys)].to_dict("records"):
            yield row_of_record(record)


def row_of_record(record: Mapping[Any, Any]) -> Row:
    """A record of a frame of events as a row."""
    row: Row = {}
    for name in EVENT_COLUMNS:
        value = record[name]
        # NaN and NaT differ from themselves.
        missing = value is None or value != value  # noqa: PLR0124
        if not missing and name in {"timestamp", "evaluated_at"}:
            value = utc_text(value.to_pydatetime())
        row[name] = None if missing else value
    return row


def _fill_table(db: duckdb.DuckDBPyConnection, store: EvaluationLog) -> int:
    """Send events and outcomes that only the CSV has; return how many lines were taken."""
    sent = 0
    batch: list[Row] = []
    for row in _lines(db, "(not_in_table OR outcome_not_in_table) AND NOT differs"):
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


def _fill_csv(db: duckdb.DuckDBPyConnection, logger: EvaluationLogger, store: EvaluationLog) -> int:
    """Append events and outcomes that only the table has; return how many lines."""
    missing = {str(key) for (key,) in db.execute(
        "SELECT key FROM both_sides WHERE (not_in_csv OR outcome_not_in_csv) AND NOT differs"
    ).fetchall()}  # fmt: skip
    appended = 0
    batch: list[Row] = []
    for row in _stored(store, logger.model_name, missing) if missing else ():
        batch.append(row)
        if len(batch) == SENT_AT_ONCE:
            logger.csv.append(batch)
            appended, batch = appended + len(batch), []
    if batch:
        logger.csv.append(batch)
    return appended + len(batch)
