"""Every change of champion: verified first, then recorded with who, why and when.

The gate changes it after a run; a person approves, refuses or rolls back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import PromotionRefused
from ml_pipeline.registry.in_database.publishing import scoring_of
from ml_pipeline.registry.models import verify
from ml_pipeline.registry.trained import Sample
from ml_pipeline.store.alerts import SystemEvent
from ml_pipeline.store.contract import ModelRegistry, Store
from ml_pipeline.store.records import ModelState, ModelVersion, PromotionEvent, PromotionKind


def change_champion(  # noqa: PLR0913 - one event has that many parts
    store: Store,
    settings: Settings,
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

    A store that answers predictions itself gets what it answers with in the same transaction.
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
    return store.promote(event, scoring_of(store, target, settings))


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What a person decides of a model: why, when, and under which id it is kept."""

    settings: Settings
    reason: str
    now: datetime
    event_id: str

    @property
    def model_name(self) -> str:
        """The name of the models that it is about."""
        return self.settings.model_name


def who_answers_then(model_id: str, decision: Decision) -> str:
    """What it means that a person made the model champion: whether people are answered by it."""
    if not decision.settings.incumbent.serves:
        return f"{model_id} serves now."
    return (
        f"{model_id} is the champion here. Nothing changes for people until your application asks "
        "it in the place of your own classifier: switch it, then set `incumbent: {serves: false}`, "
        "so that its answers are watched and learned from."
    )


def approve(
    store: Store, model_id: str, decision: Decision, *, force: bool = False
) -> ModelVersion:
    """Make a waiting challenger champion; `force` takes any other model as well.

    Raises PromotionRefused or ArtifactError, and changes nothing then.
    """
    target = store.get_model(decision.model_name, model_id)
    champion = store.champion(model_name=decision.model_name)
    if champion is not None:
        _require_another(target.model_id, champion)
    if target.state is not ModelState.AWAITING and not force:
        raise PromotionRefused(
            f"{target.model_id} was not promoted: it does not await approval, it is "
            f"{_STATES[target.state]}.",
            hint="To promote it all the same, add --force and a --reason.",
        )
    return change_champion(
        store,
        decision.settings,
        target=target,
        expected=None if champion is None else champion.model_id,
        kind=PromotionKind.PROMOTION,
        reason=decision.reason or "approved by a person",
        actor="person",
        now=decision.now,
        event_id=decision.event_id,
        verdict={"forced": force},
    )


def refuse(store: Store, model_id: str, decision: Decision) -> ModelVersion:
    """Retire a waiting challenger and keep the reason; raises PromotionRefused for any other."""
    target = store.get_model(decision.model_name, model_id)
    if target.state is not ModelState.AWAITING:
        raise PromotionRefused(
            f"{target.model_id} was not refused: it does not await approval, it is "
            f"{_STATES[target.state]}.",
            hint="Reload the page: somebody else may have decided.",
        )
    reason = decision.reason or "refused by a person"
    store.set_model_state(decision.model_name, model_id, ModelState.RETIRED)
    store.record_event(
        SystemEvent(
            event_id=decision.event_id,
            model_name=decision.model_name,
            event_type="challenger_refused",
            at=decision.now,
            message=f"{model_id} was refused: {reason}",
            metadata={"model_id": model_id, "actor": "person", "reason": reason},
        )
    )
    return store.get_model(decision.model_name, model_id)


def roll_back(store: Store, to_model_id: str | None, decision: Decision) -> ModelVersion:
    """Make an earlier champion serve again, by default the one before.

    Raises PromotionRefused or ArtifactError, and changes nothing then.
    """
    champion = store.champion(model_name=decision.model_name)
    if champion is None:
        raise PromotionRefused(
            "There is nothing to roll back: no model serves yet.",
            hint="`ml-pipeline models list` shows the registered ones.",
        )
    target_id = to_model_id or champion_before(store, champion)
    _require_another(target_id, champion)
    return change_champion(
        store,
        decision.settings,
        target=store.get_model(decision.model_name, target_id),
        expected=champion.model_id,
        kind=PromotionKind.ROLLBACK,
        reason=decision.reason,
        actor="person",
        now=decision.now,
        event_id=decision.event_id,
    )


def champion_before(store: ModelRegistry, champion: ModelVersion) -> str:
    """The model that served before the champion did. Raises PromotionRefused for the first one."""
    for event in store.promotion_events(model_name=champion.model_name):
        if event.to_model_id == champion.model_id and event.from_model_id is not None:
            return event.from_model_id
    raise PromotionRefused(
        f"{champion.model_id} is the first champion: there is none before it.",
        hint="Name another model with --to; `ml-pipeline models list` shows them.",
    )


def _require_another(model_id: str, champion: ModelVersion) -> None:
    if model_id == champion.model_id:
        raise PromotionRefused(
            f"{model_id} is champion already: nothing was changed.",
            hint="`ml-pipeline models list` shows the others.",
        )


_STATES: Mapping[ModelState, str] = {
    ModelState.CANDIDATE: "a candidate that was never judged",
    ModelState.CHAMPION: "the champion",
    ModelState.SHADOW: "in the shadow, where it is still being compared",
    ModelState.RETIRED: "retired",
}
