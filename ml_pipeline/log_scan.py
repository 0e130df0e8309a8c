"""Read an evaluation log once: CSV, gzipped CSV or Parquet of any size, or frames of a table.

The scan writes a scratch file with a line per record, in order: a hash of the event id, codes of
the labels and the day (every record), and the whole row only where it may matter. What follows
(faults, folding, counts) reads the scratch file, so the log is parsed once and memory is bounded.
"""

# ruff: noqa: S608 - every value in a statement is a number or quoted by log_rules

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import duckdb
import pandas as pd

from ml_pipeline.config import Settings
from ml_pipeline.domain import EVENT_COLUMNS
from ml_pipeline.errors import ConfigError, DataError
from ml_pipeline.log_rules import (
    OTHER_MODEL,
    Columns,
    RowRules,
    day_number,
    event_columns,
    find_columns,
    quote,
)

SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")
# A field of a million characters may be four million bytes.
_MAX_LINE: Final = 4_200_000
_BUFFER: Final = 8_400_000
_HEAD: Final = 1 << 16
_CHUNK: Final = 1 << 20
_MOST_THREADS: Final = 4
# Megabytes for each thread: the first does for rows of usual length, whatever their number.
MEMORY_STEPS: Final = (72, 288, 1152)
OutOfMemory = duckdb.OutOfMemoryException
_GZIP_MAGIC: Final = b"\x1f\x8b"


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
        return bool(self.run(f"FROM duckdb_tables() WHERE table_name = {quote(table)}"))


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
                f"SET temp_directory = {quote(Path(scratch) / 'spill')}; SET TimeZone = 'UTC'; "
                "SET preserve_insertion_order = true; SET enable_progress_bar = false; "
                "SET pandas_analyze_sample = 0"
            )
            rows_per_group = 30_720 if memory == MEMORY_STEPS[0] else 2048
            yield Stage(connection, Path(scratch), rows_per_group)
        finally:
            connection.close()


@contextmanager
def readable(source: str) -> Iterator[None]:
    """Turn what DuckDB says about a log into a DataError; faults of ours and OutOfMemory pass."""
    try:
        yield
    except OutOfMemory:
        raise
    except (duckdb.OperationalError, duckdb.DataError, duckdb.InvalidInputException) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{source} cannot be read: {reason}.") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Scanned:
    """One scanned log. The relations stand in the stage.

    `scanned` has `row_no, h, p, a, day, is_kept, r`; `malformed` has `line, reason, text`.
    """

    columns: Columns
    rows: int
    malformed: int

    def column(self, number: int) -> str:
        """SQL of a kept column in `r`."""
        return f"r[{self.columns.kept().index(number) + 1}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class CsvFile:
    """A CSV to parse."""

    path: Path
    names: tuple[str, ...]
    is_gzip: bool


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
    with readable(str(path)):
        if path.name.lower().endswith(".parquet"):
            return _scan_parquet(stage, path, settings, before)
        file = _open_csv(path)
        columns = find_columns(file.names, settings, str(path))
        if not with_metadata and "features" in columns.places:
            columns = columns.without_metadata()
        return _scan_csv(stage, file, columns, settings, before)


def scan_frames(
    stage: Stage, frames: Iterable[pd.DataFrame], settings: Settings, before: datetime | None
) -> Scanned:
    """Scan frames with `EVENT_COLUMNS`; an event that an earlier frame held is left out."""
    columns = ", ".join(f"c{number} VARCHAR" for number in range(len(EVENT_COLUMNS)))
    stage.run(f"CREATE TEMP TABLE frames ({columns})")
    cells = ", ".join(f'"{name}"::VARCHAR' for name in EVENT_COLUMNS)
    place = EVENT_COLUMNS.index("event_id")
    for frame in frames:
        stage.connection.register("frame", frame.loc[:, list(EVENT_COLUMNS)])
        stage.run(f"""INSERT INTO frames SELECT {cells} FROM frame
            WHERE event_id NOT IN (SELECT c{place} FROM frames)""")
        stage.connection.unregister("frame")
    with readable("The table"):
        return _scan(stage, "frames", event_columns(), settings, before)


