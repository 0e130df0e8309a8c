"""A CSV that a person brings: its encoding, its delimiter, its columns, its decimal mark.

Every door for such files opens them here, so that what one of them reads all of them read. Read
are UTF-8 and UTF-16, commas, semicolons, tabs and bars, a first line `sep=;`, names in any case
and with space around them. A decimal comma is read where commas do not part cells. What could
mean two things is refused.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from ml_pipeline.errors import DataError
from ml_pipeline.store.inputs.columns import column_place, column_places
from ml_pipeline.store.sql_text import literal

if TYPE_CHECKING:
    import pandas as pd

DELIMITERS: Final = (",", ";", "\t", "|")
UTF_8, UTF_16 = "utf-8-sig", "utf-16"
COMMA_HINT: Final = (
    "a comma in a number is read as the decimal mark only where semicolons or tabs part the cells "
    "and every number of the column is written so."
)
AS_UTF_8: Final = "Save it as 'CSV UTF-8', or convert it: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW."
_HEAD: Final = 1 << 16
_CHUNK: Final = 1 << 20
# Far over every row that can be learned.
LONGEST_LINE: Final = 32 << 20
# Python's own limit, 128 KB a cell, would refuse a file for a long text that nobody reads.
csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
_GZIP_MAGIC: Final = b"\x1f\x8b"
_LINES_TRIED: Final = 20
# A number as programs write it where the comma is the decimal mark, and one whose commas may as
# well part thousands.
_COMMA_NUMBER: Final = re.compile(r"[+-]?\d+(,\d+)?([eE][+-]?\d+)?")
_THOUSANDS: Final = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
_SEP: Final = re.compile(r"\s*\"?sep=(.)\"?[,;\t ]*", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class CsvFile:
    """A CSV and how it is written; `header` has the names of its columns as they stand there.

    `preface` counts the lines before the header, `encoding` is Python's name.
    """

    path: Path
    header: tuple[str, ...]
    delimiter: str = ","
    encoding: str = UTF_8
    preface: int = 0
    is_gzip: bool = False

    @classmethod
    def opened(cls, path: Path) -> CsvFile:
        """Look at the first lines.

        Raises DataError for a file that is missing, empty, packed and damaged, or no text.
        """
        head, is_gzip = _head(path)
        encoding = _encoding(head, path)
        text = _decoded(head, encoding)
        if not text.strip():
            raise DataError(f"{path} is empty.", hint="Give a CSV with a header line.")
        lines = list(io.StringIO(text, newline=""))
        declared = _SEP.fullmatch(lines[0].rstrip("\r\n"))
        start = 0 if declared is None else 1
        while start < len(lines) - 1 and not lines[start].strip():
            start += 1
        lines = lines[start:]
        delimiter = declared[1] if declared else _delimiter(lines)
        header = _first_record(lines, delimiter, path)
        return cls(
            path=path, header=header, delimiter=delimiter, encoding=encoding,
            preface=start, is_gzip=is_gzip,
        )  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns without the space around them."""
        return tuple(name.strip() for name in self.header)

    @property
    def is_plain(self) -> bool:
        """Whether DuckDB reads it as it is, else a `plain` copy."""
        return self.encoding == UTF_8 and not self.preface

    @property
    def has_decimal_commas(self) -> bool:
        """Whether a comma may be a decimal mark in it."""
        return self.delimiter != ","

    def stream(self) -> IO[bytes]:
        """Its bytes, unpacked. Reading them raises DataError for a damaged gzip file."""
        return _bytes_of(self.path, is_gzip=self.is_gzip)

    def text(self, errors: str = "strict") -> io.TextIOWrapper:
        """Its text behind the preface, with line ends as they are."""
        file = io.TextIOWrapper(self.stream(), encoding=self.encoding, errors=errors, newline="")
        for _ in range(self.preface):
            file.readline()
        return file

    def dialect(self) -> str:
        """The arguments of DuckDB's `read_csv` that say how a plain one is written."""
        return (
            f"delim = {literal(self.delimiter)}, quote = '\"', escape = '\"', "
            f"compression = '{'gzip' if self.is_gzip else 'none'}'"
        )

    def plain(self, target: Path) -> CsvFile:
        """A copy in UTF-8 of which every line ends with a line feed."""
        try:
            with self.text("surrogateescape") as text, target.open("wb") as copy:
                held = ""
                while chunk := held + (more := text.read(_CHUNK)):
                    held = "\r" if more and chunk.endswith("\r") else ""
                    chunk = chunk[: len(chunk) - len(held)]
                    plain = chunk.replace("\r\n", "\n").replace("\r", "\n")
                    copy.write(plain.encode("utf-8", "surrogateescape"))
        except UnicodeError as error:
            raise DataError(f"{self.path} is no whole text in UTF-16: {error}.") from None
        return replace(self, path=target, encoding=UTF_8, preface=0, is_gzip=False)

    def place(self, name: str) -> int | None:
        """The number of the column of that name, see `column_place`."""
        return column_place(name, self.names, str(self.path))

    def places(self, spellings: Mapping[str, Sequence[str]]) -> dict[str, int]:
        """The numbers of the columns that it has, by our names, see `column_places`."""
        return column_places(spellings, self.names, str(self.path))

    def frame(self) -> pd.DataFrame:
        """Every cell as text, decimal commas as points.

        Raises DataError naming the line of what cannot be read.
        """
        import pandas as pd

        try:
            frame: pd.DataFrame = pd.read_csv(
                self.stream() if self.is_gzip else self.path, dtype=str, keep_default_na=False,
                sep=self.delimiter, encoding=self.encoding, skiprows=self.preface, compression=None,
            )  # fmt: skip
        except UnicodeDecodeError:
            raise self._no_utf_8() from None
        except (pd.errors.ParserError, csv.Error, OSError) as error:
            message = f"{self.path} cannot be read as CSV: {str(error).strip()}."
            raise DataError(message, hint=self._about_cells()) from None
        if not isinstance(frame.index, pd.RangeIndex):
            # pandas takes the surplus cells at the start of each row for row names.
            message = f"{self.path} has rows with more cells than its header has names."
            raise DataError(message, hint=self._about_cells())
        for place in self.point_places(range(len(self.names))):
            name = frame.columns[place]
            frame[name] = frame[name].str.replace(",", ".", regex=False)
        # As they stand there; pandas calls the second of two `a` `a.1`.
        return frame.set_axis(list(self.names), axis=1)

    def point_places(self, places: Collection[int]) -> list[int]:
        """Which of those columns hold numbers with decimal commas: all of them, beyond doubt.

        None in a file whose cells are parted by commas.
        """
        if not self.has_decimal_commas:
            return []
        numbers, certain = set(places), set[int]()
        for cells in self._readable_rows():
            for place in [place for place in numbers if place < len(cells)]:
                cell = cells[place].strip()
                if cell and not _COMMA_NUMBER.fullmatch(cell):
                    numbers.discard(place)
                elif "," in cell and not _THOUSANDS.fullmatch(cell):
                    certain.add(place)
        return sorted(numbers & certain)

    def _readable_rows(self) -> Iterator[list[str]]:
        """The rows without those that cannot be read, which whoever reads the file speaks of."""
        with self.text("replace") as file:
            rows = csv.reader(file, delimiter=self.delimiter)
            next(rows)
            while True:
                try:
                    yield next(rows)
                except StopIteration:
                    return
                except csv.Error:
                    continue

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """The rows, as many cells as there are names, each with the number of its (last) line.

        Rows without any text are left out. Raises DataError naming the line of what cannot be read.
        """
        width, number = len(self.names), 1 + self.preface
        with self.text() as file:
            rows = csv.reader(file, delimiter=self.delimiter, strict=True)
            try:
                next(rows)
                for cells in rows:
                    number = rows.line_num + self.preface
                    if any(cell.strip() for cell in cells[width:]):
                        raise DataError(
                            f"{self.path}, line {number} has {len(cells)} cells, the header has "
                            f"{width} names.",
                            hint=self._about_cells(),
                        )
                    if any(cell.strip() for cell in cells):
                        yield number, [*cells[:width], *[""] * (width - len(cells))]
            except UnicodeDecodeError:
                raise self._no_utf_8() from None
            except csv.Error as error:
                message = f"{self.path} cannot be read as CSV behind line {number}: {error}."
                raise DataError(message) from None

    def _about_cells(self) -> str:
        if self.has_decimal_commas:
            return "Put a cell that holds the delimiter between double quotes."
        return (
            "Put a cell that holds a comma between double quotes. Numbers need a decimal point "
            "(0.5), or semicolons between the cells."
        )

    def _no_utf_8(self) -> DataError:
        if self.encoding != UTF_8:
            return DataError(f"{self.path} is no whole text in UTF-16.", hint=AS_UTF_8)
        number, start = 0, b""
        with self.stream() as file:
            for number, start in enumerate(file, 1):  # noqa: B007 - the line where it ends
                try:
                    start.decode()
                except UnicodeDecodeError:
                    break
        shown = start.decode("utf-8", "replace").strip()[:80]
        return DataError(
            f"{self.path} cannot be read as CSV: line {number} is not valid UTF-8: {shown!r}.",
            hint=AS_UTF_8,
        )


