"""Who serves, and from where its lineage goes on: read from the registry, never changed here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ml_pipeline.store.contract import ModelRegistry
from ml_pipeline.store.records import (
    ModelBrief,
    ModelState,
    ModelVersion,
    PromotionEvent,
    PromotionKind,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingState:
    """What serves before a run: the champion, and the head from which its lineage goes on.

    `held` says why a person has to decide what serves next, if one has to.
    """

    champion: ModelVersion | None = None
    head: ModelVersion | None = None
    held: str | None = None

    @property
    def champion_id(self) -> str | None:
        """Id of the serving model."""
        return None if self.champion is None else self.champion.model_id

    @property
    def settled_night(self) -> int | None:
        """The last day of which the lineage has taken in every row."""
        return None if self.head is None else self.head.lineage.settled_night


def serving_state_of(store: ModelRegistry, model_name: str) -> ServingState:
    """Read the registry."""
    champion = store.champion(model_name=model_name)
    if champion is None:
        return ServingState()
    rollback = rollback_to(store, champion)
    return ServingState(
        champion=champion,
        head=lineage_head(store, champion),
        held=None if rollback is None else _why_held(rollback),
    )


def shadow_state_of(store: ModelRegistry, model_name: str) -> ServingState:
    """Where learning goes on from while a classifier that nobody here trained answers people.

    From the lineage of the registered champion, if there is one, else from the newest that was
    judged. No registered model serves, whatever the registry says.
    """
    state = serving_state_of(store, model_name)
    if state.head is not None:
        return ServingState(head=state.head)
    states = (ModelState.AWAITING, ModelState.SHADOW)
    newest = [m for s in states for m in store.list_models(model_name=model_name, state=s, limit=1)]
    if not newest:
        return ServingState()
    return ServingState(head=_furthest(store, max(newest, key=lambda model: model.created_at)))


def _why_held(rollback: PromotionEvent) -> str:
    return (
        f"Waiting for approval: since the rollback to {rollback.to_model_id} on "
        f"{rollback.created_at:%Y-%m-%d} ({rollback.reason}) a person decides what serves next. "
        "Approve it with `models promote ID`."
    )


def rollback_to(store: ModelRegistry, champion: ModelVersion) -> PromotionEvent | None:
    """The rollback that made the champion serve, if that is why it serves."""
    events = store.promotion_events(model_name=champion.model_name, limit=1)
    if events and events[0].kind is PromotionKind.ROLLBACK:
        return events[0]
    return None


def lineage_head(store: ModelRegistry, champion: ModelVersion) -> ModelVersion:
    """The model from which the lineage goes on: the judged member that has learned the most.

    One that began anew from the base comes after those before: it may have settled fewer days,
    when what was learned of the last ones was erased or corrected. A rollback is a person's
    decision: the lineage goes on from the model they chose. Candidates were never judged; a run
    crashed between registering and judging them. Creation times decide only between equals,
    because the clocks of machines differ.
    """
    if rollback_to(store, champion) is not None:
        return champion
    return _furthest(store, champion)


def _furthest(store: ModelRegistry, member: ModelVersion) -> ModelVersion:
    """The judged model of a lineage that has learned the most."""
    name = member.model_name
    members = store.list_models_in_brief(model_name=name, anchor_id=member.anchor_id)
    judged = [model for model in members if model.state is not ModelState.CANDIDATE]
    furthest = max(judged, key=_progress, default=None)
    if furthest is None or furthest.model_id == member.model_id:
        return member
    return store.get_model(name, furthest.model_id)


def _progress(model: ModelBrief) -> tuple[int, int, datetime]:
    return model.rebuilds or 0, model.settled_night or 0, model.created_at


def serving_models(store: ModelRegistry, model_name: str) -> tuple[str, ...] | None:
    """Whose errors count, sorted: the serving lineage's. Without a champion, anybody's (None)."""
    members = lineage_ids(store, store.champion(model_name=model_name))
    return None if members is None else tuple(sorted(members))


def lineage_ids(store: ModelRegistry, champion: ModelVersion | None) -> frozenset[str] | None:
    """The models of the champion's lineage; None, which is everybody's, without a champion."""
    if champion is None:
        return None
    ids = store.list_model_ids(model_name=champion.model_name, anchor_id=champion.anchor_id)
    return frozenset({champion.model_id, *ids})


def serves_since(store: ModelRegistry, champion: ModelVersion) -> int | None:
    """The day (an ordinal) on which the champion's lineage began to serve without a break.

    None where no other has served before it.
    """
    name = champion.model_name
    members = lineage_ids(store, champion) or frozenset()
    since: int | None = None
    for event in store.promotion_events(model_name=name):
        if event.to_model_id not in members:
            return since
        since = event.created_at.toordinal()
    return None
