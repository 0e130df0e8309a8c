"""A CSV not all of whose lines are rows: each one is kept, with what is wrong with it."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ml_pipeline.datasets.csv_file import CsvFile
from ml_pipeline.errors import DataError, InputError

# A field of that many characters is no longer a field, but what follows a stray quote.
LONGEST_FIELD = 1_000_000
# How `write_whole_rows` writes.
COPY_DIALECT = "delim = ',', quote = '\"', escape = '\"'"
_SHOWN = 200


@contextmanager
def refusals() -> Iterator[None]:
    """Raise InputError for a file that cannot be read."""
    try:
        yield
    except DataError as error:
        raise InputError(error.message, hint=error.hint) from None
    except OSError as error:
        raise InputError(f"The file cannot be read: {error}.") from error


@contextmanager
def _opened(file: CsvFile) -> Iterator[TextIO]:
    """A CSV behind its preface; bytes that are no UTF-8 become surrogates. Raises InputError."""
    limit = csv.field_size_limit(LONGEST_FIELD)
    try:
        with refusals(), file.text("surrogateescape") as text:
            yield text
    finally:
        csv.field_size_limit(limit)


def count_lines(file: CsvFile) -> int:
    """How many lines a file has until its last that is not empty, those inside of cells included.

    Raises InputError.
    """
    lines, last = 0, b"\n"
    with refusals(), file.stream() as stream:
        while chunk := stream.read(1 << 20):
            lines += chunk.count(b"\n")
            last = chunk
    end = last[len(last.rstrip(b"\r\n")) :].count(b"\n")
    return lines - end + 1


def write_whole_rows(file: CsvFile, width: int, needed: Collection[int], target: Path) -> int:
    """Copy a CSV so that each row has `width` cells and, behind them, its fault or nothing.

    A row that ends before one of the `needed` cells has a fault; others are filled up. Returns how
    many have one.
    """
    unreadable = 0
    with _opened(file) as text, target.open("w", encoding="utf-8", newline="") as copy:
        write = csv.writer(copy).writerow
        records = _records(text, file)
        next(records)
        write([*map(str, range(width)), "fault"])
        for number, cells, fault in records:
            if not cells and not fault and width > 1:
                continue  # an empty line
            row, what = ([""] * width, fault) if fault else _fitted(cells or [""], width, needed)
            unreadable += what != ""
            write([*row, f"Line {number} {what}." if what else ""])
    return unreadable


def _records(text: TextIO, file: CsvFile) -> Iterator[tuple[int, list[str], str]]:
    """Of each record the number of its line, its cells, and why it has none.

    After a line that cannot be read it goes on with the next one: a stray quote would take all
    lines up to the next quote with it.
    """
    lines = _Lines(text, file.preface)
    reader = csv.reader(lines, delimiter=file.delimiter, strict=True)
    while True:
        lines.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            shown = lines.give_back().rstrip("\r\n")[:_SHOWN]
            yield lines.number, [], f"cannot be read as CSV ({error}): {_readable(shown)}"
            continue
        yield lines.number, cells, ""


class _Lines:
    """Lines of a file, of which those of the present record can be given back."""

    def __init__(self, file: TextIO, before: int) -> None:
        self._file = file
        self._waiting = deque[str]()
        self._taken = list[str]()
        self.number = 1 + before

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else next(self._file)
        self._taken.append(line)
        return line

    def begin(self) -> None:
        """Begin a record; `number` is that of its first line."""
        self.number += len(self._taken)
        self._taken = []

    def give_back(self) -> str:
        """Give back all lines of the record but its first, which is returned."""
        first, *others = self._taken
        self._waiting.extendleft(reversed(others))
        self._taken = [first]
        return first


def _fitted(cells: list[str], width: int, needed: Collection[int]) -> tuple[list[str], str]:
    """As many cells as the header has names, and what is wrong with them."""
    row = [*cells[:width], *([""] * (width - len(cells)))]
    # Empty ones say nothing: some programs end each line with a comma.
    surplus = ", ".join(map(repr, cells[width:])) if any(cells[width:]) else ""
    if not all(map(_is_text, cells)):
        return list(map(_readable, row)), "is not valid UTF-8"
    if surplus:
        message = f"has {len(cells)} cells, the header has {width} names; too many: {surplus}"
        return row, message
    if any(place >= len(cells) for place in needed):
        return row, f"has {len(cells)} cells, the header has {width} names"
    return row, ""


def _is_text(text: str) -> bool:
    return text.isprintable() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _readable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
