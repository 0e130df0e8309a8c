"""Who serves changes by a person's decision only where there is something to decide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import PromotionRefused
from ml_pipeline.registry.champion import Decision, approve, refuse, roll_back
from ml_pipeline.registry.serving_state import serving_state_of
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import Lineage, ModelState, PromotionKind
from tests.support.factories import MODEL_NAME, NOW, make_id, make_model, make_promotion

SETTINGS = Settings().changed({"model_name": MODEL_NAME})
DECISION = Decision(settings=SETTINGS, reason="it looks better", now=NOW, event_id=make_id(9))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore.open(tmp_path / "store")
    yield store
    store.close()


def serve(store: LocalStore, *model_ids: str) -> None:
    """Register the models; the first serves."""
    for model_id in model_ids:
        store.register(make_model(model_id))
    store.promote(make_promotion(model_ids[0], None, 1))


def test_a_model_that_does_not_wait_is_not_approved(store: LocalStore) -> None:
    serve(store, "m-1", "m-2")
    store.set_model_state(MODEL_NAME, "m-2", ModelState.RETIRED)
    with pytest.raises(PromotionRefused) as refused:
        approve(store, "m-2", DECISION)
    assert str(refused.value) == (
        "m-2 was not promoted: it does not await approval, it is retired. To promote it all the "
        "same, add --force and a --reason."
    )
    with pytest.raises(PromotionRefused, match="m-1 is champion already: nothing was changed"):
        approve(store, "m-1", DECISION, force=True)


def test_a_waiting_model_is_refused_once_and_the_reason_is_kept(store: LocalStore) -> None:
    serve(store, "m-1", "m-2")
    store.set_model_state(MODEL_NAME, "m-2", ModelState.AWAITING)
    assert refuse(store, "m-2", DECISION).state is ModelState.RETIRED
    with pytest.raises(PromotionRefused, match=r"m-2 was not refused: .* it is retired"):
        refuse(store, "m-2", DECISION)


def test_there_has_to_be_something_to_roll_back_to(store: LocalStore) -> None:
    with pytest.raises(PromotionRefused, match="nothing to roll back: no model serves yet"):
        roll_back(store, None, DECISION)
    serve(store, "m-1")
    with pytest.raises(PromotionRefused, match="m-1 is the first champion: there is none before"):
        roll_back(store, None, DECISION)
    with pytest.raises(PromotionRefused, match="m-1 is champion already"):
        roll_back(store, "m-1", DECISION)


def test_after_a_rollback_the_lineage_goes_on_from_the_chosen_model_and_a_person_decides(
    store: LocalStore,
) -> None:
    serve(store, "m-1", "m-2")
    store.promote(make_promotion("m-2", "m-1", 2))
    assert serving_state_of(store, MODEL_NAME).held is None
    store.promote(make_promotion("m-1", "m-2", 3, kind=PromotionKind.ROLLBACK, reason="odd"))
    state = serving_state_of(store, MODEL_NAME)
    assert (state.champion_id, state.head) == ("m-1", state.champion)
    assert state.held == (
        "Waiting for approval: since the rollback to m-1 on 2026-03-14 (odd) a person decides what "
        "serves next. Approve it with `models promote ID`."
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"settled_night": 9}, {"settled_night": 8, "rebuilds": 1}),
        # It came from a store whose log had been corrected, and this one's never was.
        ({"settled_night": 9, "log_changes": 5}, {"settled_night": 10, "log_changes": 0}),
    ],
    ids=["learned again of fewer days", "imported"],
)
def test_a_lineage_goes_on_from_what_learned_last(
    store: LocalStore, before: dict[str, int], after: dict[str, int]
) -> None:
    serve(store, "base")
    for model_id, lineage in (("before", before), ("after", after)):
        version = replace(
            make_model(model_id), lineage=Lineage.from_json(lineage), anchor_id="base"
        )
        store.register(version)
        store.set_model_state(MODEL_NAME, model_id, ModelState.SHADOW)
    head = serving_state_of(store, MODEL_NAME).head
    assert head is not None
    assert head.model_id == "after"
