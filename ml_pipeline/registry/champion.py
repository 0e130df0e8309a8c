"""A person's word on a model: approve, refuse, roll back. Used by `models` and by the page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ml_pipeline.alerts import SystemEvent
from ml_pipeline.domain import ModelState, ModelVersion, PromotionKind
from ml_pipeline.errors import PromotionRefused
from ml_pipeline.model_registry import change_champion
from ml_pipeline.store import ModelShelf, Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """What a person says of a model, why and when."""

    model_name: str
    reason: str
    now: datetime
    event_id: str


def approve(store: Store, model_id: str, word: Word, *, force: bool = False) -> ModelVersion:
    """Make a waiting challenger champion; `force` takes any other model as well.

    Raises PromotionRefused or ArtifactError, and changes nothing then.
    """
    target = store.get_model(word.model_name, model_id)
    champion = store.champion(model_name=word.model_name)
    if champion is not None and champion.model_id == target.model_id:
        raise PromotionRefused(f"{target.model_id} is champion already.")
    if target.state is not ModelState.AWAITING and not force:
        raise PromotionRefused(
            f"{target.model_id} is {target.state}, not awaiting approval.",
            hint="Add --force and a --reason to promote it all the same.",
        )
    return change_champion(
        store,
        target=target,
        expected=None if champion is None else champion.model_id,
        kind=PromotionKind.PROMOTION,
        reason=word.reason or "approved by a person",
        actor="person",
        now=word.now,
        event_id=word.event_id,
        verdict={"forced": force},
    )


def refuse(store: Store, model_id: str, word: Word) -> ModelVersion:
    """Retire a waiting challenger and keep the reason; raises PromotionRefused for any other."""
    target = store.get_model(word.model_name, model_id)
    if target.state is not ModelState.AWAITING:
        raise PromotionRefused(f"{target.model_id} is {target.state}, not awaiting approval.")
    reason = word.reason or "refused by a person"
    store.set_model_state(word.model_name, model_id, ModelState.RETIRED)
    store.record_event(
        SystemEvent(
            event_id=word.event_id,
            model_name=word.model_name,
            event_type="challenger_refused",
            at=word.now,
            message=f"{model_id} was refused: {reason}",
            metadata={"model_id": model_id, "actor": "person", "reason": reason},
        )
    )
    return store.get_model(word.model_name, model_id)


def roll_back(store: Store, to_model_id: str | None, word: Word) -> ModelVersion:
    """Make an earlier champion serve again, by default the one before.

    Raises PromotionRefused or ArtifactError, and changes nothing then.
    """
    champion = store.champion(model_name=word.model_name)
    if champion is None:
        raise PromotionRefused("There is no champion to roll back from.")
    target_id = to_model_id or champion_before(store, champion)
    if target_id == champion.model_id:
        raise PromotionRefused(f"{target_id} is champion already.")
    return change_champion(
        store,
        target=store.get_model(word.model_name, target_id),
        expected=champion.model_id,
        kind=PromotionKind.ROLLBACK,
        reason=word.reason,
        actor="person",
        now=word.now,
        event_id=word.event_id,
    )


def champion_before(store: ModelShelf, champion: ModelVersion) -> str:
    """The model that served before the champion did. Raises PromotionRefused for the first one."""
    for event in store.promotion_events(model_name=champion.model_name):
        if event.to_model_id == champion.model_id and event.from_model_id is not None:
            return event.from_model_id
    raise PromotionRefused(
        f"{champion.model_id} is the first champion: there is none before it.",
        hint="Name one of `models list` with --to.",
    )
