"""A long CSV of which few rows matter, read in two steps: all rows without their text, few lines.

Carrying the text of every row through the scan is what costs most. Without it the scan takes about
1.2 times as long as DuckDB's own COPY of the file, with it 1.5 times (measured by
`python -m tests.benchmarks.bench_log_filter`); the results are the same.
"""

# ruff: noqa: S608 - every value in a statement is a number or quoted by RowRules

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from ml_pipeline.datasets.duckdb_session import exact_file, written_path
from ml_pipeline.evaluation_log.csv_source import CsvSource, is_complete
from ml_pipeline.evaluation_log.stage import (
    KEPT,
    WAITING,
    Reading,
    Scanned,
    Stage,
    scan_rows,
    with_line_numbers,
    write_scan,
)

# A file of fewer bytes is read faster at once.
LONG_BYTES: Final = 32_000_000
# More than this share of the rows is not few.
_FEW: Final = 0.2
_SAMPLES: Final = 16
_SAMPLE_BYTES: Final = 1 << 16
_BLOCK_BYTES: Final = 1 << 20
_LINE_FEED: Final = 10

LineNumbers = NDArray[np.int64]


def scan_long_csv(stage: Stage, file: CsvSource, reading: Reading) -> Scanned | None:
    """Scan a long CSV without text, then read the lines of the rows that matter by their numbers.

    None where that is no gain (a short or packed file, many rows that matter) or would be wrong
    (rows of several lines): then the scan with text does the same.
    """
    is_long = not file.file.is_gzip and file.path.stat().st_size >= LONG_BYTES
    if reading.request.settled_before is None or not is_long:
        return None
    try:
        sample = copy_sample(file, stage.folder / "sample.csv")
        scan_rows(stage, sample.relation(), reading, with_text=False)
        if not _are_few_kept(stage):
            return None
        scanned = scan_rows(stage, file.relation(), reading, with_text=False)
        if not is_complete(file, scanned):
            return None
    except duckdb.InvalidInputException:
        # Line ends of several kinds: the scan with text knows what to do.
        return None
    is_found = _are_few_kept(stage) and _read_kept_lines(stage, file, scanned, reading)
    return scanned if is_found else None


def _are_few_kept(stage: Stage) -> bool:
    share = f"count(*) FILTER (state = {KEPT}) <= {_FEW} * count(*)"
    return bool(stage.run(f"SELECT {share} FROM scanned")[0][0])


def _read_kept_lines(stage: Stage, file: CsvSource, scanned: Scanned, reading: Reading) -> bool:
    """Make `whole` of the lines of rows to examine. False when a row is not one line of the file.

    A row that waits matters only when another row of its id is examined.
    """
    kept = f"SELECT h FROM scanned WHERE state = {KEPT}"
    stage.run(f"""CREATE OR REPLACE TEMP TABLE wanted AS
        SELECT *, row_number() OVER (ORDER BY row_no) AS place FROM scanned
        WHERE state = {KEPT} OR (state = {WAITING} AND h IN ({kept}))""")
    numbers = _line_numbers(stage)
    picked = stage.folder / "picked.parquet"
    if len(numbers):
        lines = 1 + scanned.rows + scanned.malformed
        part = copy_lines(file, numbers, lines, stage.folder / "picked.csv")
        # Its rejects are not the log's: a line that cannot be read is a mismatch, found below.
        write_scan(stage, part.relation(), reading, picked, with_text=True)
    else:
        nothing = "SELECT h, 0::UBIGINT AS c, []::VARCHAR[] AS r FROM wanted"
        stage.run(f"COPY ({nothing}) TO {written_path(picked)}")
    stage.run(f"""CREATE OR REPLACE TEMP VIEW whole AS
        SELECT w.row_no, w.h, w.p, w.a, w.state, p.r FROM wanted w
        JOIN read_parquet({exact_file(picked)}, file_row_number = true) p
        ON p.file_row_number + 1 = w.place AND p.h = w.h AND (p.c >> 62) = w.state""")
    return stage.number("SELECT count(*) FROM whole") == len(numbers)


def _line_numbers(stage: Stage) -> LineNumbers:
    """The line of each wanted row: the header is 0, malformed lines stand in between."""
    query = f"SELECT row FROM ({with_line_numbers('wanted')}) ORDER BY row"
    return np.asarray(stage.connection.execute(query).fetchnumpy()["row"], dtype=np.int64)


def copy_sample(file: CsvSource, target: Path) -> CsvSource:
    """Copy lines from places all over the first half of a plain file."""
    half = file.path.stat().st_size // 2
    with file.path.open("rb") as stream, target.open("wb") as copy:
        for place in range(_SAMPLES):
            stream.seek(half * place // _SAMPLES)
            block = stream.read(_SAMPLE_BYTES)
            copy.write(block[block.find(b"\n") + 1 : block.rfind(b"\n") + 1])
    return file.part(target)


def copy_lines(file: CsvSource, numbers: LineNumbers, lines: int, target: Path) -> CsvSource:
    """Copy lines of a plain file by their numbers.

    `numbers` ascend from 0, the header; `lines` is how many the file has. Both hold only where no
    field has a line feed inside, so whoever calls compares what was picked with what was meant.
    """
    start, first = _before(file.path, int(numbers[0]), lines)
    with target.open("wb") as copy:
        for chunk, ends in _whole_lines(file.path, start):
            low, high = np.searchsorted(numbers, (first, first + len(ends)))
            for begin, end in _runs(numbers[low:high] - first, ends):
                copy.write(chunk[begin:end])
            first += len(ends)
            if high == len(numbers):
                break
    return file.part(target)


def _before(path: Path, number: int, lines: int) -> tuple[int, int]:
    """Offset and number of a line at or before that one: counted from the nearer end."""
    if number < lines // 2:
        return 0, 0
    offset, breaks = path.stat().st_size, np.empty(0, np.int64)
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        left = lines - (file.read() != b"\n")
        while left >= number and offset:
            size = min(_BLOCK_BYTES, offset)
            offset -= size
            file.seek(offset)
            breaks = np.flatnonzero(np.frombuffer(file.read(size), np.uint8) == _LINE_FEED)
            left -= len(breaks)
    # The first of these breaks ends line `left`.
    return (offset + int(breaks[0]) + 1, left + 1) if offset and len(breaks) else (0, 0)


def _whole_lines(path: Path, start: int) -> Iterator[tuple[bytes, LineNumbers]]:
    """Blocks of whole lines with the offset of each line's end."""
    held = b""
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(_BLOCK_BYTES):
            block = held + block
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == _LINE_FEED) + 1
            whole = int(ends[-1]) if len(ends) else 0
            held = block[whole:]
            yield block[:whole], ends
    if held:
        yield held, np.array([len(held)])


def _runs(wanted: LineNumbers, ends: LineNumbers) -> Iterator[tuple[int, int]]:
    """Where neighbouring wanted lines begin and end."""
    for run in np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1):
        if len(run):
            yield int(ends[run[0] - 1]) if run[0] else 0, int(ends[run[-1]])
