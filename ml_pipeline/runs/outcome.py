"""What a run came to: the finished row with its sentence, and the JSON that is printed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from textwrap import shorten
from typing import Any, Final

from ml_pipeline.errors import PipelineError, Stopped
from ml_pipeline.runs.attempt import AttemptResult
from ml_pipeline.runs.context import Progress
from ml_pipeline.runs.trigger import Skip
from ml_pipeline.store.records import (
    CLASS_DAYS,
    INCUMBENT_RECORD,
    RUN_MANIFEST,
    Outcome,
    RetrainingRequest,
    RetrainingRun,
    RunStatus,
)

UNPRINTED: Final = {"place", RUN_MANIFEST, CLASS_DAYS, INCUMBENT_RECORD, "review"}
SHOWN_CHARACTERS: Final = 300
# Stages in which the serving model may have been changed already.
AFTER_THE_VERDICT: Final = ("registering", "trying new bases")


def completed(run: RetrainingRun, result: AttemptResult | Skip, now: datetime) -> RetrainingRun:
    """The row of a run that did its job."""
    return replace(
        run,
        **_with_details(run, result.run_fields()),
        status=RunStatus.COMPLETED,
        completed_at=now,
        heartbeat_at=now,
    )


def _with_details(run: RetrainingRun, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {**fields, "details": {**run.details, **fields.get("details", {})}}


def failed(
    run: RetrainingRun, progress: Progress, error: Exception, now: datetime
) -> RetrainingRun:
    """The row of a run that failed, with whatever it had found out."""
    cause = str(error) if isinstance(error, PipelineError) else f"{type(error).__name__}: {error}"
    return replace(
        run,
        **_with_details(run, _known_fields(progress)),
        status=RunStatus.FAILED,
        outcome=Outcome.FAILED,
        outcome_reason=_why_failed(progress.stage, error),
        error_message=f"{progress.stage}: {cause}",
        completed_at=now,
        heartbeat_at=now,
    )


def _why_failed(stage: str, error: Exception) -> str:
    """What happened and what now; the error's whole text stands in `error_message`."""
    if isinstance(error, Stopped):
        what = f"{error.message.removesuffix('.')} while {stage}."
    else:
        text = error.message if isinstance(error, PipelineError) else repr(error)
        what = f"Failed while {stage}: {shorten(text, SHOWN_CHARACTERS).removesuffix('.')}."
    if stage in AFTER_THE_VERDICT:
        return f"{what} `ml-pipeline status` shows which model serves."
    return f"{what} The serving model was not changed; the next run tries again."


def _known_fields(progress: Progress) -> dict[str, Any]:
    """What a failed run can say of itself."""
    fields: dict[str, Any] = {}
    if progress.serving is not None:
        fields["champion_id"] = progress.serving.champion_id
    if progress.prepared is not None:
        fields["dataset_size"] = progress.prepared.loaded.report.errors
        fields["details"] = progress.prepared.details()
    return fields


def as_json(
    run: RetrainingRun, requests: Sequence[RetrainingRequest], started: float
) -> dict[str, Any]:
    """What `run` prints; `started` is a reading of `time.monotonic`."""
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
