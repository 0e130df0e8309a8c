"""What people do with a life's models: approve one, refuse one, roll back, delete old ones."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from ml_pipeline.errors import PromotionRefused, StoreUnavailable
from ml_pipeline.registry import champion, retention
from ml_pipeline.registry.champion import Decision
from ml_pipeline.registry.serving_state import serving_state_of
from ml_pipeline.runs.requests import submit_request
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import ModelState, Priority
from tests.support.lives.door import Door, Fault, Killed, Trouble, behind

if TYPE_CHECKING:
    from tests.support.lives.life import Life

FAULTS = (Fault.AWAY, Fault.ANSWER_LOST, Fault.KILLED_BEFORE, Fault.KILLED_AFTER)


def decide(life: Life) -> None:
    """Let a person do something, which the store may break off."""
    trouble = None
    if life.chance.random() < 0.3:
        trouble = Trouble(fault=life.chance.choice(FAULTS), at=life.chance.randint(1, 8))
    door = Door(life.site.store, trouble)
    what = life.chance.choice((_decide_on_challenger, _decide_on_challenger, _roll_back, _prune))
    life.history.append(f"{life.clock.now:%d %H:%M} {what.__name__}, {trouble}")
    try:
        what(life, behind(door))
    except (Killed, StoreUnavailable):
        assert door.failed, "a decision was broken off though the store answered"
    except PromotionRefused as refusal:
        life.history.append(f"  {refusal}")


def ask(life: Life) -> None:
    """Ask for a run."""
    submit_request(
        life.site.store,
        life.nature.settings,
        reason="somebody asks",
        priority=life.chance.choice(list(Priority)),
        now=life.clock.now,
        new_id=life.new_id(),
    )


def approve_what_waits(life: Life) -> None:
    """After a rollback nothing serves again before a person says so."""
    store, name = life.site.store, life.nature.settings.model_name
    if serving_state_of(store, name).held is not None:
        newest = store.list_models(model_name=name)[0]
        if newest.state is not ModelState.CHAMPION:
            champion.approve(store, newest.model_id, _decision(life), force=True)


def _decision(life: Life) -> Decision:
    return Decision(
        settings=life.nature.settings,
        reason="a person decides",
        now=life.clock(),
        event_id=life.new_id(),
    )


def _decide_on_challenger(life: Life, store: Store) -> None:
    models = store.list_models(model_name=life.nature.settings.model_name)
    waiting = [model.model_id for model in models if model.state is ModelState.AWAITING]
    if waiting and life.chance.random() < 0.7:
        champion.approve(store, waiting[0], _decision(life))
    elif waiting:
        champion.refuse(store, waiting[0], _decision(life))


def _roll_back(life: Life, store: Store) -> None:
    champion.roll_back(store, None, _decision(life))


def _prune(life: Life, store: Store) -> None:
    name, now = life.nature.settings.model_name, life.clock()
    kept = retention.Retention(models=1, window=timedelta(hours=12))
    retention.carry_out(store, retention.plan(store, name, kept, now=now), now=now)
