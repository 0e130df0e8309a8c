"""A watchdog that goes on looking: one for each database, however many processes start one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from ml_pipeline.leased_store import LeasedStore
from ml_pipeline.store import Store

log = logging.getLogger("model_retrainer")

TICK: Final = timedelta(seconds=30)
LEASE: Final = timedelta(seconds=90)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rhythm:
    """How often is looked, how often the lease is renewed, and for how long it is taken.

    `longest_look` is how long one look may take before another process takes over.
    """

    interval: timedelta
    tick: timedelta = TICK
    lease: timedelta = LEASE
    longest_look: timedelta = timedelta(minutes=15)


class Watcher:
    """Looks every `interval` while it holds the lease; every fault is logged and outlived."""

    def __init__(  # noqa: PLR0913 - what, where, when and who
        self,
        *,
        name: str,
        holder: str,
        open_store: Callable[[], Store],
        look: Callable[[Store], Any],
        clock: Callable[[], datetime],
        rhythm: Rhythm,
    ) -> None:
        self.holder = holder
        self._leased = LeasedStore(
            name=name,
            holder=holder,
            open_store=open_store,
            clock=clock,
            log=log,
            busy="watching",
            aside="another one watches",
        )
        self._look = look
        self._clock = clock
        self._rhythm = rhythm
        self._latest: datetime | None = None

    def run(self, stop: threading.Event) -> None:
        """Go on until `stop` is set, then give the lease back."""
        wait = min(self._rhythm.tick, self._rhythm.interval).total_seconds()
        while not stop.is_set():
            try:
                self._turn()
            except Exception:
                # A watchdog that dies of one fault watches nothing any more.
                log.exception("The look failed; the next one is in %.0f s", wait)
                self._leased.let_go()
            stop.wait(wait)
        self._leased.give_back()

    def _turn(self) -> None:
        if not self._leased.take(self._rhythm.lease) or not self._is_due():
            return
        self._leased.take(self._rhythm.longest_look)
        try:
            # Counted from the start, so that a fault is not repeated every tick.
            self._latest = self._clock()
            self._look(self._leased.open())
        finally:
            self._leased.take(self._rhythm.lease)

    def _is_due(self) -> bool:
        return self._latest is None or self._clock() - self._latest >= self._rhythm.interval
