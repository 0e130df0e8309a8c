"""The CSV log and the store's table beside each other in DuckDB, one short row an event.

A side's event is a few hashes of 64 bits: its id, its prediction, its outcome. Among two million
ids, two equal hashes are a chance of 1 in ten million. Lines are read again where their text is
needed, so memory does not grow with the length of the rows.
"""

# ruff: noqa: S608 - statements are made of constants; paths are quoted

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final

import duckdb

from ml_pipeline.datasets.duckdb_session import (
    as_data_error,
    connect,
    exact_file,
    files_of,
    has_mixed_line_ends,
    written_path,
)
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation_log.csv_source import CsvSource
from ml_pipeline.evaluation_log.outbox.lines import row_of
from ml_pipeline.store.contract import EXPORT_DELIMITER, EXPORT_QUOTE
from ml_pipeline.store.event_row import EventRow
from ml_pipeline.store.inputs.columns import listed
from ml_pipeline.store.inputs.label_sql import corrections, label_of
from ml_pipeline.store.inputs.labels import ANY_LABEL, Labels
from ml_pipeline.store.records import EVENT_COLUMNS
from ml_pipeline.store.sql_text import identifier, literal

# The first does for a million events of usual length.
MEMORY_STEPS_MB: Final = (200, 800, 3200)
LINES_AT_ONCE: Final = 1000
SLICE_BYTES: Final = 32_000_000
BUFFER_BYTES: Final = 16_000_000
CSV, TABLE = "csv_lines", "table_lines"
COUNTED: Final = (
    "not_in_csv", "not_in_table", "outcome_not_in_csv", "outcome_not_in_table",
    "answer_not_in_csv", "answer_not_in_table", "is_double", "is_pending", "may_differ",
)  # fmt: skip

_NAMES: Final = ", ".join(map(identifier, EVENT_COLUMNS))
_KEY: Final = "hash(lower(event_id))"
# The same time has the same text on both sides, a confidence need not. What only may differ is
# compared field by field afterwards.
_EVENT: Final = f"""{_KEY} AS key,
    hash(timestamp, model_id, match_id, prediction, TRY_CAST(confidence AS DOUBLE), features,
        metadata) AS content,
    CASE WHEN probabilities IS NOT NULL THEN hash(probabilities) END AS answer,
    CASE WHEN actual_result IS NOT NULL THEN hash(actual_result, evaluated_at) END AS outcome,
    {corrections("metadata")} AS past"""
_ANSWER: Final = """model_id, CASE WHEN prediction = actual_result THEN true
        ELSE label_of(prediction) = label_of(actual_result) END AS correct,
    prediction = 'UNCERTAIN' AS uncertain"""
