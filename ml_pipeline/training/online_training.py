"""Take an online model on over the days that it has not seen: the strategy `adaptive`.

`adapt` is the whole of it. Above stand the rows it learns, by UTC day, and the experts that it
fits once a day is settled; below, what the gate gets to see.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.config.sections import AdaptiveSettings, TrainingSettings
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.datasets.entities import Entities, remembered
from ml_pipeline.datasets.fitted_rows import FittedRows
from ml_pipeline.errors import DataError
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.heads.rates import changed_rates, rates_for
from ml_pipeline.training.learned_rows import (
    BASE_EVENTS,
    OPEN_ENTITIES,
    OPEN_EVENTS,
    Champion,
    learned_by_base,
)
from ml_pipeline.training.online.experts import KnownRows, refreshed
from ml_pipeline.training.online.rows import Rows, by_day, nightly_rows
from ml_pipeline.training.online.scored import ScoredNight, evidence_of
from ml_pipeline.training.online.snapshots import (
    SNAPSHOTS,
    Snapshot,
    as_dicts,
    snapshot_after,
    snapshots_of,
    with_newest,
)
from ml_pipeline.training.online_model import (
    Incumbent,
    NightScores,
    OnlineState,
    take_in,
    take_night,
)
from ml_pipeline.training.strategies import Challenger

log = logging.getLogger("train_model")


def by_settings(model: AdaptiveClassifier, training: TrainingSettings) -> AdaptiveClassifier:
    """The model with the heads' settings as they are now.

    Heads that have not learned begin by them, and hear the experts of now; others learn on by them
    and hear whom they heard. A run learns everything
    again from the base when they were changed (`runs.preparing`), so that no setting does nothing.
    Raises DataError when heads that have learned are not as many as the half-lives.
    """
    if not changed_rates(model.rates or {}, training):
        return model
    changed, memory = copy(model), model.memory()
    changed.rates = rates_for(model.rates or {}, training)
    wanted = changed.rates_()
    if memory.precisions is not None:
        if len(memory.heads[0]) != len(wanted.half_lives) or len(memory.heads) != len(
            wanted.families
        ):
            raise DataError(
                f"The model has {memory.n_heads} heads that have learned; "
                "training.adaptive.half_lives and families name others.",
                hint="Set it back, or train a new base: `ml-pipeline train --register`.",
            )
        return changed
    if model.head_inputs_ is not None:
        changed.heard_ = [expert.name for expert in training.experts_in_use]
    fresh = changed.fresh_memory()
    fresh = fresh.with_experts(memory.experts, weight=training.adaptive.initial_head_weight)
    changed.set_memory(fresh)
    if model.line_ is not None:
        state = replace(OnlineState.of(model), memory=fresh, votes=np.empty((0, len(fresh.vote))))
        changed.line_ = model.line_ | state.as_dict()
    return changed


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a model has been taken on, up to and with `today` (an ordinal).

    `state` has taken in every day so far, `settled` every one before today. `todays` are the ids
    of today's rows and `todays_entities` their entities, `scored` what each night was predicted
    before it was learned. `known` rows were left out because the base was fitted on them; `fitted`
    are those that it may still bring, `settled_fitted` the same when today is not counted.
    `snapshots` are earlier settled states.
    """

    today: int
    state: OnlineState
    settled: OnlineState
    fitted: FittedRows
    settled_fitted: FittedRows
    snapshots: tuple[Snapshot, ...] = ()
    known: int = 0
    todays: tuple[str, ...] = ()
    todays_entities: Entities = field(default_factory=lambda: np.empty(0, dtype=np.uint32))
    scored: tuple[ScoredNight, ...] = ()

    def without_fitted(self, night: int, rows: Rows, labels: NDArray[Any]) -> tuple[Rows, Progress]:
        """A day's rows but for those that stand in the base already."""
        found, fitted = self.fitted.find(night, rows.event_ids, rows.features, labels)
        settled_fitted = self.settled_fitted if night == self.today else fitted.settled(night)
        known = self.known + int(found.sum())
        progress = replace(self, fitted=fitted, settled_fitted=settled_fitted, known=known)
        return (rows.take(np.flatnonzero(~found)) if found.any() else rows), progress

    def after(
        self,
        night: int,
        rows: Rows,
        before: FittedRows,
        state: OnlineState,
        scores: NightScores | None,
    ) -> Progress:
        """The progress after one more day with those rows; `before` is what was fitted then."""
        is_today = night == self.today
        snapshots = self.snapshots
        if not is_today:
            newest = Snapshot(state=self.settled, fitted=before)
            snapshots = with_newest(snapshots, newest, state)
        return replace(
            self,
            state=state,
            settled=self.settled if is_today else state,
            snapshots=snapshots,
            todays=rows.event_ids if is_today else self.todays,
            todays_entities=rows.entities if is_today else self.todays_entities,
            scored=self.scored if scores is None else (*self.scored, ScoredNight.of(scores)),
        )

    def with_everything_learned(
        self, model: AdaptiveClassifier, incumbent: Incumbent, adaptive: AdaptiveSettings
    ) -> Progress:
        """Learn for serving what still waits; the settled state does not know of it."""
        if not len(self.state.waiting):
            return self
        night = self.state.night or self.today
        state, scores = take_night(model, self.state, night, incumbent, adaptive, quarantine=False)
        return replace(self, state=state, scored=(*self.scored, ScoredNight.of(scores)))


