"""Who is signed in, and who guesses tokens: kept in this process, and bounded."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

SESSION_S: Final = 12 * 3600
MOST_SESSIONS: Final = 1000
GUESSES: Final = 10
GUESSES_S: Final = 60
_MOST_ADDRESSES: Final = 10_000


class Sessions:
    """The sessions that are open: each ends when it is signed out of, or after twelve hours.

    A cookie alone would go on being good after its owner has signed out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: OrderedDict[str, float] = OrderedDict()

    def open(self) -> str:
        """A new session's secret name; the oldest one ends when there are a thousand."""
        name = secrets.token_urlsafe(24)
        with self._lock:
            self._until[name] = self._clock() + SESSION_S
            while len(self._until) > MOST_SESSIONS:
                self._until.popitem(last=False)
        return name

    def holds(self, name: object) -> bool:
        """Whether the session is open."""
        return isinstance(name, str) and self._until.get(name, 0.0) > self._clock()

    def end(self, name: object) -> None:
        """End the session, for every copy of its cookie."""
        with self._lock:
            if isinstance(name, str):
                self._until.pop(name, None)


@dataclass(slots=True)
class _Tries:
    since: float
    count: int = 0


class Guesses:
    """Wrong tokens by address: after ten in a minute the address waits for the rest of it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Seconds until the address may try again, 0 when it may now."""
        with self._lock:
            tries = self._tries.get(address)
            if tries is None or tries.count < GUESSES:
                return 0.0
            return max(0.0, tries.since + GUESSES_S - self._clock())

    def note(self, address: str) -> None:
        """The address has sent a wrong token."""
        now = self._clock()
        with self._lock:
            tries = self._tries.get(address)
            if tries is None or now - tries.since >= GUESSES_S:
                tries = self._tries[address] = _Tries(since=now)
            tries.count += 1
            self._tries.move_to_end(address)
            while len(self._tries) > _MOST_ADDRESSES:
                self._tries.popitem(last=False)
