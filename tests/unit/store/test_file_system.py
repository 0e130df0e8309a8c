"""What a store says of a file system that lacks something that it needs."""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from ml_pipeline.commands import doctor
from ml_pipeline.errors import StoreRefused, StoreUnavailable
from ml_pipeline.evaluation_log.event_csv import EventCsv
from ml_pipeline.store.embedded import database
from ml_pipeline.store.embedded.file_system import missing
from ml_pipeline.store.embedded.store import LocalStore
from tests.support.factories import make_events

# The call that fails, with what, and what the doctor names.
FAULTS = {
    "flock": (fcntl, "flock", errno.ENOLCK, "locks"),
    "link": (os, "link", errno.EPERM, "hard links"),
    "mmap": (mmap, "mmap", errno.ENODEV, "shared memory of files (mmap)"),
    "fsync": (os, "fsync", errno.EINVAL, "fsync"),
}


def lacks(monkeypatch: pytest.MonkeyPatch, call: str) -> str:
    module, name, number, named = FAULTS[call]

    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, name, refuse)
    return named


def test_a_disk_of_this_machine_lacks_nothing_and_keeps_nothing(tmp_path: Path) -> None:
    assert missing(tmp_path / "new" / "store") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", FAULTS)
def test_o6_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: str
) -> None:
    named = lacks(monkeypatch, call)
    (found,) = missing(tmp_path)
    assert found.startswith(f"{named} (")


def test_o6_locks_that_hold_nobody_back_are_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    assert missing(tmp_path) == ["locks (two hold the same lock)"]


def test_o6_the_doctor_names_it_before_the_store_is_opened(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lacks(monkeypatch, "link")
    assert doctor.main(["--local", str(tmp_path / "store")]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    (told,) = [finding for finding in found if finding["name"] == "file_system"]
    assert (told["severity"], "hard links" in told["what"]) == ("fault", True)
    assert "local disk" in told["do"]


def test_o6_a_folder_that_takes_no_files_is_named() -> None:
    with pytest.raises(OSError, match="/proc"):
        missing(Path("/proc/self"))


def test_o6_sqlite_without_shared_memory_is_refused_and_not_used_otherwise(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    with closing(sqlite3.connect(f"file:{path}?vfs=unix-dotfile", uri=True)) as db:
        with pytest.raises(StoreRefused, match="write-ahead log") as refused:
            database._use_wal(db, path, timedelta(seconds=1))
        assert "local disk" in refused.value.hint


@pytest.mark.parametrize(
    ("code", "named"),
    [
        (sqlite3.SQLITE_PROTOCOL, "locks"),
        (sqlite3.SQLITE_IOERR_LOCK, "locks"),
        (sqlite3.SQLITE_IOERR_SHMMAP, "shared memory"),
        (sqlite3.SQLITE_IOERR_FSYNC, "fsync"),
    ],
)
def test_o6_what_sqlite_calls_a_broken_disk_or_protocol_is_named(code: int, named: str) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    told = database._store_error(error, "store.db")
    assert isinstance(told, StoreUnavailable)
    assert named in told.message
    assert "local disk" in told.hint


def test_o6_an_artifact_says_that_there_are_no_hard_links(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = LocalStore.open(tmp_path / "store")
    source = tmp_path / "model"
    source.write_bytes(b"model")
    lacks(monkeypatch, "link")
    with pytest.raises(StoreRefused, match="has no hard links") as refused:
        store.put("ml-models", "a/model", source)
    assert "local disk" in refused.value.hint
    store.close()
    assert not list((tmp_path / "store").rglob("*.tmp"))


def test_o6_a_log_says_that_there_are_no_locks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lacks(monkeypatch, "flock")
    rows: list[dict[str, object]] = make_events(1, 1).to_dict("records")  # type: ignore[assignment]
    with pytest.raises(StoreUnavailable) as told:
        EventCsv(str(tmp_path / "log.csv")).append(rows)
    assert "has no locks" in told.value.hint
