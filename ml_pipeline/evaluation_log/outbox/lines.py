"""Events as the lines of the CSV log, one each, and what can be read of a line that is none."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter

from ml_pipeline.store.event_row import EVENT_COLUMNS, SEED_LOG_COLUMNS, TIME_WIDTH, EventRow

# A line that was written is read again, whatever its features hold: Python's own limit is 128 KB,
# and one line beyond it would keep back every later one.
csv.field_size_limit(max(csv.field_size_limit(), 1 << 30))

HEADER = (",".join(EVENT_COLUMNS) + "\n").encode()
# Headers of before: of the original documents, and of 0.1.
NARROW = (
    SEED_LOG_COLUMNS,
    tuple(name for name in EVENT_COLUMNS if name != "probabilities"),
)
BOM = b"\xef\xbb\xbf"
_WIDTH = len(EVENT_COLUMNS)
_BY_WIDTH = {len(names): names for names in (*NARROW, EVENT_COLUMNS)}
_NOTHING: EventRow = dict.fromkeys(EVENT_COLUMNS)
_NUMBERS = ("confidence", "accuracy")
_CONFIDENCE = EVENT_COLUMNS.index("confidence")
_STATUS = EVENT_COLUMNS.index("status")
_EVALUATED_AT = EVENT_COLUMNS.index("evaluated_at")
_BREAKS = str.maketrans("\r\n", "  ")
_cells = itemgetter(*EVENT_COLUMNS)


def lines_of(rows: Iterable[Mapping[str, object]]) -> bytes:
    """The rows as CSV lines, one each: JSON that somebody wrote by SQL may hold line breaks."""
    cells = list(map(_cells, rows))
    text = _written(cells)
    if text.count("\n") > len(cells) or "\r" in text:
        text = _written([map(_on_one_line, row) for row in cells])
    return text.encode()


def _written(cells: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells)
    return text.getvalue()


def _on_one_line(cell: object) -> object:
    return cell.translate(_BREAKS) if isinstance(cell, str) else cell


def row_of(cells: Sequence[str]) -> EventRow | None:
    """The row in a line's cells, also of an earlier version; None when the line is no event."""
    names = _BY_WIDTH.get(len(cells))
    if names is None or not cells[1]:
        return None
    row: EventRow = {name: cell or None for name, cell in zip(names, cells, strict=True)}
    if names is not EVENT_COLUMNS:
        row = _NOTHING | row
    try:
        for name in _NUMBERS:
            cell = row[name]
            row[name] = None if cell is None else float(str(cell))
    except ValueError:
        return None
    return row


def events_in(lines: Iterable[bytes], *, is_torn: bool = False) -> Iterator[EventRow]:
    """The events in those lines, whatever they end with: no cell holds a line break.

    Each line is read by itself, or a quote that one of them lost would take the next one along.
    Of a torn line the cells before its numbers are read; the last one may be cut.
    """
    texts = (line.decode("utf-8", "replace") for line in lines)
    plain = (
        part
        for text in texts
        for part in (text.replace("\r\n", "\n").split("\r") if "\r" in text else (text,))
    )
    for part in plain:
        found = next(csv.reader((part,)), [])
        cells = [*found[:_CONFIDENCE], *[""] * _WIDTH][:_WIDTH] if is_torn else found
        row = None if cells[:2] == ["timestamp", "event_id"] else row_of(cells)
        if row is not None:
            yield row


def line_test(is_wanted: Callable[[EventRow], bool]) -> Callable[[bytes], bool]:
    """A test of lines by their events; of one that is no event what can be read of it counts."""

    def test(line: bytes) -> bool:
        rows = list(events_in([line])) or list(events_in([line], is_torn=True))
        return any(map(is_wanted, rows))

    return test


def is_begun(start: bytes) -> bool:
    """Whether a file that starts so holds no more than a header, whole or torn, or nothing."""
    text = start.removeprefix(BOM).rstrip(b"\0\r")
    headers = [HEADER, *(",".join(names).encode() for names in NARROW)]
    return b"\n" not in text and any(header.startswith(text) for header in headers)


def is_complete(line: bytes) -> bool:
    """Whether only the line break is missing: nothing but a whole line passes all of this."""
    try:
        cells = next(csv.reader([line.decode()], strict=True))
        features = json.loads(cells[EVENT_COLUMNS.index("features")] or "null")
    except (csv.Error, ValueError, IndexError, StopIteration):
        return False
    if len(cells) != _WIDTH or row_of(cells) is None or not isinstance(features, dict | None):
        return False
    width = TIME_WIDTH if cells[_STATUS] == "evaluated" else 0
    return len(cells[_EVALUATED_AT]) == width
