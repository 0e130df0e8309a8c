"""What an embedded store needs of the file system below it, tried in its own folder."""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ml_pipeline.errors import StoreError
from ml_pipeline.store.embedded.artifacts import sync_folder
from ml_pipeline.store.embedded.database import Database


def missing(folder: Path) -> list[str]:
    """What the file system of the folder lacks, each with what it answered; nothing is left.

    A folder that is not there yet is tried in the one above it. Raises OSError where nothing can
    be written.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    found = []
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=place) as name:
        file = Path(name) / "file"
        file.write_bytes(b"x" * mmap.PAGESIZE)
        for what, try_it in _NEEDED.items():
            try:
                try_it(file)
            except OSError as error:
                found.append(f"{what} ({error.strerror or error})")
            except StoreError as error:
                found.append(f"{what} ({error.message})")
    return found


def _lock(file: Path) -> None:
    with file.open("rb") as first, file.open("rb") as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
    raise OSError("two hold the same lock")


def _link(file: Path) -> None:
    os.link(file, file.with_name("link"))


def _map(file: Path) -> None:
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), mmap.PAGESIZE) as content:
        content[:1] = b"y"
        content.flush()
    if file.read_bytes()[:1] != b"y":
        raise OSError("what is written into memory does not come to the file")


def _rename(file: Path) -> None:
    fresh = file.with_name("fresh")
    fresh.write_bytes(b"z")
    fresh.replace(file.with_name("old"))
    fresh.write_bytes(b"z")
    fresh.replace(file.with_name("old"))


def _sync(file: Path) -> None:
    with file.open("r+b") as opened:
        os.fsync(opened)
    sync_folder(file.parent)


def _write_ahead(file: Path) -> None:
    Database(str(file.with_name("store.db"))).prepare()


_NEEDED: Final[Mapping[str, Callable[[Path], None]]] = {
    "locks": _lock,
    "hard links": _link,
    "shared memory of files (mmap)": _map,
    "renaming over a file": _rename,
    "fsync": _sync,
    "SQLite's write-ahead log": _write_ahead,
}
