"""Who serves: the champion, its lineage, and every change of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import PromotionRefused
from ml_pipeline.registry.models import Sample, verify
from ml_pipeline.store.alerts import SystemEvent
from ml_pipeline.store.contract import ModelRegistry, Store
from ml_pipeline.store.records import ModelState, ModelVersion, PromotionEvent, PromotionKind


def lineage_head(store: ModelRegistry, champion: ModelVersion) -> ModelVersion:
    """The model from which the live line goes on: the judged member that has learned the most.

    A rollback is a person's word: the line goes on from the model they chose. Candidates were
    never judged; a run crashed between registering and judging them. Creation times decide only
    between equals, because the clocks of machines differ.
    """
    if is_rolled_back(store, champion) is not None:
        return champion
    members = store.list_models(model_name=champion.model_name, anchor_id=champion.anchor_id)
    judged = [model for model in members if model.state is not ModelState.CANDIDATE]
    return max(judged, key=_learned_until, default=champion)


def _learned_until(model: ModelVersion) -> tuple[int, datetime]:
    return model.lineage.get("settled_night") or 0, model.created_at


def is_rolled_back(store: ModelRegistry, champion: ModelVersion) -> PromotionEvent | None:
    """The rollback that made the champion serve, if that is why it serves."""
    events = store.promotion_events(model_name=champion.model_name, limit=1)
    if events and events[0].kind is PromotionKind.ROLLBACK:
        return events[0]
    return None


def change_champion(  # noqa: PLR0913 - one event has that many parts
    store: Store,
    *,
    target: ModelVersion,
    expected: str | None,
    kind: PromotionKind,
    reason: str,
    actor: str,
    now: datetime,
    event_id: str,
    run_id: str | None = None,
    sample: Sample | None = None,
    verdict: Mapping[str, Any] | None = None,
) -> ModelVersion:
    """Verify the stored artifact, then make it champion if `expected` still is.

    Raises ArtifactError or PromotionRefused, and changes nothing then.
    """
    verify(store, target, sample)
    event = PromotionEvent(
        event_id=event_id,
        model_name=target.model_name,
        kind=kind,
        to_model_id=target.model_id,
        from_model_id=expected,
        reason=reason,
        actor=actor,
        created_at=now,
        run_id=run_id,
        verdict=verdict or {},
    )
    return store.promote(event)


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


def champion_before(store: ModelRegistry, champion: ModelVersion) -> str:
    """The model that served before the champion did. Raises PromotionRefused for the first one."""
    for event in store.promotion_events(model_name=champion.model_name):
        if event.to_model_id == champion.model_id and event.from_model_id is not None:
            return event.from_model_id
    raise PromotionRefused(
        f"{champion.model_id} is the first champion: there is none before it.",
        hint="Name one of `models list` with --to.",
    )


def serving_models(store: Store, settings: Settings) -> tuple[str, ...] | None:
    """Whose errors count: those of the serving line. Without a champion, anybody's (None)."""
    champion = store.champion(model_name=settings.model_name)
    if champion is None:
        return None
    line = store.list_models(model_name=settings.model_name, anchor_id=champion.anchor_id)
    return tuple(sorted({champion.model_id, *(model.model_id for model in line)}))


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingState:
    """Where the model stands before the night: who serves, where its line goes on.

    `held` says why a person has to decide what serves next, if one has to.
    """

    champion: ModelVersion | None
    head: ModelVersion | None
    held: str | None

    @property
    def champion_id(self) -> str | None:
        """Id of the serving model."""
        return None if self.champion is None else self.champion.model_id

    @property
    def settled_night(self) -> int | None:
        """The last day of which the line has taken in everything."""
        return None if self.head is None else self.head.lineage.get("settled_night")


def serving_state_of(store: Store, model_name: str) -> ServingState:
    """Read the registry."""
    champion = store.champion(model_name=model_name)
    if champion is None:
        return ServingState(champion=None, head=None, held=None)
    rollback = is_rolled_back(store, champion)
    held = None
    if rollback is not None:
        held = (
            f"{rollback.actor} rolled back to {champion.model_id} on "
            f"{rollback.created_at:%Y-%m-%d} ({rollback.reason}): a person has to approve "
            "what serves next, with `models promote ID`."
        )
    head = lineage_head(store, champion)
    return ServingState(champion=champion, head=head, held=held)


def lineage_ids(store: Store, champion: ModelVersion | None) -> frozenset[str] | None:
    """The models whose outcomes count, those of the serving line; None is everybody's."""
    if champion is None:
        return None
    line = store.list_models(model_name=champion.model_name, anchor_id=champion.anchor_id)
    return frozenset({champion.model_id, *(model.model_id for model in line)})
