"""A wish to stop, made by a signal: the first is obeyed in order, the second at once."""

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
