"""One long-lived process: requests at once, a run each night, the watchdog and the retention.

Each run, check and clean-up is a process of its own, so this one stays small and outlives their
faults. What is due is read from the store, so it may be killed and started again anywhere.
"""

from __future__ import annotations

import argparse
import os
import socket
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from ml_pipeline.commands import common
from ml_pipeline.commands.progress import held
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import load_settings
from ml_pipeline.runs.children import Children
from ml_pipeline.runs.schedule import Schedule, duration, time_of_day
from ml_pipeline.runs.worker import Clock, Duties, Worker

EXAMPLES = (
    "worker --at 02:00",
    "worker --every 6h --poll 30s",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `worker`."""
    common.add_common(parser, *EXAMPLES)
    add = parser.add_argument
    add("--every", type=_of(duration), help="from one scheduled run to the next (default: "
        "run.every_hours, 24)")  # fmt: skip
    add("--at", type=_of(time_of_day), default="02:00", help="UTC time from which they are "
        "counted (default: %(default)s)")  # fmt: skip
    add("--poll", type=_of(duration), default="60s", help="how often requests are looked for "
        "(default: %(default)s)")  # fmt: skip
    add("--keep", type=_count, default=20, help="how many of the newest models keep their bytes, "
        "see `models prune` (default: %(default)s)")  # fmt: skip
    add("--keep-all", action="store_true", help="remove no bytes")


def _of(read: Callable[[str], timedelta]) -> Callable[[str], timedelta]:
    def checked(text: str) -> timedelta:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no count")
    return int(text)


def run(args: argparse.Namespace, *, clock: Clock, new_id: Callable[[], str]) -> int:
    """Work until SIGTERM or SIGINT; prints a line of JSON a job, and a last one in the end."""
    from ml_pipeline.store.opening import open_store

    settings = load_settings(common.path_or_none(args.config))
    chosen = load_store_settings(args.local)
    stop = threading.Event()
    children = Children(_common_flags(args), stop=stop)
    worker = Worker(
        settings=settings,
        duties=Duties(
            schedule=Schedule(
                every=args.every or timedelta(hours=settings.run.every_hours), at=args.at
            ),
            poll=args.poll,
            keep=None if args.keep_all else args.keep,
        ),
        holder=f"{socket.gethostname()}:{os.getpid()}:{new_id()[:8]}",
        open_store=lambda: open_store(chosen),
        perform=children.perform,
        report=lambda result: common.answer(args, result, lambda: [_job(result)]),
        clock=clock,
    )
    since = clock()
    with held(), children.on_signals():
        tally = worker.work(stop)
    common.answer(args, {"status": "stopped", **_times(since, clock()), **tally.as_json()})
    return common.INTERRUPTED if children.was_interrupted else 0


def _job(result: Mapping[str, Any]) -> str:
    """What a job came to, in a sentence."""
    came_to = result.get("outcome_reason") or result.get("sentence") or result.get("error")
    ended = "" if result["code"] == 0 else f" ended with code {result['code']}"
    return f"`{result['command']}`{ended}: {came_to or result.get('status') or 'done'}"


def _common_flags(args: argparse.Namespace) -> list[str]:
    chosen = {"--config": args.config, "--local": args.local}
    return [part for flag, value in chosen.items() if value for part in (flag, value)]


def _times(since: datetime, until: datetime) -> dict[str, Any]:
    return {"started_at": since.isoformat(), "stopped_at": until.isoformat()}


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main(
        "worker",
        __doc__,
        add_arguments,
        lambda args: run(args, clock=lambda: datetime.now(UTC), new_id=lambda: str(uuid4())),
        argv,
    )