def adapt(  # noqa: PLR0913 - a model, its champion, rows and rules
    model: AdaptiveClassifier,
    champion: Champion,
    parts: Iterable[Dataset],
    today: date,
    settings: Settings,
    *,
    other_base: bool = False,
    compared_from: int | None = None,
    known: Dataset | None = None,
    restart_night: int | None = None,
) -> Challenger:
    """Take the model on over every day it has not seen, up to and with `today`.

    `parts` are whole days in their order; one at a time is held in memory. `other_base`: the
    champion stands on another base than the model, and one of that base serves since the day
    `compared_from`. `known` is every labelled row, for the
    experts; without it there are no new ones. After `restart_night` it has seen nothing: what it
    learned of later days is learned again, from the state that it carries of that night.

    Days before today are settled. Today's rows, and those of days too small to learn alone, are
    learned for serving only: the next run takes them up again from the settled state, so the
    state never depends on when the runs were.
    """
    training, last = settings.training, today.toordinal()
    progress = _started(model, last, restart_night)
    start = progress.state
    serving = champion.as_incumbent(other_base=other_base, compared_from=compared_from)
    incumbent = _knowing_what_waits(serving, start)
    for_experts = KnownRows.of(known, model, training.adaptive)
    champions = champion.fitted_rows() if other_base else FittedRows.none()
    for night, logged in _days(parts, model, training.adaptive):
        all_rows = logged.unserved() if other_base else logged
        if night > last or (start.night is not None and night <= start.night):
            continue
        labels, before = model.classes_[all_rows.actual], progress.settled_fitted
        rows, progress = progress.without_fitted(night, all_rows, labels)
        found, champions = champions.find(night, all_rows.event_ids, all_rows.features, labels)
        if found.any():
            incumbent = incumbent.having_learned(compress(all_rows.event_ids, found))
        state, scores = take_in(model, progress.state, night, rows, incumbent, training.adaptive)
        if night < last:
            state = refreshed(state, for_experts, training)
        progress = progress.after(night, all_rows, before, state, scores)
        incumbent = _knowing_what_waits(incumbent, state)
    progress = progress.with_everything_learned(model, incumbent, training.adaptive)
    return Challenger(
        model=_model_to_serve(model, progress),
        evidence=evidence_of(model, progress.scored),
        rows_learned=progress.state.rows_seen - start.rows_seen,
        rows_known=progress.known,
        training_digest="sha256:" + (progress.state.rows_digest or "0" * 64),
        online=progress.state,
    )


def _knowing_what_waits(incumbent: Incumbent, state: OnlineState) -> Incumbent:
    """The champion that has learned what waits of its days, to be taken in with a later one."""
    settled = incumbent.settled_night
    if settled is None or state.night is None or state.night > settled:
        return incumbent
    return incumbent.having_learned(state.waiting.event_ids)


def _started(model: AdaptiveClassifier, today: int, restart_night: int | None) -> Progress:
    """The progress before the first new day, or before the first one that is learned again."""
    start, fitted = OnlineState.of(model), FittedRows.from_dict(model.line_ or {})
    snapshots = snapshots_of(model)
    if restart_night is not None:
        restart = snapshot_after(model, restart_night)
        start, fitted = restart.state, restart.fitted
        snapshots = tuple(one for one in snapshots if one.night < restart_night)
    return Progress(
        today=today,
        state=start,
        settled=start,
        fitted=fitted,
        settled_fitted=fitted,
        snapshots=snapshots,
    )


def _days(
    parts: Iterable[Dataset], model: AdaptiveClassifier, adaptive: AdaptiveSettings
) -> Iterator[tuple[int, Rows]]:
    """The days of the parts, without the rows that stand in the model's base already."""
    in_base = learned_by_base(model)
    for part in parts:
        rows = part
        if in_base and "event_id" in part.frame.columns:
            is_new = ~part.frame["event_id"].astype(str).isin(in_base).to_numpy()
            rows = part.take(np.flatnonzero(is_new))
        if len(rows):
            yield from by_day(*nightly_rows(rows, model, adaptive))


def _model_to_serve(model: AdaptiveClassifier, progress: Progress) -> AdaptiveClassifier:
    """It predicts with everything learned, and carries the settled state to go on from."""
    settled, snapshots = progress.settled, progress.snapshots
    oldest = snapshots[0].night if snapshots else settled.night
    in_base = {
        event_id: night
        for event_id, night in (model.line_ or {}).get(BASE_EVENTS, {}).items()
        if oldest is None or night > oldest
    }
    is_open = [event_id for event_id, night in in_base.items() if night > (settled.night or 0)]
    unsettled = [*settled.waiting.event_ids, *progress.todays, *is_open]
    entities = remembered(settled.waiting.entities, progress.todays_entities)
    served = copy(model).set_memory(progress.state.memory)
    served.line_ = settled.as_dict() | {OPEN_EVENTS: unsettled, BASE_EVENTS: in_base}
    served.line_[SNAPSHOTS] = as_dicts(snapshots, settled)
    served.line_[OPEN_ENTITIES] = entities
    served.line_ |= progress.settled_fitted.as_dict()
    return served
