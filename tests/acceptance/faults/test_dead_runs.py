"""A run that was killed on this machine, in an embedded store: the next one takes over at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ml_pipeline.errors import RunInProgress
from ml_pipeline.runs.schedule import Schedule
from ml_pipeline.runs.worker import Duties
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import RunStatus
from tests.acceptance.words.test_worker import Hours
from tests.support.factories import make_finished_run, make_id, make_run
from tests.support.shell import ROOT, environment
from tests.support.warm import ml_pipeline

HOUR = timedelta(hours=1)
# A process that is at work on a run until it is killed, and a child of it that lives on.
AT_WORK = """
import subprocess, sys, time
from datetime import UTC, datetime
from pathlib import Path
from ml_pipeline.store.embedded.store import LocalStore
from tests.support.factories import make_run
now = datetime.now(UTC)
store = LocalStore.open(Path(sys.argv[1]))
store.start_run(make_run(1, model_name="default", started_at=now, heartbeat_at=now))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                         stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
time.sleep(60)
"""


@contextmanager
def at_work(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process whose run holds the store's model; killed in the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", AT_WORK, str(folder)], cwd=ROOT, env=environment(),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process
        finally:
            process.kill()
            os.kill(child, signal.SIGKILL)


def test_a_killed_run_is_taken_over_at_once_and_a_live_one_is_left_alone(tmp_path: Path) -> None:
    store = LocalStore.open(tmp_path)
    with at_work(tmp_path) as process:
        busy = ml_pipeline("run", "--local", tmp_path, cwd=tmp_path)
        assert (busy.code, busy.json["status"]) == (0, "running")
        assert store.get_run(make_id(1)).status is RunStatus.RUNNING
        process.send_signal(signal.SIGKILL)
        process.wait()
        (lock,) = tmp_path.glob("run-*.lock")
        kept = lock.read_text()
        lock.write_text(json.dumps(json.loads(kept) | {"machine": {"name": "elsewhere"}}))
        elsewhere = ml_pipeline("run", "--local", tmp_path, cwd=tmp_path)
        assert elsewhere.json["status"] == "running"
        lock.write_text(kept)
        done = ml_pipeline("run", "--local", tmp_path, cwd=tmp_path)
    assert (done.code, done.json["status"]) == (0, "completed"), done.stderr
    dead = store.get_run(make_id(1))
    assert dead.status is RunStatus.FAILED
    assert str(dead.outcome_reason).startswith("its process ended before it was closed")


def test_a_worker_takes_over_what_was_killed_with_the_worker_before(tmp_path: Path) -> None:
    store = LocalStore.open(tmp_path)
    now = datetime.now(UTC)
    with at_work(tmp_path) as process:
        hours = Hours(now=now, until=now + timedelta(minutes=3))
        never = Duties(schedule=Schedule(every=24 * HOUR, attempts=0), poll=timedelta(minutes=1))
        hours.worker(tmp_path, duties=never).work(hours)
        assert hours.count("run") == 0
        process.send_signal(signal.SIGKILL)
        process.wait()
        hours.until = hours.now + timedelta(minutes=3)
        hours.worker(tmp_path, "two", duties=never).work(hours)
    assert hours.count("run") == 1
    assert store.get_run(make_id(1)).status is RunStatus.FAILED


def test_a_run_whose_process_may_be_alive_keeps_its_time(tmp_path: Path) -> None:
    """It works on another machine, under an older version without locks, or in this process."""
    store, soon = LocalStore.open(tmp_path), make_run(1).started_at + timedelta(minutes=1)

    def closed() -> list[str]:
        dead = store.fail_stale_runs(model_name="football", now=soon, older_than=HOUR)
        return [run.run_id for run in dead]

    store.start_run(make_run(1))
    store.close()
    assert closed() == []
    with pytest.raises(RunInProgress):
        LocalStore.open(tmp_path).start_run(make_run(2))
    store.finish_run(make_finished_run(1))
    store.start_run(make_run(2))
    (lock,) = tmp_path.glob("run-*.lock")
    lock.unlink()
    assert closed() == []
    store.finish_run(make_finished_run(2))
    store.start_run(make_run(3))
    store.finish_run(make_finished_run(3))
    assert store.get_run(make_id(3)).status is RunStatus.COMPLETED
