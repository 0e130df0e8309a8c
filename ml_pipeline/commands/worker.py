"""One long-lived process: requests at once, a pass each night, the watchdog and the retention.

Each pass, look and clean-up is a process of its own, so this one stays small and outlives their
faults. What is due is read from the store, so it may be killed and started again anywhere.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, Protocol
from uuid import uuid4

from ml_pipeline import commands, config
from ml_pipeline.child_jobs import Children, Done
from ml_pipeline.config import Settings
from ml_pipeline.domain import RequestStatus, RetrainingRequest, RetrainingRun, RunStatus
from ml_pipeline.errors import NotFound, PipelineError, StoreUnavailable
from ml_pipeline.leased_store import LeasedStore
from ml_pipeline.runs import close_dead, place_of
from ml_pipeline.schedule import Schedule, backoff, duration, holder_of, time_of_day
from ml_pipeline.store import Store

log = logging.getLogger("worker")

LATEST_RUNS: Final = 30
LONGEST_PAUSE: Final = timedelta(minutes=5)
LONGEST_PAUSE_OF_PASSES: Final = timedelta(minutes=30)
# Over all the time limits that a pass keeps itself; for one that hangs.
SPARE: Final = timedelta(hours=1)
TRAININGS_OF_A_PASS: Final = 3
Clock = Callable[[], datetime]


class Stopping(Protocol):
    """What of `threading.Event` is used."""

    def is_set(self) -> bool:
        """Whether the worker was asked to end."""
        ...

    def wait(self, timeout: float | None = None, /) -> bool:
        """Wait so many seconds, or until it is asked to end."""
        ...


class Perform(Protocol):
    """Runs a command of this program to its end."""

    def __call__(
        self, arguments: Sequence[str], *, limit: timedelta, beat: Callable[[], None]
    ) -> Done:
        """`beat` is called while it works; past the `limit` it is stopped."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Duties:
    """What a worker does, and how often. `keep` models survive a clean-up; None is no clean-up."""

    schedule: Schedule
    poll: timedelta
    keep: int | None = 20

    @property
    def lease(self) -> timedelta:
        """How long another worker waits for a sign of life of this one."""
        return 2 * self.poll + timedelta(seconds=30)


@dataclass(kw_only=True, slots=True)
class Tally:
    """What a worker has done."""

    passes: int = 0
    failed_passes: int = 0
    looks: int = 0
    clean_ups: int = 0
    unreachable: int = 0


