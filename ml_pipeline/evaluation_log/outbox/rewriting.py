"""The CSV log written anew, as a whole or not at all: with more columns, or without some lines.

Each returns where in the new file a byte of the old one is. Where the path is a link, the file that
it leads to is written anew, for its old owner and with its old mode: others may log there as well.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ml_pipeline.private_files import keep_access, opener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO


def written_without(path: str, is_left_out: Callable[[bytes], bool], mark: int) -> tuple[int, int]:
    """Write a file anew; return how many lines were left out, and the bytes kept before `mark`."""
    gone = kept = place = 0
    path = os.path.realpath(path)
    with _draft(path) as draft:
        with open(path, "rb") as old, open(draft, "wb", opener=opener) as new:
            for line in old:
                place += len(line)
                # With line ends of several kinds an event goes without its neighbour.
                parts = line.splitlines(keepends=True) if b"\r" in line else (line,)
                for part in parts:
                    if is_left_out(part):
                        gone += 1
                        continue
                    # A line that ends with what its neighbour ended with would not be whole.
                    whole = part[:-1] + b"\n" if part.endswith(b"\r") else part
                    new.write(whole)
                    kept += len(whole) if place <= mark else 0
            new.flush()
            keep_access(path, new.fileno())
            os.fsync(new.fileno())
        if gone:
            os.replace(draft, path)
            sync_folder(path)
    return gone, kept


def write_wider(path: str, columns: Sequence[str], mark: int) -> int:
    """Write a log anew with more columns; return the bytes of what stood before `mark`.

    A last line that is not whole stays so, and a line that is no event stays as it is.
    """
    path = os.path.realpath(path)
    with _draft(path) as draft:
        with open(path, "rb") as old, open(draft, "wb", opener=opener) as new:
            kept = _copy_wider(_Lines(old), new, columns, mark)
            new.flush()
            keep_access(path, new.fileno())
            os.fsync(new.fileno())
        os.replace(draft, path)
        sync_folder(path)
    return kept


def _copy_wider(lines: _Lines, new: IO[bytes], columns: Sequence[str], mark: int) -> int:
    rows = csv.reader(lines)
    names = [name.strip() for name in next(rows)]
    kept = new.write((",".join(columns) + "\n").encode())
    kept = kept if mark else 0
    for cells in rows:
        # No cell of ours holds a line break, which would tear the log's lines.
        plain = [" ".join(cell.split("\n")) for cell in cells]
        if len(cells) == len(names):
            named = dict(zip(names, plain, strict=True))
            plain = [named.get(name, "") for name in columns]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n" if lines.is_whole else "").writerow(plain)
        written = new.write(text.getvalue().encode(errors="surrogateescape"))
        kept += written if lines.place <= mark else 0
    return kept


class _Lines:
    """The lines of a file as texts; `place` is the byte behind the last one."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.place = 0
        self.is_whole = True

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            parts = line.splitlines(keepends=True) if b"\r" in line else (line,)
            for part in parts:
                begun = part.removeprefix(b"\xef\xbb\xbf") if not self.place else part
                self.place += len(part)
                self.is_whole = part.endswith((b"\n", b"\r"))
                yield begun.decode(errors="surrogateescape")


@contextmanager
def _draft(path: str) -> Iterator[str]:
    """The name of a file beside it, which is gone afterwards unless it took its place.

    Whoever writes holds the log's lock, so that those of others were left by processes that died.
    """
    from glob import escape, glob

    for left in glob(f"{escape(path)}.*.tmp"):
        os.unlink(left)
    draft = f"{path}.{os.getpid()}.tmp"
    try:
        yield draft
    finally:
        if os.path.exists(draft):
            os.unlink(draft)


def sync_folder(path: str) -> None:
    """Wait until the name of a file would outlast a power cut."""
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
