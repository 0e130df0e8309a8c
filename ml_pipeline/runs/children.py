"""The jobs that a worker starts: one command of this program after the other, each a process."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Final

import ml_pipeline
from ml_pipeline.config.environment import child_environment
from ml_pipeline.runs.stopping import KILLED, OBEYED

log = logging.getLogger("worker")

BEAT_SECONDS: Final = 20.0
GRACE_SECONDS: Final = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What a job left: exit code (negative for a signal), the last line of its stdout, its id."""

    code: int
    result: Mapping[str, Any]
    pid: int


class Children:
    """Runs one job after the other; `flags` go with each."""

    def __init__(self, flags: Sequence[str], *, stop: threading.Event) -> None:
        self._flags = list(flags)
        self._stop = stop
        self._child: subprocess.Popen[str] | None = None
        self.was_interrupted = False

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listen to SIGTERM and SIGINT while inside: the first drains, the second ends at once."""
        before = {number: signal.signal(number, self._hand_on) for number in OBEYED}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hand_on(self, number: int, _frame: FrameType | None) -> None:
        is_second = self._stop.is_set()
        self.was_interrupted = number == signal.SIGINT
        self._stop.set()
        child = self._child
        if child is not None:
            child.send_signal(number)
        if is_second:
            os._exit(KILLED + number)

    def perform(
        self, arguments: Sequence[str], *, limit: timedelta, beat: Callable[[], None]
    ) -> Done:
        """Run `ml-pipeline ARGUMENTS` to its end; `beat` is called while it works.

        One that works longer than `limit` is stopped as by a signal, then killed.
        """
        child = self._child = self._start(arguments)
        try:
            if self._stop.is_set():
                child.terminate()
            output = _wait(child, limit.total_seconds(), beat)
        finally:
            self._child = None
        return Done(code=child.returncode, result=_last_line(output), pid=child.pid)

    def _start(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        home = str(Path(ml_pipeline.__file__).resolve().parent.parent)
        return subprocess.Popen(
            [sys.executable, "-m", "ml_pipeline", *arguments, *self._flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # A terminal's Ctrl-C reaches the parent alone, which hands it on once.
            start_new_session=True,
            # A run reads and writes the store itself.
            env=child_environment(credentials=True) | {"PYTHONPATH": home},
            text=True,
        )


def _wait(child: subprocess.Popen[str], left: float, beat: Callable[[], None]) -> str:
    """What the job prints until it ends, or is ended when no seconds are `left`."""
    while True:
        try:
            return child.communicate(timeout=min(BEAT_SECONDS, left))[0]
        except subprocess.TimeoutExpired:
            left -= BEAT_SECONDS
            if left <= 0:
                return _ended(child)
            beat()


def _ended(child: subprocess.Popen[str]) -> str:
    log.error("Process %d works for too long and is stopped", child.pid)
    child.terminate()
    try:
        return child.communicate(timeout=GRACE_SECONDS)[0]
    except subprocess.TimeoutExpired:
        child.kill()
        return child.communicate()[0]


def _last_line(output: str) -> Mapping[str, Any]:
    """The JSON that a command ends with; nothing when it did not come to that."""
    lines = output.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
