"""One attempt, recorded: take the model, do the night, close the row, settle the requests.

Order of writes: run row (running) → model bytes → model row → promotion → log → run row
(finished) → requests completed. A crash anywhere leaves a store that the next run repairs.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from ml_pipeline.config.environment import code_revision
from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import (
    AlreadyFinished,
    ConfigError,
    PipelineError,
    RunInProgress,
    Stopped,
    StoreError,
)
from ml_pipeline.reports import report
from ml_pipeline.reports.review import Material, with_review
from ml_pipeline.runs import manifest
from ml_pipeline.runs.attempt import Attempt, AttemptResult, Skip
from ml_pipeline.runs.processes import Stop
from ml_pipeline.runs.requests import ServedRequests, close_leftovers
from ml_pipeline.runs.run_log import RunLog
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import (
    Outcome,
    RequestStatus,
    RetrainingRequest,
    RetrainingRun,
    RunStatus,
    Source,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A run that trained a challenger and judged it."""

    run: RetrainingRun
    result: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """A run that had nothing to do, with its reason."""

    run: RetrainingRun
    result: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """A run that failed, with its stage and cause."""

    run: RetrainingRun
    result: Mapping[str, Any]


RunOutcome = Trained | Skipped | Failed

log = logging.getLogger("auto_reinforcement")

ARTIFACT_BUCKET = "model-artifacts"
KEPT_FOLDERS = 10
UNPRINTED = {"place", "capsule", "review"}
Clock = Callable[[], datetime]


def place_of(pid: int) -> str:
    """How a run's row names a process of this machine."""
    return f"{platform.node()}, process {pid}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What a pass is asked to do, and where it works: `place` is for people's eyes."""

    settings: Settings
    work_dir: Path
    source: Source | None = None
    request_id: str | None = None
    dry_run: bool = False
    stop: Stop = field(default_factory=Stop)
    place: str = field(default_factory=lambda: place_of(os.getpid()))
    clock: Clock = field(default=lambda: datetime.now(UTC))
    new_id: Callable[[], str] = field(default=lambda: str(uuid4()))
    on_stage: Callable[[], None] = field(default=lambda: None)


def close_dead(store: Store, run: RetrainingRun, *, why: str, now: datetime) -> None:
    """Close the row of a pass that its parent saw die; the next one takes up what it left."""
    dead = replace(
        run,
        status=RunStatus.FAILED,
        outcome=Outcome.FAILED,
        outcome_reason=why,
        error_message=why,
        completed_at=now,
        heartbeat_at=now,
    )
    try:
        store.finish_run(dead)
    except AlreadyFinished as closed:
        log.info("%s", closed)


def run_once(store: Store, order: Order) -> RunOutcome:
    """Run once and record it. Raises only when nothing could be recorded.

    RunInProgress says that another run holds the model; StoreError that the store did not even
    take the run row.
    """
    # A row that stands as running has to be closed: nothing may come between it and the boundary.
    order.stop.hold()
    run = _begin(store, order)
    started = time.monotonic()
    served = ServedRequests(
        store=store, settings=order.settings, run_id=run.run_id, clock=order.clock
    )
    attempt = Attempt(
        store=store,
        settings=order.settings,
        run=run,
        folder=order.work_dir / run.run_id,
        clock=order.clock,
        new_id=order.new_id,
        dry_run=order.dry_run,
        stop=order.stop,
        served=served,
        on_stage=order.on_stage,
    )
    stack = ExitStack()
    try:
        finished, fault = _recorded(store, order, attempt, stack)
    finally:
        _end_story(stack)
    served.settle(finished, fault)
    answer = _as_json(finished, served.requests, started)
    if fault is not None:
        return Failed(run=finished, result=answer)
    if finished.challenger_id is None:
        return Skipped(run=finished, result=answer)
    return Trained(run=finished, result=answer)


def _recorded(
    store: Store, order: Order, attempt: Attempt, stack: ExitStack
) -> tuple[RetrainingRun, Exception | None]:
    """Make the attempt and close its row, whatever happens; return the row and the fault."""
    run, story = attempt.run, None
    try:
        order.stop.let_go()
        story = _open_story(attempt.folder, stack)
        log.info("Run %s started (%s)", run.run_id, run.source)
        if not order.dry_run:
            attempt.served.claim_all(order.request_id)
        result = attempt.make()
    except Exception as error:  # noqa: BLE001 - the run boundary: every fault is recorded
        # A library may have wrapped the stop into an error of its own.
        fault = order.stop.reason() if order.stop.is_asked else error
        order.stop.hold()
        log.error("Run failed while %s: %s", attempt.stage, fault)  # noqa: TRY400
        log.info("%s", traceback.format_exc())
        finished = _with_report(store, order, attempt, _failed(run, attempt, fault, order.clock()))
        return _close(store, order, finished, story, fault)
    order.stop.hold()
    finished = _completed(run, result, order.clock())
    log.info("%s: %s", finished.outcome, finished.outcome_reason)
    finished = _with_report(store, order, attempt, finished)
    return _close(store, order, finished, story, None)


def _open_story(folder: Path, stack: ExitStack) -> RunLog:
    """The run's own folder and log; of earlier runs' folders the latest few are kept."""
    try:
        _make_room(folder)
        story = RunLog(folder / "run.log")
        stack.enter_context(story)
    except OSError as error:
        raise ConfigError(
            f"{error.filename or folder}: {error.strerror}.",
            hint="Set run.work_dir to a folder that this user may write to.",
        ) from error
    return story


def _end_story(stack: ExitStack) -> None:
    """A full disk refuses the last lines; what the run came to stands all the same."""
    try:
        stack.close()
    except OSError as error:
        log.warning("The run's log is incomplete: %s", error)


