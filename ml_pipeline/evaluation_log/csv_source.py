"""A CSV log on disk: how it is opened, how many lines it has, and whether all of them were read."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ml_pipeline.datasets.duckdb_session import exact_file
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation_log.stage import Scanned, Stage

# A field of a million characters may be four million bytes.
_MAX_LINE: Final = 4_200_000
_BUFFER: Final = 8_400_000
_HEAD: Final = 1 << 16
_CHUNK: Final = 1 << 20
_GZIP_MAGIC: Final = b"\x1f\x8b"


@dataclass(frozen=True, kw_only=True, slots=True)
class CsvSource:
    """A CSV to parse."""

    path: Path
    names: tuple[str, ...]
    is_gzip: bool = False
    has_header: bool = True

    def relation(self, *, parallel: bool = True) -> str:
        """SQL that reads it: columns `c0`, `c1`, … of text, malformed lines in `rejects`."""
        # No sniffing: it samples, so it would decide from the first rows what later rows may be.
        columns = ", ".join(f"'c{number}': 'VARCHAR'" for number in range(len(self.names)))
        return (
            f"read_csv({exact_file(self.path)}, auto_detect = false, columns = {{{columns}}}, "
            f"header = {self.has_header}, delim = ',', quote = '\"', escape = '\"', "
            "store_rejects = true, rejects_table = 'rejects', rejects_scan = 'reject_scans', "
            f"max_line_size = {_MAX_LINE}, buffer_size = {_BUFFER}, parallel = {parallel}, "
            f"compression = '{'gzip' if self.is_gzip else 'none'}')"
        )

    def part(self, path: Path) -> CsvSource:
        """Some of its lines in a file of their own."""
        return CsvSource(path=path, names=self.names, has_header=False)


def open_csv(path: Path) -> CsvSource:
    """Read the header. Raises DataError for an empty file and a damaged archive."""
    with path.open("rb") as file:
        is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    if path.name.lower().endswith(".gz") and not is_gzip:
        raise DataError(f"{path} is named .gz but holds no gzip.", hint="Rename it to .csv.")
    try:
        with _opened(path, is_gzip=is_gzip) as file:
            head = file.read(_HEAD)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        # A stream that ends early fails here only when it is short; the scan finds the others.
        raise _damaged(path) from None
    return CsvSource(path=path, names=_header(head, path), is_gzip=is_gzip)


def _opened(path: Path, *, is_gzip: bool) -> Any:  # noqa: ANN401 - either kind of file
    return gzip.open(path, "rb") if is_gzip else path.open("rb")


def _damaged(path: Path) -> DataError:
    return DataError(f"{path} is a truncated or damaged gzip file.")


def _header(head: bytes, path: Path) -> tuple[str, ...]:
    text = head.decode("utf-8-sig", "replace")
    if not text.strip():
        raise DataError(f"{path} is empty.", hint="A log without events has a header line.")
    try:
        names = next(csv.reader(io.StringIO(text, newline="")))
    except (csv.Error, StopIteration) as error:
        raise DataError(f"{path} has no readable header: {error}.") from None
    return tuple(name.strip() for name in names)


def _line_count(file: CsvSource) -> int:
    """Physical lines; of a gzip file this also checks the sum at its end."""
    lines, last = 0, b"\n"
    try:
        with _opened(file.path, is_gzip=file.is_gzip) as stream:
            while chunk := stream.read(_CHUNK):
                lines += chunk.count(b"\n")
                last = chunk[-1:]
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise _damaged(file.path) from None
    return lines + (last != b"\n")


def is_complete(stage: Stage, file: CsvSource, scanned: Scanned) -> bool:
    """Whether every physical line became a row or part of a malformed one."""
    inside = stage.number("""SELECT sum(length(t) - length(replace(t, chr(10), '')))
        FROM (SELECT rtrim(text, chr(10) || chr(13)) AS t FROM malformed)""")
    return _line_count(file) == 1 + scanned.rows + scanned.malformed + inside


def has_mixed_line_ends(error: Exception) -> bool:
    """Whether DuckDB failed on them: it parses one kind of line end per file."""
    return "state machine" in str(error)


def with_plain_line_ends(file: CsvSource, target: Path) -> CsvSource:
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
        raise _damaged(file.path) from None
    return CsvSource(path=target, names=file.names)
