"""What a backtest compares: ways to serve predictions and to learn from each night.

The online model, its ledger and the gate are the loop's own code; only the clock is simulated.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.config.kind import Kind
from ml_pipeline.config.sections import FULL_EXPERTS
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.entities import Entities, remembered
from ml_pipeline.datasets.features import Inputs
from ml_pipeline.evaluation.checks import sequence_bounds
from ml_pipeline.evaluation.gate import judge_online, judge_shadow, rules_of
from ml_pipeline.evaluation.ledger import champion_record, online_record
from ml_pipeline.evaluation.metrics import Floats, encode
from ml_pipeline.store.records import Outcome
from ml_pipeline.training import algorithms
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.brought.incumbent import fitted_base
from ml_pipeline.training.encoding.columns import takes_numbers
from ml_pipeline.training.heads.memory import Memory
from ml_pipeline.training.online.experts import KnownRows, fit_experts, refreshed
from ml_pipeline.training.online.rows import Rows
from ml_pipeline.training.online_model import Incumbent, OnlineState, take_day, take_night
from ml_pipeline.training.strategies import new_model

REFIT_EVERY = 30
POLICIES = ("frozen", "seed", "refit", "adaptive")
ANCHOR = "anchor"
# Beside them, on request: they fit bases again and again.
SLOW_POLICIES = ("challengers", "experts")


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """Labelled rows in the order of their nights; the first `initial` train the base.

    `kinds` are those of the features by name, in their order; without them all are numbers.
    `nights` (n,) are the days on which the labels became known, `predicted` (n,) those of the
    predictions, by default the same.
    `entities` (n,) say which rows belong together, as `entities.entities_of` does, `weights` (n,)
    for how many answers each stands; by default each for itself.
    """

    features: Inputs
    labels: NDArray[np.str_]
    nights: NDArray[np.int64]
    classes: list[str]
    names: list[str]
    initial: int
    predicted: NDArray[np.int64] | None = None
    entities: Entities | None = None
    weights: Floats | None = None
    kinds: Mapping[str, Kind] = field(default_factory=dict)

    def rows(self, model: AdaptiveClassifier) -> Rows:
        """The rows after the initial ones."""
        count = len(self.labels) - self.initial
        return Rows(
            features=self.features[self.initial :],
            base=model.base_proba(self.features[self.initial :]),
            actual=encode(self.labels[self.initial :], model.classes_),
            weights=self._weighed()[self.initial :],
            event_ids=tuple(f"{number:09d}" for number in range(count)),
            entities=self._numbered()[self.initial :],
            predicted=(self.nights if self.predicted is None else self.predicted)[self.initial :],
        )

    def start(self, model: AdaptiveClassifier) -> OnlineState:
        """The state of a model whose base has learned the initial rows."""
        fresh = OnlineState.fresh(model)
        return replace(fresh, entities=remembered(fresh.entities, self._numbered()[: self.initial]))

    def initial_weights(self) -> Floats:
        """For how many answers each initial row stands."""
        return self._weighed()[: self.initial]

    def _numbered(self) -> Entities:
        none = np.zeros(len(self.labels), dtype=np.uint32)
        return none if self.entities is None else self.entities

    def _weighed(self) -> Floats:
        return np.ones(len(self.labels)) if self.weights is None else self.weights

    def known(self, model: AdaptiveClassifier) -> KnownRows:
        """Every row, the initial ones included."""
        return KnownRows(
            nights=self.nights,
            features=self.features,
            actual=encode(self.labels, model.classes_),
            weights=self._weighed(),
            classes=model.classes_,
            kinds=tuple(self.kinds.values()),
        )


class Policy(Protocol):
    """Something that serves predictions and learns each night afterwards."""

    promotions: int

    def predict(self, rows: Rows) -> Floats:
        """Probabilities (n, K) served for the night's rows."""
        ...

    def learn(self, night: int, rows: Rows) -> None:
        """See the labels that became known on that night."""
        ...


@dataclass(kw_only=True, slots=True)
class Frozen:
    """The base, for ever."""

    promotions: int = 0

    def predict(self, rows: Rows) -> Floats:
        """The base's probabilities."""
        return rows.base

    def learn(self, night: int, rows: Rows) -> None:
        """Nothing."""


