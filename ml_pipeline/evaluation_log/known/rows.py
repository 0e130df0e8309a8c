"""Which labelled rows a run has to have at hand beside the new ones, and from which day on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from ml_pipeline.config.sections import ExpertSettings
from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation_log.loading import load_known
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import ModelVersion


def known_rows(  # noqa: PLR0913 - a model, its log, and from where it goes on
    store: Store,
    settings: Settings,
    model: ModelVersion | None,
    folder: Path,
    *,
    now: datetime,
    restart_night: int | None = None,
) -> Path | None:
    """The labelled rows that a run at `now` learns beside those that the model has not seen.

    All of them for a new base, those of their windows for experts of an online model that are due,
    None for nobody. After `restart_night` the model has learned nothing, its experts neither.
    """
    strategy = settings.training.strategy
    if model is None or strategy not in {"adaptive", "refit"}:
        return None
    since = None
    if strategy == "adaptive":
        settled, fitted = model.lineage.settled_night, model.lineage.experts or {}
        if restart_night is not None:
            settled = restart_night
            fitted = {name: night for name, night in fitted.items() if night <= restart_night}
        yesterday = now.astimezone(UTC).date().toordinal() - 1
        due = settings.training.due_experts(fitted, yesterday)
        if not due:
            return None
        since = _first_day(due, settled)
    known = load_known(store, settings, model, folder / "known", now=now, since=since)
    return known.labelled_path


def _first_day(due: Sequence[ExpertSettings], settled: int | None) -> date | None:
    """Of the rows on which experts are fitted after the days since the settled one."""
    windows = [expert.window_nights for expert in due if expert.window_nights is not None]
    if settled is None or len(windows) < len(due):
        return None
    return date.fromordinal(max(1, settled + 2 - max(windows)))