def _make_room(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    earlier = [path for path in folder.parent.iterdir() if _is_run_folder(path) and path != folder]
    earlier.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in earlier[KEPT_FOLDERS:]:
        shutil.rmtree(path, ignore_errors=True)


def _is_run_folder(path: Path) -> bool:
    try:
        UUID(path.name)
    except ValueError:
        return False
    return path.is_dir()


def _source(waiting: Sequence[RetrainingRequest], request_id: str | None) -> Source:
    """What started a run: a person's request, else the watchdog's, else the clock."""
    asked = [r for r in waiting if request_id in {None, r.request_id}]
    if not asked:
        return Source.MANUAL if request_id else Source.AUTO_DAILY
    mark = f"{Source.DECAY_TRIGGERED}: "
    by_watchdog = all(r.requested_by is None and r.reason.startswith(mark) for r in asked)
    return Source.DECAY_TRIGGERED if by_watchdog else Source.MANUAL


def _begin(store: Store, order: Order) -> RetrainingRun:
    """Close what earlier crashes left, then take the model for this run."""
    settings, now = order.settings, order.clock()
    if not order.dry_run:
        close_leftovers(store, settings, now=now)
    waiting = store.list_requests(model_name=settings.model_name, status=RequestStatus.PENDING)
    source = order.source or _source(waiting, order.request_id)
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
        git_sha=code_revision(),
        details={"place": order.place, "capsule": manifest.environment(settings)},
    )
    if order.dry_run:
        return run
    try:
        store.start_run(run)
    except RunInProgress as busy:
        raise _who_holds_it(store, settings, busy) from None
    return run


def _who_holds_it(store: Store, settings: Settings, busy: RunInProgress) -> RunInProgress:
    """The same refusal with everything that a person wants to know of the run in the way."""
    runs = store.list_runs(model_name=settings.model_name, limit=10)
    holder = next((run for run in runs if run.status is RunStatus.RUNNING), None)
    if holder is None:
        return busy
    return RunInProgress(
        f"Run {holder.run_id} of {holder.model_name} ({holder.source}, on "
        f"{holder.details.get('place', 'an unknown machine')}) is running since "
        f"{holder.started_at.isoformat()}, last heard of at {holder.heartbeat_at.isoformat()}.",
        hint=f"Wait for it; one that is silent for {settings.run.stale_after_minutes:g} minutes "
        "is closed by the next run.",
    )


def _with_details(run: RetrainingRun, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {**fields, "details": {**run.details, **fields.get("details", {})}}


def _completed(run: RetrainingRun, result: AttemptResult | Skip, now: datetime) -> RetrainingRun:
    return replace(
        run,
        **_with_details(run, result.run_fields()),
        status=RunStatus.COMPLETED,
        completed_at=now,
        heartbeat_at=now,
    )


def _failed(run: RetrainingRun, attempt: Attempt, error: Exception, now: datetime) -> RetrainingRun:
    cause = str(error) if isinstance(error, PipelineError) else f"{type(error).__name__}: {error}"
    what = error.message.removesuffix(".") if isinstance(error, Stopped) else "Failed"
    return replace(
        run,
        **_with_details(run, attempt.known_fields()),
        status=RunStatus.FAILED,
        outcome=Outcome.FAILED,
        outcome_reason=f"{what} while {attempt.stage}.",
        error_message=f"{attempt.stage}: {cause}",
        completed_at=now,
        heartbeat_at=now,
    )


def _close(
    store: Store, order: Order, run: RetrainingRun, story: RunLog | None, fault: Exception | None
) -> tuple[RetrainingRun, Exception | None]:
    """Store the run's log, then the finished row that names it; return what became of the run."""
    if order.dry_run:
        return run, fault
    if story is not None:
        run = _with_log(store, run, story)
    try:
        store.finish_run(run)
    except AlreadyFinished as taken:
        log.error("Another run closed this one meanwhile: %s", taken)  # noqa: TRY400
        return store.get_run(run.run_id), fault or taken
    return run, fault


def _with_report(store: Store, order: Order, attempt: Attempt, run: RetrainingRun) -> RetrainingRun:
    """The run with what its report shows, and the report itself; without it, why there is none."""
    try:
        material = Material(
            settings=order.settings,
            loaded=attempt.loaded,
            judged=attempt.judged,
            model_ids=attempt.serving,
            earlier=_run_before(store, run),
        )
        run = with_review(run, material)
        found = report.store_report(store, run, attempt.folder, dry_run=order.dry_run)
    except Exception as error:  # noqa: BLE001 - a run that did its job is no failure for its report
        log.warning("The run's report could not be made: %s: %s", type(error).__name__, error)
        log.info("%s", traceback.format_exc())
        found = {"report_error": f"{type(error).__name__}: {error}"}
    return replace(run, details={**run.details, **found})


def _run_before(store: Store, run: RetrainingRun) -> RetrainingRun | None:
    runs = store.list_runs(model_name=run.model_name, limit=2)
    return next((earlier for earlier in runs if earlier.run_id != run.run_id), None)


def _with_log(store: Store, run: RetrainingRun, story: RunLog) -> RetrainingRun:
    try:
        story.flush()
        ref = store.put(ARTIFACT_BUCKET, f"training-logs/{run.run_id}.txt", story.path)
    except (StoreError, OSError) as error:
        # A run without its log is still a run; the row says that it is missing.
        log.warning("The run's log could not be stored: %s", error)
        return run
    return replace(run, log_url=store.url(ref))


def _as_json(
    run: RetrainingRun, requests: Sequence[RetrainingRequest], started: float
) -> dict[str, Any]:
    details = {name: value for name, value in run.details.items() if name not in UNPRINTED}
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
