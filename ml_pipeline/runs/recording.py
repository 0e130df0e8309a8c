"""A run, recorded: take the model, train and judge, close the row, settle the requests.

Order of writes: run row (running) → model bytes → model row → promotion → log → run row
(finished) → requests completed. A crash anywhere leaves a store that the next run repairs.
"""

from __future__ import annotations

import logging
import os
import platform
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from ml_pipeline.config.environment import code_revision
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.drift.inputs import drift_of_file
from ml_pipeline.errors import (
    AlreadyFinished,
    RunInProgress,
    StoreError,
)
from ml_pipeline.registry.inputs.new_levels import base_reference
from ml_pipeline.reports import report
from ml_pipeline.reports.drift import DRIFT
from ml_pipeline.reports.review import Material, with_review
from ml_pipeline.runs import manifest
from ml_pipeline.runs.attempt import register, train_and_judge
from ml_pipeline.runs.context import Progress, RunContext
from ml_pipeline.runs.outcome import as_json, completed, failed
from ml_pipeline.runs.preparing import Prepared
from ml_pipeline.runs.requests import ServedRequests, close_leftovers
from ml_pipeline.runs.run_log import RunLog
from ml_pipeline.runs.stopping import Stop
from ml_pipeline.runs.trigger import Skip
from ml_pipeline.runs.waiting.giving_up import give_up_waiting
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import (
    CLASS_DAYS,
    RUN_MANIFEST,
    Outcome,
    RequestStatus,
    RetrainingRequest,
    RetrainingRun,
    RunStatus,
    Source,
)
from ml_pipeline.training.trainer import Trainer, run_trainer

log = logging.getLogger("auto_reinforcement")

ARTIFACT_BUCKET = "model-artifacts"
RUNS_SEARCHED = 30
Clock = Callable[[], datetime]


def place_of(pid: int) -> str:
    """How a run's row names a process of this machine."""
    return f"{platform.node()}, process {pid}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What a run is asked to do, and where it works: `place` is for people's eyes."""

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
    train: Trainer = run_trainer


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


def run(store: Store, order: Order) -> RunOutcome:
    """Run the loop once and record it. Raises only when nothing could be recorded.

    RunInProgress says that another run holds the model; StoreError that the store did not even
    take the run row.
    """
    started = time.monotonic()
    context = _begin(store, order)
    run_log = RunLog(context.folder / "run.log")
    with closing(run_log):
        finished, fault = _recorded(order, context, run_log)
    context.requests.settle(finished, fault)
    answer = as_json(finished, context.requests.claimed, started)
    if fault is not None:
        return Failed(run=finished, result=answer)
    if finished.challenger_id is None:
        return Skipped(run=finished, result=answer)
    return Trained(run=finished, result=answer)


def _recorded(
    order: Order, context: RunContext, run_log: RunLog
) -> tuple[RetrainingRun, Exception | None]:
    """Make the attempt and close its row, whatever happens; return the row and the fault.

    A row that stands as running has to be closed, and so has a promotion that has begun: only
    what lies between the two may be interrupted.
    """
    progress = Progress(on_stage=order.on_stage, beat=context.beat)
    fault: Exception | None = None
    try:
        with order.stop.interruptible():
            run_log.open()
            log.info("Run %s started (%s)", context.run.run_id, context.run.source)
            if not order.dry_run:
                context.requests.claim_all(order.request_id)
            found = train_and_judge(context, progress)
        result = found if isinstance(found, Skip) else register(context, progress, found)
        finished = completed(context.run, result, order.clock())
        log.info("%s", finished.outcome_reason)
    except Exception as error:  # noqa: BLE001 - the run boundary: every fault is recorded
        fault = error
        log.error("Run failed while %s: %s", progress.stage, error)  # noqa: TRY400
        log.info("%s", traceback.format_exc())
        finished = failed(context.run, progress, error, order.clock())
    finished = _with_report(context, progress, finished)
    return _closed(context, finished, run_log, fault)


def _source(waiting: Sequence[RetrainingRequest], request_id: str | None) -> Source:
    """What started a run: a person's request, else the watchdog's, else the clock."""
    asked = [r for r in waiting if request_id in {None, r.request_id}]
    if not asked:
        return Source.MANUAL if request_id else Source.AUTO_DAILY
    mark = f"{Source.DECAY_TRIGGERED}: "
    by_watchdog = all(r.requested_by is None and r.reason.startswith(mark) for r in asked)
    return Source.DECAY_TRIGGERED if by_watchdog else Source.MANUAL


def _begin(store: Store, order: Order) -> RunContext:
    """Close what earlier crashes left, then take the model for this run."""
    settings, now = order.settings, order.clock()
    retired: list[dict[str, Any]] = []
    if not order.dry_run:
        close_leftovers(store, settings, now=now)
        retired = give_up_waiting(store, settings, now)
    waiting = store.list_requests(model_name=settings.model_name, status=RequestStatus.PENDING)
    run = RetrainingRun(
        run_id=order.new_id(),
        model_name=settings.model_name,
        source=order.source or _source(waiting, order.request_id),
        status=RunStatus.RUNNING,
        started_at=now,
        heartbeat_at=now,
        fine_tune=settings.training.strategy in {"adaptive", "sgd"},
        triggered_by=waiting[0].requested_by if waiting else None,
        config_digest=settings.digest(),
        git_sha=code_revision(),
        details={
            "place": order.place,
            RUN_MANIFEST: manifest.environment(settings),
            **({"given_up": retired} if retired else {}),
        },
    )
    if not order.dry_run:
        _take_model(store, settings, run)
    return RunContext(
        store=store,
        settings=settings,
        run=run,
        folder=order.work_dir / run.run_id,
        clock=order.clock,
        new_id=order.new_id,
        requests=ServedRequests(
            store=store, settings=settings, run_id=run.run_id, clock=order.clock
        ),
        stop=order.stop,
        train=order.train,
        dry_run=order.dry_run,
    )


