"""A run that is killed before its n-th write: `python -m tests.support.crashing STORE WORK N`.

Writes are counted at the store's own door, so that none can be forgotten. Exits with 0 and
prints the count when the run has fewer than N writes.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from ml_pipeline.local_store import LocalStore
from ml_pipeline.runs import Order, run_pass
from ml_pipeline.store import Store
from tests.support import league

NOW = datetime(2026, 3, 14, 2, 0, tzinfo=UTC)
# A heartbeat changes nothing but its own time, and how many there are depends on the machine.
UNCOUNTED = {
    "heartbeat",
    "read_events",
    "read_error_samples",
    "count_labelled",
    "get_run",
    "latest_run",
    "list_runs",
    "get_request",
    "list_requests",
    "fetch",
    "download",
    "url",
    "get_model",
    "list_models",
    "champion",
    "promotion_events",
    "describe",
    "close",
}


class Killer:
    """The store, but the process dies before its n-th write."""

    def __init__(self, store: Store, fatal: int) -> None:
        self.store = store
        self.fatal = fatal
        self.writes = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.store, name)
        if name in UNCOUNTED:
            return cast("Callable[..., Any]", method)

        def counted(*args: object, **kwargs: object) -> object:
            self.writes += 1
            if self.writes == self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*args, **kwargs)

        return counted


def order(work: Path, now: datetime = NOW, name: str = "killed") -> Order:
    """The same pass every time."""
    count = iter(range(1000))
    return Order(
        settings=league.settings_for(),
        work_dir=work,
        clock=lambda: now,
        new_id=lambda: league.event_id(f"{name} {next(count)}"),
    )


def main() -> None:
    """Run until the fatal write."""
    folder, work, fatal = sys.argv[1:]
    killer = Killer(LocalStore.open(Path(folder)), int(fatal))
    run_pass(cast("Store", killer), order(Path(work)))
    sys.stdout.write(f"{killer.writes}\n")


if __name__ == "__main__":
    main()
