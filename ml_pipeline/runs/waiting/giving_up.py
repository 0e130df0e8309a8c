"""Retire challengers that nobody and nothing decides on."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid5

from ml_pipeline.config.settings import Settings
from ml_pipeline.runs.shadows import undecided_shadows
from ml_pipeline.store.alerts import SystemEvent
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import ModelState, ModelVersion

log = logging.getLogger("shadows")

_RETIREMENTS: Final = UUID("0b6a1a52-6a0e-4a39-8d3b-3f1d5f7f5c0e")


def give_up_waiting(store: Store, settings: Settings, now: datetime) -> list[dict[str, Any]]:
    """Retire challengers that wait in vain; a note with the reason for each.

    After `promotion.max_shadow_nights` days: those for which no person decided, and bases in the
    shadow for which no new result came. The reason is kept in `system_events`. Beside a classifier
    that nobody here trained the newest one learns on unseen: later results are learned, and held
    against its answers, from there.
    """
    name, limit = settings.model_name, settings.promotion.max_shadow_nights
    champion, notes = store.champion(model_name=name), []
    waited = [
        (model.model_id, model.created_at.date(), "nobody approved or rejected it since")
        for model in store.list_models_in_brief(model_name=name)
        if model.state is ModelState.AWAITING
    ]
    learns_on = waited[0][0] if waited and champion is None and settings.incumbent.serves else None
    waited += [
        (shadow.model_id, _idle_since(shadow), "no new result to compare it on since")
        for shadow in ([] if champion is None else undecided_shadows(store, champion))
    ]
    for model_id, since, why in waited:
        if (now.astimezone(UTC).date() - since).days < limit:
            continue
        reason = f"Given up: {why} {since}, and promotion.max_shadow_nights is {limit} days."
        state = ModelState.RETIRED
        if model_id == learns_on:
            state = ModelState.SHADOW
            reason += " It asks no more and learns on in the shadow."
        log.warning("%s: %s", model_id, reason)
        # Before the state: broken off in between, the reason is written once all the same.
        store.record_event(_retirement(name, model_id, reason, now))
        store.set_model_state(name, model_id, state)
        notes.append({"model_id": model_id, "reason": reason})
    return notes


def _idle_since(shadow: ModelVersion) -> date:
    """The day after the last one that brought it a result."""
    since = shadow.lineage.shadow_since or shadow.created_at.astimezone(UTC).date()
    settled = shadow.lineage.settled_night
    last = since if settled is None else max(since, date.fromordinal(settled))
    return last + timedelta(days=1)


def _retirement(model_name: str, model_id: str, reason: str, now: datetime) -> SystemEvent:
    return SystemEvent(
        event_id=str(uuid5(_RETIREMENTS, f"{model_name}/{model_id}")),
        model_name=model_name,
        event_type="challenger_retirement",
        at=now,
        message=f"{model_id}: {reason}",
        metadata={"model_id": model_id, "actor": "gate", "reason": reason},
    )
