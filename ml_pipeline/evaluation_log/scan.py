"""Read an evaluation log once: CSV, gzipped CSV or Parquet of any size, or frames of a table.

The scan writes a scratch file with a line per record, in order: a hash of the event id, codes of
the labels and the day (every record), and the whole row only where it may matter. What follows
(faults, folding, counts) reads the scratch file, so the log is parsed once and memory is bounded.

In a long CSV few rows matter, and carrying the text of all of them through the scan is what costs
most. There the scan takes no text, and the lines that matter are picked out of the file afterwards.
"""

# ruff: noqa: S608 - every value in a statement is a number or quoted by log_rules

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import duckdb
import numpy as np
import pandas as pd

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.duckdb_errors import as_data_error
from ml_pipeline.errors import ConfigError, DataError
from ml_pipeline.evaluation_log.files import (
    CsvFile,
    Lines,
    line_count,
    open_csv,
    pick_lines,
    sample_lines,
    with_plain_line_ends,
)
from ml_pipeline.evaluation_log.rules import (
    OTHER_MODEL,
    Columns,
    RowRules,
    day_number,
    event_columns,
    find_columns,
)
from ml_pipeline.store.records import EVENT_COLUMNS
from ml_pipeline.store.sql_text import identifier, literal

SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")
_MOST_THREADS: Final = 4
# Megabytes for each thread: the first does for rows of usual length, whatever their number.
MEMORY_STEPS: Final = (72, 288, 1152)
# A file of this many bytes is long. More than this share of its rows is not few.
_LONG: Final = 32_000_000
_FEW: Final = 0.2
# What a scanned row is: whole and old (or another model's), to be looked at, or a sound prediction
# that waits for its outcome.
SETTLED, KEPT, WAITING = range(3)


class Stage:
    """A DuckDB session with a scratch folder; both are gone afterwards."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, folder: Path, rows_per_group: int
    ) -> None:
        self.connection = connection
        self.folder = folder
        self.rows_per_group = rows_per_group

    @property
    def scratch(self) -> Path:
        """Where the scan writes its lines."""
        return self.folder / "scan.parquet"

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement to its end and return its rows."""
        # Not fetchone(): reject tables appear only when the result is exhausted.
        return self.connection.execute(sql).fetchall()

    def number(self, sql: str) -> int:
        """The one whole number a query answers; nothing is 0."""
        return int(self.run(sql)[0][0] or 0)

    def has(self, table: str) -> bool:
        """Whether there is such a table."""
        return bool(self.run(f"FROM duckdb_tables() WHERE table_name = {literal(table)}"))


@contextmanager
def open_stage(folder: Path, memory: int = MEMORY_STEPS[0]) -> Iterator[Stage]:
    """Open a session whose scratch files stand in `folder` until it is closed.

    `memory` is in megabytes for each thread; who needs more gets OutOfMemory.
    """
    threads = max(2, min(os.cpu_count() or 1, _MOST_THREADS))
    with TemporaryDirectory(prefix=".scan-", dir=folder) as scratch:
        connection = duckdb.connect(str(Path(scratch) / "stage.duckdb"))
        try:
            connection.execute(
                f"SET threads = {threads}; SET memory_limit = '{threads * memory}MB'; "
                f"SET temp_directory = {literal(Path(scratch) / 'spill')}; SET TimeZone = 'UTC'; "
                "SET preserve_insertion_order = true; SET enable_progress_bar = false; "
                "SET pandas_analyze_sample = 0"
            )
            rows_per_group = 30_720 if memory == MEMORY_STEPS[0] else 2048
            yield Stage(connection, Path(scratch), rows_per_group)
        finally:
            connection.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class Scanned:
    """One scanned log. The relations stand in the stage.

    `scanned` has `row_no, h, p, a, day, state`; `whole` has `row_no, h, p, a, state, r` of the rows
    to look at; `malformed` has `line, reason, text`.
    """

    columns: Columns
    rows: int
    malformed: int

    def column(self, number: int) -> str:
        """SQL of a kept column in `r`."""
        return f"r[{self.columns.kept().index(number) + 1}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reading:
    """How rows are read: where what stands, by which rules, and from when on they matter."""

    columns: Columns
    settings: Settings
    before: datetime | None


