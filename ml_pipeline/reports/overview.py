"""What stands in a store, for people: latest runs, queue, champion, accuracy by day, alerts.

`status` prints it, the monitoring page shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from ml_pipeline.alerts import DailyAccuracy, DecayAlert, alert_json
from ml_pipeline.config import Settings
from ml_pipeline.domain import (
    ModelState,
    ModelVersion,
    PromotionEvent,
    RequestStatus,
    RetrainingRequest,
    RetrainingRun,
    RunStatus,
)
from ml_pipeline.store import Store

RUNS_SHOWN: Final = 30
DAYS_SHOWN: Final = 60
MODELS_SEEN: Final = 100
EVENTS_SHOWN: Final = 100
ALERTS_SHOWN: Final = 10
# What a scheduler may be late without a word: hosted ones are, at busy hours.
GRACE: Final = timedelta(hours=2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """Everything as it was at `at`; lists are newest first, requests in the order of service."""

    at: datetime
    model_name: str
    every: timedelta
    place: Mapping[str, Any]
    champion: ModelVersion | None
    waiting: Sequence[ModelVersion]
    earlier: Sequence[str]
    runs: Sequence[RetrainingRun]
    requests: Sequence[RetrainingRequest]
    days: Sequence[DailyAccuracy]
    alerts: Sequence[DecayAlert]
    promotions: Sequence[PromotionEvent]

    @property
    def latest(self) -> RetrainingRun | None:
        """The run started last."""
        return self.runs[0] if self.runs else None

    @property
    def due_at(self) -> datetime | None:
        """When the next run should have started; None before the first one."""
        return None if self.latest is None else self.latest.started_at + self.every + GRACE

    @property
    def is_late(self) -> bool:
        """Whether no run has started for longer than the schedule and some grace."""
        return self.due_at is not None and self.at > self.due_at

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values, without what only reports need."""
        from ml_pipeline import model_registry, request_queue

        return {
            "at": self.at.isoformat(),
            "model_name": self.model_name,
            "store": dict(self.place),
            "champion": None if self.champion is None else model_registry.as_json(self.champion),
            "awaiting_approval": [model_registry.as_json(model) for model in self.waiting],
            "latest_run": None if self.latest is None else run_json(self.latest),
            "next_run_due_at": None if self.due_at is None else self.due_at.isoformat(),
            "is_late": self.is_late,
            "runs": [run_json(run, with_details=False) for run in self.runs],
            "requests": [request_queue.as_json(request) for request in self.requests],
            "days": [_day_json(day) for day in self.days],
            "alerts": [alert_json(alert) for alert in self.alerts],
            "promotions": [model_registry.event_json(event) for event in self.promotions],
        }


def look(store: Store, settings: Settings, *, now: datetime) -> Overview:
    """Read it all; nothing grows with the age of the store."""
    name = settings.model_name
    champion = store.champion(model_name=name)
    events = store.promotion_events(model_name=name, limit=EVENTS_SHOWN)
    serving = None if champion is None else champion.model_id
    served = dict.fromkeys(event.to_model_id for event in events if event.to_model_id != serving)
    models = store.list_models(model_name=name, limit=MODELS_SEEN)
    return Overview(
        at=now,
        model_name=name,
        every=timedelta(hours=settings.run.every_hours),
        place=store.describe(),
        champion=champion,
        waiting=[model for model in models if model.state is ModelState.AWAITING],
        earlier=list(served),
        runs=store.list_runs(model_name=name, limit=RUNS_SHOWN),
        requests=[
            request
            for status in (RequestStatus.PROCESSING, RequestStatus.PENDING)
            for request in store.list_requests(model_name=name, status=status)
        ],
        days=store.list_days(model_name=name, since=(now - timedelta(days=DAYS_SHOWN)).date()),
        alerts=store.list_alerts(model_name=name, limit=ALERTS_SHOWN),
        promotions=events,
    )


def run_json(run: RetrainingRun, *, with_details: bool = True) -> dict[str, Any]:
    """A run as plain JSON values; its capsule and what its report shows are left out."""
    left_out = {"capsule", "review"} if with_details else set(run.details)
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


def _day_json(day: DailyAccuracy) -> dict[str, Any]:
    return {
        "day": day.day.isoformat(),
        "model_id": day.model_id,
        "evaluated": day.evaluated,
        "accuracy": day.accuracy,
    }
