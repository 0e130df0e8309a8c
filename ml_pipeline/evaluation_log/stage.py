"""Where an evaluation log is scanned: a DuckDB session, its scratch file, and what stands in it.

A scan writes a scratch file with a line a row, in order: a hash of the event id, codes of the
labels, the day, and the whole row only where it may matter. What follows (faults, folding, counts)
reads the scratch file, so the log is parsed once and memory is bounded.
"""

# ruff: noqa: S608 - every value in a statement is a number or quoted by RowRules

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

import duckdb

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.duckdb_session import connect, exact_file, written_path
from ml_pipeline.evaluation_log.rules import Columns, LogRequest, RowRules, day_number
from ml_pipeline.store.inputs.label_sql import OTHER_MODEL

_MOST_THREADS: Final = 4
# Folders in which rows stand while a log is read; nobody else calls one so.
SCAN_PREFIX: Final = ".scan-"
# Megabytes for each thread: the first does for rows of usual length, whatever their number.
MEMORY_STEPS: Final = (72, 288, 1152)
# What a scanned row is: whole and old (or another model's), to be examined, or a sound prediction
# that waits for its outcome.
SETTLED, KEPT, WAITING = range(3)
# What `c` in the scratch file holds beside day and state.
CODES: Final = "((c >> 39) & 8388607)::UINTEGER AS p, ((c >> 16) & 8388607)::UINTEGER AS a"


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

    def write(self, query: str, target: Path, names: Sequence[str] | None = None) -> None:
        """Write what a query answers as a CSV, which appears as a whole or not at all.

        `names` are the header where DuckDB would change names that differ in case alone.
        """
        body, whole = (target.with_name(f".{target.name}.{end}") for end in ("part", "whole"))
        is_named = names is not None and len({name.lower() for name in names}) < len(names)
        try:
            how = f"(FORMAT csv, HEADER {not is_named}, DELIMITER ',')"
            self.run(f"COPY ({query}) TO {written_path(body)} {how}")
            if is_named:
                with whole.open("w", encoding="utf-8", newline="") as file:
                    csv.writer(file, lineterminator="\n").writerow(names or ())
                with whole.open("ab") as file, body.open("rb") as rows:
                    shutil.copyfileobj(rows, file)
                whole.replace(body)
            body.replace(target)
        finally:
            body.unlink(missing_ok=True)
            whole.unlink(missing_ok=True)

    def has(self, table: str) -> bool:
        """Whether there is such a table."""
        # The list of all tables costs more than most of this session's statements.
        try:
            self.run(f"FROM {table} LIMIT 0")
        except duckdb.CatalogException:
            return False
        return True


@contextmanager
def open_stage(folder: Path, memory: int = MEMORY_STEPS[0]) -> Iterator[Stage]:
    """Open a session whose scratch files stand in `folder` until it is closed.

    `memory` is in megabytes for each thread; who needs more gets OutOfMemory.
    """
    threads = max(2, min(os.cpu_count() or 1, _MOST_THREADS))
    with TemporaryDirectory(prefix=SCAN_PREFIX, dir=folder) as scratch:
        connection = connect(Path(scratch) / "stage.duckdb")
        try:
            connection.execute(
                f"SET threads = {threads}; SET memory_limit = '{threads * memory}MB'; "
                f"SET temp_directory = {written_path(Path(scratch) / 'spill')}; "
                "SET TimeZone = 'UTC'; "
                "SET preserve_insertion_order = true; SET enable_progress_bar = false; "
                "SET pandas_analyze_sample = 0"
            )
            rows_per_group = 30_720 if memory == MEMORY_STEPS[0] else 2048
            yield Stage(connection, Path(scratch), rows_per_group)
        finally:
            connection.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class Scanned:
    """One scanned log; its relations are in the stage.

    `scanned` has every row: `row_no`, `h` (hash of the event id), `p` and `a` (codes of the
    prediction and of what actually happened), `day` and `state`. `whole` has the rows to examine,
    instead of the day with `r`, the list of their kept columns. `malformed` has `line`, `reason`,
    `text` and `lines`, how many lines of the file it is; the number `malformed` counts those.
    """

    columns: Columns
    rows: int
    malformed: int

    def column(self, number: int) -> str:
        """SQL of a kept column in `r`."""
        return f"r[{self.columns.kept().index(number) + 1}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How rows are read: which column has what, by which rules, and what is asked of them."""

    columns: Columns
    settings: Settings
    request: LogRequest