# Of a corrected event the line with the last correction counts, and the others say nothing else.
_CSV_SIDE: Final = f"""CREATE TABLE csv_side AS
SELECT key, max(past) AS past, arg_max(content, past) AS content, max(answer) AS answer,
    arg_max(outcome, past) AS outcome,
    coalesce(min(content) FILTER (past = 0) <> max(content) FILTER (past = 0), false)
        OR coalesce(min(answer) <> max(answer), false)
        OR coalesce(min(outcome) FILTER (past = 0) <> max(outcome) FILTER (past = 0), false)
        AS contradicts,
    count(*) > count(outcome) + 1 OR count(outcome) > 1 + max(past) AS is_double
FROM (SELECT {_EVENT} FROM {CSV}) GROUP BY key"""
_JOIN: Final = """CREATE TABLE both_sides AS
SELECT key, c.key IS NULL AS not_in_csv, t.key IS NULL AS not_in_table,
    coalesce(is_double, false) AS is_double,
    c.key IS NOT NULL AND t.key IS NOT NULL AND (c.past > t.past
        OR c.past = t.past AND t.outcome IS NULL AND c.outcome IS NOT NULL) AS outcome_not_in_table,
    c.key IS NOT NULL AND t.key IS NOT NULL AND (t.past > c.past
        OR c.past = t.past AND c.outcome IS NULL AND t.outcome IS NOT NULL) AS outcome_not_in_csv,
    t.key IS NOT NULL AND t.answer IS NULL AND c.answer IS NOT NULL AS answer_not_in_table,
    c.key IS NOT NULL AND c.answer IS NULL AND t.answer IS NOT NULL AS answer_not_in_csv,
    c.outcome IS NULL AND t.outcome IS NULL AS is_pending,
    coalesce(c.past = t.past AND c.content <> t.content, false)
        OR coalesce(c.past = t.past AND c.outcome <> t.outcome, false)
        OR coalesce(c.answer <> t.answer, false)
        OR coalesce(c.contradicts, false) AS may_differ
FROM csv_side c FULL OUTER JOIN table_side t USING (key)"""
# What the CSV alone knows is read from its lines.
_TABLE_ANSWERS: Final = "SELECT model_id, correct, uncertain FROM table_side"
_CSV_ANSWERS: Final = f"""WITH csv_alone AS (
    SELECT key FROM both_sides WHERE not_in_table OR outcome_not_in_table)
{_TABLE_ANSWERS} ANTI JOIN csv_alone USING (key)
UNION ALL
SELECT any_value(model_id), arg_max(correct, past), coalesce(bool_or(uncertain), false)
FROM (SELECT {_KEY} AS key, {corrections("metadata")} AS past, {_ANSWER} FROM {CSV})
SEMI JOIN csv_alone USING (key) GROUP BY key"""


