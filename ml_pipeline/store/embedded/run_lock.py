"""A lock on the file system for each run at work: it is gone when its process is, however it ended.

The row of a run that was killed stays running. Its heartbeat tells after a while, its lock at once.
Locks are looked at and taken inside a write transaction, so nobody takes one that is looked at.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Final

from ml_pipeline.store.records import RetrainingRun

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
# What this process holds, by the lock's path: the process that took it (it may have forked since),
# the run's id and the open file.
_held: dict[str, tuple[int, str, int]] = {}


def hold(folder: Path, run: RetrainingRun) -> None:
    """Hold the lock until the run is closed or this process ends.

    Where the file system has no locks, or an older run whose row was closed meanwhile still holds
    it, the run goes without: then its heartbeat alone says that it is alive.
    """
    path = _path(folder, run)
    if _is_ours(path, run):
        return
    if path in _held:
        # Of a run whose row is closed, else this one could not start; or a parent's, whose own
        # copy of the file holds the lock as before.
        os.close(_held.pop(path)[2])
    with suppress(OSError):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(file, 0)
            os.write(file, json.dumps({"run_id": run.run_id, "machine": _machine()}).encode())
        except OSError:
            os.close(file)
            raise
        _held[path] = (os.getpid(), run.run_id, file)


def release(folder: Path, run: RetrainingRun) -> None:
    """Give the run's lock back, if this process holds it."""
    path = _path(folder, run)
    if _is_ours(path, run):
        os.close(_held.pop(path)[2])


def has_died(folder: Path, run: RetrainingRun) -> bool:
    """Whether the run was at work on this machine and its process has ended.

    False when that cannot be known: it is alive, or works elsewhere, or went without a lock.
    """
    path = _path(folder, run)
    if _is_ours(path, run):
        return False
    with suppress(OSError):
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _is_of(os.read(file, 1 << 16), run)
        finally:
            os.close(file)
    return False


def _is_of(content: bytes, run: RetrainingRun) -> bool:
    """Whether the lock was that run's, on this machine."""
    here = _machine()
    try:
        holder = json.loads(content)
        same = any(holder["machine"].get(name) == value for name, value in here.items())
        return same and bool(holder["run_id"] == run.run_id)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _path(folder: Path, run: RetrainingRun) -> str:
    name = hashlib.sha256(run.model_name.encode()).hexdigest()[:16]
    return str(folder / f"run-{name}.lock")


def _is_ours(path: str, run: RetrainingRun) -> bool:
    held = _held.get(path)
    return held is not None and held[:2] == (os.getpid(), run.run_id)


def _machine() -> dict[str, str]:
    """What tells machines apart: a container changes its name, a restart the kernel's id."""
    found = {"name": platform.node()}
    if _BOOT_ID.exists():
        found["boot"] = _BOOT_ID.read_text(encoding="ascii").strip()
    return found
