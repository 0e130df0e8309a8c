"""One attempt, recorded: take the model, do the night, close the row, settle the requests.

Order of writes: run row (running) → model bytes → model row → promotion → log → run row
(finished) → requests completed. A crash anywhere leaves a store that the next run repairs.
"""

from __future__ import annotations

import logging
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from ml_pipeline import config
from ml_pipeline.config import Settings
from ml_pipeline.domain import (
    Failed,
    Outcome,
    RequestStatus,
    RetrainingRequest,
    RetrainingRun,
    RunOutcome,
    RunStatus,
    Skipped,
    Source,
    Trained,
)
from ml_pipeline.errors import PipelineError, StoreError, StoreUnavailable
from ml_pipeline.ml_logging import RunLog
from ml_pipeline.night import Attempt, NightResult, Skip
from ml_pipeline.store import Store

log = logging.getLogger("auto_reinforcement")

ARTIFACT_BUCKET = "model-artifacts"
KEPT_FOLDERS = 10
Clock = Callable[[], datetime]


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What a pass is asked to do."""

    settings: Settings
    work_dir: Path
    source: Source | None = None
    request_id: str | None = None
    dry_run: bool = False
    clock: Clock = field(default=lambda: datetime.now(UTC))
    new_id: Callable[[], str] = field(default=lambda: str(uuid4()))


def run_pass(store: Store, order: Order) -> RunOutcome:
    """Run once and record it. Raises only when nothing could be recorded.

    RunInProgress says that another run holds the model; StoreError that the store did not even
    take the run row.
    """
    run = _begin(store, order)
    started = time.monotonic()
    folder = _run_folder(order.work_dir, run.run_id)
    requests: list[RetrainingRequest] = []
    attempt = Attempt(
        store=store,
        settings=order.settings,
        run=run,
        folder=folder,
        clock=order.clock,
        new_id=order.new_id,
        dry_run=order.dry_run,
    )
    with RunLog(folder / "run.log") as story:
        log.info("Run %s started (%s)", run.run_id, run.source)
        try:
            for request in _claims(store, order, run):
                requests.append(request)  # noqa: PERF402 - kept when a later claim fails
            result: NightResult | Skip = attempt.make()
        except Exception as error:  # noqa: BLE001 - the run boundary: every fault is recorded
            log.error("Run failed while %s: %s", attempt.stage, error)  # noqa: TRY400
            log.info("%s", traceback.format_exc())
            finished = _failed(run, attempt, error, order.clock())
            finished = _close(store, order, finished, story)
            _settle_requests(store, order, requests, finished, error)
            return Failed(run=finished, result=_as_json(finished, requests, started))
        finished = _completed(run, result, order.clock())
        log.info("%s: %s", finished.outcome, finished.outcome_reason)
        finished = _close(store, order, finished, story)
    _settle_requests(store, order, requests, finished, None)
    answer = _as_json(finished, requests, started)
    if isinstance(result, Skip):
        return Skipped(run=finished, result=answer)
    return Trained(run=finished, result=answer)


def _run_folder(work: Path, run_id: str) -> Path:
    """The run's own folder; of earlier runs' folders the latest few are kept."""
    folder = work / run_id
    folder.mkdir(parents=True, exist_ok=True)
    earlier = [path for path in work.iterdir() if _is_run_folder(path) and path != folder]
    earlier.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in earlier[KEPT_FOLDERS:]:
        shutil.rmtree(path, ignore_errors=True)
    return folder


def _is_run_folder(path: Path) -> bool:
    try:
        UUID(path.name)
    except ValueError:
        return False
    return path.is_dir()


def _begin(store: Store, order: Order) -> RetrainingRun:
    """Close what earlier crashes left, then take the model for this run."""
    settings, now = order.settings, order.clock()
    if not order.dry_run:
        _close_leftovers(store, settings, now)
    waiting = store.list_requests(model_name=settings.model_name, status=RequestStatus.PENDING)
    source = order.source or (Source.MANUAL if waiting or order.request_id else Source.AUTO_DAILY)
    run = RetrainingRun(
        run_id=order.new_id(),
        model_name=settings.model_name,
        source=source,
        status=RunStatus.RUNNING,
        started_at=now,
        heartbeat_at=now,
        fine_tune=settings.training.strategy in {"adaptive", "sgd"},
        triggered_by=waiting[0].requested_by if waiting else None,
        config_digest=settings.digest(),
        git_sha=config.code_revision(),
    )
    if not order.dry_run:
        store.start_run(run)
    return run


def _close_leftovers(store: Store, settings: Settings, now: datetime) -> None:
    for stale in store.fail_stale_runs(
        model_name=settings.model_name,
        now=now,
        older_than=timedelta(minutes=settings.run.stale_after_minutes),
    ):
        log.warning("Run %s died; closed as failed", stale.run_id)
    for request in store.release_stale(
        model_name=settings.model_name, now=now, max_attempts=settings.run.request_max_attempts
    ):
        log.warning("Request %s is %s again", request.request_id, request.status)


def _claims(store: Store, order: Order, run: RetrainingRun) -> Iterator[RetrainingRequest]:
    """Requests that wait together are served by one run; each counts as soon as it is claimed."""
    if order.dry_run:
        return
    lease = timedelta(minutes=order.settings.run.request_lease_minutes)
    wanted = order.request_id
    while True:
        request = store.claim(
            model_name=run.model_name,
            run_id=run.run_id,
            now=order.clock(),
            lease=lease,
            request_id=wanted,
        )
        if request is None:
            if wanted is not None:
                found = store.get_request(wanted)
                raise PipelineError(
                    f"Request {wanted} is {found.status} and cannot be served.",
                    hint="Submit a new one with `ml-pipeline requests submit`.",
                )
            return
        log.info("Serving request %s (%s)", request.request_id, request.priority)
        wanted = None
        yield request


def _completed(run: RetrainingRun, result: NightResult | Skip, now: datetime) -> RetrainingRun:
    return replace(
        run,
        **result.run_fields(),
        status=RunStatus.COMPLETED,
        completed_at=now,
        heartbeat_at=now,
    )


def _failed(run: RetrainingRun, attempt: Attempt, error: Exception, now: datetime) -> RetrainingRun:
    cause = str(error) if isinstance(error, PipelineError) else f"{type(error).__name__}: {error}"
    return replace(
        run,
        **attempt.known_fields(),
        status=RunStatus.FAILED,
        outcome=Outcome.FAILED,
        outcome_reason=f"Failed while {attempt.stage}.",
        error_message=f"{attempt.stage}: {cause}",
        completed_at=now,
        heartbeat_at=now,
    )


def _close(store: Store, order: Order, run: RetrainingRun, story: RunLog) -> RetrainingRun:
    """Store the run's log, then the finished row that names it."""
    if order.dry_run:
        return run
    story.flush()
    path = f"training-logs/{run.run_id}.txt"
    try:
        ref = store.put(ARTIFACT_BUCKET, path, story.path)
        run = replace(run, log_url=store.url(ref))
    except StoreError as error:
        # A run without its log is still a run; the row says that it is missing.
        log.warning("The run's log could not be stored: %s", error)
    store.finish_run(run)
    return run