def _scan_parquet(stage: Stage, path: Path, settings: Settings, before: datetime | None) -> Scanned:
    found = stage.run(f"DESCRIBE SELECT * FROM read_parquet({quote(path)})")
    columns = find_columns([name for name, *_ in found], settings, str(path))
    cells = ", ".join(
        f"{_as_text(name, kind)} AS c{number}" for number, (name, kind, *_) in enumerate(found)
    )
    relation = f"(SELECT {cells} FROM read_parquet({quote(path)}))"
    return _scan(stage, relation, columns, settings, before)


def _as_text(name: str, kind: str) -> str:
    column = '"' + name.replace('"', '""') + '"'
    is_nested = kind.startswith(("STRUCT", "MAP")) or kind.endswith("]")
    return f"to_json({column})::VARCHAR" if is_nested else f"{column}::VARCHAR"


def _open_csv(path: Path) -> CsvFile:
    with path.open("rb") as file:
        is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    if path.name.lower().endswith(".gz") and not is_gzip:
        raise DataError(f"{path} is named .gz but holds no gzip.", hint="Rename it to .csv.")
    try:
        with _opened(path, is_gzip=is_gzip) as file:
            head = file.read(_HEAD)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        # A stream that ends early fails here only when it is short; the scan finds the others.
        raise DataError(f"{path} is a truncated or damaged gzip file.") from None
    return CsvFile(path=path, names=_header(head, path), is_gzip=is_gzip)


def _opened(path: Path, *, is_gzip: bool) -> Any:  # noqa: ANN401 - either kind of file
    return gzip.open(path, "rb") if is_gzip else path.open("rb")


def _header(head: bytes, path: Path) -> tuple[str, ...]:
    text = head.decode("utf-8-sig", "replace")
    if not text.strip():
        raise DataError(f"{path} is empty.", hint="A log without events has a header line.")
    try:
        names = next(csv.reader(io.StringIO(text, newline="")))
    except (csv.Error, StopIteration) as error:
        raise DataError(f"{path} has no readable header: {error}.") from None
    return tuple(name.strip() for name in names)


# --------------------------------------------------------------------------------- one scan


def _scan_csv(
    stage: Stage, file: CsvFile, columns: Columns, settings: Settings, before: datetime | None
) -> Scanned:
    try:
        scanned = _scan(stage, _csv_relation(file), columns, settings, before)
    except duckdb.InvalidInputException as error:
        if "state machine" not in str(error):
            raise
        # DuckDB parses one kind of line end per file.
        file = _with_plain_line_ends(file, stage.folder / "lines.csv")
        scanned = _scan(stage, _csv_relation(file), columns, settings, before)
    if scanned.malformed and not _is_complete(stage, file, scanned):
        # A stray quote where two threads meet may swallow rows; one thread loses none.
        relation = _csv_relation(file, ", parallel = false")
        scanned = _scan(stage, relation, columns, settings, before)
    return scanned


def _csv_relation(file: CsvFile, extra: str = "") -> str:
    # No sniffing: it samples, so it would decide from the first rows what later rows may be.
    columns = ", ".join(f"'c{number}': 'VARCHAR'" for number in range(len(file.names)))
    return (
        f"read_csv({quote(file.path)}, auto_detect = false, columns = {{{columns}}}, "
        "header = true, delim = ',', quote = '\"', escape = '\"', store_rejects = true, "
        "rejects_table = 'rejects', rejects_scan = 'reject_scans', "
        f"max_line_size = {_MAX_LINE}, buffer_size = {_BUFFER}, "
        f"compression = '{'gzip' if file.is_gzip else 'none'}'{extra})"
    )


