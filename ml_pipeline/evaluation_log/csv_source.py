"""A CSV log on disk as DuckDB reads it, and whether all of its lines were read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from ml_pipeline.datasets.csv_file import CsvFile
from ml_pipeline.datasets.duckdb_session import exact_file
from ml_pipeline.evaluation_log.stage import Scanned, Stage

# A field of a million characters may be four million bytes.
_MAX_LINE: Final = 4_200_000
_BUFFER: Final = 8_400_000
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class CsvSource:
    """A CSV to parse, plain as `CsvFile.is_plain` means it.

    `points` are the numbers of columns whose decimal commas become points.
    """

    file: CsvFile
    has_header: bool = True
    points: tuple[int, ...] = ()

    @classmethod
    def opened(cls, path: Path, folder: Path) -> Self:
        """The file, or a plain copy of it in `folder`. Raises DataError for what is no CSV."""
        file = CsvFile.opened(path)
        return cls(file=file if file.is_plain else file.plain(folder / "plain.csv"))

    @property
    def path(self) -> Path:
        """Where its lines are."""
        return self.file.path

    def with_points(self, places: Collection[int]) -> Self:
        """The same, whose numbers in those columns may have decimal commas."""
        return replace(self, points=tuple(self.file.point_places(places)))

    def relation(self, *, parallel: bool = True) -> str:
        """SQL that reads it: columns `c0`, `c1`, … of text, malformed lines in `rejects`."""
        read = self._read_csv(
            "store_rejects = true, rejects_table = 'rejects', rejects_scan = 'reject_scans', "
            f"parallel = {parallel}"
        )
        if not self.points:
            return read
        changed = ", ".join(f"replace(c{place}, ',', '.') AS c{place}" for place in self.points)
        return f"(SELECT * REPLACE ({changed}) FROM {read})"  # noqa: S608 - numbered columns

    def _read_csv(self, how: str) -> str:
        # No sniffing: it samples, so it would decide from the first rows what later rows may be.
        columns = ", ".join(f"'c{number}': 'VARCHAR'" for number in range(len(self.file.names)))
        return (
            f"read_csv({exact_file(self.path)}, auto_detect = false, columns = {{{columns}}}, "
            f"header = {self.has_header}, {self.file.dialect()}, "
            f"max_line_size = {_MAX_LINE}, buffer_size = {_BUFFER}, {how})"
        )

    def part(self, path: Path) -> Self:
        """Some of its lines in a file of their own."""
        return replace(self, file=replace(self.file, path=path), has_header=False)

    def with_whole_lines(self, target: Path) -> tuple[Self, int]:
        """A copy without the lines in which a quote is not closed, if there are any, and how many.

        In a log in which no cell holds a line break: there each of them would hide others.
        """
        with self.file.stream() as lines:
            torn = {place for place, line in enumerate(lines) if line.count(b'"') % 2}
        torn.discard(0)  # the header
        if not torn:
            return self, 0
        with self.file.stream() as lines, target.open("wb") as copy:
            copy.writelines(line for place, line in enumerate(lines) if place not in torn)
        return replace(self, file=replace(self.file, path=target, is_gzip=False)), len(torn)

    def with_plain_line_ends(self, target: Path) -> Self:
        """A copy in which every line ends with a line feed."""
        return replace(self, file=self.file.plain(target))


def _line_count(source: CsvSource) -> int:
    """Physical lines; of a gzip file this also checks the sum at its end."""
    lines, last = 0, b"\n"
    with source.file.stream() as stream:
        while chunk := stream.read(_CHUNK):
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return lines + (last != b"\n")


def is_complete(source: CsvSource, scanned: Scanned) -> bool:
    """Whether every physical line became a row or part of a malformed one."""
    return _line_count(source) == 1 + scanned.rows + scanned.malformed


def with_hidden_lines(stage: Stage, source: CsvSource, scanned: Scanned) -> Scanned:
    """The scan with the lines that DuckDB left out without a word as malformed ones.

    A quote that is never closed makes one cell of all that follows it.
    """
    missing = _line_count(source) - 1 - scanned.rows - scanned.malformed
    if missing <= 0:
        return scanned
    cells = (f"c{place}" for place in range(len(source.file.names)))
    inside = " + ".join(
        f"coalesce(length({cell}) - length(replace({cell}, chr(10), '')), 0)" for cell in cells
    )
    relation = source.relation(parallel=False)
    missing -= stage.number(f"SELECT sum({inside}) FROM {relation}")  # noqa: S608 - numbered
    with source.file.stream() as stream:
        missing -= sum(not line.strip() for line in stream)
    if missing <= 0:
        return scanned
    reason = "malformed: a quote that is never closed, hides further lines"
    stage.run(f"""INSERT INTO malformed SELECT {scanned.rows} + count(*) + 1, '{reason}',
        '(from here to the end of the file)', {missing} FROM malformed""")  # noqa: S608 - numbers
    return replace(scanned, malformed=scanned.malformed + missing)
