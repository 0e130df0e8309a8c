"""An overview of a store: latest runs, queue, champion, accuracy by day, alerts.

`status` prints it, the monitoring page shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation_log.answering.sentences import proposal, yours
from ml_pipeline.reports.drift import DRIFT
from ml_pipeline.store.alerts import DailyAccuracy, DecayAlert, newest_alerts
from ml_pipeline.store.contract import Store
from ml_pipeline.store.json_values import alert_json, run_json
from ml_pipeline.store.records import (
    CLASS_DAYS,
    INCUMBENT_RECORD,
    RUN_MANIFEST,
    ModelState,
    ModelVersion,
    PromotionEvent,
    RequestStatus,
    RetrainingRequest,
    RetrainingRun,
    RunStatus,
)

RUNS_SHOWN: Final = 30
RUNS_TRIED: Final = 3
DAYS_SHOWN: Final = 60
MODELS_SEEN: Final = 100
EVENTS_SHOWN: Final = 100
ALERTS_SHOWN: Final = 10
# The detail of a run that says who answered.
ANSWERING: Final = "answering"
_IN_LISTS: Final = ("champion_metrics", "report_path", ANSWERING)
# How late a run may start before it counts as late: hosted schedulers lag at busy hours.
GRACE: Final = timedelta(hours=2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """Everything as it was at `at`; lists are newest first, requests in the order of service.

    `yours` names who answers where that is a classifier of the person's own; `proposal` says that
    others answered whom neither the registry nor the settings know.
    """

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
    class_days: Mapping[str, Any] | None = None
    drift: Mapping[str, Any] | None = None
    yours: str | None = None
    proposal: str | None = None

    @property
    def latest(self) -> RetrainingRun | None:
        """The run started last."""
        return self.runs[0] if self.runs else None

    @property
    def answering(self) -> str | None:
        """Who answers, as a sentence, where that is a classifier of the person's own."""
        return None if self.yours is None else f"Answering: {self.yours}."

    @property
    def is_answered(self) -> bool:
        """Whether anybody answers: a champion, or a classifier of the person's own."""
        return self.champion is not None or self.yours is not None

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
        from ml_pipeline.store import json_values

        return {
            "at": self.at.isoformat(),
            "model_name": self.model_name,
            "store": dict(self.place),
            "answering": self.answering,
            "proposal": self.proposal,
            "champion": None if self.champion is None else json_values.model_json(self.champion),
            "awaiting_approval": [json_values.model_json(model) for model in self.waiting],
            "latest_run": None if self.latest is None else run_json(self.latest),
            "next_run_due_at": None if self.due_at is None else self.due_at.isoformat(),
            "is_late": self.is_late,
            "runs": [run_json(run, with_details=False) for run in self.runs],
            "requests": [json_values.request_json(request) for request in self.requests],
            "days": [_day_json(day) for day in self.days],
            "alerts": [alert_json(alert) for alert in self.alerts],
            "promotions": [json_values.event_json(event) for event in self.promotions],
        }


def read_overview(store: Store, settings: Settings, *, now: datetime) -> Overview:
    """Read the overview; no part of it grows with the age of the store."""
    name = settings.model_name
    champion = store.champion(model_name=name)
    events = store.promotion_events(model_name=name, limit=EVENTS_SHOWN)
    serving = None if champion is None else champion.model_id
    served = dict.fromkeys(event.to_model_id for event in events if event.to_model_id != serving)
    runs = _runs(store, name)
    theirs, rows = _answered(runs)
    compared = _compared(store, runs)
    return Overview(
        at=now,
        model_name=name,
        every=timedelta(hours=settings.run.every_hours),
        place=store.describe(),
        champion=champion,
        waiting=_waiting(store, settings),
        earlier=list(served),
        runs=runs,
        requests=[
            request
            for status in (RequestStatus.PROCESSING, RequestStatus.PENDING)
            for request in store.list_requests(model_name=name, status=status)
        ],
        days=store.list_days(model_name=name, since=first_day(now)),
        alerts=newest_alerts(store, model_name=name, limit=ALERTS_SHOWN),
        promotions=events,
        class_days=compared[CLASS_DAYS],
        drift=compared[DRIFT],
        yours=yours(settings, theirs),
        proposal=proposal(settings, theirs, rows),
    )


def first_day(now: datetime) -> date:
    """The first day that is shown."""
    return (now - timedelta(days=DAYS_SHOWN)).date()


def _waiting(store: Store, settings: Settings) -> list[ModelVersion]:
    """Models that wait for a person.

    Beside a classifier of the person's own the same lineage may ask night after night: then its
    newest version stands for all of them.
    """
    found = store.list_models(
        model_name=settings.model_name, state=ModelState.AWAITING, limit=MODELS_SEEN
    )
    if not settings.incumbent.serves:
        return found
    newest = {model.anchor_id: model for model in reversed(found)}
    return [model for model in found if newest[model.anchor_id] is model]


def _answered(runs: Sequence[RetrainingRun]) -> tuple[list[str], int]:
    """Whom the registry did not know when a run looked last, and how many results are theirs."""
    completed = (run.details for run in runs if run.status is RunStatus.COMPLETED)
    kept = next(completed, {}).get(ANSWERING) or {}
    return list(kept.get("theirs", ())), int(kept.get("rows", 0))


def _runs(store: Store, model_name: str) -> list[RetrainingRun]:
    """The latest run with everything that is shown of it, the others with what a list shows."""
    runs = store.list_runs(model_name=model_name, limit=RUNS_SHOWN, only=_IN_LISTS)
    unshown = (RUN_MANIFEST, INCUMBENT_RECORD, "review")
    latest = store.list_runs(model_name=model_name, limit=1, without=unshown)
    if not runs or not latest or latest[0].run_id != runs[0].run_id:
        return runs  # one has started in between: it has no details yet
    return [*latest, *runs[1:]]


def _compared(store: Store, runs: Sequence[RetrainingRun]) -> dict[str, Mapping[str, Any] | None]:
    """What the latest runs counted by day and class, and how far inputs had moved.

    A run that goes on has not looked yet, and one with few new results does not compare inputs.
    """
    names = (CLASS_DAYS, DRIFT)
    if runs and not all(name in runs[0].details for name in names):
        earlier = store.list_runs(model_name=runs[0].model_name, limit=RUNS_TRIED, only=names)
        runs = [runs[0], *earlier]
    return {
        name: next((kept for run in runs if (kept := run.details.get(name))), None)
        for name in names
    }


def _day_json(day: DailyAccuracy) -> dict[str, Any]:
    return {
        "day": day.day.isoformat(),
        "model_id": day.model_id,
        "evaluated": day.evaluated,
        "accuracy": day.accuracy,
    }