# ---------------------------------------------------------------------------------- sources


def scan_file(
    stage: Stage,
    path: Path,
    settings: Settings,
    before: datetime | None,
    *,
    with_metadata: bool = True,
) -> Scanned:
    """Scan a file. Raises DataError for one that cannot be read or lacks columns.

    Sound rows known before `before` are not kept. Without metadata, which is long and seldom
    needed beside a column of features, a scan takes an eighth less time.
    """
    if not path.name.lower().endswith(SUFFIXES):
        hint = f"Use table, or a file named {', '.join(SUFFIXES)}."
        raise ConfigError(f"log.source {path} is not a log that can be read.", hint=hint)
    if not path.is_file():
        raise DataError(f"There is no log {path}.", hint="Set log.source.")
    with as_data_error(str(path)):
        if path.name.lower().endswith(".parquet"):
            return _scan_parquet(stage, path, settings, before)
        file = open_csv(path)
        columns = find_columns(file.names, settings, str(path))
        if not with_metadata and "features" in columns.places:
            columns = columns.without_metadata()
        reading = _Reading(columns=columns, settings=settings, before=before)
        return _scan_csv(stage, file, reading)


def scan_frames(
    stage: Stage, frames: Iterable[pd.DataFrame], settings: Settings, before: datetime | None
) -> Scanned:
    """Scan frames with `EVENT_COLUMNS`; an event that an earlier frame held is left out."""
    columns = ", ".join(f"c{number} VARCHAR" for number in range(len(EVENT_COLUMNS)))
    stage.run(f"CREATE TEMP TABLE frames ({columns})")
    cells = ", ".join(f"{identifier(name)}::VARCHAR" for name in EVENT_COLUMNS)
    place = EVENT_COLUMNS.index("event_id")
    for frame in frames:
        stage.connection.register("frame", frame.loc[:, list(EVENT_COLUMNS)])
        stage.run(f"""INSERT INTO frames SELECT {cells} FROM frame
            WHERE event_id NOT IN (SELECT c{place} FROM frames)""")
        stage.connection.unregister("frame")
    with as_data_error("The table"):
        reading = _Reading(columns=event_columns(), settings=settings, before=before)
        return _scan(stage, "frames", reading)


def _scan_parquet(stage: Stage, path: Path, settings: Settings, before: datetime | None) -> Scanned:
    found = stage.run(f"DESCRIBE SELECT * FROM read_parquet({literal(path)})")
    columns = find_columns([name for name, *_ in found], settings, str(path))
    cells = ", ".join(
        f"{_as_text(name, kind)} AS c{number}" for number, (name, kind, *_) in enumerate(found)
    )
    relation = f"(SELECT {cells} FROM read_parquet({literal(path)}))"
    return _scan(stage, relation, _Reading(columns=columns, settings=settings, before=before))


def _as_text(name: str, kind: str) -> str:
    column = identifier(name)
    is_nested = kind.startswith(("STRUCT", "MAP")) or kind.endswith("]")
    return f"to_json({column})::VARCHAR" if is_nested else f"{column}::VARCHAR"


# --------------------------------------------------------------------------------- one scan


def _scan_csv(stage: Stage, file: CsvFile, reading: _Reading) -> Scanned:
    if reading.before and not file.is_gzip and file.path.stat().st_size >= _LONG:
        scanned = _scan_long(stage, file, reading)
        if scanned is not None:
            return scanned
    try:
        scanned = _scan(stage, file.relation(), reading)
    except duckdb.InvalidInputException as error:
        if "state machine" not in str(error):
            raise
        # DuckDB parses one kind of line end per file.
        file = with_plain_line_ends(file, stage.folder / "lines.csv")
        scanned = _scan(stage, file.relation(), reading)
    if scanned.malformed and not _is_complete(stage, file, scanned):
        # A stray quote where two threads meet may swallow rows; one thread loses none.
        scanned = _scan(stage, file.relation(parallel=False), reading)
    return scanned


