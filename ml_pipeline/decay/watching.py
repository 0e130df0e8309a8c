"""A watchdog that goes on looking: one for each database, however many processes start one."""

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
from ml_pipeline.config.settings import Settings, load_settings, work_dir
from ml_pipeline.decay.daily_checks import daily_checks
from ml_pipeline.decay.notify import channels_for, deliver
from ml_pipeline.decay.watchdog import Look, Watch, look
from ml_pipeline.store.contract import Store
from ml_pipeline.store.leased import LeasedStore

log = logging.getLogger("model_retrainer")

TICK: Final = timedelta(seconds=30)
LEASE: Final = timedelta(seconds=90)


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckSchedule:
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
        rhythm: CheckSchedule,
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
                self._leased.disconnect()
            stop.wait(wait)
        self._leased.release()

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


LOG_FILE = Path("logs") / "model_retrainer.log"
LOG_LINE = "%(asctime)s - %(levelname)s - %(message)s"
Clock = Callable[[], datetime]


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
        """Stop after the look under way; may be called again."""
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
    flags = {"decay.interval_minutes": _float(interval_minutes)}
    settings = load_settings(None if config_path is None else Path(config_path), flags=flags)
    store_settings = load_store_settings(local_dir)
    log_to_file()
    watcher = watcher_for(
        settings, store_settings, clock=lambda: datetime.now(UTC), new_id=lambda: str(uuid4())
    )
    return RetrainMonitor(watcher).start()


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def log_to_file() -> None:
    """Log to the file, once for a process; the application's own handlers hear it as well."""
    if any(isinstance(handler, logging.FileHandler) for handler in log.handlers):
        return
    LOG_FILE.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(LOG_FILE, encoding="utf-8")
    handler.setFormatter(logging.Formatter(LOG_LINE))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def watcher_for(
    settings: Settings,
    store_settings: StoreSettings,
    *,
    clock: Clock,
    new_id: Callable[[], str],
    tell: Callable[[Look], None] = lambda _: None,
) -> Watcher:
    """A watcher of the configured store; `tell` hears of every check."""
    from ml_pipeline.store.opening import open_store

    channels = channels_for(load_notify_settings())

    latest: list[date] = []

    def once(store: Store) -> None:
        watch = watch_for(settings, store_settings, clock(), new_id)
        found = look(store, watch)
        log.info("%s", found.verdict.sentence)
        if latest != [watch.now.date()]:
            daily_checks(store, watch)
            latest[:] = [watch.now.date()]
        deliver(store, channels, model_name=settings.model_name, now=clock())
        tell(found)

    interval = timedelta(minutes=settings.decay.interval_minutes)
    allowance = timedelta(seconds=settings.decay.command_timeout_s) + timedelta(minutes=5)
    return Watcher(
        name=f"decay_monitor:{settings.model_name}",
        holder=f"{socket.gethostname()}:{os.getpid()}:{new_id()[:8]}",
        open_store=lambda: open_store(store_settings),
        look=once,
        clock=clock,
        rhythm=CheckSchedule(interval=interval, longest_look=allowance),
    )


def watch_for(
    settings: Settings, store_settings: StoreSettings, now: datetime, new_id: Callable[[], str]
) -> Watch:
    """What one check at `now` looks at."""
    folder = work_dir(settings, store_settings.local_dir)
    return Watch(settings=settings, now=now, new_id=new_id, work_dir=folder)
