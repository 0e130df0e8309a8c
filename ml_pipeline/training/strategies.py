"""How a challenger comes about from rows at hand: a new base, or a step from the old one.

Every strategy ends in a `Challenger`: a model, and evidence on rows that neither it nor the
`Champion` has learned. The strategy `adaptive` has a module of its own, `online_training`.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.config.data import DataSettings
from ml_pipeline.config.defaults import INCUMBENT_BASE
from ml_pipeline.config.sections import TrainingSettings
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import Dataset, class_order
from ml_pipeline.datasets.entities import entities_of, learned_entities, remembered
from ml_pipeline.datasets.features import Inputs, joined, parted
from ml_pipeline.datasets.fitted_rows import FittedRows
from ml_pipeline.datasets.reference import reference_of
from ml_pipeline.datasets.splits import (
    Split,
    TakenIn,
    split,
    taken_in,
    without_shared_groups,
)
from ml_pipeline.datasets.times import days_of
from ml_pipeline.datasets.weights import fitting_weights, label_weights
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.metrics import Floats, encode
from ml_pipeline.store.inputs.incumbent_columns import own_features
from ml_pipeline.training import algorithms
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.brought.incumbent import fitted_base
from ml_pipeline.training.encoding.columns import call_nothing_far
from ml_pipeline.training.heads.rates import rates_of
from ml_pipeline.training.learned_rows import (
    BASE_EVENTS,
    OPEN_EVENTS,
    Champion,
    KnownBy,
    fitted_on,
    unseen_rows,
)
from ml_pipeline.training.online_model import OnlineState


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenger:
    """A model that asks to serve.

    `online` is the state of the online model with everything learned, None for a new base.
    `prior` are the class frequencies of a new base's training rows, the floor that a first
    champion has to clear. `rows_known` were there to be learned, but the base was fitted on them.
    """

    model: AdaptiveClassifier
    evidence: Evidence
    rows_learned: int
    training_digest: str
    rows_known: int = 0
    online: OnlineState | None = None
    prior: Floats | None = None
    cross_validation: dict[str, Any] = field(default_factory=dict)


def new_model(  # noqa: PLR0913 - what a model is made of
    base: Any,  # noqa: ANN401 - a fitted scikit-learn classifier
    features: Inputs,
    classes: list[str],
    settings: Settings,
    *,
    taken: TakenIn | None = None,
    fitted: FittedRows | None = None,
) -> AdaptiveClassifier:
    """Heads that equal the base, and an online state that starts after what the base has taken.

    `fitted` are rows of the base that the log may bring all the same.
    """
    training, data = settings.training, settings.data
    heard = [expert.name for expert in training.experts_in_use]
    model = AdaptiveClassifier(base, rates_of(training), training.random_seed)
    model.adopt(base, features, classes, heard=heard)
    call_nothing_far(model, {name: data.kind(name) for name in data.features})
    model.feature_names_ = list(data.features)
    model.text_column_ = data.text_column
    model.reference_ = _reference(features, model, data)
    taken = taken or TakenIn()
    state = OnlineState.fresh(model).as_dict() | {"night": taken.night}
    open_events = dict(taken.open_events)
    state["entities"] = remembered(state["entities"], taken.entities)
    model.line_ = state | {OPEN_EVENTS: list(open_events), BASE_EVENTS: open_events}
    model.line_ |= (fitted or FittedRows.none()).as_dict()
    return model


def _reference(features: Inputs, model: AdaptiveClassifier, data: DataSettings) -> dict[str, Any]:
    """The summary of what people log; an incumbent's answers are none of its features."""
    numbers, texts = parted(features)
    own = own_features(model.feature_names_)
    rows = joined(numbers[:, : len(own)], texts)
    return reference_of(rows, own, model.text_column_, data.kinds)


def fine_tune_rows(
    model: AdaptiveClassifier, data: Dataset, settings: Settings, *, today: date
) -> Challenger:
    """Learn rows that carry no nights as one night; the held-out rest is the evidence.

    What comes of it goes on as a base of its own: no day may bring again what it has learned.
    """
    parts = split(data, test_size=settings.training.test_size, seed=settings.training.random_seed)
    learned, held = data.take(parts.train), data.take(parts.holdout)
    champion = Champion(model_id="", model=model)
    tuned = copy(model).partial_fit(learned.features, learned.labels)
    fitted = champion.fitted_rows().and_those_of(fitted_on(learned, settings, today))
    state = replace(
        OnlineState.fresh(tuned),
        memory=tuned.memory(),
        night=champion.settled_night(),
        entities=remembered(champion.entities(), entities_of(learned)),
    )
    still_open = dict.fromkeys(champion.learned_event_ids(), today.toordinal())
    tuned.line_ = state.as_dict() | {OPEN_EVENTS: [*still_open], BASE_EVENTS: still_open}
    tuned.line_ |= fitted.as_dict()
    return Challenger(
        model=tuned,
        evidence=evidence_on(tuned, held, champion, settings),
        rows_learned=len(learned),
        training_digest=learned.digest(),
    )


