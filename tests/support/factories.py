"""Records and frames for tests: ids and times are explicit and repeatable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from ml_pipeline.store.alerts import AlertStatus, Cause, DailyAccuracy, DecayAlert, Severity
from ml_pipeline.store.records import (
    EVENT_COLUMNS,
    ArtifactRef,
    Lineage,
    ModelState,
    ModelVersion,
    Outcome,
    Priority,
    PromotionEvent,
    PromotionKind,
    RequestStatus,
    RetrainingRequest,
    RetrainingRun,
    RunStatus,
    Source,
)

MODEL_NAME = "football"
NOW = datetime(2026, 3, 14, 2, 0, 0, 123456, tzinfo=UTC)
DIGEST = "sha256:" + "ab" * 32
_TEXT_EVENT_COLUMNS = set(EVENT_COLUMNS) - {"timestamp", "evaluated_at", "confidence", "accuracy"}


def make_id(number: int) -> str:
    """The `number`th id; ids sort as their numbers do."""
    return f"00000000-0000-4000-8000-{number:012d}"


def make_run(number: int = 1, **changes: object) -> RetrainingRun:
    """A run that started `NOW`."""
    values: dict[str, Any] = {
        "run_id": make_id(number),
        "model_name": MODEL_NAME,
        "source": Source.AUTO_DAILY,
        "status": RunStatus.RUNNING,
        "started_at": NOW,
        "heartbeat_at": NOW,
    }
    values.update(changes)
    return RetrainingRun(**values)


def make_finished_run(number: int = 1, **changes: object) -> RetrainingRun:
    """The same run, completed with everything it can come to."""
    values: dict[str, Any] = {
        "status": RunStatus.COMPLETED,
        "completed_at": NOW + timedelta(minutes=5, microseconds=1),
        "outcome": Outcome.PROMOTED,
        "outcome_reason": "better by 0.03 nats on 120 rows",
        "fine_tune": False,
        "dataset_size": 12,
        "training_rows": 1012,
        "metrics": {"accuracy": 0.1 + 0.2, "per_class": {"H": {"recall": 1.0}}},
        "details": {"stages": ["load", "train"], "empty": None},
        "champion_id": "m-old",
        "challenger_id": "m-new",
        "training_digest": DIGEST,
        "holdout_digest": DIGEST,
        "config_digest": DIGEST,
        "git_sha": "0" * 40,
        "log_url": "file:///logs/1.txt",
    }
    values.update(changes)
    return make_run(number, **values)


def make_request(number: int = 1, **changes: object) -> RetrainingRequest:
    """A pending request of normal priority."""
    values: dict[str, Any] = {
        "request_id": make_id(number),
        "model_name": MODEL_NAME,
        "priority": Priority.NORMAL,
        "status": RequestStatus.PENDING,
        "created_at": NOW,
        "reason": "drift",
    }
    values.update(changes)
    return RetrainingRequest(**values)


def make_model(model_id: str = "m-1", **changes: object) -> ModelVersion:
    """A candidate that is its own anchor."""
    values: dict[str, Any] = {
        "model_name": MODEL_NAME,
        "model_id": model_id,
        "algorithm": "LogisticRegression",
        "artifact": ArtifactRef(
            bucket="ml-models",
            path=f"{MODEL_NAME}/{model_id}/model.skops",
            digest=DIGEST,
            size=2048,
        ),
        "created_at": NOW,
        "state": ModelState.CANDIDATE,
        "anchor_id": model_id,
        "confidence_threshold": 0.1 + 0.2,
        "metrics": {"accuracy": 2 / 3},
        "lineage": Lineage.from_json({"nights": [1, 2], "votes": {"slow": 0.25}}),
        "library_versions": {"scikit-learn": "1.8.0"},
    }
    values.update(changes)
    return ModelVersion(**values)


def make_promotion(
    to_model_id: str, from_model_id: str | None, number: int = 1, **changes: object
) -> PromotionEvent:
    """A promotion `number` seconds after `NOW`."""
    values: dict[str, Any] = {
        "event_id": make_id(number),
        "model_name": MODEL_NAME,
        "kind": PromotionKind.PROMOTION,
        "to_model_id": to_model_id,
        "from_model_id": from_model_id,
        "reason": "passed every check",
        "actor": "nightly",
        "created_at": NOW + timedelta(seconds=number),
        "verdict": {"checks": [{"name": "rows", "passed": True}]},
    }
    values.update(changes)
    return PromotionEvent(**values)


def make_alert(number: int = 1, **changes: object) -> DecayAlert:
    """An alert of `NOW`, nothing done about it."""
    values: dict[str, Any] = {
        "alert_id": make_id(number),
        "model_name": MODEL_NAME,
        "cause": Cause.PERFORMANCE,
        "metric": "accuracy",
        "severity": Severity.WARNING,
        "status": AlertStatus.PENDING,
        "detected_at": NOW,
        "updated_at": NOW,
        "baseline": 0.1 + 0.2,
        "recent": 0.0,
        "threshold": 0.05,
        "baseline_rows": 1400,
        "recent_rows": 150,
        "window_start": NOW - timedelta(days=3),
        "window_end": NOW,
        "message": "accuracy fell",
        "model_id": "m-1",
        "details": {"signals": [{"metric": "accuracy"}]},
    }
    values.update(changes)
    return DecayAlert(**values)


def make_day(number: int = 1, **changes: object) -> DailyAccuracy:
    """A day of a hundred outcomes, `number` days before NOW."""
    values: dict[str, Any] = {
        "model_name": MODEL_NAME,
        "day": (NOW - timedelta(days=number)).date(),
        "model_id": "m-1",
        "evaluated": 100,
        "correct": 70,
        "uncertain": 5,
        "scored": 95,
        "scored_correct": 70,
        "confident": 40,
        "confident_errors": 4,
        "confidence_sum": 66.5,
        "loss_sum": 50.25,
        "loss_square_sum": 60.125,
    }
    values.update(changes)
    return DailyAccuracy(**values)


def make_event(number: int = 1, **changes: object) -> dict[str, Any]:
    """A confident wrong prediction that became known an hour later."""
    at = NOW + timedelta(minutes=number)
    event: dict[str, Any] = {
        "event_id": make_id(number),
        "timestamp": at,
        "event_type": "prediction",
        "model_name": MODEL_NAME,
        "model_id": "m-1",
        "match_id": f"match-{number}",
        "prediction": "H",
        "confidence": 0.9,
        "features": json.dumps({"home_team_form": number / 3}),
        "metadata": json.dumps({"league": "E0"}),
        "actual_result": "A",
        "evaluated_at": at + timedelta(hours=1),
    }
    event.update(changes)
    if event["actual_result"] is None:
        event["evaluated_at"] = None
    return event


def frame_of(events: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Events as a frame with the columns `EVENT_COLUMNS`."""
    frame = pd.DataFrame(list(events)).reindex(columns=list(EVENT_COLUMNS))
    for name in ("timestamp", "evaluated_at"):
        frame[name] = pd.to_datetime(frame[name], utc=True).astype("datetime64[us, UTC]")
    for name in ("confidence", "accuracy"):
        frame[name] = frame[name].astype("float64")
    for name in _TEXT_EVENT_COLUMNS:
        column = frame[name].astype(object)
        frame[name] = column.where(column.notna(), None)
    return frame


def make_events(*numbers: int, **changes: object) -> pd.DataFrame:
    """A frame of the events with those numbers, all changed alike."""
    return frame_of([make_event(number, **changes) for number in numbers])