@dataclass(kw_only=True, slots=True)
class Adaptive:
    """The loop's own online model behind the loop's own gate."""

    model: AdaptiveClassifier
    settings: Settings
    state: OnlineState
    served: Memory
    known: KnownRows
    served_id: str = ANCHOR
    promotions: int = 0

    def predict(self, rows: Rows) -> Floats:
        """The promoted state's probabilities."""
        seen = self.model.seen(rows.features, rows.base)
        return self.served.vote_on(self.served.opinions(seen))

    def learn(self, night: int, rows: Rows) -> None:
        """Score, learn, judge; then serve what the gate lets serve."""
        incumbent = Incumbent(model_id=self.served_id, memory=self.served)
        self.state, _ = take_night(
            self.model,
            take_day(self.state, night, rows),
            night,
            incumbent,
            self.settings.training.adaptive,
        )
        self.state = refreshed(self.state, self.known, self.settings.training)
        record = online_record(
            self.state.ledger,
            self.state.champions,
            champion_id=self.served_id,
            today=night,
            window_days=self.settings.promotion.evaluation_window_days,
        )
        decision = judge_online(record, None, self.settings.promotion)
        if decision.outcome is Outcome.PROMOTED:
            self.served, self.served_id = self.state.memory, f"night {night}"
            self.promotions += 1
        elif rules_of(self.settings.promotion).steps_back:
            self.served, self.served_id = OnlineState.fresh(self.model).memory, ANCHOR


@dataclass(kw_only=True, slots=True)
class Shadow:
    """A new base with an online state of its own, which learns beside the champion's.

    `outcome` is the last night's decision, None for none yet, `surely` the lower bound of its gain.
    """

    name: str
    model: AdaptiveClassifier
    state: OnlineState
    outcome: Outcome | None = None
    surely: float = 0.0


@dataclass(kw_only=True, slots=True)
class Challengers(Adaptive):
    """The loop with new bases: refitted every so many nights and judged in the shadow."""

    history: list[tuple[Floats, NDArray[np.str_]]] = field(default_factory=list)
    shadows: list[Shadow] = field(default_factory=list)
    since_refit: int = 0
    compared_from: int | None = None

    def predict(self, rows: Rows) -> Floats:
        """The promoted state's probabilities."""
        return Adaptive.predict(self, rows.on_base(self.model))

    def learn(self, night: int, rows: Rows) -> None:
        """The model's night; then the shadows', which are judged against what was served.

        One is promoted at most; the others are compared with it from the next night on.
        """
        served = copy(self.model).set_memory(self.served)
        Adaptive.learn(self, night, rows.on_base(self.model))
        self.history.append((rows.features, self.model.classes_[rows.actual]))
        for shadow in self.shadows:
            self._take_on(shadow, night, rows, served)
        better = [one for one in self.shadows if one.outcome is Outcome.PROMOTED]
        best = max(better, key=lambda one: one.surely, default=None)
        self.shadows = [
            one for one in self.shadows if one is not best and one.outcome is not Outcome.REJECTED
        ]
        if best is not None:
            self.model, self.state = best.model, best.state
            self.served, self.served_id = best.state.memory, best.name
            self.compared_from = night + 1
            self.promotions += 1
        self.since_refit += 1
        if self.since_refit >= (self.settings.training.refit_every_days or REFIT_EVERY):
            self._refit(night)

    def _take_on(self, shadow: Shadow, night: int, rows: Rows, served: AdaptiveClassifier) -> None:
        incumbent = Incumbent(
            model_id=self.served_id,
            memory=self.served,
            model=served,
            compared_from=self.compared_from,
        )
        shadow.state, _ = take_night(
            shadow.model,
            take_day(shadow.state, night, rows.on_base(shadow.model)),
            night,
            incumbent,
            self.settings.training.adaptive,
            quarantine=False,
        )
        record = champion_record(
            shadow.state.ledger,
            shadow.state.wealth,
            today=night,
            window_days=self.settings.promotion.evaluation_window_days,
            compared_from=self.compared_from,
        )
        decision = judge_shadow(record, self.settings.promotion)
        shadow.outcome = None if decision is None else decision.outcome
        shadow.surely = sequence_bounds(record.everything, self.settings.promotion).lower

    def _refit(self, night: int) -> None:
        """A new base twice: with fresh heads, and with the heads that serve."""
        self.since_refit = 0
        features = np.vstack([features for features, _ in self.history])
        labels = np.concatenate([labels for _, labels in self.history])
        training = self.settings.training
        base = fitted_base(training.algorithm, features, labels, self.settings)
        model = as_model(base, features, list(self.model.classes_), self.settings)
        bases = {"fresh": model}
        if takes_numbers(base):
            serving = copy(self.model).set_memory(self.state.memory)
            bases["carried"] = copy(model).take_heads_of(serving)
        for name, born in bases.items():
            state = replace(OnlineState.fresh(born), memory=born.memory())
            self.shadows.append(Shadow(name=f"{name} {night}", model=born, state=state))


