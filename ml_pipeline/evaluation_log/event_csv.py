"""The evaluation log as an append-only CSV: several processes, power cuts, and what was sent on.

A record is one line, written under a lock by one write and brought to the disk before the call
returns. Nothing that stands is ever rewritten: an outcome is one more line that repeats its event.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from ml_pipeline.errors import DataError, StoreDenied, StoreUnavailable
from ml_pipeline.evaluation_log.outbox.lines import (
    BOM,
    HEADER,
    NARROW,
    events_in,
    is_begun,
    is_complete,
    line_test,
    lines_of,
)
from ml_pipeline.evaluation_log.outbox.rewriting import sync_folder, write_wider, written_without
from ml_pipeline.private_files import make_folder, opener
from ml_pipeline.store.event_row import EVENT_COLUMNS, EventRow, merge_rows

TORN_SUFFIX = ".torn"
READ_ROWS = 1000
_FEW = 20
_BLOCK = 1 << 16
_PIECE = 1 << 20
# What file systems answer that have no locks, or map no files into memory.
_LACKING = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENODEV}
_OTHER_FILE = "Let this user read and write it, or name another file in log.csv_file."
_OTHER_DISK = (
    "The file system there has no locks, or maps no files into memory: name a file on a local disk "
    "in log.csv_file."
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mmap import mmap

Span = tuple[int, int]


def bring_to_disk(file: int) -> None:
    """Wait until what was written would outlast a power cut.

    On macOS `fsync` ends at the drive's own cache, and there is no `fdatasync`.
    """
    whole: int | None = getattr(fcntl, "F_FULLFSYNC", None)
    if whole is None:
        os.fdatasync(file)
    else:
        fcntl.fcntl(file, whole)


class EventCsv:
    """The file. Each append is whole and on the disk, or it raises and leaves nothing behind."""

    def __init__(
        self,
        path: str,
        *,
        mark: Callable[[], int] = int,
        moved: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`mark` tells a byte of the file, and `moved` hears where it is in a file written anew."""
        self._mark, self._moved = mark, moved
        self.path = os.path.abspath(path)
        self._file = -1
        self._opened: tuple[int, int, int] | None = None
        self._checked_until = 0

    def append(self, rows: Sequence[Mapping[str, object]]) -> Span:
        """Write the rows; return where in the file they stand, in bytes.

        Raises StoreUnavailable when the disk is full or fails, StoreDenied when the file may not
        be written, DataError when it is no evaluation log.
        """
        return self.append_lines(lines_of(rows))

    def append_lines(self, lines: bytes) -> Span:
        """The same for rows that are lines already (`lines_of`)."""
        with naming_errors(self.path):
            with self._locked() as size:
                self._write(lines, size)
            bring_to_disk(self._file)
        return size, size + len(lines)

    def _write(self, lines: bytes, size: int) -> None:
        try:
            left = memoryview(lines)
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            os.ftruncate(self._file, size)
            raise
        self._checked_until = size + len(lines)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the file's lock; yields its size after every line in it is whole."""
        while True:
            self._open()
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                if self._is_current() and self._is_log():
                    size = os.fstat(self._file).st_size
                    yield size if size == self._checked_until else self._whole(size)
                    return
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
            self.close()

    def _open(self) -> None:
        if self._file >= 0 and self._opened is not None and self._opened[0] == os.getpid():
            return
        # After a fork parent and child would share one lock, so the child opens its own file.
        self.close()
        make_folder(os.path.dirname(self.path))
        self._file = opener(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
        status = os.fstat(self._file)
        self._opened = (os.getpid(), status.st_dev, status.st_ino)
        self._checked_until = -1

    def _is_current(self) -> bool:
        """Whether this file still stands under the name; it may have been moved away."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return False
        return self._opened == (os.getpid(), status.st_dev, status.st_ino)

    def _is_log(self) -> bool:
        """Whether the header is ours; that of an earlier version, or the seeds', is made ours."""
        if self._checked_until >= 0:
            return True
        start = os.pread(self._file, _BLOCK, 0)
        if is_begun(start):
            os.ftruncate(self._file, 0)
            self._write(HEADER, 0)
            os.fsync(self._file)
            sync_folder(self.path)
            return True
        header = start.split(b"\n")[0].removeprefix(BOM)
        names = header.decode("utf-8", "replace").strip().split(",")
        if names == list(EVENT_COLUMNS):
            return True
        if tuple(names) in NARROW:
            self._moved(write_wider(self.path, EVENT_COLUMNS, self._mark()))
            return False
        raise DataError(
            f"{self.path} is no evaluation log: its header is {','.join(names)[:200]!r}.",
            hint=f"Move it away, or name another file in log.csv_file. Expected: "
            f"{','.join(EVENT_COLUMNS)}.",
        )

    def _whole(self, size: int) -> int:
        """Repair the last line if a power cut or a kill tore it; return the size then."""
        if os.pread(self._file, 1, size - 1) == b"\n":
            return size
        start = size
        tail = b""
        while start > 0 and b"\n" not in tail:
            start = max(0, start - _BLOCK)
            tail = os.pread(self._file, size - start, start)
        line = tail[tail.rfind(b"\n") + 1 :]
        if is_complete(line):
            os.write(self._file, b"\n")
            return size + 1
        # The caller of that append never got an answer. Kept all the same, for a person to read.
        with open(self.path + TORN_SUFFIX, "ab", opener=opener) as torn:
            torn.write(line + b"\n")
            torn.flush()
            os.fsync(torn.fileno())
        os.ftruncate(self._file, size - len(line))
        os.fsync(self._file)
        return size - len(line)

    def mend(self) -> None:
        """Make the last line whole, or set it aside, as the next append would."""
        with naming_errors(self.path), self._locked():
            pass

    def erase(self, is_erased: Callable[[EventRow], bool], mark: int) -> tuple[int, int]:
        """Write the file anew without some events, whole or not at all; torn lines as well.

        Returns how many lines went, and how many bytes before `mark` stayed. Whoever has the file
        open notices: it is another one.
        """
        if not self.size():
            return 0, 0
        with naming_errors(self.path), self._locked():
            gone, kept = written_without(self.path, line_test(is_erased), mark)
            torn = self.path + TORN_SUFFIX
            if os.path.exists(torn):
                gone += written_without(torn, line_test(is_erased), 0)[0]
        self.close()
        return gone, kept

    def torn(self) -> list[EventRow]:
        """What can be read of the lines that were set aside."""
        if not os.path.exists(self.path + TORN_SUFFIX):
            return []
        with naming_errors(self.path), open(self.path + TORN_SUFFIX, "rb") as file:
            return list(events_in(file, is_torn=True))

    def size(self) -> int:
        """Bytes in the file; 0 when there is none."""
        try:
            return os.stat(self.path).st_size
        except FileNotFoundError:
            return 0

    def rows_from(self, offset: int) -> Iterator[tuple[list[EventRow], int]]:
        """Events after that byte, some at a time, each time with the byte behind them.

        Lines that are no events are left out, and so is a last line that is not whole.
        """
        with naming_errors(self.path), open(self.path, "rb") as file:
            file.seek(offset)
            while lines := file.readlines(READ_ROWS * 300):
                if not lines[-1].endswith(b"\n"):
                    lines.pop()
                offset += sum(map(len, lines))
                yield list(events_in(lines)), offset

    def find(
        self,
        event_ids: Collection[str] = (),
        match_ids: Collection[str] = (),
        *,
        since: int = 0,
    ) -> dict[str, EventRow]:
        """The events with those ids, or of those matches, each as one row.

        `since` is the byte from which on they are looked for.
        """
        if self.size() <= since:
            return {}
        wanted_events, wanted_matches = frozenset(event_ids), frozenset(match_ids)
        if len(wanted_events) + len(wanted_matches) <= _FEW:
            # No cell holds a line break: it would be found at the end of each line.
            texts = [text for text in wanted_events | wanted_matches if text and "\n" not in text]
            found = self._search(texts, since)
        else:
            found = (row for rows, _ in self.rows_from(since) for row in rows)
        return merge_rows(
            row
            for row in found
            if row["event_id"] in wanted_events or row["match_id"] in wanted_matches
        )

    def _search(self, texts: Sequence[str], since: int) -> Iterator[EventRow]:
        """Lines that hold one of the texts anywhere, found without reading each line."""
        import mmap

        starts = set()
        with (
            naming_errors(self.path),
            open(self.path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            for text in texts:
                cell = text.replace('"', '""').encode(errors="surrogatepass")
                place = _next(content, cell, since)
                while place >= 0:
                    starts.add(content.rfind(b"\n", 0, place) + 1)
                    end = content.find(b"\n", place)
                    place = _next(content, cell, end) if end >= 0 else -1
            ends = {start: content.find(b"\n", start) for start in starts}
            lines = [content[start:end] for start, end in sorted(ends.items()) if end >= 0]
        yield from events_in(lines)

    def close(self) -> None:
        """Let go of the file; the next append opens it again."""
        if self._file >= 0:
            os.close(self._file)
        self._file, self._opened = -1, None


def _next(content: mmap, cell: bytes, start: int) -> int:
    """Where the cell stands next; -1 where it does not.

    A piece at a time: one search through the whole of it would stop a server's other threads.
    """
    for piece in range(start, len(content), _PIECE):
        place = content.find(cell, piece, piece + _PIECE + len(cell) - 1)
        if place >= 0:
            return place
    return -1


@contextmanager
def naming_errors(path: str) -> Iterator[None]:
    """Turn the file system's refusals into errors that name the file."""
    try:
        yield
    except PermissionError as error:
        message = f"{path}: {error.strerror}."
        raise StoreDenied(message, hint=_OTHER_FILE) from error
    except OSError as error:
        hint = _OTHER_DISK if error.errno in _LACKING else ""
        raise StoreUnavailable(f"{path}: {error.strerror or error}.", hint=hint) from error
