"""A store with a lease, so that one of several processes works on it at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from ml_pipeline.errors import PipelineError
from ml_pipeline.store.contract import Store

# A process that ends under its threads gives a RuntimeError.
FAULTS = (PipelineError, OSError, RuntimeError)


class LeasedStore:
    """The store and its lease `name`; changes are logged as `active` or `standby`."""

    def __init__(  # noqa: PLR0913 - what, where, when and who
        self,
        *,
        name: str,
        holder: str,
        open_store: Callable[[], Store],
        clock: Callable[[], datetime],
        log: logging.Logger,
        active: str,
        standby: str,
    ) -> None:
        self.name = name
        self.holder = holder
        self._open_store = open_store
        self._clock = clock
        self._log = log
        self._active, self._standby = active, standby
        self._store: Store | None = None
        self._holds: bool | None = None

    def open(self) -> Store:
        """The store, opened if it is not. Raises StoreError, ConfigError."""
        self._store = self._store or self._open_store()
        return self._store

    def take(self, length: timedelta) -> bool:
        """Take the lease, or hold it longer; False while another process has it."""
        now = self._clock()
        held = self.open().take_lease(self.name, holder=self.holder, now=now, until=now + length)
        if held != self._holds:
            self._log.info("%s: %s", self.holder, self._active if held else self._standby)
        self._holds = held
        return held

    def disconnect(self) -> None:
        """Close the connection; the next use opens a new one."""
        store, self._store = self._store, None
        if store is not None:
            try:
                store.close()
            except FAULTS:
                self._log.exception("The store could not be closed")

    def release(self) -> None:
        """Drop the lease, if it is held, and close the store."""
        try:
            if self._holds:
                # After a fault the store is closed: the process may end under it.
                self.open().drop_lease(self.name, holder=self.holder)
        except FAULTS:
            self._log.exception("The lease could not be released; it expires by itself")
        self.disconnect()
