"""The wish to stop that a signal makes, heeded only where a run can be broken off."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from ml_pipeline.errors import Stopped

OBEYED: Final = (signal.SIGTERM, signal.SIGINT)
KILLED: Final = 128  # plus the signal's number: what a shell says of a process that it ended


class Stop:
    """Whether somebody asked this process to end.

    The first signal is remembered; it raises `Stopped` inside `interruptible` and nowhere else.
    The second signal ends the process.
    """

    def __init__(self) -> None:
        self._signal: str | None = None
        self._is_interruptible = False

    @property
    def was_asked(self) -> bool:
        """Whether a stop was asked for, also where it is not heeded."""
        return self._signal is not None

    @property
    def was_interrupted(self) -> bool:
        """Whether it was asked for by Ctrl-C."""
        return self._signal == signal.SIGINT.name

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listen to SIGTERM and SIGINT while inside; for the main thread only."""
        writing, reading = socket.socketpair()
        writing.settimeout(0)
        # The interpreter handles a signal between two steps of its own, so a call that waits for
        # a lock would delay it. The byte that it sends along comes at once.
        threading.Thread(target=_end_at_the_second, args=(reading,), daemon=True).start()
        before = {number: signal.signal(number, self._ask) for number in OBEYED}
        waked = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(waked)
            for number, handler in before.items():
                signal.signal(number, handler)
            writing.close()

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name
        self.check()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Raise Stopped inside when a stop is asked for, or was before."""
        try:
            self._is_interruptible = True
            self.check()
            yield
        except Exception as error:
            if self.was_asked and not isinstance(error, Stopped):
                # A library has wrapped the stop into an error of its own.
                raise self._stopped() from error
            raise
        finally:
            self._is_interruptible = False

    def check(self) -> None:
        """Raise Stopped when a stop was asked for, where it is heeded."""
        if self.was_asked and self._is_interruptible:
            raise self._stopped()

    def _stopped(self) -> Stopped:
        return Stopped(f"Stopped by {self._signal}.")


def _end_at_the_second(reading: socket.socket) -> None:
    with reading:
        reading.recv(1)
        second = reading.recv(1)
        if second:
            os._exit(KILLED + second[0])