def _scan(
    stage: Stage, relation: str, columns: Columns, settings: Settings, before: datetime | None
) -> Scanned:
    stage.run("DROP TABLE IF EXISTS rejects")
    stage.run("DROP TABLE IF EXISTS reject_scans")
    stage.run(_scan_query(stage, relation, columns, settings, before))
    stage.run(f"""CREATE OR REPLACE TEMP VIEW scanned AS SELECT file_row_number + 1 AS row_no, h,
        ((c >> 39) & 8388607)::UINTEGER AS p, ((c >> 16) & 8388607)::UINTEGER AS a,
        (c & 65535)::INTEGER AS day, (c >> 62) = 1 AS is_kept, r
        FROM read_parquet({quote(stage.scratch)}, file_row_number = true)""")
    _collect_malformed(stage)
    return Scanned(
        columns=columns,
        rows=stage.number("SELECT count(*) FROM scanned"),
        malformed=stage.number("SELECT count(*) FROM malformed"),
    )


def _scan_query(
    stage: Stage, relation: str, columns: Columns, settings: Settings, before: datetime | None
) -> str:
    rules = RowRules(settings, columns, lambda number: f"c{number}")
    row = ", ".join(f"c{number}" for number in columns.kept())
    return f"""COPY (
        SELECT hash(id) AS h,
            (p::UBIGINT << 39) | (a::UBIGINT << 16)
                | CASE WHEN kept THEN 1::UBIGINT << 62 WHEN day IS NULL THEN 0 ELSE day END AS c,
            CASE WHEN kept THEN [{row}] END AS r
        FROM (SELECT *, p <> {OTHER_MODEL} AND NOT coalesce({rules.is_settled(before)}, false)
                AS kept, ({day_number("known")} & 65535)::UBIGINT AS day
            FROM (SELECT *, trim({rules.raw("event_id")}) AS id,
                CASE WHEN {rules.is_other_model()} THEN {OTHER_MODEL}::UINTEGER
                    ELSE {rules.code("prediction")} END AS p,
                {rules.code("actual_result")} AS a,
                {rules.plain_time()} AS known, {rules.plain_confidence()} AS sure
                FROM {relation}))
        ) TO {quote(stage.scratch)} (FORMAT parquet, COMPRESSION uncompressed,
            DICTIONARY_SIZE_LIMIT 1, ROW_GROUP_SIZE {stage.rows_per_group})"""


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


# ----------------------------------------------------------------------------- completeness


def _is_complete(stage: Stage, file: CsvFile, scanned: Scanned) -> bool:
    inside = stage.number("""SELECT sum(length(t) - length(replace(t, chr(10), '')))
        FROM (SELECT rtrim(text, chr(10) || chr(13)) AS t FROM malformed)""")
    return _line_count(file) == 1 + scanned.rows + scanned.malformed + inside


def _line_count(file: CsvFile) -> int:
    """Physical lines; of a gzip file this also checks the sum at its end."""
    lines, last = 0, b"\n"
    try:
        with _opened(file.path, is_gzip=file.is_gzip) as stream:
            while chunk := stream.read(_CHUNK):
                lines += chunk.count(b"\n")
                last = chunk[-1:]
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise DataError(f"{file.path} is a truncated or damaged gzip file.") from None
    return lines + (last != b"\n")


def _with_plain_line_ends(file: CsvFile, target: Path) -> CsvFile:
    """A copy in which every line ends with a line feed."""
    try:
        with _opened(file.path, is_gzip=file.is_gzip) as stream, target.open("wb") as copy:
            held = b""
            while chunk := held + stream.read(_CHUNK):
                more = len(chunk) > len(held)
                held = b"\r" if more and chunk.endswith(b"\r") else b""
                chunk = chunk[: len(chunk) - len(held)]
                copy.write(chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise DataError(f"{file.path} is a truncated or damaged gzip file.") from None
    return CsvFile(path=target, names=file.names, is_gzip=False)
