"""Watch the champion and act when it has decayed: `ml-pipeline decay`.

`start_retrain_monitor()` does the same inside a web application.
"""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from types import FrameType
from typing import Any
from uuid import uuid4

from ml_pipeline.commands import common
from ml_pipeline.commands.progress import held
from ml_pipeline.config import defaults
from ml_pipeline.config.environment import StoreSettings, load_notify_settings, load_store_settings
from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.decay import messages
from ml_pipeline.decay.daily_checks import daily_checks
from ml_pipeline.decay.lifecycle import decide
from ml_pipeline.decay.notify import channels_for, deliver
from ml_pipeline.decay.refresh import versions
from ml_pipeline.decay.watchdog import check_decay
from ml_pipeline.decay.watching import Clock, context_for, log_to_file, watcher_for
from ml_pipeline.errors import ConfigError
from ml_pipeline.reports import terminal
from ml_pipeline.reports.terminal import Part
from ml_pipeline.store.alerts import AlertStatus
from ml_pipeline.store.contract import Store
from ml_pipeline.store.json_values import alert_json

_DECISIONS = {
    "acknowledge": AlertStatus.ACKNOWLEDGED,
    "override": AlertStatus.OVERRIDDEN,
    "resolve": AlertStatus.RESOLVED,
}


# ---------------------------------------------------------------------------------- command

EXAMPLES = (
    "decay",
    "decay --watch --interval-minutes 30",
    'decay --acknowledge ALERT_ID --reason "new season"',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `decay`."""
    common.add_common(parser, *EXAMPLES)
    add = parser.add_argument
    add("--watch", action="store_true", help="keep checking until stopped")
    add("--interval-minutes", type=float, help="minutes between two checks "
        f"(default: {defaults.CHECK_INTERVAL_MIN})")  # fmt: skip
    add("--quick", action="store_true", help="the accuracy by day alone: no drift, no estimate, no "
        "order of errors")  # fmt: skip
    add(
        "--acknowledge",
        metavar="ID",
        help="somebody takes care of it: nothing more happens automatically",
    )
    add("--override", metavar="ID", help="close an alert: this is the new normal")
    add("--resolve", metavar="ID", help="close an alert: it is over")
    add("--reason", default="", help="why, for the record")


def run(args: argparse.Namespace, *, clock: Clock, new_id: Callable[[], str]) -> int:
    """Check once, keep checking, or record a person's decision; prints JSON."""
    settings = load_settings(
        common.path_or_none(args.config), flags={"decay.interval_minutes": args.interval_minutes}
    )
    store_settings = load_store_settings(args.local)
    decisions = {name: getattr(args, name) for name in _DECISIONS if getattr(args, name)}
    if len(decisions) > 1 or (decisions and args.watch):
        raise ConfigError("One of --watch, --acknowledge, --override and --resolve at a time.")
    channels = channels_for(load_notify_settings())
    log_to_file()
    if args.watch:
        return _watch(args, settings, store_settings, clock=clock, new_id=new_id)
    from ml_pipeline.store.opening import open_store

    store = open_store(store_settings)
    try:
        if decisions:
            sentences = list[str]()
            result = _decided(store, settings, decisions, args.reason, clock())
            deliver(store, channels, model_name=settings.model_name, now=clock())
        else:
            context = context_for(settings, store_settings, clock(), new_id)
            daily = {} if args.quick else daily_checks(store, context)
            found = check_decay(store, context)
            sent = deliver(store, channels, model_name=settings.model_name, now=clock())
            result = {"status": "completed", **found.as_json(), **daily, "told": sent}
            sentences = [found.verdict.sentence, *map(versions.sentence_of, found.alerts)]
    finally:
        store.close()
    remarks = [sentence for sentence in sentences if sentence]
    common.answer(args, result, lambda: view(result), remarks=remarks)
    return 0


def view(result: Mapping[str, Any]) -> Iterator[Part]:
    """What a person sees below the verdict: what was measured, and alerts that are open."""
    if "alert" in result:
        alert = result["alert"]
        yield f"Alert {alert['alert_id']} is {alert['status']} now."
        return
    signals = [
        (it["metric"].replace("_", " "), messages.figure(it["metric"], it["baseline"]),
         messages.figure(it["metric"], it["recent"]), it["recent_rows"])
        for it in result["signals"]
    ]  # fmt: skip
    columns = ("measure", "before", "now", "new results")
    if signals:
        yield terminal.table("Of the champion", columns, signals, right=columns[1:])
    for alert in result["alerts"]:
        yield f"Open since {alert['since']} ({alert['severity']}): {alert['message']}"
        yield f"To take care of it: `ml-pipeline decay --acknowledge {alert['alert_id']}`"


def _decided(
    store: Store, settings: Settings, decisions: dict[str, str], reason: str, now: datetime
) -> dict[str, Any]:
    ((name, alert_id),) = decisions.items()
    alert = decide(
        store,
        model_name=settings.model_name,
        alert_id=alert_id,
        status=_DECISIONS[name],
        reason=reason or "a person decided",
        now=now,
    )
    return {"status": "completed", "alert": alert_json(alert)}


def _watch(
    args: argparse.Namespace,
    settings: Settings,
    store_settings: StoreSettings,
    *,
    clock: Clock,
    new_id: Callable[[], str],
) -> int:
    """Check until SIGTERM or SIGINT, one line of JSON, or on a terminal a sentence, a check."""
    stop = threading.Event()
    received = list[int]()

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    watcher = watcher_for(
        settings,
        store_settings,
        clock=clock,
        new_id=new_id,
        on_check=lambda found: common.answer(
            args,
            {"status": "completed", **found.as_json()},
            lambda: [found.verdict.sentence],
        ),
    )
    with held():
        watcher.run(stop)
    return common.stopped(for_people=True) if signal.SIGINT in received else 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main(
        "decay",
        __doc__,
        add_arguments,
        lambda args: run(args, clock=lambda: datetime.now(UTC), new_id=lambda: str(uuid4())),
        argv,
    )
