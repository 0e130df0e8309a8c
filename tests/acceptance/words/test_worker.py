"""The worker: a simulated day with every misfortune, and the command with real signals."""

from __future__ import annotations

import itertools
import json
import random
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from ml_pipeline.runs.children import Children, Done
from ml_pipeline.runs.schedule import Schedule
from ml_pipeline.runs.worker import Duties, Worker
from ml_pipeline.store.contract import Store
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import Outcome, RequestStatus, RunStatus, Source
from tests.acceptance.faults.test_signals import TIMEOUT_S, WISH, prepare, until
from tests.conftest import FirstModel
from tests.support import league
from tests.support.factories import make_id, make_request, make_run
from tests.support.places import EMBEDDED, FAR_IS_LONG, Place
from tests.support.shell import PYTHON, environment
from tests.support.worked_day import EVERY, HOUR, POLL, Day

MIDNIGHT = datetime(2026, 3, 14, tzinfo=UTC)
REQUESTS, BURSTS = 500, 5


def arrivals() -> dict[datetime, int]:
    """500 requests in bursts over the day, none while the store is away."""
    chance = random.Random(3)
    minutes = [m for m in range(10, 23 * 60) if not 9 * 60 <= m < 11 * 60]
    moments = [MIDNIGHT + m * timedelta(minutes=1) for m in chance.sample(minutes, BURSTS)]
    counts = dict.fromkeys(moments, 0)
    for _ in range(REQUESTS):
        counts[chance.choice(moments)] += 1
    return counts


@pytest.fixture
def fast(place: Place) -> Iterator[Place]:
    """The place, in memory where it is a folder: 500 requests are thousands of waits for a disk."""
    memory = Path("/dev/shm")  # noqa: S108 - removed below
    if place.kind != EMBEDDED or not memory.is_dir():
        yield place
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": f"{folder}/store"})


