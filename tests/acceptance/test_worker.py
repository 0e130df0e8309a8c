"""The worker: a simulated day with every misfortune, and the command with real signals."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from ml_pipeline.domain import RequestStatus, RunStatus, Source
from tests.acceptance.test_signals import PATIENCE, WISH, prepare, until
from tests.conftest import FirstModel
from tests.support import league
from tests.support.places import EMBEDDED, Place
from tests.support.shell import environment
from tests.support.worked_day import EVERY, HOUR, POLL, Day

MIDNIGHT = datetime(2026, 3, 14, tzinfo=UTC)
REQUESTS, BURSTS = 500, 8


def arrivals() -> dict[datetime, int]:
    """500 requests in bursts over the day, none while the store is away."""
    chance = random.Random(3)
    minutes = [m for m in range(10, 23 * 60) if not 9 * 60 <= m < 11 * 60]
    moments = [MIDNIGHT + m * timedelta(minutes=1) for m in chance.sample(minutes, BURSTS)]
    counts = dict.fromkeys(moments, 0)
    for _ in range(REQUESTS):
        counts[chance.choice(moments)] += 1
    return counts


def test_a_day_of_kills_and_outages_loses_no_request_and_neither_skips_nor_doubles_a_night(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
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
    for number in range(-1, 4):
        slot = MIDNIGHT + 2 * HOUR + number * EVERY
        here = [run for run in completed if max(slot, MIDNIGHT) <= run.started_at < slot + EVERY]
        assert [run.source for run in here].count(Source.AUTO_DAILY) <= 1
        assert min(run.started_at for run in here) - max(slot, MIDNIGHT) < HOUR
    looks = day.jobs.count(["decay"])
    assert 20 <= looks <= 24 + day.workers
    assert day.jobs.count(["models", "prune", "--keep", "20", "--apply"]) >= 5


@contextmanager
def working(place: Place, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """`ml-pipeline worker`, looking every half second."""
    variables = dict(place.variables) | {"ML_PIPELINE__RUN__WORK_DIR": str(folder / "work")}
    with (folder / "said").open("w") as stdout, (folder / "story").open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "ml_pipeline", "worker", "--poll", "0.5s"],
            cwd=folder, env=environment(**variables), text=True, stdout=stdout, stderr=stderr,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def said(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "said").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def ended(process: subprocess.Popen[str], folder: Path) -> dict[str, Any]:
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0, (folder / "story").read_text(encoding="utf-8")
    return said(folder)[-1]


def test_it_drains_on_sigterm_and_the_next_one_serves_what_was_left(
    first_model: FirstModel, tmp_path: Path
) -> None:
    place = Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": str(tmp_path / "store")})
    prepare(place, first_model)
    with working(place, tmp_path) as process:
        until(lambda: any((tmp_path / "work").glob("*/trainer.log")), process)
        told = ended(process, tmp_path)
    assert (told["status"], told["passes"], told["failed_passes"]) == ("stopped", 1, 1)
    assert "Stopped by SIGTERM while training" in said(tmp_path)[0]["outcome_reason"]
    with place.opened() as store:
        assert store.get_request(WISH).status is RequestStatus.PENDING

        with working(place, tmp_path) as process:
            until(lambda: store.get_request(WISH).status is RequestStatus.COMPLETED, process)
            # The look and the clean-up come after the pass.
            until(lambda: len(said(tmp_path)) >= 3, process)
            told = ended(process, tmp_path)
        runs = store.list_runs(model_name="default", limit=9)
    commands = [(line["command"].split()[0], line["code"]) for line in said(tmp_path)[:-1]]
    assert commands == [("run", 0), ("decay", 0), ("models", 0)]
    assert (told["passes"], told["failed_passes"], told["unreachable"]) == (1, 0, 0)
    assert [run.status for run in runs] == ["completed", "failed"]
