"""Watch the champion and act when it has decayed: `ml-pipeline decay`.

`start_retrain_monitor()` does the same inside a web application.
"""

from __future__ import annotations

import argparse
import atexit
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from ml_pipeline import commands, config
from ml_pipeline.alerts import AlertStatus, alert_json
from ml_pipeline.closer_look import closer_look
from ml_pipeline.config import Settings, StoreSettings
from ml_pipeline.data_loader import work_dir
from ml_pipeline.errors import ConfigError
from ml_pipeline.notify import channels_for, deliver
from ml_pipeline.store import Store
from ml_pipeline.watchdog import Look, Watch, decide, look
from ml_pipeline.watching import Rhythm, Watcher

log = logging.getLogger("model_retrainer")

LOG_FILE = Path("logs") / "model_retrainer.log"
LOG_LINE = "%(asctime)s - %(levelname)s - %(message)s"
_DECISIONS = {
    "acknowledge": AlertStatus.ACKNOWLEDGED,
    "override": AlertStatus.OVERRIDDEN,
    "resolve": AlertStatus.RESOLVED,
}
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
    settings = config.load_settings(commands.path_or_none(_text(config_path)), flags=flags)
    store_settings = config.load_store_settings(local_dir)
    _log_to_file()
    watcher = _watcher(
        settings, store_settings, clock=lambda: datetime.now(UTC), new_id=lambda: str(uuid4())
    )
    return RetrainMonitor(watcher).start()


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _text(value: str | Path | None) -> str | None:
    return None if value is None else str(value)


def _log_to_file() -> None:
    """Log to the file, once for a process; the application's own handlers hear it as well."""
    if any(isinstance(handler, logging.FileHandler) for handler in log.handlers):
        return
    LOG_FILE.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(LOG_FILE, encoding="utf-8")
    handler.setFormatter(logging.Formatter(LOG_LINE))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def _watcher(
    settings: Settings,
    store_settings: StoreSettings,
    *,
    clock: Clock,
    new_id: Callable[[], str],
    tell: Callable[[Look], None] = lambda _: None,
) -> Watcher:
    from ml_pipeline.wiring import open_store

    channels = channels_for(config.load_notify_settings())

    latest: list[date] = []

    def once(store: Store) -> None:
        watch = _watch(settings, store_settings, clock(), new_id)
        found = look(store, watch)
        log.info("%s", found.verdict.sentence)
        if latest != [watch.now.date()]:
            closer_look(store, watch)
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
        rhythm=Rhythm(interval=interval, longest_look=allowance),
    )


def _watch(
    settings: Settings, store_settings: StoreSettings, now: datetime, new_id: Callable[[], str]
) -> Watch:
    folder = work_dir(settings, store_settings.local_dir)
    return Watch(settings=settings, now=now, new_id=new_id, work_dir=folder)


# ---------------------------------------------------------------------------------- command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `decay`."""
    commands.add_common(parser)
    add = parser.add_argument
    add("--watch", action="store_true", help="go on looking until stopped")
    add("--interval_minutes", type=float, help="between two looks "
        f"(default: {config.CHECK_INTERVAL_MIN})")  # fmt: skip
    add("--acknowledge", metavar="ID", help="a person takes care: nothing more is done by itself")
    add("--override", metavar="ID", help="close an alert: what it says is the new normal")
    add("--resolve", metavar="ID", help="close an alert: it is over")
    add("--reason", default="", help="why, for the record")


def run(args: argparse.Namespace, *, clock: Clock, new_id: Callable[[], str]) -> int:
    """Look once, go on looking, or write a person's decision down; prints JSON."""
    settings = config.load_settings(
        commands.path_or_none(args.config), flags={"decay.interval_minutes": args.interval_minutes}
    )
    store_settings = config.load_store_settings(args.local)
    decisions = {name: getattr(args, name) for name in _DECISIONS if getattr(args, name)}
    if len(decisions) > 1 or (decisions and args.watch):
        raise ConfigError("One of --watch, --acknowledge, --override and --resolve at a time.")
    channels = channels_for(config.load_notify_settings())
    _log_to_file()
    if args.watch:
        return _go_on(settings, store_settings, clock=clock, new_id=new_id)
    from ml_pipeline.wiring import open_store

    store = open_store(store_settings)
    try:
        if decisions:
            result = _decided(store, settings, decisions, args.reason, clock())
            deliver(store, channels, model_name=settings.model_name, now=clock())
        else:
            watch = _watch(settings, store_settings, clock(), new_id)
            rows = closer_look(store, watch)
            found = look(store, watch)
            told = deliver(store, channels, model_name=settings.model_name, now=clock())
            result = {"status": "completed", **found.as_json(), **rows, "told": told}
            sys.stderr.write(f"{found.verdict.sentence}\n")
    finally:
        store.close()
    commands.print_json(result)
    return 0


def _decided(
    store: Store, settings: Settings, decisions: dict[str, str], reason: str, now: datetime
) -> dict[str, Any]:
    ((name, alert_id),) = decisions.items()
    alert = decide(
        store,
        model_name=settings.model_name,
        alert_id=alert_id,
        status=_DECISIONS[name],
        reason=reason or "a person said so",
        now=now,
    )
    return {"status": "completed", "alert": alert_json(alert)}


def _go_on(
    settings: Settings, store_settings: StoreSettings, *, clock: Clock, new_id: Callable[[], str]
) -> int:
    """Look until SIGTERM or SIGINT, one line of JSON a look."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    watcher = _watcher(
        settings,
        store_settings,
        clock=clock,
        new_id=new_id,
        tell=lambda found: commands.print_json({"status": "completed", **found.as_json()}),
    )
    watcher.run(stop)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return commands.main(
        "decay",
        __doc__,
        add_arguments,
        lambda args: run(args, clock=lambda: datetime.now(UTC), new_id=lambda: str(uuid4())),
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