@contextmanager
def open_comparison(folder: str, memory_mb: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """A session that spills into `folder`; its sides are empty, and so is `different` (key).

    Who needs more memory gets duckdb.OutOfMemoryException.
    """
    with connect() as db:
        db.execute(f"SET memory_limit = '{memory_mb}MB'")
        db.execute(f"SET temp_directory = {written_path(folder)}")
        db.execute("SET preserve_insertion_order = false")
        nothing = ", ".join(f"NULL::VARCHAR AS {identifier(column)}" for column in EVENT_COLUMNS)
        for side in (CSV, TABLE):
            db.execute(f"CREATE VIEW {side} AS SELECT {nothing} LIMIT 0")
        read_labels(db, ANY_LABEL)
        db.execute(f"CREATE TABLE table_side AS SELECT {_EVENT}, {_ANSWER} FROM {TABLE}")
        db.execute("CREATE TABLE different (key UBIGINT)")
        db.execute("CREATE TABLE read_files (bytes UBIGINT)")
        db.execute("CREATE TABLE torn (lines UBIGINT)")
        db.execute("CREATE TABLE erased (event_hash VARCHAR)")
        yield db


def read_labels(db: duckdb.DuckDBPyConnection, labels: Labels) -> None:
    """From now on answers are right by what these labels mean; before, by any label's text."""
    db.execute(f"CREATE OR REPLACE MACRO label_of(x) AS {label_of(labels, 'x')}")


def read_csv(db: duckdb.DuckDBPyConnection, path: Path, model_name: str, folder: Path) -> None:
    """Make `csv_side`: an event a row, whatever the number of its lines.

    Lines of another model are left out, and lines that are none are counted. `folder` takes a copy
    where some are torn, or the file has line ends of several kinds. Raises DataError for a file
    that cannot be read.
    """
    if not path.exists() or not path.stat().st_size:
        db.execute(_CSV_SIDE)
        return
    db.execute("INSERT INTO read_files VALUES (?)", [path.stat().st_size])
    source, torn = CsvSource.opened(path, folder).with_whole_lines(folder / "whole.csv")
    db.execute("INSERT INTO torn VALUES (?)", [torn])
    with as_data_error(str(path)):
        try:
            _view_csv(db, source, model_name)
            db.execute(_CSV_SIDE)
        except duckdb.InvalidInputException as error:
            if not has_mixed_line_ends(error):
                raise
            for table in ("reject_errors", "reject_scans"):
                db.execute(f"DROP TABLE IF EXISTS {table}")
            _view_csv(db, source.with_plain_line_ends(folder / "lines.csv"), model_name)
            db.execute(_CSV_SIDE)


def _view_csv(db: duckdb.DuckDBPyConnection, source: CsvSource, model_name: str) -> None:
    """The lines by the names of their columns, in whatever order and dialect they stand there."""
    file = source.file
    places = {name: file.place(name) for name in EVENT_COLUMNS}
    if places["event_id"] is None:
        raise DataError(
            f"{file.path} is no evaluation log: it has no column event_id.",
            hint=f"It has: {listed(file.names)}. Name the log in log.csv_file.",
        )
    points = file.point_places([place] if (place := places["confidence"]) is not None else [])
    cells = {name: "NULL::VARCHAR" if n is None else f"c{n}" for name, n in places.items()}
    if points:
        cells["confidence"] = f"replace({cells['confidence']}, ',', '.')"
    lines = _lines(
        exact_file(file.path),
        [f"c{place}" for place in range(len(file.names))],
        f"{file.dialect()}, header = true, ignore_errors = true, store_rejects = true",
    )
    named = ", ".join(f"{cell} AS {identifier(name)}" for name, cell in cells.items())
    event_id = cells["event_id"]
    # Hashed only where there is something to compare with.
    is_erased = f"sha256(lower({event_id})) IN (FROM erased)" if _has_erased(db) else "false"
    db.execute(f"""CREATE OR REPLACE VIEW {CSV} AS SELECT {named} {lines}
        WHERE {event_id} IS NOT NULL AND NOT {is_erased}
        AND coalesce({cells["model_name"]} = {literal(model_name)}, true)""")


def forget_erased(db: duckdb.DuckDBPyConnection, hashes: Collection[str]) -> None:
    """Leave events with those hashes of their ids out of the CSV's side."""
    db.execute("INSERT INTO erased SELECT unnest(?::VARCHAR[])", [sorted(hashes)])


def _has_erased(db: duckdb.DuckDBPyConnection) -> bool:
    return int(_row(db, "SELECT count(*) FROM erased")[0]) > 0


def read_export(db: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Add the events of a file that the store wrote to `table_side`."""
    db.execute("INSERT INTO read_files VALUES (?)", [path.stat().st_size])
    with as_data_error("The table"):
        lines = _exported(exact_file(path))
        db.execute(f"INSERT INTO table_side SELECT {_EVENT}, {_ANSWER} FROM ({lines})")
    files = files_of(path.parent, path.suffix)
    db.execute(f"CREATE OR REPLACE VIEW {TABLE} AS {_exported(files)}")


def join(db: duckdb.DuckDBPyConnection) -> None:
    """Make `both_sides` of `csv_side` and `table_side`."""
    db.execute(_JOIN)
    db.execute("DROP TABLE csv_side")


def _exported(files: str) -> str:
    mark = literal(EXPORT_QUOTE)
    dialect = (
        f"delim = {literal(EXPORT_DELIMITER)}, quote = {mark}, escape = {mark}, header = false"
    )
    return _lines(files, EVENT_COLUMNS, dialect)


def _lines(files: str, names: Sequence[str], dialect: str) -> str:
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    return (
        f"FROM read_csv({files}, columns = {{{columns}}}, auto_detect = false, "
        f"buffer_size = {BUFFER_BYTES}, {dialect})"
    )


def count(db: duckdb.DuckDBPyConnection, condition: str) -> int:
    """How many events are of that kind."""
    return int(_row(db, f"SELECT count(*) FILTER ({condition}) FROM both_sides")[0])


def counts(db: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """How many events are what, by the names in `COUNTED`."""
    sums = ", ".join(f"count(*) FILTER ({name})" for name in COUNTED)
    return dict(zip(COUNTED, _row(db, f"SELECT {sums} FROM both_sides"), strict=True))


def bad_lines(db: duckdb.DuckDBPyConnection) -> int:
    """How many lines of the CSV are none."""
    found = _row(db, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'reject_errors'")
    rejected = _row(db, "SELECT count(DISTINCT line) FROM reject_errors") if found[0] else (0,)
    return int(rejected[0]) + int(_row(db, "SELECT coalesce(sum(lines), 0) FROM torn")[0])


def models(db: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Events, outcomes, accuracy and abstention rate of each model id; "" is no id."""
    is_table_whole = count(db, "not_in_table OR outcome_not_in_table") == 0
    rows = db.execute(
        "SELECT coalesce(model_id, ''), count(*), count(correct), avg(correct::INT), "
        f"avg(uncertain::INT) FROM ({_TABLE_ANSWERS if is_table_whole else _CSV_ANSWERS}) "
        "GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return {
        model: {
            "events": number, "evaluated": known, "accuracy": accuracy,
            "abstention_rate": abstained,
        }
        for model, number, known, accuracy, abstained in rows
    }  # fmt: skip


def event_ids(db: duckdb.DuckDBPyConnection, side: str, condition: str, most: int) -> list[str]:
    """The first ids, in order, of events of that kind."""
    query = f"""SELECT DISTINCT event_id FROM {side}
        WHERE {_KEY} IN (SELECT key FROM both_sides WHERE {condition}) ORDER BY 1 LIMIT {most}"""
    return [event_id for (event_id,) in db.execute(query).fetchall()]


def events(
    db: duckdb.DuckDBPyConnection, sides: Sequence[str], condition: str
) -> Iterator[list[EventRow]]:
    """The lines of each event of that kind, in the order of the sides, predictions first.

    Events in `different` are left out. They come in slices, so that memory does not grow with
    their number: each slice reads the sides again.
    """
    lines = " UNION ALL ".join(
        f"SELECT {place} AS side, {_NAMES} FROM {side}" for place, side in enumerate(sides)
    )
    for low, high in _slices(db, condition):
        within = f"BETWEEN {low}::UBIGINT AND {high}::UBIGINT"
        cursor = db.cursor().execute(
            f"SELECT lower(event_id), {_NAMES} FROM ({lines}) WHERE {_KEY} {within} "
            f"AND {_KEY} IN (SELECT key FROM both_sides ANTI JOIN different USING (key) "
            f"WHERE ({condition}) AND key {within}) "
            "ORDER BY 1, side, actual_result NULLS FIRST"
        )
        for _, same in groupby(_fetched(cursor), lambda cells: cells[0]):
            found = (row_of([cell or "" for cell in cells[1:]]) for cells in same)
            if rows := [row for row in found if row is not None]:
                yield rows


def _slices(db: duckdb.DuckDBPyConnection, condition: str) -> Iterator[tuple[int, int]]:
    """Ranges of keys with about `SLICE_BYTES` of lines each: hashes are spread evenly."""
    found, everything = _row(db, f"SELECT count(*) FILTER ({condition}), count(*) FROM both_sides")
    size = int(_row(db, "SELECT coalesce(sum(bytes), 0) FROM read_files")[0])
    slices = 1 + size * found // (max(everything, 1) * SLICE_BYTES)
    bounds = [number * 2**64 // slices for number in range(slices + 1)]
    return ((low, high - 1) for low, high in pairwise(bounds))


def mark_different(db: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> None:
    """Put those events into `different`."""
    db.execute("INSERT INTO different SELECT hash(lower(unnest(?::VARCHAR[])))", [list(ids)])


def _row(db: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    # Not fetchone(): reject tables appear only when the result is exhausted.
    (row,) = db.execute(query).fetchall()
    return tuple(row)


def _fetched(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while lines := cursor.fetchmany(LINES_AT_ONCE):
        yield from lines
