"""Who is watched: the champion's lineage, a classifier of the person's own, or everybody.

Where `incumbent.serves` is set people see the answers of a classifier that nobody here trained.
Its own answers alone say how it does: a promotion, a rollback, a first model end no alert about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation_log.answering.logged_models import LoggedModels
from ml_pipeline.evaluation_log.answering.registered import is_registered
from ml_pipeline.evaluation_log.answering.sentences import UNNAMED, answering, proposal, shown
from ml_pipeline.registry.serving_state import lineage_ids
from ml_pipeline.store.alerts import DailyAccuracy, DecayAlert
from ml_pipeline.store.contract import ModelRegistry
from ml_pipeline.store.records import ModelVersion


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """The models whose answers are judged, None for everybody's.

    `champion` is the registered model among them, if there is one. `model_id` is the one that
    serves and `anchor_id` what an alert is about: the champion's approved base, or the foreign
    model that answered last. `ended` says why an open alert is no longer about who is watched.
    """

    model_ids: frozenset[str] | None
    champion: ModelVersion | None
    model_id: str | None
    anchor_id: str | None
    ended: str | None
    answering: str | None

    @classmethod
    def of(
        cls,
        store: ModelRegistry,
        settings: Settings,
        champion: ModelVersion | None,
        days: Sequence[DailyAccuracy],
        alert: DecayAlert | None,
    ) -> Self:
        """Who is watched now, given everybody's days and the open alert."""
        about = None if alert is None else alert.model_id
        is_ours = about is not None and is_registered(store, settings.model_name, about)
        if settings.incumbent.serves:
            return cls._theirs(store, settings, days, about if is_ours else None)
        anchor = None if champion is None else champion.anchor_id
        ended = None
        if is_ours and about != anchor:
            ended = f"{anchor or 'No model'} serves now, not {about}."
        # An alert about somebody that the registry does not know, or of before there was a
        # champion, is ended by the answers that people get: a promotion alone is none.
        is_of_everybody = alert is not None and not is_ours
        lineage = None if is_of_everybody else lineage_ids(store, champion)
        return cls(
            model_ids=lineage,
            champion=champion,
            model_id=None if champion is None else champion.model_id,
            anchor_id=anchor,
            ended=ended,
            answering=_of_others(store, settings, lineage_ids(store, champion), days),
        )

    @classmethod
    def _theirs(
        cls,
        store: ModelRegistry,
        settings: Settings,
        days: Sequence[DailyAccuracy],
        about: str | None,
    ) -> Self:
        """A classifier of the person's own; `about` is the model of ours that an alert is about."""
        logged = LoggedModels.of(store, settings, days)
        theirs = logged.theirs or tuple(settings.incumbent.model_ids or ())
        newest = theirs[0] if theirs else None
        return cls(
            model_ids=frozenset(theirs),
            champion=None,
            model_id=newest,
            anchor_id=newest,
            ended=None if about is None else f"{shown(theirs)} answers people now, not {about}.",
            answering=answering(settings, theirs),
        )


def _of_others(
    store: ModelRegistry,
    settings: Settings,
    lineage: frozenset[str] | None,
    days: Sequence[DailyAccuracy],
) -> str | None:
    """That others answered too, of whom nothing is known.

    Beside a champion, answers that name no model are taken for its own.
    """
    known = set() if lineage is None else {*lineage, UNNAMED}
    logged = LoggedModels.of(store, settings, [day for day in days if day.model_id not in known])
    return proposal(settings, logged.theirs, logged.rows)
