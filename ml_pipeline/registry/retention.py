"""Which models' bytes and which runs' logs and reports are kept, and giving up the rest.

Rows and history always stay. A model is marked as pruned before its bytes go, so a crash between
the two leaves bytes that the next time finds, and never a champion without them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from ml_pipeline.config.settings import Settings
from ml_pipeline.registry.models import MODEL_BUCKET
from ml_pipeline.registry.serving_state import lineage_head
from ml_pipeline.store.contract import EVERYTHING, Store
from ml_pipeline.store.records import ModelState, ModelVersion, RetrainingRun, RunStatus

log = logging.getLogger("model_registry")

LOG_BUCKET: Final = "model-artifacts"
RUN_FILES: Final = (("training-logs", ".txt"), ("reports", ".html"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """What is kept: the newest `models`, everything younger than `window`, and what is needed."""

    models: int
    window: timedelta


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What would go, and why each of the other models stays."""

    models: tuple[ModelVersion, ...]
    logs: tuple[str, ...]
    kept: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        return {
            "models": [model.model_id for model in self.models],
            "logs": list(self.logs),
            "bytes": sum(model.artifact.size for model in self.models),
            "kept": dict(self.kept),
        }


def plan(store: Store, model_name: str, retention: Retention, *, now: datetime) -> Plan:
    """What would go; nothing is changed."""
    models = store.list_models(model_name=model_name, limit=EVERYTHING)
    kept = _needed(store, models, model_name)
    for place, model in enumerate(models):
        if place < retention.models:
            kept.setdefault(model.model_id, f"among the newest {retention.models}")
        if model.created_at > now - retention.window:
            kept.setdefault(model.model_id, "younger than the window")
    # Whoever lets a kept model serve learns its results again from its base.
    for model in models:
        if model.model_id in kept:
            kept.setdefault(model.anchor_id, f"anchor of {model.model_id}")
    stored = set(store.names(MODEL_BUCKET, model_name))
    gone = [m for m in models if m.model_id not in kept and m.model_id in stored]
    return Plan(
        models=tuple(gone),
        logs=_old_logs(store, models, kept, model_name, now - retention.window),
        kept=kept,
    )


def _needed(store: Store, models: list[ModelVersion], model_name: str) -> dict[str, str]:
    """Models that serve, served last, or are gone on from; whoever waits for a person."""
    kept: dict[str, str] = {}
    champion = store.champion(model_name=model_name)
    if champion is not None:
        kept[champion.model_id] = "champion"
        kept.setdefault(lineage_head(store, champion).model_id, "head of the serving lineage")
        events = store.promotion_events(model_name=model_name, limit=EVERYTHING)
        before = next((e for e in events if e.to_model_id == champion.model_id), None)
        if before is not None and before.from_model_id is not None:
            kept.setdefault(before.from_model_id, "previous champion")
    anchors: set[str] = set()
    for model in models:
        if model.state is ModelState.AWAITING:
            kept.setdefault(model.model_id, "awaits approval")
        elif model.state is ModelState.SHADOW and model.anchor_id not in anchors:
            kept.setdefault(model.model_id, "newest of a lineage in the shadow")
        anchors.add(model.anchor_id)
    return kept


def _old_logs(
    store: Store,
    models: list[ModelVersion],
    kept: Mapping[str, str],
    model_name: str,
    before: datetime,
) -> tuple[str, ...]:
    needed = {model.run_id for model in models if model.model_id in kept}
    stored = {
        f"{folder}/{name}" for folder, _ in RUN_FILES for name in store.names(LOG_BUCKET, folder)
    }

    def is_old(run: RetrainingRun) -> bool:
        ended = run.completed_at or run.heartbeat_at
        return run.status is not RunStatus.RUNNING and max(run.started_at, ended) <= before

    runs = store.list_runs(model_name=model_name, limit=EVERYTHING, only=())
    old = [run.run_id for run in runs if is_old(run) and run.run_id not in needed]
    paths = (f"{folder}/{run_id}{end}" for run_id in old for folder, end in RUN_FILES)
    return tuple(path for path in paths if path in stored)


def prune_requests(store: Store, settings: Settings, *, now: datetime) -> None:
    """Close requests that nothing served as failed, and delete those closed long ago."""
    for request in store.prune_requests(
        model_name=settings.model_name,
        now=now,
        pending_before=now - timedelta(days=settings.run.request_expires_days),
        closed_before=now - timedelta(days=settings.run.request_keep_days),
    ):
        log.warning("Request %s has %s", request.request_id, request.error_message)


def carry_out(store: Store, found: Plan, *, now: datetime) -> None:
    """Give up what the plan names; repeatable."""
    for model in found.models:
        # Refused for a model that became champion since the plan was made.
        store.prune_model(model.model_name, model.model_id, now=now)
        folder = f"{model.model_name}/{model.model_id}"
        for name in store.names(MODEL_BUCKET, folder):
            store.remove(MODEL_BUCKET, f"{folder}/{name}")
    for path in found.logs:
        store.remove(LOG_BUCKET, path)
