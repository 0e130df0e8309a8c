"""A run that is killed before its n-th write, counted at the store's own door."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Order
from ml_pipeline.store.contract import Store
from ml_pipeline.store.opening import open_store
from tests.support import league

NOW = datetime(2026, 3, 14, 2, 0, tzinfo=UTC)
# A heartbeat changes nothing but its own time, and how many there are depends on the machine.
UNCOUNTED = {
    "heartbeat",
    "renew",
    "read_events",
    "read_error_samples",
    "count_changes",
    "erased_events",
    "runs_that_name",
    "count_labelled",
    "count_answers",
    "label_delays",
    "sum_days",
    "sample_events",
    "known_labels",
    "get_run",
    "latest_run",
    "list_runs",
    "published",
    "get_request",
    "list_requests",
    "fetch",
    "download",
    "url",
    "get_model",
    "list_models",
    "list_models_in_brief",
    "list_model_ids",
    "champion",
    "champion_id",
    "promotion_events",
    "describe",
    "close",
}


class Door:
    """The store, but `before` is told the name and the number of every write first."""

    def __init__(self, store: Store, before: Callable[[str, int], None]) -> None:
        self.store = store
        self.before = before
        self.writes = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.store, name)
        if name in UNCOUNTED:
            return cast("Callable[..., Any]", method)

        def counted(*args: object, **kwargs: object) -> object:
            self.writes += 1
            self.before(name, self.writes)
            return method(*args, **kwargs)

        return counted


def through(store: Store, before: Callable[[str, int], None]) -> Store:
    """The store behind a door."""
    return cast("Store", Door(store, before))


def order(work: Path, now: datetime = NOW, name: str = "killed", **changes: Any) -> Order:  # noqa: ANN401
    """The same pass every time."""
    count = iter(range(1000))
    values: dict[str, Any] = {
        "settings": league.settings_for(),
        "work_dir": work,
        "clock": lambda: now,
        "new_id": lambda: league.event_id(f"{name} {next(count)}"),
    }
    return Order(**values | changes)


def killed_run(work: Path, fatal: int) -> None:
    """Run on the environment's store until the fatal write; print the count if there is none."""

    def kill(_name: str, number: int) -> None:
        if number == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    door = Door(open_store(load_store_settings()), kill)
    recording.run(cast("Store", door), order(work))
    sys.stdout.write(f"{door.writes}\n")
