"""What is wrong with the runs and their requests: none succeeded lately, one died, some wait."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from ml_pipeline.commands.checks.examined import Examined, duration, time_in_utc
from ml_pipeline.commands.checks.findings import Finding, fault, fine, warning
from ml_pipeline.store.records import RequestStatus, RunStatus

RUNS_SEEN: Final = 100
# In multiples of `run.every_hours`.
LATE_AFTER: Final = 2
TOO_LATE_AFTER: Final = 7
LONGEST_WAIT: Final = timedelta(days=1)


def last_success(examined: Examined) -> Iterator[Finding]:
    """Whether a run succeeded lately."""
    name = "last_success"
    runs = examined.store.list_runs(model_name=examined.model_name, limit=RUNS_SEEN, only=())
    done = [run.completed_at for run in runs if run.status is RunStatus.COMPLETED]
    latest = max((moment for moment in done if moment is not None), default=None)
    failed = next((run for run in runs if run.status is RunStatus.FAILED), None)
    why = "" if failed is None else f" The latest failure: {failed.error_message}"
    do = f"Check that the schedule still starts `ml-pipeline run`, and start one by hand.{why}"
    if latest is None:
        if failed is None:
            yield warning(name, "No run has been recorded yet.", do)
        else:
            yield fault(name, f"None of the last {len(runs)} runs succeeded.", do)
        return
    age = examined.now - latest
    every = timedelta(hours=examined.settings.run.every_hours)
    what = f"The last successful run ended {time_in_utc(latest)}, {duration(age)} ago."
    if age > TOO_LATE_AFTER * every:
        yield fault(name, what, do)
    elif age > LATE_AFTER * every:
        yield warning(name, what, do)
    else:
        yield fine(name, what)


def running_run(examined: Examined) -> Iterator[Finding]:
    """Whether a run died without closing its row."""
    limit = timedelta(minutes=examined.settings.run.stale_after_minutes)
    runs = examined.store.list_runs(model_name=examined.model_name, limit=RUNS_SEEN, only=())
    running = [run for run in runs if run.status is RunStatus.RUNNING]
    for run in running:
        silent = examined.now - run.heartbeat_at
        if silent > limit:
            what = f"Run {run.run_id} is marked as running, but its last heartbeat was "
            do = (
                "It probably died (killed job, out of memory, time limit). The next "
                "`ml-pipeline run` closes it and serves its requests."
            )
            yield fault("running_run", f"{what}{duration(silent)} ago.", do)
            return
    what = f"Run {running[0].run_id} is running." if running else "No run is stuck."
    yield fine("running_run", what)


def requests(examined: Examined) -> Iterator[Finding]:
    """Whether a request has been waiting for too long."""
    pending = examined.store.list_requests(
        model_name=examined.model_name, status=RequestStatus.PENDING
    )
    oldest = min((request.created_at for request in pending), default=examined.now)
    what = f"{len(pending)} requests are pending" if len(pending) != 1 else "1 request is pending"
    if examined.now - oldest > LONGEST_WAIT:
        what = f"{what}, the oldest for {duration(examined.now - oldest)}."
        yield warning("requests", what, "Start `ml-pipeline run`: it serves them all.")
    else:
        yield fine("requests", f"{what}.")
