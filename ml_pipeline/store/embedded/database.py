"""The file of the embedded store: connections, transactions, migrations and errors."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import timedelta

import ml_pipeline
from ml_pipeline.errors import (
    ConfigError,
    StoreCorrupt,
    StoreDenied,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from ml_pipeline.private_files import make_file
from ml_pipeline.store.sql_text import identifier

Connection = sqlite3.Connection
SQLITE_VERSION = sqlite3.sqlite_version
_OLDEST_SQLITE = (3, 37, 0)
# How long a call waits for another process's write lock.
LOCK_TIMEOUT = timedelta(seconds=10)

_PERMISSIONS = "Check that the store's folder is there and that this user may write to it."
_ERRORS: Mapping[int, tuple[type[StoreError], str]] = {
    sqlite3.SQLITE_BUSY: (StoreUnavailable, "Another process is writing; try again later."),
    sqlite3.SQLITE_LOCKED: (StoreUnavailable, "Another process is writing; try again later."),
    sqlite3.SQLITE_FULL: (StoreUnavailable, "Free some space on that disk, then try again."),
    sqlite3.SQLITE_IOERR: (StoreUnavailable, "Check the disk, then try again."),
    sqlite3.SQLITE_READONLY: (StoreDenied, _PERMISSIONS),
    sqlite3.SQLITE_CANTOPEN: (StoreDenied, _PERMISSIONS),
    sqlite3.SQLITE_PERM: (StoreDenied, _PERMISSIONS),
    sqlite3.SQLITE_CONSTRAINT: (StoreRefused, ""),
    sqlite3.SQLITE_TOOBIG: (StoreRefused, ""),
}
LOCAL_DISK = (
    "Put the store's folder on a local disk; `ml-pipeline doctor --local DIR` tries what the file "
    "system of a folder can."
)
# Codes that say "disk I/O error" or "locking protocol" of a file system that lacks something.
_LACKING: Mapping[int, str] = {
    sqlite3.SQLITE_PROTOCOL: "locks",
    sqlite3.SQLITE_IOERR_LOCK: "locks",
    sqlite3.SQLITE_IOERR_RDLOCK: "locks",
    sqlite3.SQLITE_IOERR_UNLOCK: "locks",
    sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK: "locks",
    sqlite3.SQLITE_IOERR_SHMLOCK: "locks",
    sqlite3.SQLITE_IOERR_SHMOPEN: "shared memory of files (mmap)",
    sqlite3.SQLITE_IOERR_SHMMAP: "shared memory of files (mmap)",
    sqlite3.SQLITE_IOERR_MMAP: "shared memory of files (mmap)",
    sqlite3.SQLITE_IOERR_FSYNC: "fsync",
    sqlite3.SQLITE_IOERR_DIR_FSYNC: "fsync",
}
_RESTORE = (
    "Restore a backup into a new folder (`ml-pipeline restore BACKUP --local DIR`). Where store.db "
    "alone was copied here from elsewhere, store.db-wal and store.db-shm are of another file: move "
    "them away."
)


def _store_error(error: sqlite3.Error, path: str) -> StoreError:
    """The store's error for SQLite's; the low byte of a code is the primary result code."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code in _LACKING:
        message = f"{path}: {error}: {_LACKING[code]} failed in the file system there."
        return StoreUnavailable(message, hint=LOCAL_DISK)
    kind, hint = _ERRORS.get(code & 0xFF, (StoreCorrupt, _RESTORE))
    return kind(f"{path}: {error}.", hint=hint)


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # ours: a statement that does not fit its parameters
    except sqlite3.Error as error:
        raise _store_error(error, path) from error
    except UnicodeEncodeError as error:
        message = f"{path}: text that is not Unicode cannot be stored ({error.reason})."
        raise StoreRefused(message) from error