def train_base(  # noqa: PLR0913 - one model is data, split and choices
    data: Dataset,
    settings: Settings,
    *,
    algorithm: str,
    classes: list[str] | None = None,
    answers: Floats | None = None,
    parts: Split | None = None,
    today: date | None = None,
    is_log: bool = True,
) -> Challenger:
    """A base from scratch, judged on the last rows in time, beside a champion if there is one.

    `answers` (held out, K) are the champion's probabilities of the `classes`. The log may bring
    any of the rows again: those of the log (`is_log`) are then known by their event ids.
    """
    training = settings.training
    if parts is None:
        parts = split(data, test_size=training.test_size, seed=training.random_seed)
    return _new_base(
        data,
        parts,
        settings,
        algorithm=algorithm,
        classes=classes,
        champion=None,
        answers=answers,
        today=today,
        known_by="event" if is_log else "content",
    )


def refit(  # noqa: PLR0913 - one model is data, split and choices
    data: Dataset,
    champion: Champion,
    settings: Settings,
    *,
    algorithm: str,
    past: Dataset | None = None,
    today: date | None = None,
) -> Challenger:
    """A new base from everything the champion has learned, judged on everything it has not.

    `data` is the whole log, `past` the training data beside it, which is learned in any case.
    """
    unseen = unseen_rows(data, champion)
    parts = without_shared_groups(
        data.groups, Split(train=np.flatnonzero(~unseen), holdout=np.flatnonzero(unseen))
    )
    if len(parts.train) < settings.training.min_training_samples:
        parts = _last_unseen(data, unseen, settings.training)
    if past is not None:
        known = np.isin(past.labels, [str(label) for label in champion.model.classes_])
        past = past.take(np.flatnonzero(known))
        parts = without_shared_groups(data.groups, parts, past.groups)
    return _new_base(
        data, parts, settings, algorithm=algorithm, champion=champion, past=past, today=today
    )


def sgd(
    data: Dataset,
    champion: Champion,
    settings: Settings,
    replay_rows: Dataset,
    *,
    today: date | None = None,
) -> Challenger:
    """Stochastic descent from the champion's coefficients on the new rows and some old ones."""
    training = settings.training
    parts = _last_unseen(data, unseen_rows(data, champion), training)
    learned = data.take(parts.train)
    random = np.random.default_rng(training.random_seed)
    count = min(training.replay_rows, len(replay_rows))
    old = replay_rows.take(np.sort(random.choice(len(replay_rows), count, replace=False)))
    features = np.vstack([learned.features, old.features])
    labels = np.concatenate([learned.labels, old.labels])
    # A class that the base has never seen has no coefficients to start from.
    known = np.isin(labels, champion.model.base_.classes_.astype(str))
    base = algorithms.fit_sgd(
        champion.model.base_,
        features[known],
        encode(labels[known], champion.model.base_.classes_),
        learning_rate=training.learning_rate,
        epochs=training.epochs,
        seed=training.random_seed,
    )
    before = champion.fitted_rows()
    return _finished(base, data, parts, champion, settings, today=today, before=before)


def errors_only(
    data: Dataset, champion: Champion, settings: Settings, *, today: date | None = None
) -> Challenger:
    """The original documents' recipe: a fresh model from the error samples alone."""
    parts = _last_unseen(data, unseen_rows(data, champion), settings.training)
    if "is_error" not in data.frame.columns:
        raise DataError(f"{data.source} has no column is_error: strategy errors_only needs it.")
    errors = _truthy(data.frame["is_error"])[parts.train]
    if not errors.any():
        raise DataError("No error sample is old enough to be learned: all are held out.")
    learned = parts.train[errors]
    base = algorithms.fit_seed_literal(
        data.features[learned], data.labels[learned], data.column_kinds
    )
    narrowed = Split(train=learned, holdout=parts.holdout)
    # The rows between the errors count as taken in: this recipe leaves them out for good.
    return _finished(base, data, narrowed, champion, settings, taken=parts.train, today=today)


def _truthy(column: pd.Series) -> NDArray[np.bool_]:
    return column.astype(str).str.lower().isin(["true", "1", "1.0"]).to_numpy()