def number_hint(text: str) -> str:
    """What to do about a text that is no number, '' where its commas are not the reason."""
    return COMMA_HINT[0].upper() + COMMA_HINT[1:] if "," in text else ""


def _head(path: Path) -> tuple[bytes, bool]:
    """The first bytes of a file, unpacked, and whether it is packed."""
    try:
        with path.open("rb") as file:
            is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        if path.name.lower().endswith(".gz") and not is_gzip:
            raise DataError(
                f"{path} is named .gz but holds no gzip, or a truncated or damaged gzip file.",
                hint="Rename it to .csv.",
            )
        with _bytes_of(path, is_gzip=is_gzip) as file:
            head = file.read(_HEAD)
    except FileNotFoundError:
        raise DataError(
            f"There is no file {path}.", hint="Give a CSV with a header line."
        ) from None
    except OSError as error:
        message = f"{path} cannot be read as CSV: {error.strerror or error}."
        raise DataError(message) from None
    return head, is_gzip


def _bytes_of(path: Path, *, is_gzip: bool) -> IO[bytes]:
    return io.BufferedReader(_Unpacked(path), _CHUNK) if is_gzip else path.open("rb")


class _Unpacked(io.RawIOBase):
    """The bytes of a gzip file, of which a small one may hold a line that fills the memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = gzip.open(path, "rb")  # noqa: SIM115 - closed by `close`
        self._length = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - a writable buffer
        """Raises DataError for a damaged file and for a line that is too long."""
        try:
            count = self._file.readinto(buffer)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise DataError(f"{self._path} is a truncated or damaged gzip file.") from None
        block = bytes(memoryview(buffer)[:count])
        end = max(block.rfind(b"\n"), block.rfind(b"\r"))
        self._length = count - end - 1 + (self._length if end < 0 else 0)
        if self._length > LONGEST_LINE:
            raise DataError(
                f"{self._path} unpacks to a line of over {LONGEST_LINE:,} bytes: it is no CSV."
            )
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _encoding(head: bytes, path: Path) -> str:
    if head.startswith(b"PK\x03\x04"):
        raise DataError(
            f"{path} is a workbook (.xlsx) or another packed file, not a CSV.",
            hint="Open it and save it as 'CSV UTF-8'.",
        )
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise DataError(f"{path} is in UTF-32.", hint="Save it as a CSV in UTF-8.")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return UTF_16
    if b"\0" in head[:200]:
        start = head[:200]
        if start[1::2].count(0) > len(start) // 3:
            return "utf-16-le"
        if start[::2].count(0) > len(start) // 3:
            return "utf-16-be"
        raise DataError(
            f"{path} is no text: its first bytes are {start[:12]!r}.",
            hint="Export it as a CSV in UTF-8.",
        )
    return UTF_8


def _decoded(head: bytes, encoding: str) -> str:
    return codecs.getincrementaldecoder(encoding)("replace").decode(head)


def _delimiter(lines: Sequence[str]) -> str:
    """The one that parts the header, and as many of the first lines into as many cells."""

    def fit(delimiter: str) -> tuple[bool, int, int]:
        try:
            rows = list(csv.reader(lines[: _LINES_TRIED + 1], delimiter=delimiter))
        except csv.Error:
            return False, 0, 0
        width = len(rows[0]) if rows else 0
        return width > 1, sum(len(row) == width for row in rows), width

    return max(DELIMITERS, key=fit) if lines else ","


def _first_record(lines: Sequence[str], delimiter: str, path: Path) -> tuple[str, ...]:
    try:
        names = next(csv.reader(lines, delimiter=delimiter), [])
    except csv.Error as error:
        raise DataError(f"{path} has no readable header: {error}.") from None
    if not any(name.strip() for name in names):
        raise DataError(f"{path} has no header line.", hint="Give a CSV with a header line.")
    return tuple(names)