@FAR_IS_LONG
def test_a_day_of_kills_and_outages_loses_no_request_and_neither_skips_nor_doubles_a_night(
    fast: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    place = fast
    place.fill(first_model, league.nights_before(MIDNIGHT, 2))
    day = Day(
        place=place,
        folder=tmp_path,
        now=MIDNIGHT,
        until=MIDNIGHT + 25 * HOUR,
        arrivals=arrivals(),
        worker_ends=[MIDNIGHT + at * HOUR for at in (1.99, 5.2, 9.5, 14.01, 20.3)],
        outages=[(MIDNIGHT + 9 * HOUR, MIDNIGHT + 11 * HOUR)],
    )
    day.live()

    with place.opened() as store:
        requests = store.list_requests(model_name="default")
        runs = store.list_runs(model_name="default", limit=1000)
    assert (len(requests), {r.status for r in requests}) == (REQUESTS, {RequestStatus.COMPLETED})
    completed = [run for run in runs if run.status is RunStatus.COMPLETED]
    assert {request.run_id for request in requests} <= {run.run_id for run in completed}
    assert {run.status for run in runs} == {RunStatus.COMPLETED, RunStatus.FAILED}
    assert {"killed", "store lost"} <= set(day.fates)
    assert (day.workers, day.unreachable >= 5) == (6, True)
    # Within the poll, where nothing was in the way.
    waited = [(r.processed_at - r.created_at) / POLL for r in requests if r.processed_at]
    assert median(waited) <= 1
    assert max(waited) < HOUR / POLL
    for number in range(-1, 2):
        slot = MIDNIGHT + 2 * HOUR + number * EVERY
        here = [run for run in completed if max(slot, MIDNIGHT) <= run.started_at < slot + EVERY]
        assert [run.source for run in here].count(Source.AUTO_DAILY) <= 1
        assert min(run.started_at for run in here) - max(slot, MIDNIGHT) < HOUR
    looks = [job for job in day.jobs if job[0] == "decay"]
    assert 20 <= len(looks) <= 24 + day.workers
    # Rows are read once a day, or by a worker that has just been started; sums each time.
    assert 1 <= looks.count(["decay"]) <= 2 + day.workers
    assert day.jobs.count(["models", "prune", "--keep", "20", "--apply"]) >= 3


@dataclass(kw_only=True)
class Hours:
    """A clock that is the worker's `stop` as well, and a list of what it was asked to do."""

    now: datetime = MIDNIGHT
    until: datetime = MIDNIGHT + 24 * HOUR
    code: int = 0
    jobs: list[tuple[datetime, str]] = field(default_factory=list)

    def is_set(self) -> bool:
        return self.now >= self.until

    def wait(self, timeout: float | None = None, /) -> bool:
        self.now += timedelta(seconds=timeout or 0)
        return self.is_set()

    def perform(
        self, arguments: Sequence[str], *, limit: timedelta, beat: Callable[[], None]
    ) -> Done:
        assert limit > timedelta(0)
        beat()
        self.jobs.append((self.now, arguments[0]))
        return Done(code=self.code, result={}, pid=len(self.jobs))

    def count(self, command: str) -> int:
        return [name for _, name in self.jobs].count(command)

    def worker(self, folder: Path, holder: str = "one", **changes: Any) -> Worker:  # noqa: ANN401
        values: dict[str, Any] = {
            "settings": league.settings_for(),
            "duties": Duties(schedule=Schedule(every=24 * HOUR), poll=timedelta(minutes=1)),
            "holder": holder,
            "open_store": lambda: LocalStore.open(folder),
            "perform": self.perform,
            "report": lambda _: None,
            "clock": lambda: self.now,
        }
        return Worker(**values | changes)


def test_a_run_that_fails_is_tried_again_later_and_later(tmp_path: Path) -> None:
    hours = Hours(code=1, until=MIDNIGHT + 2 * HOUR)
    tally = hours.worker(tmp_path).work(hours)
    begun = [at for at, command in hours.jobs if command == "run"]
    pauses = [(later - at) / timedelta(minutes=1) for at, later in pairwise(begun)]
    assert pauses[:5] == [1, 2, 4, 8, 16]
    assert set(pauses[5:]) == {30}
    assert (tally.runs, tally.failed_runs) == (len(begun), len(begun))


def test_a_clock_that_is_set_back_does_not_end_the_looks(tmp_path: Path) -> None:
    hours = Hours(now=MIDNIGHT + 20 * HOUR, until=MIDNIGHT + 21 * HOUR)
    worker = hours.worker(tmp_path)
    worker.work(hours)
    hours.now, hours.until = MIDNIGHT, MIDNIGHT + HOUR
    worker.work(hours)
    assert [at for at, command in hours.jobs if command == "decay"][-1] == MIDNIGHT


def test_of_two_workers_one_works_and_the_other_takes_over(tmp_path: Path) -> None:
    first, second = Hours(until=MIDNIGHT + HOUR), Hours(until=MIDNIGHT + HOUR)
    with suppress(KeyboardInterrupt):
        first.worker(tmp_path, open_store=lambda: Dying(LocalStore.open(tmp_path))).work(first)
    assert {at for at, _ in first.jobs} == {MIDNIGHT}
    second.worker(tmp_path, "two").work(second)
    # It renewed its lease once more, a minute later.
    assert second.jobs[0] == (MIDNIGHT + timedelta(minutes=4), "run")


class Dying:
    """A store under which the worker ends without a word, after its first pass."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.asked = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the store has
        self.asked += name == "list_runs"
        if self.asked > 1:
            raise KeyboardInterrupt
        return getattr(self.store, name)


def test_a_request_that_a_dead_run_left_is_served_and_one_that_is_worked_on_is_left_alone(
    tmp_path: Path,
) -> None:
    store = LocalStore.open(tmp_path)
    asked = league.event_id("left")
    store.submit(make_request(request_id=asked, model_name="default", created_at=MIDNIGHT))
    store.claim(model_name="default", run_id=WISH, now=MIDNIGHT, lease=2 * HOUR)
    hours = Hours(until=MIDNIGHT + 3 * HOUR)
    never = Schedule(every=24 * HOUR, attempts=0)
    hours.worker(
        tmp_path, duties=Duties(schedule=never, poll=timedelta(minutes=10), keep=None)
    ).work(hours)
    begun = [at for at, command in hours.jobs if command == "run"]
    assert begun[0] == MIDNIGHT + 2 * HOUR
    assert (hours.count("decay"), hours.count("models")) == (3, 0)


def test_s4_users_who_ask_again_and_again_get_a_run_an_hour_and_the_operator_at_once(
    tmp_path: Path,
) -> None:
    store = LocalStore.open(tmp_path)
    user, hours = make_id(7), Hours(until=MIDNIGHT + 3.5 * HOUR)
    numbers = itertools.count(1)

    def ask(by: str | None = user) -> None:
        store.submit(
            make_request(next(numbers), model_name="default", created_at=hours.now, requested_by=by)
        )

    def perform(arguments: Sequence[str], **more: Any) -> Done:  # noqa: ANN401
        """Serve what waits; whoever asked does so again, and once the operator does as well."""
        done = hours.perform(arguments, **more)
        if arguments[0] != "run":
            return done
        run_id, waiting = make_id(next(numbers) + 500), store.list_requests(model_name="default")
        taken = [r for r in waiting if r.status is RequestStatus.PENDING]
        by = taken[0].requested_by
        run = make_run(started_at=hours.now, heartbeat_at=hours.now, model_name="default")
        store.start_run(replace(run, run_id=run_id, triggered_by=by))
        for _ in taken:
            claimed = store.claim(model_name="default", run_id=run_id, now=hours.now, lease=HOUR)
            assert claimed is not None
            store.complete(claimed.request_id, run_id=run_id, now=hours.now)
        ended: dict[str, Any] = {"status": RunStatus.COMPLETED, "completed_at": hours.now}
        store.finish_run(
            replace(run, run_id=run_id, triggered_by=by, outcome=Outcome.REJECTED, **ended)
        )
        ask()
        if hours.count("run") == 2:
            ask(None)
        return done

    ask()
    never = Schedule(every=24 * HOUR, attempts=0)
    hours.worker(
        tmp_path,
        duties=Duties(schedule=never, poll=timedelta(minutes=1), keep=None),
        perform=perform,
    ).work(hours)
    begun = [(at - MIDNIGHT) / timedelta(minutes=1) for at, name in hours.jobs if name == "run"]
    # The third is the operator's. It took the user's request along: the next waits an hour.
    assert begun == [0, 60, 61, 121, 181]


def test_a_fault_of_our_own_is_outlived_too(tmp_path: Path) -> None:
    hours = Hours(until=MIDNIGHT + HOUR)
    faults = iter([OSError("no more processes")])

    def perform(arguments: Sequence[str], **how: Any) -> Done:  # noqa: ANN401
        for fault in faults:
            raise fault
        return hours.perform(arguments, **how)

    tally = hours.worker(tmp_path, perform=perform).work(hours)
    assert (tally.runs > 0, tally.unreachable) == (True, 0)


def test_a_job_that_hangs_is_stopped_and_its_last_words_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    beats: list[int] = []
    jobs = Children(["--local", "store"], stop=threading.Event())
    monkeypatch.setattr("ml_pipeline.runs.children.BEAT_SECONDS", 2.0)
    done = jobs.perform(
        ["decay", "--watch"], limit=timedelta(seconds=6), beat=lambda: beats.append(1)
    )
    assert (done.code, len(beats)) == (0, 2)
    assert done.result["status"] == "completed"


@contextmanager
def working(place: Place, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """`ml-pipeline worker`, looking every half second."""
    variables = dict(place.variables) | {"ML_PIPELINE__RUN__WORK_DIR": str(folder / "work")}
    with (folder / "said").open("w") as stdout, (folder / "messages").open("w") as stderr:
        process = subprocess.Popen(
            [PYTHON, "-m", "ml_pipeline", "worker", "--poll", "0.5s"],
            cwd=folder, env=environment(**variables), text=True, stdout=stdout, stderr=stderr,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def answered(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "said").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def ended(process: subprocess.Popen[str], folder: Path) -> dict[str, Any]:
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT_S) == 0, (folder / "messages").read_text(encoding="utf-8")
    return answered(folder)[-1]


def test_it_drains_on_sigterm_and_the_next_one_serves_what_was_left(
    first_model: FirstModel, tmp_path: Path
) -> None:
    place = Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": str(tmp_path / "store")})
    prepare(place, first_model)
    with working(place, tmp_path) as process:
        until(lambda: any((tmp_path / "work").glob("*/trainer.log")), process)
        reported = ended(process, tmp_path)
    assert (reported["status"], reported["passes"], reported["failed_passes"]) == ("stopped", 1, 1)
    assert "Stopped by SIGTERM while training" in answered(tmp_path)[0]["outcome_reason"]
    with place.opened() as store:
        assert store.get_request(WISH).status is RequestStatus.PENDING

        with working(place, tmp_path) as process:
            until(lambda: store.get_request(WISH).status is RequestStatus.COMPLETED, process)
            # The check and the clean-up come after the run.
            until(lambda: len(answered(tmp_path)) >= 3, process)
            reported = ended(process, tmp_path)
        runs = store.list_runs(model_name="default", limit=9)
    commands = [(line["command"].split()[0], line["code"]) for line in answered(tmp_path)[:-1]]
    assert commands == [("run", 0), ("decay", 0), ("models", 0)]
    assert (reported["passes"], reported["failed_passes"], reported["unreachable"]) == (1, 0, 0)
    assert [run.status for run in runs] == ["completed", "failed"]