def _last_unseen(data: Dataset, unseen: NDArray[np.bool_], training: TrainingSettings) -> Split:
    """The last unseen rows are held out, every other row is learned."""
    rows = np.flatnonzero(unseen)
    if not len(rows):
        raise DataError("The champion has learned every labelled row: none is left to judge on.")
    inner = split(data.take(rows), test_size=training.test_size, seed=training.random_seed)
    holdout = rows[inner.holdout]
    everything_else = np.setdiff1d(np.arange(len(data)), holdout)
    return without_shared_groups(data.groups, Split(train=everything_else, holdout=holdout))


def _new_base(  # noqa: PLR0913 - one model is data, split and choices
    data: Dataset,
    parts: Split,
    settings: Settings,
    *,
    algorithm: str,
    champion: Champion | None,
    classes: list[str] | None = None,
    answers: Floats | None = None,
    past: Dataset | None = None,
    today: date | None = None,
    known_by: KnownBy = "day",
) -> Challenger:
    training = settings.training
    learned = data.take(parts.train).preceded_by(past)
    if len(learned) < 2:  # noqa: PLR2004 - two classes need two rows
        raise DataError(f"{data.source}: {len(learned)} rows to train on are too few.")
    weights = fitting_weights(data.take(parts.train), training.adaptive, past)
    features, labels, kinds = learned.features, learned.labels, learned.column_kinds
    base = fitted_base(algorithm, features, labels, settings, weights=weights)
    is_fitted = algorithm != INCUMBENT_BASE
    validation = {"folds": 0}
    if is_fitted:
        validation = algorithms.cross_validate(algorithm, features, labels, training, kinds)
    return _finished(
        base,
        data,
        parts,
        champion,
        settings,
        classes=classes,
        cross_validation=validation,
        # What an incumbent answers is learned of no row: its heads may learn them all.
        taken=None if is_fitted else np.empty(0, dtype=np.int64),
        answers=answers,
        past=past,
        today=today,
        known_by=known_by,
    )


def _finished(  # noqa: PLR0913 - what a challenger is made of
    base: Any,  # noqa: ANN401 - a fitted scikit-learn classifier
    data: Dataset,
    parts: Split,
    champion: Champion | None,
    settings: Settings,
    *,
    classes: list[str] | None = None,
    cross_validation: dict[str, Any] | None = None,
    taken: NDArray[np.int64] | None = None,
    answers: Floats | None = None,
    past: Dataset | None = None,
    today: date | None = None,
    known_by: KnownBy = "day",
    before: FittedRows | None = None,
) -> Challenger:
    """A base with heads, and its evidence; its classes are the champion's unless they are named.

    `taken` are the rows that count as learned where they are more than those to train on, `before`
    those of an earlier base that it goes on from.
    """
    learned, held = data.take(parts.train).preceded_by(past), data.take(parts.holdout)
    if classes is None:
        classes = (
            class_order(data.labels.tolist(), settings.data)
            if champion is None
            else [str(label) for label in champion.model.classes_]
        )
    rows = parts.train if taken is None else taken
    counted = taken_in(data, rows if known_by == "day" else np.empty(0, dtype=np.int64), today)
    counted = replace(counted, entities=learned_entities(data.take(rows), past))
    again = past if known_by == "day" else data.take(rows)
    fitted = fitted_on(again, settings, today, by_content=known_by != "event")
    if before is not None:
        fitted = before.and_those_of(fitted)
    model = new_model(base, learned.features, classes, settings, taken=counted, fitted=fitted)
    counts = np.asarray([(learned.labels == label).sum() for label in classes], dtype=np.float64)
    evidence = evidence_on(model, held, champion, settings)
    return Challenger(
        model=model,
        evidence=evidence if answers is None else replace(evidence, champion=answers),
        rows_learned=len(learned),
        training_digest=learned.digest(),
        prior=(counts + 1) / (counts + 1).sum(),
        cross_validation=cross_validation or {},
    )


def evidence_on(
    model: AdaptiveClassifier, held: Dataset, champion: Champion | None, settings: Settings
) -> Evidence:
    """What a model, and the champion if there is one, answer for held-out rows."""
    nights = np.zeros(len(held), dtype=np.int64)
    if held.times is not None:
        nights = days_of(held.times)
    identity = held.frame.get("event_id", pd.Series(range(len(held)), index=held.frame.index))
    return Evidence(
        labels=tuple(str(label) for label in model.classes_),
        event_ids=tuple(identity.astype(str).tolist()),
        nights=nights,
        actual=encode(held.labels, model.classes_),
        challenger=model.predict_proba(held.features),
        champion=None if champion is None else champion.model.predict_proba(held.features),
        weights=label_weights(held, settings.training.adaptive),
        entities=entities_of(held),
    )