def _take_model(store: Store, settings: Settings, run: RetrainingRun) -> None:
    try:
        store.start_run(run)
    except RunInProgress as busy:
        raise _who_holds_it(store, settings, busy) from None


def _who_holds_it(store: Store, settings: Settings, busy: RunInProgress) -> RunInProgress:
    """The same refusal with everything that a person wants to know of the run in the way."""
    runs = store.list_runs(model_name=settings.model_name, limit=10, only=("place",))
    holder = next((run for run in runs if run.status is RunStatus.RUNNING), None)
    if holder is None:
        return busy
    return RunInProgress(
        f"Another run of {holder.model_name} is at work since {_minute(holder.started_at)}: "
        f"{holder.run_id} ({holder.source}, on {holder.details.get('place', 'an unknown machine')})"
        f", last heard of at {_minute(holder.heartbeat_at)}. Nothing was started.",
        hint=f"Wait for it; one that is silent for {settings.run.stale_after_minutes:g} minutes "
        "is closed by the next run.",
    )


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _with_report(context: RunContext, progress: Progress, run: RetrainingRun) -> RetrainingRun:
    """The run with what its report shows, and the report itself; without it, why there is none."""
    prepared = progress.prepared
    try:
        before = _runs_before(context.store, run)
        material = Material(
            settings=context.settings if prepared is None else prepared.settings,
            loaded=None if prepared is None else prepared.loaded,
            judged=progress.judged,
            model_ids=None if prepared is None else prepared.counted_ids,
            learn_from=None if prepared is None else prepared.learn_from,
            earlier=next(iter(before), None),
            class_days=_class_days(context.store, before),
            drift=_drift(context, prepared, before),
        )
        run = with_review(run, material)
        found = report.store_report(context.store, run, context.folder, dry_run=context.dry_run)
    except Exception as error:  # noqa: BLE001 - a run that did its job is no failure for its report
        log.warning("The run's report could not be made: %s: %s", type(error).__name__, error)
        log.info("%s", traceback.format_exc())
        found = {"report_error": f"{type(error).__name__}: {error}"}
    return replace(run, details={**run.details, **found})


def _drift(
    context: RunContext, prepared: Prepared | None, before: Sequence[RetrainingRun]
) -> Mapping[str, Any] | None:
    """How far inputs have moved from what the lineage's base was trained on, and by which run.

    What an earlier run found of the same base stands where this one read too few rows.
    """
    kept = before[0].details.get(DRIFT) if before else None
    if prepared is None:
        return kept
    head = prepared.serving.head
    if head is None:
        return None
    if kept is not None and kept.get("anchor_id") != head.anchor_id:
        kept = None
    reference = base_reference(context.store, head)
    if reference is None:
        return kept
    loaded = prepared.loaded
    found = drift_of_file(reference, loaded.labelled_path, loaded.labelled_rows)
    if not found:
        return kept
    return {
        "at": context.run.started_at.isoformat(),
        "anchor_id": head.anchor_id,
        "inputs": [drift.as_json() for drift in found],
    }


def _runs_before(store: Store, run: RetrainingRun) -> list[RetrainingRun]:
    """The run before, if there is one."""
    runs = store.list_runs(
        model_name=run.model_name, limit=2, only=(RUN_MANIFEST, CLASS_DAYS, DRIFT)
    )
    return [earlier for earlier in runs if earlier.run_id != run.run_id][:1]


def _class_days(store: Store, before: Sequence[RetrainingRun]) -> Mapping[str, Any] | None:
    """What the latest run that kept any counted by day and class: one that died kept nothing."""
    if before and CLASS_DAYS not in before[0].details:
        name = before[0].model_name
        before = store.list_runs(model_name=name, limit=RUNS_SEARCHED, only=(CLASS_DAYS,))
    return next((kept for run in before if (kept := run.details.get(CLASS_DAYS))), None)


def _closed(
    context: RunContext, run: RetrainingRun, run_log: RunLog, fault: Exception | None
) -> tuple[RetrainingRun, Exception | None]:
    """Store the run's log, then the finished row that names it; return what became of the run."""
    if context.dry_run:
        return run, fault
    if run_log.is_open:
        run = _with_log(context.store, run, run_log)
    try:
        context.store.finish_run(run)
    except AlreadyFinished as taken:
        log.error("Another run closed this one meanwhile: %s", taken)  # noqa: TRY400
        return context.store.get_run(run.run_id), fault or taken
    return run, fault


def _with_log(store: Store, run: RetrainingRun, run_log: RunLog) -> RetrainingRun:
    try:
        run_log.flush()
        ref = store.put(ARTIFACT_BUCKET, f"training-logs/{run.run_id}.txt", run_log.path)
    except (StoreError, OSError) as error:
        # A run without its log is still a run; the row says that it is missing.
        log.warning("The run's log could not be stored: %s", error)
        return run
    return replace(run, log_url=store.url(ref))


def close_dead_run(store: Store, run: RetrainingRun, *, why: str, now: datetime) -> None:
    """Close the row of a run that its parent saw die; the next one takes up what it left."""
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