def scan_rows(stage: Stage, relation: str, reading: Reading, *, with_text: bool) -> Scanned:
    """Scan the rows of a relation into the scratch file: `scanned` and `malformed`."""
    write_scan(stage, relation, reading, stage.scratch, with_text=with_text)
    stage.run(f"""CREATE OR REPLACE TEMP VIEW scanned AS SELECT file_row_number + 1 AS row_no, h,
        {CODES}, (c & 65535)::INTEGER AS day, (c >> 62)::UTINYINT AS state
        FROM read_parquet({exact_file(stage.scratch)}, file_row_number = true)""")
    _collect_malformed(stage)
    return Scanned(
        columns=reading.columns,
        rows=stage.number("SELECT count(*) FROM scanned"),
        malformed=stage.number("SELECT sum(lines) FROM malformed"),
    )


def write_scan(
    stage: Stage, relation: str, reading: Reading, target: Path, *, with_text: bool
) -> None:
    """Write a line a row: `h`, the codes, day and state in `c`, and with text the row in `r`."""
    columns, request = reading.columns, reading.request
    rules = RowRules(reading.settings, columns, lambda number: f"c{number}")
    row = ", ".join(f"c{number}" for number in columns.kept())
    text = f", CASE WHEN state <> {SETTLED} THEN [{row}] END AS r" if with_text else ""
    stage.run("DROP TABLE IF EXISTS rejects")
    stage.run("DROP TABLE IF EXISTS reject_scans")
    stage.run(f"""COPY (
        SELECT hash(id) AS h, (p::UBIGINT << 39) | (a::UBIGINT << 16) | (state::UBIGINT << 62)
            | CASE WHEN state = {KEPT} OR day IS NULL THEN 0 ELSE day END AS c{text}
        FROM (SELECT *, ({day_number("known")} & 65535)::UBIGINT AS day, CASE
                WHEN p = {OTHER_MODEL} OR {rules.past()} = 0
                    AND coalesce({rules.is_settled(request.settled_before)}, false) THEN {SETTLED}
                WHEN coalesce({rules.is_waiting(request.today)}, false) THEN {WAITING}
                ELSE {KEPT} END AS state
            FROM (SELECT *, trim({rules.raw("event_id")}) AS id,
                CASE WHEN {rules.is_other_model()} THEN {OTHER_MODEL}::UINTEGER
                    ELSE {rules.code("prediction")} END AS p,
                {rules.code("actual_result")} AS a,
                {rules.plain_time()} AS known, {rules.plain_confidence()} AS confidence
                FROM {relation}))
        ) TO {written_path(target)} (FORMAT parquet, COMPRESSION uncompressed,
            DICTIONARY_SIZE_LIMIT 1, ROW_GROUP_SIZE {stage.rows_per_group})""")


def _collect_malformed(stage: Stage) -> None:
    if not stage.has("rejects"):
        stage.run(
            "CREATE OR REPLACE TEMP TABLE malformed "
            "(line UBIGINT, reason VARCHAR, text VARCHAR, lines UBIGINT)"
        )
        return
    # The header is line 1, so the first record is line 2. One record may have several faults.
    # A quote that is not closed takes further lines along.
    stage.run("""CREATE OR REPLACE TEMP TABLE malformed AS
        SELECT line, reason || CASE WHEN lines > 1 THEN ', hides further lines' ELSE '' END
            AS reason, text, lines
        FROM (SELECT *, (1 + length(trimmed) - length(replace(trimmed, chr(10), '')))::UBIGINT
            AS lines FROM (SELECT *, trim(text, chr(10) || chr(13)) AS trimmed
        FROM (SELECT line - 1 AS line, 'malformed: ' ||
            lower(string_agg(DISTINCT error_type::VARCHAR, ', ' ORDER BY error_type::VARCHAR))
            AS reason, any_value(csv_line) AS text
        FROM rejects GROUP BY line)))""")


def with_line_numbers(relation: str) -> str:
    """SQL of that relation's rows with `row`, their number when malformed lines count too."""
    # The n-th well-formed row stands behind every malformed one that leaves less than n before it.
    return f"""SELECT b.*, b.row_no + coalesce(m.before, 0) AS row FROM {relation} b
        ASOF LEFT JOIN (SELECT line - n + 1 AS first, max(n) AS before
            FROM (SELECT line, row_number() OVER (ORDER BY line) AS n FROM malformed) GROUP BY 1) m
            ON b.row_no >= m.first"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogFiles:
    """Where the CSVs of a load are written."""

    errors: Path
    labelled: Path
    rejected: Path
    unusable: Path

    @classmethod
    def at(cls, folder: Path, now: datetime) -> Self:
        """The files of a load at that time."""
        stamp = f"{now:%Y%m%d_%H%M%S}.csv"
        return cls(
            errors=folder / f"finetune_{stamp}",
            labelled=folder / f"labelled_{stamp}",
            rejected=folder / f"rejected_{stamp}",
            unusable=folder / f"unusable_{stamp}",
        )