@dataclass(kw_only=True, slots=True)
class Refit:
    """A new base every night, from everything seen so far."""

    model: AdaptiveClassifier
    settings: Settings
    algorithm: str
    features: list[Inputs]
    labels: list[NDArray[np.str_]]
    weights: list[Floats]
    promotions: int = 0

    def predict(self, rows: Rows) -> Floats:
        """The latest base's probabilities."""
        return self.model.base_proba(rows.features)

    def learn(self, night: int, rows: Rows) -> None:  # noqa: ARG002 - the protocol's
        """Fit again on all rows, by their weights where they differ."""
        self.features.append(rows.features)
        self.labels.append(self.model.classes_[rows.actual])
        self.weights.append(rows.weights)
        features, labels = np.vstack(self.features), np.concatenate(self.labels)
        weights = np.concatenate(self.weights)
        base = fitted_base(
            self.algorithm,
            features,
            labels,
            self.settings,
            weights=None if (weights == 1).all() else weights,
        )
        self.model = as_model(base, features, list(self.model.classes_), self.settings)
        self.promotions += 1


@dataclass(kw_only=True, slots=True)
class Seed:
    """The original documents' recipe: a fresh model from the last week's confident errors."""

    model: AdaptiveClassifier
    settings: Settings
    errors: list[tuple[int, Rows]] = field(default_factory=list)
    promotions: int = 0

    def predict(self, rows: Rows) -> Floats:
        """The latest model's probabilities."""
        return self.model.base_proba(rows.features)

    def learn(self, night: int, rows: Rows) -> None:
        """Collect the night's confident errors; with enough of them, train on nothing else."""
        run, probabilities = self.settings.run, self.predict(rows)
        wrong = probabilities.argmax(axis=1) != rows.actual
        wrong &= probabilities.max(axis=1) > run.confidence_threshold
        self.errors = [e for e in self.errors if e[0] > night - run.lookback_days]
        self.errors.append((night, rows.take(np.flatnonzero(wrong))))
        features = np.vstack([e.features for _, e in self.errors])
        labels = self.model.classes_[np.concatenate([e.actual for _, e in self.errors])]
        if len(labels) < max(1, run.min_error_samples) or len(set(labels)) < 2:  # noqa: PLR2004
            return
        base = algorithms.fit_seed_literal(features, labels, self.settings.data.column_kinds)
        self.model = as_model(base, features, list(self.model.classes_), self.settings)
        self.errors = []
        self.promotions += 1


def as_model(
    base: Any,  # noqa: ANN401
    features: Inputs,
    classes: list[Any],
    settings: Settings,
) -> AdaptiveClassifier:
    """A base, fitted on the features, as the model that the loop serves."""
    return new_model(base, features, [str(label) for label in classes], settings)


def build_policy(
    name: str, model: AdaptiveClassifier, history: History, settings: Settings
) -> Policy:
    """A policy by name, all starting from the same base."""
    if name == "frozen":
        return Frozen()
    if name == "seed":
        return Seed(model=model, settings=settings)
    if name == "refit":
        return Refit(
            model=model,
            settings=settings,
            algorithm=settings.training.algorithm,
            features=[history.features[: history.initial]],
            labels=[history.labels[: history.initial]],
            weights=[history.initial_weights()],
        )
    if name == "challengers":
        start = (history.features[: history.initial], history.labels[: history.initial])
        return Challengers(
            model=model,
            settings=_without_experts(settings),
            state=history.start(model),
            served=OnlineState.fresh(model).memory,
            known=history.known(model),
            history=[start],
        )
    if name == "experts":
        chosen = list(settings.training.experts or FULL_EXPERTS)
        return _adaptive(model, history, settings.changed({"training.experts": chosen}))
    return _adaptive(model, history, _without_experts(settings))


def _without_experts(settings: Settings) -> Settings:
    return settings.changed({"training.experts": [], "training.preset": "light"})


def _adaptive(model: AdaptiveClassifier, history: History, settings: Settings) -> Adaptive:
    """The loop from its first night on, with the experts that the settings name."""
    known, last = history.known(model), int(history.nights[history.initial - 1])
    start = history.features[: history.initial]
    hearing = as_model(model.base_, start, list(model.classes_), settings)
    state = history.start(hearing)
    experts = fit_experts(
        known.first(history.initial), last, settings.training, settings.training.experts_in_use
    )
    if experts:
        weight = settings.training.adaptive.initial_head_weight
        state = state.with_experts(experts, weight=weight)
    return Adaptive(
        model=hearing, settings=settings, state=state, served=OnlineState.fresh(hearing).memory,
        known=known,
    )  # fmt: skip
