"""A loop that runs every hour: more models than fit into one answer, and none is forgotten."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.registry.serving_state import lineage_head
from ml_pipeline.runs.shadows import undecided_shadows
from ml_pipeline.runs.waiting.giving_up import give_up_waiting
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import Lineage, ModelState
from ml_pipeline.training.train_and_register import former_champions
from tests.support.crowd import SIX_WEEKS_OF_HOURS, crowd
from tests.support.factories import MODEL_NAME, NOW, make_model, make_promotion
from tests.support.places import Place

OLD = NOW - timedelta(days=90)
SETTINGS = Settings().changed({"model_name": MODEL_NAME})


def grown(place: Place, store: Store) -> None:
    """A former and a serving base, one that waits, one in the shadow; then six weeks of hours."""
    old = make_model("former", created_at=OLD)
    shadow = Lineage(shadow_since=NOW.date() - timedelta(days=9))
    for model in (
        old,
        replace(old, model_id="serving", anchor_id="serving"),
        replace(old, model_id="waiting", anchor_id="waiting", state=ModelState.AWAITING),
        replace(old, model_id="new", anchor_id="new", state=ModelState.SHADOW, lineage=shadow),
        make_model("hourly", anchor_id="serving", state=ModelState.RETIRED),
    ):
        store.register(model)
    store.promote(make_promotion("former", None, 1))
    store.promote(make_promotion("serving", "former", 2))
    crowd(place, "hourly")


@pytest.mark.parametrize("place", ["embedded", "supabase"], indirect=True)
def test_what_is_older_than_a_thousand_models_counts_all_the_same(place: Place) -> None:
    with place.opened() as store:
        grown(place, store)
        champion = store.champion(model_name=MODEL_NAME)
        assert champion is not None
        briefs = store.list_models_in_brief(model_name=MODEL_NAME)
        assert len(briefs) == SIX_WEEKS_OF_HOURS + 5
        assert [model.model_id for model in briefs[:2]] == ["hourly-999", "hourly-998"]
        assert len(store.list_models(model_name=MODEL_NAME)) == len(briefs)
        assert [m.model_id for m in former_champions(store, champion, 5)] == ["former"]
        assert [shadow.model_id for shadow in undecided_shadows(store, champion)] == ["new"]
        assert [note["model_id"] for note in give_up_waiting(store, SETTINGS, NOW)] == ["waiting"]


@pytest.mark.parametrize("place", ["embedded", "supabase"], indirect=True)
def test_the_head_of_a_lineage_is_found_behind_a_thousand_models(place: Place) -> None:
    # A clock that was slow: what has learned the most was made before the others.
    with place.opened() as store:
        grown(place, store)
        head = make_model(
            "head", anchor_id="serving", created_at=OLD, state=ModelState.RETIRED,
            lineage=Lineage(settled_night=NOW.toordinal()),
        )  # fmt: skip
        store.register(head)
        champion = store.champion(model_name=MODEL_NAME)
        assert champion is not None
        assert lineage_head(store, champion) == head
