"""Real signals to a real run: the first closes it in order, the second ends it at once."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ml_pipeline.runs import recording
from ml_pipeline.store.records import Priority, RequestStatus, RetrainingRequest, RunStatus
from tests.conftest import FirstModel
from tests.support import crashing, league
from tests.support.places import EMBEDDED, FAR_IS_LONG, SUPABASE, Place
from tests.support.shell import PYTHON, environment
from tests.support.supabase import faults

WISH = league.event_id("wish")
TIMEOUT_S = 60


def prepare(place: Place, model: FirstModel) -> None:
    now = datetime.now(UTC)
    place.fill(model, league.nights_before(now, 3))
    with place.opened() as store:
        store.submit(
            RetrainingRequest(
                request_id=WISH,
                model_name="default",
                priority=Priority.NORMAL,
                status=RequestStatus.PENDING,
                created_at=now,
            )
        )


@contextmanager
def training(place: Place, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """`ml-pipeline run`, at the moment when its trainer is at work."""
    work = folder / "work"
    variables = dict(place.variables) | {"ML_PIPELINE__RUN__WORK_DIR": str(work)}
    process = subprocess.Popen(
        [PYTHON, "-m", "ml_pipeline", "run"],
        cwd=folder, env=environment(**variables), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        until(lambda: any(work.glob("*/trainer.log")), process)
        yield process
    finally:
        process.kill()
        process.communicate()


def until(is_so: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def trainers(folder: Path) -> list[str]:
    """Processes that work in the folder of a run."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            place = str(link.readlink())
        except OSError:
            continue
        if place.startswith(str(folder / "work")):
            found.append(link.parent.name)
    return found


@contextmanager
def stuck(place: Place) -> Iterator[None]:
    """A store that answers nobody for a while."""
    if place.project is not None:
        place.project.gateway.fault(faults.hang(8), path="finish_retraining_run", times=9)
        yield
        return
    path = Path(place.variables["ML_PIPELINE_LOCAL"]) / "store.db"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        db.close()


@pytest.mark.parametrize(
    ("place", "number"),
    # Each store and each signal every day.
    [
        (EMBEDDED, signal.SIGINT),
        (SUPABASE, signal.SIGTERM),
        pytest.param(EMBEDDED, signal.SIGTERM, marks=pytest.mark.long),
        pytest.param(SUPABASE, signal.SIGINT, marks=pytest.mark.long),
    ],
    indirect=["place"],
    ids=["embedded-SIGINT", "supabase-SIGTERM", "embedded-SIGTERM", "supabase-SIGINT"],
)
def test_the_first_signal_closes_the_run_releases_its_request_and_keeps_the_log(
    place: Place, first_model: FirstModel, tmp_path: Path, number: signal.Signals
) -> None:
    prepare(place, first_model)
    with training(place, tmp_path) as process:
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)

    assert process.returncode == (130 if number == signal.SIGINT else 1), stderr
    reported = json.loads(stdout)
    assert reported["outcome"] == "failed"
    assert reported["outcome_reason"] == (
        f"Stopped by {number.name} while training. The serving model was not changed; the next run "
        "tries again."
    )
    with place.opened() as store:
        run = store.get_run(reported["run_id"])
        assert (run.status, run.outcome_reason) == (RunStatus.FAILED, reported["outcome_reason"])
        assert run.error_message is not None
        assert run.error_message.startswith(f"training: Stopped by {number.name}.")
        request = store.get_request(WISH)
        assert (request.status, request.attempts) == (RequestStatus.PENDING, 1)
        assert len(store.list_models(model_name="default")) == 1
        log = store.download("model-artifacts", f"training-logs/{run.run_id}.txt", tmp_path / "l")
        assert run.log_url is not None
        assert f"Stopped by {number.name}" in log.read_text(encoding="utf-8")
    # A trainer that was only just started notices when its imports are done.
    until(lambda: trainers(tmp_path) == [])


@FAR_IS_LONG
def test_the_second_signal_ends_the_run_at_once_and_the_next_run_takes_over(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    prepare(place, first_model)
    with training(place, tmp_path) as process, stuck(place):
        process.send_signal(signal.SIGINT)
        messages = process.stderr
        assert messages is not None
        assert any("Run failed while training" in line for line in messages)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=TIMEOUT_S)
        # The store would have been waited for longer.
        assert time.monotonic() - began < 5
    assert code == 128 + signal.SIGTERM
    if place.project is not None:
        place.project.gateway.faults.clear()
    until(lambda: trainers(tmp_path) == [])

    with place.opened() as store:
        (left,) = store.list_runs(model_name="default", limit=9)
        assert left.status is RunStatus.RUNNING
        later = datetime.now(UTC) + timedelta(hours=2)
        outcome = recording.run(store, crashing.order(tmp_path / "next", later))
        assert outcome.result["request_ids"] == [WISH]
        assert store.get_run(left.run_id).status is RunStatus.FAILED
        assert store.get_request(WISH).status is RequestStatus.COMPLETED


def test_a_trainer_does_not_outlive_a_run_that_was_killed(
    first_model: FirstModel, tmp_path: Path
) -> None:
    place = Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": str(tmp_path / "store")})
    prepare(place, first_model)
    with training(place, tmp_path) as process:
        until(lambda: trainers(tmp_path) != [])
        process.kill()
        process.wait(timeout=TIMEOUT_S)
        began = time.monotonic()
        until(lambda: trainers(tmp_path) == [])
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("step", "outcome"),
    [("start_run", "failed"), ("claim", "failed"), ("register", "promoted")],
)
def test_a_signal_to_this_very_process_at_a_write_leaves_no_half_written_run(
    place: Place, first_model: FirstModel, tmp_path: Path, step: str, outcome: str
) -> None:
    """Once a promotion is being written what is left takes seconds: the run finishes."""
    prepare(place, first_model)
    now = datetime.now(UTC)
    with place.opened() as store:
        order = crashing.order(tmp_path / "work", now)

        def interrupt(name: str, _number: int) -> None:
            if name == step:
                signal.raise_signal(signal.SIGTERM)

        with order.stop.on_signals():
            done = recording.run(crashing.through(store, interrupt), order)
        assert done.result["outcome"] == outcome
        run = store.get_run(done.run.run_id)
        request = store.get_request(WISH)
        if outcome == "promoted":
            assert run.status is RunStatus.COMPLETED
            assert request.status is RequestStatus.COMPLETED
        else:
            assert str(run.outcome_reason).startswith("Stopped by SIGTERM while starting. ")
            assert request.status is RequestStatus.PENDING
