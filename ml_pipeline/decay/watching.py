"""A watchdog that keeps checking: one for each database, however many processes start one.

`Watcher` checks on a schedule while it holds the lease; `start_retrain_monitor` runs one in a
thread of an application.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from ml_pipeline.config.environment import StoreSettings, load_notify_settings, load_store_settings
from ml_pipeline.config.log_lines import LineFormatter
from ml_pipeline.config.settings import Settings, load_settings, work_dir
from ml_pipeline.decay.context import CheckContext
from ml_pipeline.decay.daily_checks import daily_checks
from ml_pipeline.decay.notify import channels_for, deliver
from ml_pipeline.decay.watchdog import DecayCheck, check_decay
from ml_pipeline.private_files import make_file, make_folder
from ml_pipeline.store.contract import Store
from ml_pipeline.store.leased import LeasedStore

log = logging.getLogger("model_retrainer")

TICK: Final = timedelta(seconds=30)
LEASE: Final = timedelta(seconds=90)
LONGEST_CHECK: Final = timedelta(minutes=15)
LOG_FILE: Final = Path("logs") / "model_retrainer.log"
LOG_LINE: Final = "%(asctime)s - %(levelname)s - %(message)s"

Clock = Callable[[], datetime]


# ----------------------------------------------------------------------------------- watcher


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckSchedule:
    """How often to check, how often to renew the lease (`tick`), and for how long it is taken.

    `longest_check` is how long one check may take before another process takes over.
    """

    interval: timedelta
    tick: timedelta = TICK
    lease: timedelta = LEASE
    longest_check: timedelta = LONGEST_CHECK


class Watcher:
    """Checks every `interval` while it holds the lease; every fault is logged and outlived."""

    def __init__(  # noqa: PLR0913 - what, where, when and who
        self,
        *,
        name: str,
        holder: str,
        open_store: Callable[[], Store],
        check: Callable[[Store], Any],
        clock: Callable[[], datetime],
        schedule: CheckSchedule,
    ) -> None:
        self.holder = holder
        self._leased = LeasedStore(
            name=name,
            holder=holder,
            open_store=open_store,
            clock=clock,
            log=log,
            active="watching",
            standby="another one watches",
        )
        self._check = check
        self._clock = clock
        self._schedule = schedule
        self._latest: datetime | None = None

    def run(self, stop: threading.Event) -> None:
        """Go on until `stop` is set, then give the lease back."""
        wait = min(self._schedule.tick, self._schedule.interval).total_seconds()
        while not stop.is_set():
            try:
                self._check_if_due()
            except Exception:
                # A watchdog that dies of one fault watches nothing any more.
                log.exception("The check failed; the next one is in %.0f s", wait)
                self._leased.disconnect()
            stop.wait(wait)
        self._leased.release()

    def _check_if_due(self) -> None:
        if not self._leased.take(self._schedule.lease) or not self._is_due():
            return
        self._leased.take(self._schedule.longest_check)
        try:
            # Counted from the start, so that a fault is not repeated every tick.
            self._latest = self._clock()
            self._check(self._leased.open())
        finally:
            self._leased.take(self._schedule.lease)

    def _is_due(self) -> bool:
        return self._latest is None or self._clock() - self._latest >= self._schedule.interval


def watcher_for(
    settings: Settings,
    store_settings: StoreSettings,
    *,
    clock: Clock,
    new_id: Callable[[], str],
    on_check: Callable[[DecayCheck], None] = lambda _: None,
) -> Watcher:
    """A watcher of the configured store; `on_check` is called with the result of every check."""
    from ml_pipeline.store.opening import open_store

    channels = channels_for(load_notify_settings())
    checked_on: list[date] = []

    def check(store: Store) -> None:
        context = context_for(settings, store_settings, clock(), new_id)
        found = check_decay(store, context)
        log.info("%s", found.verdict.sentence)
        if checked_on != [context.now.date()]:
            daily_checks(store, context)
            checked_on[:] = [context.now.date()]
        deliver(store, channels, model_name=settings.model_name, now=clock())
        on_check(found)

    interval = timedelta(minutes=settings.decay.interval_minutes)
    allowance = timedelta(seconds=settings.decay.command_timeout_s) + timedelta(minutes=5)
    return Watcher(
        name=f"decay_monitor:{settings.model_name}",
        holder=f"{socket.gethostname()}:{os.getpid()}:{new_id()[:8]}",
        open_store=lambda: open_store(store_settings),
        check=check,
        clock=clock,
        schedule=CheckSchedule(interval=interval, longest_check=allowance),
    )


def context_for(
    settings: Settings, store_settings: StoreSettings, now: datetime, new_id: Callable[[], str]
) -> CheckContext:
    """What one check at `now` is made with."""
    folder = work_dir(settings, store_settings.local_dir)
    return CheckContext(settings=settings, now=now, new_id=new_id, work_dir=folder)


# ------------------------------------------------------------------------------- in a thread


class RetrainMonitor:
    """A watchdog in a daemon thread. `stop` ends it and gives its lease back."""

    def __init__(self, watcher: Watcher) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=watcher.run, args=(self._stop,), name="retrain-monitor", daemon=True
        )
        self.holder = watcher.holder

    def start(self) -> RetrainMonitor:
        """Start the thread; it is stopped when the process ends."""
        self._thread.start()
        atexit.register(self.stop)
        return self

    @property
    def is_running(self) -> bool:
        """Whether the thread lives."""
        return self._thread.is_alive()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop after the check under way; may be called again."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        atexit.unregister(self.stop)


def start_retrain_monitor(
    interval_minutes: float | None = None,
    *,
    config_path: str | Path | None = None,
    local_dir: str | None = None,
) -> RetrainMonitor:
    """Watch from a thread of this process, with the environment's store.

    Every worker of an application may call it: a lease in the database lets one of them watch, and
    another takes over within two minutes when that one dies. What happens is logged to
    `logs/model_retrainer.log`. Raises ConfigError for settings or credentials that cannot be used;
    every later fault is logged and outlived.
    """
    interval = None if interval_minutes is None else float(interval_minutes)
    settings = load_settings(
        None if config_path is None else Path(config_path),
        flags={"decay.interval_minutes": interval},
    )
    store_settings = load_store_settings(local_dir)
    log_to_file()
    watcher = watcher_for(
        settings, store_settings, clock=lambda: datetime.now(UTC), new_id=lambda: str(uuid4())
    )
    return RetrainMonitor(watcher).start()


def log_to_file() -> None:
    """Log to the file, once for a process; the application's own handlers receive it as well.

    Where the working directory cannot be written, a warning says so: a check matters more.
    """
    if any(isinstance(handler, logging.FileHandler) for handler in log.handlers):
        return
    try:
        make_folder(LOG_FILE.parent)
        make_file(LOG_FILE)
        handler = logging.FileHandler(LOG_FILE, encoding="utf-8")
    except OSError as error:
        log.warning("%s is not written: %s", LOG_FILE.absolute(), error.strerror)
        return
    handler.setFormatter(LineFormatter(LOG_LINE))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
