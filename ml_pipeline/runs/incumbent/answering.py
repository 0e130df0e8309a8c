"""Whose answers people see during a run: a champion's, or those of a classifier of their own."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation_log.answering.logged_models import LoggedModels, logged_models
from ml_pipeline.evaluation_log.answering.sentences import UNNAMED, answering, proposal
from ml_pipeline.registry.serving_state import (
    ServingState,
    serving_models,
    serving_state_of,
    shadow_state_of,
)
from ml_pipeline.reports.overview import ANSWERING
from ml_pipeline.store.contract import ModelRegistry, Store


def state_before(store: ModelRegistry, settings: Settings) -> ServingState:
    """Who serves, and from where learning goes on."""
    if settings.incumbent.serves:
        return shadow_state_of(store, settings.model_name)
    return serving_state_of(store, settings.model_name)


def counted_ids(
    store: Store, settings: Settings, *, now: datetime, work_dir: Path, days: float | None = None
) -> tuple[str, ...] | None:
    """Whose errors count: the serving lineage's, or those of the classifier that people see.

    None is everybody's. They are those that answered in the last `days`, by default those in which
    errors are looked for.
    """
    if not settings.incumbent.serves:
        return serving_models(store, settings.model_name)
    work_dir.mkdir(parents=True, exist_ok=True)
    logged = logged_models(
        store, settings, now=now, days=days or settings.run.lookback_days, work_dir=work_dir
    )
    return logged.counted_ids


def logged_in(
    store: ModelRegistry, settings: Settings, state: ServingState, labelled: Path
) -> LoggedModels:
    """Who answered the rows to learn.

    Beside a champion, answers that name no model are taken for its own: that is how they are
    written by hand.
    """
    left_out = () if state.champion is None else (UNNAMED,)
    return LoggedModels.of_file(store, settings, labelled, left_out=left_out)


def details_of(settings: Settings, logged: LoggedModels) -> dict[str, Any]:
    """What a run's row says of who answered, where that is not the champion alone."""
    if not (settings.incumbent.serves or logged.theirs or logged.resembling):
        return {}
    sentence = answering(settings, logged.theirs) or proposal(settings, logged.theirs, logged.rows)
    return {
        ANSWERING: {"serves": settings.incumbent.serves, "sentence": sentence, **logged.as_json()}
    }