def _escaped(path: str) -> str:
    """A path inside an SQLite URI."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _connect(path: str, *, lock_timeout: timedelta, mode: str = "rw") -> sqlite3.Connection:
    # Mode rw: a store that someone removed must not come back as an empty file.
    connection = sqlite3.connect(
        f"file:{_escaped(path)}?mode={mode}",
        uri=True,
        timeout=lock_timeout.total_seconds(),
        isolation_level=None,
        check_same_thread=False,
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    # 64 MiB: random event ids touch every page of their index.
    connection.execute("PRAGMA cache_size = -65536")
    return connection


def _use_wal(db: sqlite3.Connection, path: str, lock_timeout: timedelta) -> None:
    # SQLite does not wait for its lock here, so two processes opening a new store need a retry.
    deadline = time.monotonic() + lock_timeout.total_seconds()
    while True:
        try:
            (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            break
    # SQLite goes on by another journal and says nothing: readers would wait for writers.
    if mode != "wal":
        message = f"{path}: the file system there cannot hold a write-ahead log ({mode} instead)."
        raise StoreRefused(message, hint=LOCAL_DISK)


def _statements(script: str) -> Iterator[str]:
    # `executescript` would commit the transaction that makes the migration whole.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _migrations() -> dict[int, str]:
    folder = os.path.join(os.path.dirname(ml_pipeline.__file__), "sql", "local")
    scripts = {}
    for name in os.listdir(folder):
        if name.endswith(".sql"):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                scripts[int(name[:4])] = file.read()
    return scripts


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _migrate(db: sqlite3.Connection, path: str) -> None:
    scripts = _migrations()
    newest = max(scripts)
    if _version(db) < newest:
        with _transaction(db):
            for number in sorted(number for number in scripts if number > _version(db)):
                for statement in _statements(scripts[number]):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {number}")
    if _version(db) > newest:
        message = f"{path} was written by a newer version of this package."
        raise StoreRefused(message, hint="Install that version, or a newer one.")


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def copy_whole(source: str, target: str) -> None:
    """Copy the database as it is at one moment, also what stands in its write-ahead log.

    Raises StoreError, StoreCorrupt when the copy is not sound.
    """
    with (
        _translated(source),
        closing(_connect(source, lock_timeout=LOCK_TIMEOUT)) as db,
        closing(_connect(target, lock_timeout=LOCK_TIMEOUT, mode="rwc")) as copy,
    ):
        db.backup(copy)
        # A file of its own: nothing beside it has to be kept with it.
        copy.execute("PRAGMA journal_mode = DELETE")
        (found,) = copy.execute("PRAGMA integrity_check").fetchone()
        if found != "ok":
            raise StoreCorrupt(f"{source} is damaged: {found}.", hint=_RESTORE)


def schema_version(path: str) -> int:
    """The number of the last migration that the file had."""
    with _translated(path), closing(_connect(path, lock_timeout=LOCK_TIMEOUT)) as db:
        return _version(db)


def count_rows(path: str) -> dict[str, int]:
    """How many rows each table holds."""
    with _translated(path), closing(_connect(path, lock_timeout=LOCK_TIMEOUT)) as db:
        tables = db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        counts = {}
        for (name,) in tables:
            counted = db.execute(f"SELECT count(*) FROM {identifier(name)}").fetchone()  # noqa: S608
            counts[name] = int(counted[0])
        return counts


class Database:
    """The SQLite file. Every use opens its own connection.

    So it may be used from any thread or process, also after a fork. A write takes the write lock
    first (`BEGIN IMMEDIATE`), so what it reads stays true until it commits.
    """

    def __init__(self, path: str, *, lock_timeout: timedelta = LOCK_TIMEOUT) -> None:
        self.path = path
        self._lock_timeout = lock_timeout

    def prepare(self) -> None:
        """Make the file and bring its schema up to date; safe for several processes at once."""
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            message = f"SQLite {sqlite3.sqlite_version} is too old for an embedded store."
            raise ConfigError(message, hint="Use a Python built with SQLite 3.37 or newer.")
        # SQLite gives the files beside it the same mode. What cannot be made it says itself.
        with suppress(OSError):
            make_file(self.path)
        with (
            _translated(self.path),
            closing(_connect(self.path, lock_timeout=self._lock_timeout, mode="rwc")) as db,
        ):
            _use_wal(db, self.path, self._lock_timeout)
            _migrate(db, self.path)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection; each statement sees one state of the database."""
        with (
            _translated(self.path),
            closing(_connect(self.path, lock_timeout=self._lock_timeout)) as db,
        ):
            yield db

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction, whole or not at all."""
        with self.reading() as db, _transaction(db):
            yield db


class HeldConnection:
    """A connection that stays open between calls, for readers and writers of single rows.

    It is opened again after a fork, and when another file is at the path: what is written to
    a removed file would be lost. Not for two threads at once.
    """

    def __init__(self, path: str, *, lock_timeout: timedelta = LOCK_TIMEOUT) -> None:
        self.path = path
        self._lock_timeout = lock_timeout
        self._db: Connection | None = None
        self._opened: tuple[int, int, int] | None = None
        self._parents: list[Connection] = []
        self._durable = True

    @contextmanager
    def use(self) -> Iterator[Connection]:
        """The connection. Raises StoreError as the store does."""
        with _translated(self.path):
            yield self._current()

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[Connection]:
        """One transaction, whole or not at all.

        Without `durable` it is on the disk no sooner than a later durable one.
        """
        with self.use() as db:
            if durable is not self._durable:
                db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            with _transaction(db):
                yield db

    def _current(self) -> Connection:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            message = f"There is no embedded store at {self.path}."
            raise StoreDenied(
                message, hint="If it was removed, `ml-pipeline init --local DIR` makes a new one."
            ) from None
        found = (os.getpid(), status.st_dev, status.st_ino)
        if self._db is None or found != self._opened:
            self._close_current(found[0])
            self._db, self._opened = _connect(self.path, lock_timeout=self._lock_timeout), found
            self._durable = True
        return self._db

    def _close_current(self, process: int) -> None:
        if self._db is not None and self._opened is not None:
            if self._opened[0] == process:
                self._db.close()
            else:
                # SQLite forbids to close a parent's connection in its child.
                self._parents.append(self._db)
        self._db = None

    def close(self) -> None:
        """Close it; the next use opens it again."""
        self._close_current(os.getpid())
