"""The long-lived process: requests at once, scheduled runs, the watchdog, retention."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Protocol

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import NotFound, PipelineError, StoreUnavailable
from ml_pipeline.evaluation.sentences import counted
from ml_pipeline.runs.children import Done
from ml_pipeline.runs.recording import close_dead_run, place_of
from ml_pipeline.runs.schedule import Schedule, backoff, holder_of
from ml_pipeline.store.contract import Store
from ml_pipeline.store.leased import LeasedStore
from ml_pipeline.store.records import RequestStatus, RetrainingRequest, RetrainingRun, RunStatus

log = logging.getLogger("worker")

LATEST_RUNS: Final = 30
LONGEST_PAUSE: Final = timedelta(minutes=5)
LONGEST_PAUSE_OF_RUNS: Final = timedelta(minutes=30)
# Over all the time limits that a run keeps itself; for one that hangs.
SPARE: Final = timedelta(hours=1)
TRAININGS_OF_A_RUN: Final = 3
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

    runs: int = 0
    failed_runs: int = 0
    checks: int = 0
    clean_ups: int = 0
    unreachable: int = 0

    def as_json(self) -> dict[str, int]:
        """Plain JSON values, under the keys that the worker has always printed."""
        return {
            "passes": self.runs,
            "failed_passes": self.failed_runs,
            "looks": self.checks,
            "clean_ups": self.clean_ups,
            "unreachable": self.unreachable,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """Runs and open requests as they were when the store's rows had that etag."""

    etag: str | None
    runs: Sequence[RetrainingRun]
    pending: Sequence[RetrainingRequest]
    held: Sequence[RetrainingRequest]