def _scan(stage: Stage, relation: str, reading: _Reading) -> Scanned:
    """Scan with the text of every row that is not settled."""
    _write_scan(stage, relation, reading, stage.scratch, with_text=True)
    _view(stage, "scanned", stage.scratch)
    stage.run(f"""CREATE OR REPLACE TEMP VIEW whole AS
        SELECT file_row_number + 1 AS row_no, h, {_CODES}, (c >> 62)::UTINYINT AS state, r
        FROM read_parquet({literal(stage.scratch)}, file_row_number = true)
        WHERE (c >> 62) <> {SETTLED}""")
    return _scanned(stage, reading)


def _scan_long(stage: Stage, file: CsvFile, reading: _Reading) -> Scanned | None:
    """Scan without any text, then pick the lines to look at. None where that does not pay."""
    try:
        sample = sample_lines(file, stage.folder / "sample.csv")
        _write_scan(stage, sample.relation(), reading, stage.scratch, with_text=False)
        _view(stage, "scanned", stage.scratch)
        if not _are_few(stage):
            return None
        _write_scan(stage, file.relation(), reading, stage.scratch, with_text=False)
        _view(stage, "scanned", stage.scratch)
        scanned = _scanned(stage, reading)
        if scanned.malformed and not _is_complete(stage, file, scanned):
            return None
    except duckdb.InvalidInputException:
        # Line ends of several kinds: the full scan knows what to do.
        return None
    return scanned if _are_few(stage) and _pick(stage, file, scanned, reading) else None


def _are_few(stage: Stage) -> bool:
    share = f"count(*) FILTER (state = {KEPT}) <= {_FEW} * count(*)"
    return bool(stage.run(f"SELECT {share} FROM scanned")[0][0])


def _pick(stage: Stage, file: CsvFile, scanned: Scanned, reading: _Reading) -> bool:
    """`whole`: rows to look at, from their lines. False when a row is not one line of the file.

    A row that waits matters only when another row of its id is looked at.
    """
    kept = f"SELECT h FROM scanned WHERE state = {KEPT}"
    stage.run(f"""CREATE OR REPLACE TEMP TABLE wanted AS
        SELECT *, row_number() OVER (ORDER BY row_no) AS place FROM scanned
        WHERE state = {KEPT} OR (state = {WAITING} AND h IN ({kept}))""")
    numbers = _line_numbers(stage)
    picked = stage.folder / "picked.parquet"
    if len(numbers):
        lines = 1 + scanned.rows + scanned.malformed
        part = pick_lines(file, numbers, lines, stage.folder / "picked.csv")
        # Its rejects are not the log's: a line that cannot be read is a mismatch, found below.
        _write_scan(stage, part.relation(), reading, picked, with_text=True)
    else:
        stage.run(
            f"COPY (SELECT h, 0::UBIGINT AS c, []::VARCHAR[] AS r FROM wanted) TO {literal(picked)}"
        )
    stage.run(f"""CREATE OR REPLACE TEMP VIEW whole AS
        SELECT w.row_no, w.h, w.p, w.a, w.state, p.r FROM wanted w
        JOIN read_parquet({literal(picked)}, file_row_number = true) p
        ON p.file_row_number + 1 = w.place AND p.h = w.h AND (p.c >> 62) = w.state""")
    return stage.number("SELECT count(*) FROM whole") == len(numbers)


def _line_numbers(stage: Stage) -> Lines:
    """The line of each wanted row: the header is 0, malformed lines stand in between."""
    query = f"SELECT row FROM ({at_line('wanted')}) ORDER BY row"
    return np.asarray(stage.connection.execute(query).fetchnumpy()["row"], dtype=np.int64)


