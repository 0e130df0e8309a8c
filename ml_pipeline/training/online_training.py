"""Take a live line on over the days that it has not seen: the strategy `adaptive`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.config.sections import AdaptiveSettings, ExpertSettings, TrainingSettings
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.datasets.features import Inputs
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.metrics import Codes, Floats, encode
from ml_pipeline.store.records import UNCERTAIN
from ml_pipeline.training import algorithms
from ml_pipeline.training.adaptive import AdaptiveClassifier, Expert
from ml_pipeline.training.online_model import (
    Incumbent,
    NightScores,
    OnlineState,
    Rows,
    by_day,
    replay,
    take_night,
)
from ml_pipeline.training.parallel import spread
from ml_pipeline.training.strategies import OPEN_EVENTS, Challenger, Serving


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownRows:
    """Every labelled row, in the order of learning: what experts may be fitted on.

    `nights` (n,) rise, `actual` (n,) are codes of `classes`, `weights` (n,).
    """

    nights: NDArray[np.int64]
    features: Inputs
    actual: Codes
    weights: Floats
    classes: NDArray[Any]

    def until(self, night: int) -> KnownRows:
        """The rows that were known when `night` was over."""
        return self.first(int(np.searchsorted(self.nights, night, side="right")))

    def first(self, count: int) -> KnownRows:
        """So many rows from the start."""
        return KnownRows(
            nights=self.nights[:count],
            features=self.features[:count],
            actual=self.actual[:count],
            weights=self.weights[:count],
            classes=self.classes,
        )


def refreshed(state: OnlineState, known: KnownRows, training: TrainingSettings) -> OnlineState:
    """The line with new experts if they are due after its last night, else as it is.

    With too few rows, or rows of one class alone, the line goes on as it is and they stay due.
    So they do while rows wait to be scored: what learns a row before may not be judged on it.
    """
    fitted = {expert.name: expert.night for expert in state.memory.experts}
    if state.night is None or len(state.waiting) or not training.experts_due(fitted, state.night):
        return state
    rows = known.until(state.night)
    if training.experts and (
        len(rows.nights) < training.min_training_samples or len(set(rows.actual.tolist())) < 2  # noqa: PLR2004
    ):
        return state
    experts = fit_experts(rows, state.night, training)
    return state.with_experts(experts, weight=training.adaptive.initial_head_weight)


def fit_experts(rows: KnownRows, night: int, training: TrainingSettings) -> tuple[Expert, ...]:
    """Fit every configured expert on the rows, beside each other.

    An expert with a half-life weighs a row by 0.5^(age/half-life); ages count back from `night`.
    """
    labels = rows.classes[rows.actual]

    def fitted(expert: ExpertSettings) -> Expert:
        weights = rows.weights
        if expert.half_life_days is not None:
            weights = weights * 0.5 ** ((night - rows.nights) / expert.half_life_days)
        model = algorithms.fit(expert.algorithm, rows.features, labels, training, weights=weights)
        columns = encode(np.asarray(model.classes_), rows.classes)
        return Expert(name=expert.name, model=model, columns=columns, night=night)

    return tuple(spread(fitted, training.experts))


log = logging.getLogger("train_model")


def nightly_rows(
    data: Dataset, model: AdaptiveClassifier, adaptive: AdaptiveSettings
) -> tuple[NDArray[np.int64], Rows]:
    """Labelled rows by UTC day and event id: (nights, rows)."""
    if data.times is None or "event_id" not in data.frame.columns:
        raise DataError(f"{data.source} has no event_id and time: nights cannot be told apart.")
    nights = data.times.dt.tz_convert("UTC").map(lambda moment: moment.date().toordinal())
    event_ids = data.frame["event_id"].astype(str)
    order = np.lexsort((event_ids.to_numpy(dtype=str), nights.to_numpy(dtype=np.int64)))
    # A row is learned once, also when a file holds it twice.
    order = order[~event_ids.iloc[order].duplicated().to_numpy()]
    wrong = np.zeros(len(data), dtype=bool)
    if "prediction" in data.frame.columns:
        said = data.frame["prediction"].to_numpy(dtype=str)
        wrong = (said != data.labels) & (said != UNCERTAIN)
    weights = np.where(
        wrong, 1 / adaptive.label_probability_wrong, 1 / adaptive.label_probability_right
    )
    rows = Rows(
        features=data.features[order],
        base=model.base_proba(data.features[order]),
        actual=encode(data.labels[order], model.classes_),
        weights=weights[order],
        event_ids=tuple(event_ids.iloc[order].tolist()),
    )
    return nights.to_numpy(dtype=np.int64)[order], rows


def adapt(  # noqa: PLR0913 - a line, its incumbent, rows and rules
    head: AdaptiveClassifier,
    champion: Serving,
    parts: Iterable[Dataset],
    today: date,
    settings: Settings,
    *,
    other_base: bool = False,
    known: Dataset | None = None,
) -> Challenger:
    """Take the line on from `head` over every day it has not seen, up to and with `today`.

    `parts` are whole days in their order; one at a time is held in memory. `other_base`: the
    champion stands on another base than the line. `known` is every labelled row, for the experts;
    without it there are no new ones.

    Days before today are settled. Today's rows, and those of days too small to learn alone, are
    learned for serving only: the next run takes them up again from the settled state, so the
    state never depends on when the runs were.
    """
    adaptive = settings.training.adaptive
    start = OnlineState.of(head)
    last, todays = today.toordinal(), list[str]()

    def days() -> Iterator[tuple[int, Rows]]:
        for part in parts:
            for night, rows in by_day(*nightly_rows(part, head, adaptive)):
                if (start.night is None or night > start.night) and night <= last:
                    todays.extend(rows.event_ids if night == last else ())
                    yield night, rows

    incumbent = Incumbent(
        model_id=champion.model_id,
        memory=champion.model.memory(),
        model=champion.model if other_base else None,
        learned=champion.learned_event_ids(),
        settled_night=champion.settled_night(),
    )
    over = partial(
        _after_day, today=last, known=_known_rows(known, head, adaptive), training=settings.training
    )
    said: list[_Said] = []
    state = settled = start
    for after, scores in replay(head, state, days(), incumbent, adaptive, after_day=over):
        state = after
        said += [_Said.of(scores)] if scores else []
        if state.night is not None and state.night < last:
            settled = state
    served = state
    if len(state.waiting):
        served, scores = take_night(head, state, state.night or last, incumbent, quarantine=False)
        said.append(_Said.of(scores))
    model = _serving(head, settled, served, [*settled.waiting.event_ids, *todays])
    return Challenger(
        model=model,
        evidence=_line_evidence(model, said),
        rows_learned=served.rows_seen - start.rows_seen,
        training_digest="sha256:" + (served.rows_digest or "0" * 64),
        line=served,
    )


def _after_day(
    state: OnlineState, *, today: int, known: KnownRows, training: TrainingSettings
) -> OnlineState:
    """New experts once a day is settled, if they are due."""
    if state.night is None or state.night >= today:
        return state
    after = refreshed(state, known, training)
    if after is not state:
        log.info("New experts from the rows up to %s", date.fromordinal(state.night))
    return after


def _known_rows(
    known: Dataset | None, model: AdaptiveClassifier, adaptive: AdaptiveSettings
) -> KnownRows:
    nights, rows = np.empty(0, dtype=np.int64), Rows.none(model)
    if known is not None:
        nights, rows = nightly_rows(known, model, adaptive)
    return KnownRows(
        nights=nights,
        features=rows.features,
        actual=rows.actual,
        weights=rows.weights,
        classes=model.classes_,
    )


def _serving(
    head: AdaptiveClassifier, settled: OnlineState, served: OnlineState, unsettled: list[str]
) -> AdaptiveClassifier:
    from copy import copy

    model = copy(head).set_memory(served.memory)
    model.line_ = settled.as_dict() | {OPEN_EVENTS: unsettled}
    return model


@dataclass(frozen=True, kw_only=True, slots=True)
class _Said:
    """What of a night's scores the evidence needs; the rows themselves may be many."""

    night: int
    event_ids: tuple[str, ...]
    actual: Codes
    live: Floats
    champion: Floats
    unseen: NDArray[np.bool_]

    @classmethod
    def of(cls, scores: NightScores) -> _Said:
        return cls(
            night=scores.night,
            event_ids=scores.rows.event_ids,
            actual=scores.rows.actual,
            live=scores.live,
            champion=scores.champion,
            unseen=scores.unseen,
        )


def _line_evidence(model: AdaptiveClassifier, scored: list[_Said]) -> Evidence:
    """The rows that the champion has not learned, or all of them without it if there are none."""
    parts = [(s, np.flatnonzero(s.unseen)) for s in scored]
    is_duel = any(len(rows) for _, rows in parts)
    if not is_duel:
        parts = [(s, np.arange(len(s.actual))) for s in scored]

    def stacked(name: str) -> Floats:
        arrays = [getattr(s, name)[rows] for s, rows in parts]
        return np.vstack(arrays) if arrays else np.empty((0, len(model.classes_)))

    none = [np.empty(0, dtype=np.int64)]
    return Evidence(
        labels=tuple(str(label) for label in model.classes_),
        event_ids=tuple(s.event_ids[row] for s, rows in parts for row in rows),
        nights=np.concatenate(none + [np.full(len(rows), s.night) for s, rows in parts]),
        actual=np.concatenate(none + [s.actual[rows] for s, rows in parts]),
        challenger=stacked("live"),
        champion=stacked("champion") if is_duel else None,
    )