class Worker:
    """Does its duties while it holds the lease `worker:MODEL`; every fault is told and outlived."""

    def __init__(  # noqa: PLR0913 - what, where, when and who
        self,
        *,
        settings: Settings,
        duties: Duties,
        holder: str,
        open_store: Callable[[], Store],
        perform: Perform,
        clock: Clock,
    ) -> None:
        self.tally = Tally()
        self._settings = settings
        self._duties = duties
        self._leased = LeasedStore(
            name=f"worker:{settings.model_name}",
            holder=holder,
            open_store=open_store,
            clock=clock,
            log=log,
            busy="at work",
            aside="another worker is at work",
        )
        self._perform = perform
        self._clock = clock
        self._faults = 0
        self._failed_in_a_row = 0
        self._not_before: datetime | None = None
        self._looked_at: datetime | None = None
        self._cleaned: datetime | None = None
        self._dead: Done | None = None

    def work(self, stop: Stopping) -> Tally:
        """Go on until `stop` is set, then give the lease back."""
        while not stop.is_set():
            stop.wait(self._turn(stop).total_seconds())
        self._leased.give_back()
        return self.tally

    def _turn(self, stop: Stopping) -> timedelta:
        """Do what is due; return how long to wait."""
        try:
            self._do_what_is_due(stop)
        except Exception as error:
            self._leased.let_go()
            self._faults += 1
            pause = backoff(self._faults, first=self._duties.poll, longest=LONGEST_PAUSE)
            if isinstance(error, StoreUnavailable):
                self.tally.unreachable += 1
            if isinstance(error, PipelineError):
                log.warning("%s Next try in %.0f s", error, pause.total_seconds())
            else:
                log.exception("A fault of our own. Next try in %.0f s", pause.total_seconds())
            return pause
        if self._faults:
            log.info("The store answers again, after %d tries", self._faults)
            self._faults = 0
        return self._duties.poll

    def _do_what_is_due(self, stop: Stopping) -> None:
        if not self._leased.take(self._duties.lease):
            return
        store = self._leased.open()
        duties = (partial(self._pass_if_due, store), self._look_if_due, self._clean_if_due)
        for duty in duties:
            if not stop.is_set():
                duty()

    # ------------------------------------------------------------------------------- passes

    def _pass_if_due(self, store: Store) -> None:
        self._close_row_of_the_dead(store)
        now = self._clock()
        if self._not_before and now < self._not_before <= now + LONGEST_PAUSE_OF_PASSES:
            return
        name = self._settings.model_name
        runs = store.list_runs(model_name=name, limit=LATEST_RUNS)
        stale_after = timedelta(minutes=self._settings.run.stale_after_minutes)
        if holder_of(runs, now=now, stale_after=stale_after) is not None:
            return
        why = self._why_now(store, runs, now)
        if why is not None:
            log.info("A pass: %s", why)
            self._make_pass(store)

    def _why_now(self, store: Store, runs: Sequence[RetrainingRun], now: datetime) -> str | None:
        name = self._settings.model_name
        waiting = store.list_requests(model_name=name, status=RequestStatus.PENDING)
        if waiting:
            return f"{len(waiting)} requests wait"
        if self._duties.schedule.is_due(runs, now=now):
            return f"none since {self._duties.schedule.slot(now).isoformat()}"
        if any(run.status is RunStatus.RUNNING for run in runs):
            return "a run died"
        held = store.list_requests(model_name=name, status=RequestStatus.PROCESSING)
        if any(_is_abandoned(store, request, now) for request in held):
            return "nobody works on a request any more"
        return None

    def _make_pass(self, store: Store) -> None:
        training = timedelta(seconds=self._settings.training.time_limit_s)
        done = self._do(["run"], limit=TRAININGS_OF_A_PASS * training + SPARE)
        self.tally.passes += 1
        if done.code == 0:
            self._failed_in_a_row, self._not_before = 0, None
            return
        self.tally.failed_passes += 1
        self._failed_in_a_row += 1
        pause = backoff(
            self._failed_in_a_row, first=self._duties.poll, longest=LONGEST_PAUSE_OF_PASSES
        )
        self._not_before = self._clock() + pause
        log.warning("The pass failed; none for %.0f s", pause.total_seconds())
        self._dead = done
        self._close_row_of_the_dead(store)

    def _close_row_of_the_dead(self, store: Store) -> None:
        """A pass that was killed left its row running, and nobody else knows that it is dead."""
        done = self._dead
        if done is None:
            return
        place = place_of(done.pid)
        for run in store.list_runs(model_name=self._settings.model_name, limit=LATEST_RUNS):
            if run.status is RunStatus.RUNNING and run.details.get("place") == place:
                killed = f"by signal {-done.code}" if done.code < 0 else f"with code {done.code}"
                why = f"The process of this run ended {killed} before the run was closed."
                close_dead(store, run, why=why, now=self._clock())
        self._dead = None

    # ---------------------------------------------------------------------------- the others

    def _look_if_due(self) -> None:
        interval = timedelta(minutes=self._settings.decay.interval_minutes)
        # A clock that was set back must not end the looks until it has caught up.
        if self._looked_at and timedelta(0) <= self._clock() - self._looked_at < interval:
            return
        # Counted from the start, so that a fault is not repeated every turn.
        self._looked_at = self._clock()
        self._do(["decay"], limit=SPARE)
        self.tally.looks += 1

    def _clean_if_due(self) -> None:
        slot = self._duties.schedule.slot(self._clock())
        if self._duties.keep is None or self._cleaned == slot:
            return
        self._cleaned = slot
        keep = str(self._duties.keep)
        self._do(["models", "prune", "--keep", keep, "--apply"], limit=SPARE)
        self.tally.clean_ups += 1

    def _do(self, arguments: Sequence[str], *, limit: timedelta) -> Done:
        def beat() -> None:
            # The database lets one run at a time hold the model, whoever holds the lease.
            with suppress(PipelineError):
                self._leased.take(self._duties.lease)

        done = self._perform(arguments, limit=limit, beat=beat)
        commands.print_json({"command": " ".join(arguments), "code": done.code, **done.result})
        if done.code != 0:
            log.warning("`%s` ended with code %d", " ".join(arguments), done.code)
        return done


def _is_abandoned(store: Store, request: RetrainingRequest, now: datetime) -> bool:
    """Whether nobody works on a request that somebody took."""
    if request.lease_until is None or request.lease_until <= now:
        return True
    try:
        return store.get_run(request.run_id or "").status is not RunStatus.RUNNING
    except NotFound:
        return False  # its lease is to be waited for


# ---------------------------------------------------------------------------------- command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `worker`."""
    commands.add_common(parser)
    add = parser.add_argument
    add("--every", type=_of(duration), help="from one scheduled pass to the next (default: "
        "run.every_hours, 24)")  # fmt: skip
    add("--at", type=_of(time_of_day), default="02:00", help="UTC time from which they are "
        "counted (default: %(default)s)")  # fmt: skip
    add("--poll", type=_of(duration), default="60s", help="how often requests are looked for "
        "(default: %(default)s)")  # fmt: skip
    add("--keep", type=_count, default=20, help="how many of the newest models keep their bytes, "
        "see `models prune` (default: %(default)s)")  # fmt: skip
    add("--keep_all", action="store_true", help="give up no bytes")


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
    from ml_pipeline.wiring import open_store

    settings = config.load_settings(commands.path_or_none(args.config))
    chosen = config.load_store_settings(args.local)
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
        clock=clock,
    )
    since = clock()
    with children.on_signals():
        tally = worker.work(stop)
    commands.print_json({"status": "stopped", **_times(since, clock()), **asdict(tally)})
    return 0


def _common_flags(args: argparse.Namespace) -> list[str]:
    given = {"--config": args.config, "--local": args.local}
    return [part for flag, value in given.items() if value for part in (flag, value)]


def _times(since: datetime, until: datetime) -> dict[str, Any]:
    return {"started_at": since.isoformat(), "stopped_at": until.isoformat()}


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return commands.main(
        "worker",
        __doc__,
        add_arguments,
        lambda args: run(args, clock=lambda: datetime.now(UTC), new_id=lambda: str(uuid4())),
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