def at_line(relation: str) -> str:
    """SQL of that relation's rows with `row`, their number when malformed lines count too."""
    # The n-th well-formed row stands behind every malformed one that leaves less than n before it.
    return f"""SELECT b.*, b.row_no + coalesce(m.before, 0) AS row FROM {relation} b
        ASOF LEFT JOIN (SELECT line - n + 1 AS first, max(n) AS before
            FROM (SELECT line, row_number() OVER (ORDER BY line) AS n FROM malformed) GROUP BY 1) m
            ON b.row_no >= m.first"""


def _write_scan(
    stage: Stage, relation: str, reading: _Reading, target: Path, *, with_text: bool
) -> None:
    columns, before = reading.columns, reading.before
    rules = RowRules(reading.settings, columns, lambda number: f"c{number}")
    row = ", ".join(f"c{number}" for number in columns.kept())
    text = f", CASE WHEN state <> {SETTLED} THEN [{row}] END AS r" if with_text else ""
    stage.run("DROP TABLE IF EXISTS rejects")
    stage.run("DROP TABLE IF EXISTS reject_scans")
    stage.run(f"""COPY (
        SELECT hash(id) AS h, (p::UBIGINT << 39) | (a::UBIGINT << 16) | (state::UBIGINT << 62)
            | CASE WHEN state = {KEPT} OR day IS NULL THEN 0 ELSE day END AS c{text}
        FROM (SELECT *, ({day_number("known")} & 65535)::UBIGINT AS day, CASE
                WHEN p = {OTHER_MODEL} OR coalesce({rules.is_settled(before)}, false) THEN {SETTLED}
                WHEN coalesce({rules.is_waiting()}, false) THEN {WAITING} ELSE {KEPT} END AS state
            FROM (SELECT *, trim({rules.raw("event_id")}) AS id,
                CASE WHEN {rules.is_other_model()} THEN {OTHER_MODEL}::UINTEGER
                    ELSE {rules.code("prediction")} END AS p,
                {rules.code("actual_result")} AS a,
                {rules.plain_time()} AS known, {rules.plain_confidence()} AS sure
                FROM {relation}))
        ) TO {literal(target)} (FORMAT parquet, COMPRESSION uncompressed,
            DICTIONARY_SIZE_LIMIT 1, ROW_GROUP_SIZE {stage.rows_per_group})""")


_CODES: Final = "((c >> 39) & 8388607)::UINTEGER AS p, ((c >> 16) & 8388607)::UINTEGER AS a"


def _view(stage: Stage, name: str, scratch: Path) -> None:
    stage.run(f"""CREATE OR REPLACE TEMP VIEW {name} AS SELECT file_row_number + 1 AS row_no, h,
        {_CODES}, (c & 65535)::INTEGER AS day, (c >> 62)::UTINYINT AS state
        FROM read_parquet({literal(scratch)}, file_row_number = true)""")


def _scanned(stage: Stage, reading: _Reading) -> Scanned:
    _collect_malformed(stage)
    return Scanned(
        columns=reading.columns,
        rows=stage.number("SELECT count(*) FROM scanned"),
        malformed=stage.number("SELECT count(*) FROM malformed"),
    )


def _collect_malformed(stage: Stage) -> None:
    if not stage.has("rejects"):
        stage.run(
            "CREATE OR REPLACE TEMP TABLE malformed (line UBIGINT, reason VARCHAR, text VARCHAR)"
        )
        return
    # The header is line 1, so the first record is line 2. One record may have several faults.
    stage.run("""CREATE OR REPLACE TEMP TABLE malformed AS
        SELECT line - 1 AS line, 'malformed: ' ||
            lower(string_agg(DISTINCT error_type::VARCHAR, ', ' ORDER BY error_type::VARCHAR))
            AS reason, any_value(csv_line) AS text
        FROM rejects GROUP BY line""")


def _is_complete(stage: Stage, file: CsvFile, scanned: Scanned) -> bool:
    """Whether every physical line became a row or part of a malformed one."""
    inside = stage.number("""SELECT sum(length(t) - length(replace(t, chr(10), '')))
        FROM (SELECT rtrim(text, chr(10) || chr(13)) AS t FROM malformed)""")
    return line_count(file) == 1 + scanned.rows + scanned.malformed + inside
