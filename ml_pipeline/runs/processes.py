"""Processes: the wish to stop that a signal makes, and the jobs that a worker starts."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
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
from ml_pipeline.errors import Stopped

OBEYED: Final = (signal.SIGTERM, signal.SIGINT)
_KILLED: Final = 128


class Stop:
    """Whether somebody asked this process to end.

    The first signal raises `Stopped` wherever the work is, unless that is held back: then the
    next `check` raises it. The second signal ends the process.
    """

    def __init__(self) -> None:
        self._signal: str | None = None
        self._is_held = False

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listen to SIGTERM and SIGINT while inside; for the main thread only."""
        writing, reading = socket.socketpair()
        writing.settimeout(0)
        # The interpreter handles a signal between two steps of its own, so a call that waits for
        # a lock would delay it. The byte that it sends along comes at once.
        threading.Thread(target=_end_at_the_second, args=(reading,), daemon=True).start()
        before = {number: signal.signal(number, self._obey) for number in OBEYED}
        waked = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(waked)
            for number, handler in before.items():
                signal.signal(number, handler)
            writing.close()

    def _obey(self, number: int, _frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name
        self.check()

    @property
    def is_asked(self) -> bool:
        """Whether a stop was asked for and is not held back."""
        return self._signal is not None and not self._is_held

    @property
    def was_asked(self) -> bool:
        """Whether a stop was asked for, also while it is held back."""
        return self._signal is not None

    def check(self) -> None:
        """Raise Stopped when a stop was asked for and is not held back."""
        if self.is_asked:
            raise self.reason()

    def reason(self) -> Stopped:
        """The error that says who asked."""
        return Stopped(f"Stopped by {self._signal}.")

    def hold(self) -> None:
        """Hold back a stop: what begins now is short and has to be whole."""
        self._is_held = True

    def let_go(self) -> None:
        """Hold back no longer. Raises Stopped when a stop was asked for meanwhile."""
        self._is_held = False
        self.check()


def _end_at_the_second(reading: socket.socket) -> None:
    with reading:
        reading.recv(1)
        second = reading.recv(1)
        if second:
            os._exit(_KILLED + second[0])


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

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listen to SIGTERM and SIGINT while inside: the first drains, the second ends at once."""
        before = {number: signal.signal(number, self._obey) for number in OBEYED}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _obey(self, number: int, _frame: FrameType | None) -> None:
        again = self._stop.is_set()
        self._stop.set()
        child = self._child
        if child is not None:
            child.send_signal(number)
        if again:
            os._exit(_KILLED + number)

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
            said = self._wait(child, limit.total_seconds(), beat)
        finally:
            self._child = None
        return Done(code=child.returncode, result=_last_line(said), pid=child.pid)

    def _start(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        home = str(Path(ml_pipeline.__file__).resolve().parent.parent)
        return subprocess.Popen(
            [sys.executable, "-m", "ml_pipeline", *arguments, *self._flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # A terminal's Ctrl-C reaches the parent alone, which hands it on once.
            start_new_session=True,
            # A pass reads and writes the store itself.
            env=child_environment(credentials=True) | {"PYTHONPATH": home},
            text=True,
        )

    def _wait(self, child: subprocess.Popen[str], left: float, beat: Callable[[], None]) -> str:
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


def _last_line(said: str) -> Mapping[str, Any]:
    """The JSON that a command ends with; nothing when it did not come to that."""
    lines = said.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
