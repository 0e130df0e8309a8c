"""The file of the embedded store: connections, transactions, migrations and refusals."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Final

from ml_pipeline.errors import (
    ConfigError,
    StoreCorrupt,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)

Connection = sqlite3.Connection
SQLITE_VERSION: Final = sqlite3.sqlite_version
_OLDEST_SQLITE: Final = (3, 37, 0)

_PERMISSIONS = "Check that the store's folder is there and that this user may write to it."
_REFUSALS: Mapping[int, tuple[type[StoreError], str]] = {
    sqlite3.SQLITE_BUSY: (StoreUnavailable, "Another process is writing; try again later."),
    sqlite3.SQLITE_LOCKED: (StoreUnavailable, "Another process is writing; try again later."),
    sqlite3.SQLITE_FULL: (StoreUnavailable, "Free some space on that disk, then try again."),
    sqlite3.SQLITE_IOERR: (StoreUnavailable, "Check the disk, then try again."),
    sqlite3.SQLITE_READONLY: (StoreRefused, _PERMISSIONS),
    sqlite3.SQLITE_CANTOPEN: (StoreRefused, _PERMISSIONS),
    sqlite3.SQLITE_PERM: (StoreRefused, _PERMISSIONS),
    sqlite3.SQLITE_CONSTRAINT: (StoreRefused, ""),
    sqlite3.SQLITE_TOOBIG: (StoreRefused, ""),
}
_RESTORE = "Restore the folder from a backup, or choose another one."


def _store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """What SQLite's refusal means to the caller; the low byte is the primary result code."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    kind, hint = _REFUSALS.get(code, (StoreCorrupt, _RESTORE))
    return kind(f"{path}: {error}.", hint=hint)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # ours: a statement that does not fit its parameters
    except sqlite3.Error as error:
        raise _store_error(error, path) from error
    except UnicodeEncodeError as error:
        message = f"{path}: text that is not Unicode cannot be stored ({error.reason})."
        raise StoreRefused(message) from error


def _connect(path: Path, *, patience: timedelta, mode: str = "rw") -> sqlite3.Connection:
    # Mode rw: a store that someone removed must not come back as an empty file.
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=patience.total_seconds(),
        isolation_level=None,
        check_same_thread=False,
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    # 64 MiB: random event ids touch every page of their index.
    connection.execute("PRAGMA cache_size = -65536")
    return connection


def _use_wal(db: sqlite3.Connection, patience: timedelta) -> None:
    # SQLite does not wait for its lock here, so two processes opening a new store need a retry.
    deadline = time.monotonic() + patience.total_seconds()
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _statements(script: str) -> Iterator[str]:
    # `executescript` would commit the transaction that makes the migration whole.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _migrations() -> dict[int, str]:
    folder = files("ml_pipeline") / "sql" / "local"
    scripts = (entry for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return {int(entry.name[:4]): entry.read_text(encoding="utf-8") for entry in scripts}


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _migrate(db: sqlite3.Connection, path: Path) -> None:
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
        raise StoreRefused(message, hint="Update the package.")


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


class Database:
    """The SQLite file. Every use opens its own connection.

    So it may be used from any thread or process, also after a fork. A write takes the write lock
    first (`BEGIN IMMEDIATE`), so what it reads stays true until it commits.
    """

    def __init__(self, path: Path, *, patience: timedelta) -> None:
        self.path = path
        self._patience = patience

    def prepare(self) -> None:
        """Make the file and bring its schema up to date; safe for several processes at once."""
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            message = f"SQLite {sqlite3.sqlite_version} is too old for an embedded store."
            raise ConfigError(message, hint="Use a Python built with SQLite 3.37 or newer.")
        with (
            _translated(self.path),
            closing(_connect(self.path, patience=self._patience, mode="rwc")) as db,
        ):
            _use_wal(db, self._patience)
            _migrate(db, self.path)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection; each statement sees one state of the database."""
        with (
            _translated(self.path),
            closing(_connect(self.path, patience=self._patience)) as db,
        ):
            yield db

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction, whole or not at all."""
        with self.reading() as db, _transaction(db):
            yield db
