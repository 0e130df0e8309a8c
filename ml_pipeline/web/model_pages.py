"""Pages of models: the versions of each base, and two versions beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from flask import Blueprint, request

from ml_pipeline.errors import NotFound
from ml_pipeline.reports.run_view import METRICS, as_number, better
from ml_pipeline.store.records import RUN_MANIFEST, ModelVersion, PromotionEvent, RetrainingRun
from ml_pipeline.web.answers import page, services
from ml_pipeline.web.drawings import models_chart
from ml_pipeline.web.queries import kept_once

MODELS_LISTED = 100

blueprint = Blueprint("models", __name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """When a model answered: from a change of champion to the next; `until` None is now."""

    since: datetime
    until: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """The versions of a base, newest first; `base` is None where it is not among the listed."""

    base_id: str
    base: ModelVersion | None
    versions: Sequence[ModelVersion]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Metrics of two models by name: both values, and which is the better one (0, 1, None).

    They are of the same results where a `run` compared the two; else of those of each one's run,
    and none is called better.
    """

    run: RetrainingRun | None
    rows: Sequence[tuple[str, tuple[float | None, float | None], int | None]]


@blueprint.get("/models")
def model_list() -> str:
    """The latest models by their base, with when they answered."""
    models, events = _listed(), services().overviews.latest().overview.promotions
    champion = services().overviews.latest().overview.champion
    return page(
        "models.html",
        current="Models",
        title=f"Models of {services().settings.model_name}",
        families=families(models),
        served=served(events),
        champion_id=None if champion is None else champion.model_id,
        listed=len(models),
        is_cut=len(models) == MODELS_LISTED,
    )


@blueprint.get("/models/compare")
def comparison() -> str:
    """Two models beside each other: the champion and the newest other one, unless named."""
    here = services()
    overview, models = here.overviews.latest().overview, _listed()
    ids = [model.model_id for model in models]
    champion = None if overview.champion is None else overview.champion.model_id
    one = request.args.get("a") or champion or next(iter(ids), "")
    other = request.args.get("b") or next((it for it in ids if it != one), one)
    pair = [_model(models, model_id) for model_id in (one, other)] if ids else []
    return page(
        "compare.html",
        current="Models",
        title="Two models compared",
        ids=[*(it for it in (one, other) if it and it not in ids), *ids],
        pair=pair,
        served=served(overview.promotions),
        figures=_figures(pair) if pair else None,
        days_chart=models_chart(overview.days, [one, other]) if pair else "",
    )


def _listed() -> Sequence[ModelVersion]:
    here = services()
    found: Sequence[ModelVersion] = kept_once(
        here.overviews.latest(),
        "models",
        lambda: here.store.list_models(model_name=here.settings.model_name, limit=MODELS_LISTED),
    )
    return found


def _model(models: Sequence[ModelVersion], model_id: str) -> ModelVersion:
    """A listed one, else the one of the store. Raises NotFound."""
    listed = next((it for it in models if it.model_id == model_id), None)
    here = services()
    return listed or here.store.get_model(here.settings.model_name, model_id)


def families(models: Sequence[ModelVersion]) -> list[Family]:
    """The models by base, the base with the newest version first; a base is its own version."""
    by_base: dict[str, list[ModelVersion]] = {}
    for model in models:
        by_base.setdefault(model.anchor_id, []).append(model)
    return [
        Family(
            base_id=base_id,
            base=next((it for it in versions if it.model_id == base_id), None),
            versions=versions,
        )
        for base_id, versions in by_base.items()
    ]


def served(events: Sequence[PromotionEvent]) -> dict[str, Served]:
    """When each model answered last; `events` are the changes of champion, newest first."""
    found: dict[str, Served] = {}
    until: datetime | None = None
    for event in events:
        found.setdefault(event.to_model_id, Served(since=event.created_at, until=until))
        until = event.created_at
    return found


def _figures(pair: Sequence[ModelVersion]) -> Figures:
    for place in (1, 0):
        run = _run_that_compared(pair[1 - place], pair[place])
        if run is not None:
            both = [dict(run.details["champion_metrics"]), dict(run.metrics)]
            sides = both if place == 1 else both[::-1]
            return Figures(run=run, rows=_rows(*sides, is_same=True))
    sides = [dict(model.metrics) for model in pair]
    return Figures(run=None, rows=_rows(*sides, is_same=False))


def _run_that_compared(champion: ModelVersion, challenger: ModelVersion) -> RetrainingRun | None:
    if challenger.run_id is None or champion.model_id == challenger.model_id:
        return None
    try:
        run = services().store.get_run(challenger.run_id)
    except NotFound:  # the model was brought without its run
        return None
    before = (run.details.get(RUN_MANIFEST) or {}).get("champion") or {}
    is_it = before.get("model_id") == champion.model_id and run.details.get("champion_metrics")
    return run if is_it else None


def _rows(
    one: Mapping[str, object], other: Mapping[str, object], *, is_same: bool
) -> list[tuple[str, tuple[float | None, float | None], int | None]]:
    found = []
    for name in METRICS:
        values = (as_number(one.get(name)), as_number(other.get(name)))
        if values != (None, None):
            found.append((name, values, better(name, *values) if is_same else None))
    return found
