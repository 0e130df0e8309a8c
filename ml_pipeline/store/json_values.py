"""Records of the store as plain JSON values, as commands and pages show them."""

from __future__ import annotations

from typing import Any

from ml_pipeline.store.alerts import DecayAlert
from ml_pipeline.store.records import (
    CLASS_DAYS,
    INCUMBENT_RECORD,
    RUN_MANIFEST,
    ModelVersion,
    PromotionEvent,
    RetrainingRequest,
    RetrainingRun,
    RunStatus,
)


def alert_json(alert: DecayAlert) -> dict[str, Any]:
    """An alert as plain JSON values."""
    return {
        "alert_id": alert.alert_id,
        "cause": str(alert.cause),
        "metric": alert.metric,
        "severity": str(alert.severity),
        "status": str(alert.status),
        "detected_at": alert.detected_at.isoformat(),
        "since": alert.window_start.date().isoformat(),
        "baseline": alert.baseline,
        "recent": alert.recent,
        "rows": alert.recent_rows,
        "message": alert.message,
        "action": alert.action,
        "action_state": None if alert.action_state is None else str(alert.action_state),
        "attempts": alert.attempts,
        "needs_person": alert.needs_person,
        "request_id": alert.request_id,
        "run_id": alert.run_id,
        "versions": alert.details.get("versions"),
    }


def model_json(model: ModelVersion) -> dict[str, Any]:
    """A registered model as plain JSON values."""
    return {
        "model_id": model.model_id,
        "model_name": model.model_name,
        "state": str(model.state),
        "algorithm": model.algorithm,
        "created_at": model.created_at.isoformat(),
        "parent_id": model.parent_id,
        "anchor_id": model.anchor_id,
        "run_id": model.run_id,
        "confidence_threshold": model.confidence_threshold,
        "artifact_path": f"{model.artifact.bucket}/{model.artifact.path}",
        "artifact_digest": model.artifact.digest,
        "metrics": dict(model.metrics),
        "library_versions": dict(model.library_versions),
        "pruned_at": None if model.pruned_at is None else model.pruned_at.isoformat(),
    }


def event_json(event: PromotionEvent) -> dict[str, Any]:
    """A change of champion as plain JSON values."""
    return {
        "at": event.created_at.isoformat(),
        "kind": str(event.kind),
        "from": event.from_model_id,
        "actor": event.actor,
        "reason": event.reason,
        "run_id": event.run_id,
    }


def run_json(run: RetrainingRun, *, with_details: bool = True) -> dict[str, Any]:
    """A run as plain JSON values; its manifest and what its report shows are left out."""
    unshown = {RUN_MANIFEST, CLASS_DAYS, INCUMBENT_RECORD, "review"}
    left_out = unshown if with_details else set(run.details)
    moments = ("started_at", "heartbeat_at", "completed_at")
    return {
        "run_id": run.run_id,
        "status": str(run.status),
        "outcome": None if run.outcome is None else str(run.outcome),
        "outcome_reason": run.outcome_reason,
        "source": str(run.source),
        **{
            name: None if (at := getattr(run, name)) is None else at.isoformat() for name in moments
        },
        "dataset_size": run.dataset_size,
        "training_rows": run.training_rows,
        "champion": run.champion_id,
        "challenger": run.challenger_id,
        "metrics": dict(run.metrics),
        "error": run.error_message,
        "log_url": run.log_url,
        "report_path": run.details.get("report_path"),
        "details": {name: value for name, value in run.details.items() if name not in left_out},
    }


def took_seconds(run: RetrainingRun) -> float | None:
    """How long a run took; None while it goes on."""
    if run.completed_at is None or run.status is RunStatus.RUNNING:
        return None
    return (run.completed_at - run.started_at).total_seconds()


def request_json(request: RetrainingRequest) -> dict[str, Any]:
    """A request as plain JSON values."""
    times = ("created_at", "claimed_at", "lease_until", "processed_at")
    moments = {name: getattr(request, name) for name in times}
    return {
        "id": request.request_id,
        "status": str(request.status),
        "priority": str(request.priority),
        "reason": request.reason,
        "model_name": request.model_name,
        "requested_by": request.requested_by,
        "run_id": request.run_id,
        "attempts": request.attempts,
        **{name: None if at is None else at.isoformat() for name, at in moments.items()},
        "error_message": request.error_message,
    }
