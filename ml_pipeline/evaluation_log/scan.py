"""Read an evaluation log once: CSV, gzipped CSV or Parquet of any size, or frames of a table."""

# ruff: noqa: S608 - every value in a statement is a number or quoted by RowRules

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import duckdb
import pandas as pd

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.duckdb_session import (
    as_data_error,
    exact_file,
    has_mixed_line_ends,
    parquet_names,
)
from ml_pipeline.errors import ConfigError, DataError
from ml_pipeline.evaluation_log.csv_source import (
    CsvSource,
    is_complete,
    with_hidden_lines,
)
from ml_pipeline.evaluation_log.long_csv import scan_long_csv
from ml_pipeline.evaluation_log.rules import LogRequest, event_columns, find_columns
from ml_pipeline.evaluation_log.stage import CODES, SETTLED, Reading, Scanned, Stage, scan_rows
from ml_pipeline.store.records import EVENT_COLUMNS
from ml_pipeline.store.sql_text import identifier

SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")


def scan_file(
    stage: Stage,
    path: Path,
    settings: Settings,
    request: LogRequest,
    *,
    with_metadata: bool = True,
) -> Scanned:
    """Scan a file. Raises DataError for one that cannot be read or lacks columns.

    Sound rows that the request does not need are not kept. Without metadata, which is long and
    seldom needed beside a column of features, a scan takes an eighth less time.
    """
    if not path.name.lower().endswith(SUFFIXES):
        hint = f"Use table, or a file named {', '.join(SUFFIXES)}."
        raise ConfigError(f"log.source {path} is not a log that can be read.", hint=hint)
    if not path.is_file():
        raise DataError(f"There is no log {path}.", hint="Set log.source.")
    with as_data_error(str(path)):
        if path.name.lower().endswith(".parquet"):
            return _scan_parquet(stage, path, settings, request)
        file = CsvSource.opened(path, stage.folder)
        columns = find_columns(file.file.names, settings, str(path))
        features = (columns.features.get(name) for name in settings.data.features)
        numbers = {columns.places["confidence"], *(n for n in features if n is not None)}
        file = file.with_points(numbers)
        if not with_metadata and "features" in columns.places:
            columns = columns.without_metadata()
        reading = Reading(columns=columns, settings=settings, request=request)
        return _scan_csv(stage, file, reading)


def scan_frames(
    stage: Stage, frames: Iterable[pd.DataFrame], settings: Settings, request: LogRequest
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
        reading = Reading(columns=event_columns(), settings=settings, request=request)
        return _scan(stage, "frames", reading)


def _scan_parquet(stage: Stage, path: Path, settings: Settings, request: LogRequest) -> Scanned:
    found = stage.run(f"DESCRIBE SELECT * FROM read_parquet({exact_file(path)})")
    columns = find_columns(parquet_names(stage.connection, path), settings, str(path))
    numbered = [f"p{number}" for number in range(len(found))]
    cells = ", ".join(
        f"{_as_text(name, kind)} AS c{number}"
        for number, (name, (_, kind, *_)) in enumerate(zip(numbered, found, strict=True))
    )
    file = f"read_parquet({exact_file(path)}) AS file({', '.join(numbered)})"
    relation = f"(SELECT {cells} FROM {file})"
    return _scan(stage, relation, Reading(columns=columns, settings=settings, request=request))


def _as_text(column: str, kind: str) -> str:
    is_nested = kind.startswith(("STRUCT", "MAP")) or kind.endswith("]")
    return f"to_json({column})::VARCHAR" if is_nested else f"{column}::VARCHAR"


def _scan_csv(stage: Stage, file: CsvSource, reading: Reading) -> Scanned:
    found = scan_long_csv(stage, file, reading)
    if found is not None:
        return found
    try:
        scanned = _scan(stage, file.relation(), reading)
    except duckdb.InvalidInputException as error:
        if not has_mixed_line_ends(error):
            raise
        file = file.with_plain_line_ends(stage.folder / "lines.csv")
        scanned = _scan(stage, file.relation(), reading)
    if scanned.malformed and not is_complete(file, scanned):
        # A stray quote where two threads meet may swallow rows; one thread loses none.
        scanned = _scan(stage, file.relation(parallel=False), reading)
    return with_hidden_lines(stage, file, scanned)


def _scan(stage: Stage, relation: str, reading: Reading) -> Scanned:
    """Scan with the text of every row that is not settled."""
    scanned = scan_rows(stage, relation, reading, with_text=True)
    stage.run(f"""CREATE OR REPLACE TEMP VIEW whole AS
        SELECT file_row_number + 1 AS row_no, h, {CODES}, (c >> 62)::UTINYINT AS state, r
        FROM read_parquet({exact_file(stage.scratch)}, file_row_number = true)
        WHERE (c >> 62) <> {SETTLED}""")
    return scanned
