"""How far the CSV log was sent to the store, in a file beside it."""

from __future__ import annotations

import hashlib
import os

from ml_pipeline.evaluation_log.event_csv import naming_errors
from ml_pipeline.private_files import make_folder, opener

DELIVERED_SUFFIX = ".delivered"
_TAIL = 1 << 10

Mark = tuple[int, bytes]
_NO_CHECKSUM = b"-"
_NOTHING: Mark = (0, _NO_CHECKSUM)


class Delivered:
    """Up to which byte of the CSV the store has everything.

    Two marks, the boot that they were made in, and a checksum of what stood before each, in a small
    file of fixed width. The first mark counts what was sent; the second what the store has brought
    to its disk, and it alone counts after a power cut. Marks may lag behind: what stands after them
    is sent again, and a store takes an event once however often it comes. So a mark before which
    something else stands now counts for nothing.
    """

    _FORM = b"%020d %020d %-36.36s %s %s\n"
    _SIZE = 113

    def __init__(self, csv_path: str) -> None:
        self._csv = os.path.abspath(csv_path)
        self._path = self._csv + DELIVERED_SUFFIX
        self._file = -1
        self._process = 0
        self._boot = b""
        self._log = -1
        self._log_opened = (0, 0, 0)
        self._known: tuple[Mark, Mark] | None = None

    def position(self, size: int) -> int:
        """The mark; 0 when there is none, or when what stands before it was rewritten."""
        marks = self._marks()
        for mark, checksum in marks:
            if mark <= size and checksum in {_NO_CHECKSUM, self._checksum(mark)}:
                return mark
        if marks:
            self.move(0, durable=True)
            warn(
                "%s was rewritten or replaced since its events were sent; all of it is sent again. "
                "`ml-pipeline reconcile` shows what else the store holds.", self._csv,
            )  # fmt: skip
        return 0

    def move(self, position: int, *, durable: bool) -> None:
        """Everything before `position` was sent; `durable` says that the store has it on disk."""
        sent = position, self._checksum(position)
        settled = sent
        if not durable:
            # As `position` has read it. Another process may have moved it on since: it lags then.
            mark, checksum = (self._known or self._read())[1]
            settled = mark, self._checksum(mark) if checksum == _NO_CHECKSUM else checksum
        marks = self._FORM % (sent[0], settled[0], self._boot, sent[1], settled[1])
        with naming_errors(self._path):
            os.pwrite(self._opened(), marks, 0)
        self._known = sent, settled

    def _marks(self) -> list[Mark]:
        """The marks that may count, the later first; one of an older version has no checksum."""
        self._known = known = self._read()
        marks = sorted(known, reverse=True)
        if marks[0][1] == _NO_CHECKSUM:
            marks = marks[:1]
        return [mark for mark in marks if mark[0]]

    def _read(self) -> tuple[Mark, Mark]:
        """What was sent since this boot, and what the store has on its disk."""
        with naming_errors(self._path):
            parts = os.pread(self._opened(), self._SIZE, 0).split()
        is_whole = len(parts) in {3, 5} and parts[0].isdigit() and parts[1].isdigit()
        if not is_whole:
            return _NOTHING, _NOTHING
        sent, settled = int(parts[0]), int(parts[1])
        checksums = parts[3:] or [_NO_CHECKSUM, _NO_CHECKSUM]
        return (
            (sent, checksums[0]) if parts[2] == self._boot else _NOTHING,
            (settled, checksums[1]),
        )

    def _checksum(self, mark: int) -> bytes:
        """Of the last bytes before the mark: a log rewritten shorter or longer has others there.

        Few, because every logged event is held to them.
        """
        try:
            found = os.pread(self._opened_log(), min(mark, _TAIL), max(0, mark - _TAIL))
        except FileNotFoundError:
            found = b""
        return hashlib.blake2b(found, digest_size=8).hexdigest().encode()

    def _opened_log(self) -> int:
        """The CSV, opened again where another file stands at its place."""
        status = os.stat(self._csv)
        found = (os.getpid(), status.st_dev, status.st_ino)
        if self._log < 0 or found != self._log_opened:
            self._close_log()
            self._log = os.open(self._csv, os.O_RDONLY | os.O_CLOEXEC)
            self._log_opened = found
        return self._log

    def _close_log(self) -> None:
        if self._log >= 0:
            os.close(self._log)
        self._log = -1

    def _opened(self) -> int:
        """The file, made with its folder when there is none: a machine may log for the first time.

        It stands beside the CSV, whose folder is as new as that.
        """
        if self._file < 0 or self._process != os.getpid():
            make_folder(os.path.dirname(self._path))
            self._file = opener(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            self._process = os.getpid()
            self._boot = _boot_id()
        return self._file

    def close(self) -> None:
        """Let go of the files."""
        self._close_log()
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def _boot_id() -> bytes:
    """What differs after each start of the machine; without it nothing counts as sent before."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().strip()
    except OSError:
        return _boot_session() or b"process-%d" % os.getpid()


def _boot_session() -> bytes:
    """The same on macOS, nothing elsewhere."""
    import subprocess

    try:
        return subprocess.run(
            ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return b""


def warn(message: str, *values: object) -> None:
    """Log a warning of the evaluation log; most of its processes have none, so it loads late."""
    import logging

    logging.getLogger("ml_logging").warning(message, *values)