class Worker:
    """Does its duties while it holds the lease `worker:MODEL`; it logs and outlives every fault."""

    def __init__(  # noqa: PLR0913 - what, where, when and who
        self,
        *,
        settings: Settings,
        duties: Duties,
        holder: str,
        open_store: Callable[[], Store],
        perform: Perform,
        report: Callable[[Mapping[str, Any]], None],
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
            active="at work",
            standby="another worker is at work",
        )
        self._perform = perform
        self._report = report
        self._clock = clock
        self._faults = 0
        self._failed_in_a_row = 0
        self._not_before: datetime | None = None
        self._checked_at: datetime | None = None
        self._cleaned: datetime | None = None
        self._dead: Done | None = None
        self._seen: _Seen | None = None

    def work(self, stop: Stopping) -> Tally:
        """Go on until `stop` is set, then give the lease back."""
        while not stop.is_set():
            stop.wait(self._turn(stop).total_seconds())
        self._leased.release()
        return self.tally

    def _turn(self, stop: Stopping) -> timedelta:
        """Do what is due; return how long to wait."""
        try:
            self._do_what_is_due(stop)
        except Exception as error:
            self._leased.disconnect()
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
        duties = (partial(self._run_if_due, store), self._check_if_due, self._clean_if_due)
        for duty in duties:
            if not stop.is_set():
                duty()

    # --------------------------------------------------------------------------------- runs

    def _run_if_due(self, store: Store) -> None:
        self._close_row_of_the_dead(store)
        now = self._clock()
        if self._not_before and now < self._not_before <= now + LONGEST_PAUSE_OF_RUNS:
            return
        seen = self._seen = self._read(store, now)
        stale_after = timedelta(minutes=self._settings.run.stale_after_minutes)
        holder = holder_of(seen.runs, now=now, stale_after=stale_after)
        if holder is not None and not self._closed(store, holder, now, stale_after):
            return
        why = self._why_now(store, seen, now)
        if why is not None:
            log.info("A run is due: %s", why)
            self._make_run(store)

    def _closed(
        self, store: Store, holder: RetrainingRun, now: datetime, stale_after: timedelta
    ) -> bool:
        """Whether a run with a fresh heartbeat is dead all the same; its row is closed then."""
        name = self._settings.model_name
        dead = store.fail_stale_runs(model_name=name, now=now, older_than=stale_after)
        return any(run.run_id == holder.run_id for run in dead)

    def _read(self, store: Store, now: datetime) -> _Seen:
        """Runs and open requests; what was read before, as long as nothing has changed."""
        name = self._settings.model_name
        etag = store.etag(model_name=name, since=now.date())
        if self._seen is not None and etag is not None and etag == self._seen.etag:
            return self._seen
        return _Seen(
            etag=etag,
            runs=store.list_runs(model_name=name, limit=LATEST_RUNS, only=()),
            pending=store.list_requests(model_name=name, status=RequestStatus.PENDING),
            held=store.list_requests(model_name=name, status=RequestStatus.PROCESSING),
        )

    def _why_now(self, store: Store, seen: _Seen, now: datetime) -> str | None:
        if seen.pending and not self._is_too_soon(seen, now):
            return f"{counted(len(seen.pending), 'request')} waiting"
        if self._duties.schedule.is_due(seen.runs, now=now):
            return f"none since {self._duties.schedule.slot(now).isoformat()}"
        if any(run.status is RunStatus.RUNNING for run in seen.runs):
            return "a run died"
        if any(_is_abandoned(store, request, now) for request in seen.held):
            return "nobody works on a request any more"
        return None

    def _is_too_soon(self, seen: _Seen, now: datetime) -> bool:
        """Whether only users ask, and the last run that one of them started is recent.

        Otherwise whoever asks again and again would keep the worker busy for ever.
        """
        if any(request.requested_by is None for request in seen.pending):
            return False
        least = timedelta(minutes=self._settings.run.user_request_interval_minutes)
        # A run that a wrong clock dated ahead shall not stand in the way until then.
        return any(
            run.triggered_by is not None and abs(now - run.started_at) < least for run in seen.runs
        )

    def _make_run(self, store: Store) -> None:
        training = timedelta(seconds=self._settings.training.time_limit_s)
        done = self._do(["run"], limit=TRAININGS_OF_A_RUN * training + SPARE)
        self.tally.runs += 1
        if done.code == 0:
            self._failed_in_a_row, self._not_before = 0, None
            return
        self.tally.failed_runs += 1
        self._failed_in_a_row += 1
        pause = backoff(
            self._failed_in_a_row, first=self._duties.poll, longest=LONGEST_PAUSE_OF_RUNS
        )
        self._not_before = self._clock() + pause
        log.warning("The run failed; none for %.0f s", pause.total_seconds())
        self._dead = done
        self._close_row_of_the_dead(store)

    def _close_row_of_the_dead(self, store: Store) -> None:
        """A run that was killed left its row running, and nobody else knows that it is dead."""
        done = self._dead
        if done is None:
            return
        place = place_of(done.pid)
        name = self._settings.model_name
        for run in store.list_runs(model_name=name, limit=LATEST_RUNS, without=("review",)):
            if run.status is RunStatus.RUNNING and run.details.get("place") == place:
                killed = f"by signal {-done.code}" if done.code < 0 else f"with code {done.code}"
                why = f"The process of this run ended {killed} before the run was closed."
                close_dead_run(store, run, why=why, now=self._clock())
        self._dead = None

    # ---------------------------------------------------------------------------- the others

    def _check_if_due(self) -> None:
        interval = timedelta(minutes=self._settings.decay.interval_minutes)
        # A clock that was set back must not end the checks until it has caught up.
        if self._checked_at and timedelta(0) <= self._clock() - self._checked_at < interval:
            return
        # Counted from the start, so that a fault is not repeated every turn.
        now, before = self._clock(), self._checked_at
        self._checked_at = now
        is_first = before is None or before.date() != now.date()
        self._do(["decay"] if is_first else ["decay", "--quick"], limit=SPARE)
        self.tally.checks += 1

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
        self._report({"command": " ".join(arguments), "code": done.code, **done.result})
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
