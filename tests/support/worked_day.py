"""A day of a worker in simulated time: requests come, passes are killed, the store goes away."""

from __future__ import annotations

import os
import random
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import SecretStr

from ml_pipeline.commands import common
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.errors import StoreUnavailable
from ml_pipeline.runs import recording
from ml_pipeline.runs.children import Done
from ml_pipeline.runs.recording import Failed, place_of
from ml_pipeline.runs.schedule import Schedule
from ml_pipeline.runs.worker import Duties, Worker
from ml_pipeline.store.contract import Store
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.opening import open_store
from ml_pipeline.store.records import Priority, RequestStatus, RetrainingRequest
from ml_pipeline.store.supabase.store import SupabaseStore
from ml_pipeline.store.supabase.transport import Timeouts
from tests.support import crashing, league, warm
from tests.support.places import Place
from tests.support.supabase import faults

HOUR = timedelta(hours=1)
EVERY, POLL = 12 * HOUR, timedelta(minutes=5)
# What becomes of a run, in turn: each third one meets a fault, so no request meets three.
FATES = ("well", "well", "killed", "well", "well", "store lost")


class Killed(BaseException):
    """The worker's own end; nothing may catch it."""


def simulated_pass(work: str, now: str, fate: str, fatal: int, pid: int) -> None:
    """One run at a moment of the simulated day; runs in a process of its own."""

    def meet(_name: str, number: int) -> None:
        if number >= fatal and fate == "killed":
            os.kill(os.getpid(), 9)
        if number >= fatal and fate == "store lost":
            raise StoreUnavailable("the connection is gone")

    store = crashing.through(open_store(load_store_settings()), meet)
    moment = datetime.fromisoformat(now)
    order = crashing.order(Path(work), moment, name=f"{now} {pid}", place=place_of(pid))
    outcome = recording.run(store, order)
    common.print_json(dict(outcome.result))
    sys.exit(1 if isinstance(outcome, Failed) else 0)


@contextmanager
def outage(place: Place) -> Iterator[None]:
    """A store that answers nobody: really locked, or dropping every connection."""
    if place.project is not None:
        place.project.gateway.fault(faults.drop_before, times=1_000_000)
        yield
        place.project.gateway.reset()
        return
    path = Path(place.variables["ML_PIPELINE_LOCAL"]) / "store.db"
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    yield
    database.close()


@dataclass(kw_only=True)
class Day:
    """The clock, what comes when, and what was done; it is the worker's `stop` as well."""

    place: Place
    folder: Path
    now: datetime
    until: datetime
    arrivals: dict[datetime, int]
    worker_ends: list[datetime]
    outages: list[tuple[datetime, datetime]]
    jobs: list[list[str]] = field(default_factory=list)
    fates: list[str] = field(default_factory=list)
    workers: int = 0
    unreachable: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(9))
    _weather: ExitStack = field(default_factory=ExitStack)
    _is_out: bool = False
    _opened: list[Store] = field(default_factory=list)

    # -- what the worker sees

    def is_set(self) -> bool:
        return self.now >= self.until

    def wait(self, timeout: float | None = None, /) -> bool:
        assert timeout is not None
        self.now += timedelta(seconds=timeout)
        self._change_weather()
        for moment in [moment for moment in self.arrivals if moment <= self.now]:
            self._ask(moment, self.arrivals.pop(moment))
        if self.worker_ends and self.worker_ends[0] <= self.now:
            self.worker_ends.pop(0)
            raise Killed
        return self.is_set()

    def perform(
        self, arguments: Sequence[str], *, limit: timedelta, beat: Callable[[], None]
    ) -> Done:
        assert limit >= HOUR
        beat()
        self.jobs.append(list(arguments))
        pid = 100_000 + len(self.jobs)
        if arguments[0] != "run":
            return Done(code=0, result={}, pid=pid)
        fate = FATES[len(self.fates) % len(FATES)]
        self.fates.append(fate)
        fatal = self.chance.randint(2, 12)
        done = warm.call(
            simulated_pass, str(self.folder / "work"), self.now.isoformat(), fate, fatal, pid,
            cwd=self.folder, **self.place.variables,
        )  # fmt: skip
        return Done(code=done.code, result={}, pid=pid)

    # -- what happens

    def live(self) -> None:
        """Let the day pass; a worker that was killed is started again."""
        while not self.is_set():
            self.workers += 1
            worker = Worker(
                settings=league.settings_for(),
                duties=Duties(schedule=Schedule(every=EVERY, at=2 * HOUR), poll=POLL),
                holder=f"worker {self.workers}",
                open_store=self._open,
                perform=self.perform,
                report=lambda _: None,
                clock=lambda: self.now,
            )
            try:
                worker.work(self)
            except Killed:
                pass
            finally:
                self.unreachable += worker.tally.unreachable
                for store in self._opened:
                    store.close()

    def _ask(self, moment: datetime, count: int) -> None:
        with self.place.opened() as store:
            for number in range(count):
                store.submit(
                    RetrainingRequest(
                        request_id=league.event_id(f"{moment} {number}"),
                        model_name="default",
                        priority=Priority.NORMAL,
                        status=RequestStatus.PENDING,
                        created_at=moment,
                    )
                )

    def _change_weather(self) -> None:
        is_out = any(start <= self.now < end for start, end in self.outages)
        if is_out and not self._is_out:
            self._weather.enter_context(outage(self.place))
        if not is_out:
            self._weather.close()
        self._is_out = is_out

    def _open(self) -> Store:
        self._opened.append(self._impatient())
        return self._opened[-1]

    def _impatient(self) -> Store:
        if self.place.project is None:
            folder = Path(self.place.variables["ML_PIPELINE_LOCAL"])
            return LocalStore.open(folder, lock_timeout=timedelta(milliseconds=5))
        key = SecretStr(self.place.project.service_key)
        timeouts = Timeouts(attempts=2, first_wait=0.001, longest_wait=0.001, jitter=0)
        return SupabaseStore.open(self.place.project.url, key, timeouts=timeouts)