def _settle_requests(
    store: Store,
    order: Order,
    requests: list[RetrainingRequest],
    run: RetrainingRun,
    error: Exception | None,
) -> None:
    now = order.clock()
    for request in requests:
        if error is None:
            store.complete(request.request_id, run_id=run.run_id, now=now)
        elif (
            isinstance(error, StoreUnavailable)
            and request.attempts < order.settings.run.request_max_attempts
        ):
            store.release(request.request_id, run_id=run.run_id, now=now)
        else:
            reason = run.error_message or str(error)
            store.fail(request.request_id, run_id=run.run_id, now=now, reason=reason)


def _as_json(
    run: RetrainingRun, requests: list[RetrainingRequest], started: float
) -> dict[str, Any]:
    details = dict(run.details)
    return {
        "run_id": run.run_id,
        "status": str(run.status),
        "outcome": str(run.outcome),
        "outcome_reason": run.outcome_reason,
        "source": str(run.source),
        "request_ids": [request.request_id for request in requests],
        "dataset_size": run.dataset_size,
        "training_rows": run.training_rows,
        "metrics": dict(run.metrics),
        "champion": run.champion_id,
        "challenger": run.challenger_id,
        "champion_metrics": details.pop("champion_metrics", {}),
        "challenger_metrics": details.pop("challenger_metrics", {}),
        "decision": details.pop("decision", None),
        "log_url": run.log_url,
        "report_path": details.pop("report_path", None),
        "error": run.error_message,
        **details,
        "duration_s": round(time.monotonic() - started, 3),
    }
