"""The adaptive champion: a base that never changes, and small heads that forget at set speeds.

Each head is a softmax regression on the base's log probabilities and the standardised features.
Learning one night is one penalised maximum-likelihood step around the head's last weights; the
penalty is the discounted curvature of all earlier nights, so no old rows are needed (online
Laplace approximation: Ritter, Botev, Barber 2018; discounting as in West & Harrison's dynamic
models). Base, heads and experts vote with exponential weights and a fixed share (Herbster &
Warmuth 1998).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.validation import check_is_fitted

from ml_pipeline.datasets.features import parted
from ml_pipeline.evaluation.metrics import Codes, Floats, encode
from ml_pipeline.training.heads import (
    MAX_HEAD_FEATURES,
    MAX_HEAD_PARAMETERS,
    MAX_STANDARDISED,
    MIN_PROBABILITY,
    Lesson,
    Rates,
    fit_head,
    softmax,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Expert:
    """A further voter: a classifier of its own, fitted on the rows up to `night`.

    `columns` are the places of its classes among the model's.
    """

    name: str
    model: Any
    columns: Codes
    night: int

    def proba(self, X: Any, n_classes: int) -> Floats:  # noqa: ANN401, N803
        """Probabilities (n, K) in the order of the model's classes."""
        return in_order(self.model.predict_proba(X), self.columns, n_classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """What has been learned: H heads of p features and K classes, and the experts, if any.

    `heads` (H, p, K), `precisions` (H, Kp, Kp) or None before the first night, `vote` (V,) with
    the base first, then the heads, then the experts; `last_night` the number of the night learned
    last.
    """

    heads: Floats
    precisions: Floats | None
    vote: Floats
    last_night: int | None
    experts: tuple[Expert, ...] = ()

    @classmethod
    def fresh(cls, n_features: int, n_classes: int, rates: Rates) -> Memory:
        """Every head equals the base."""
        identity = np.zeros((n_features, n_classes))
        identity[:n_classes] = np.eye(n_classes)
        count = len(rates.half_lives)
        share = rates.initial_head_weight / count
        vote = np.asarray([1 - rates.initial_head_weight, *([share] * count)])
        return cls(
            heads=np.repeat(identity[None], count, axis=0),
            precisions=None,
            vote=vote,
            last_night=None,
        )

    def opinions(self, X: Any, base: Floats, inputs: Floats) -> Floats:  # noqa: ANN401, N803
        """Probabilities (V, n, K) of the base, of each head and of each expert."""
        experts = [expert.proba(X, base.shape[1])[None] for expert in self.experts]
        return np.concatenate([base[None], softmax(inputs @ self.heads), *experts])

    def vote_on(self, opinions: Floats) -> Floats:
        """The voted probabilities (n, K)."""
        return np.asarray(np.tensordot(self.vote, opinions, axes=1), dtype=np.float64)

    def with_experts(self, experts: tuple[Expert, ...], *, weight: float) -> Memory:
        """These experts in place of the present ones.

        One of a name that has voted before keeps its vote; `weight`, in (0, 1), is shared by the
        new ones. The votes of those that are gone are dealt out to the others as they stand.
        """
        first = 1 + len(self.heads)
        votes = {e.name: v for e, v in zip(self.experts, self.vote[first:], strict=True)}
        is_new = np.asarray([*([False] * first), *(e.name not in votes for e in experts)])
        vote = np.asarray([*self.vote[:first], *(votes.get(e.name, 0.0) for e in experts)])
        vote /= vote.sum()
        if is_new.any():
            vote *= 1 - weight
            vote[is_new] = weight / is_new.sum()
        return replace(self, vote=vote, experts=experts)

    def learn(self, lesson: Lesson, night: int, rates: Rates) -> Memory:
        """The memory after one night."""
        passed = 1 if self.last_night is None else max(1, night - self.last_night)
        precisions = self.precisions
        if precisions is None:
            precisions = _first_precisions(lesson, rates)
        heads = np.empty_like(self.heads)
        curvatures = np.empty_like(precisions)
        for index, decay in enumerate(rates.decays):
            kept = decay**passed * precisions[index]
            heads[index], hessian = fit_head(self.heads[index], kept, lesson, rates)
            curvatures[index] = kept + hessian
        return Memory(
            heads=heads,
            precisions=curvatures,
            vote=self._next_vote(lesson, rates),
            last_night=night,
            experts=self.experts,
        )

    def _next_vote(self, lesson: Lesson, rates: Rates) -> Floats:
        if not lesson.fresh.any():
            return self.vote
        chosen = lesson.opinions[:, np.arange(len(lesson.actual)), lesson.actual]
        losses = -np.log(np.maximum(chosen, 1e-15)) @ (lesson.weights * lesson.fresh)
        scores = np.log(self.vote) - rates.vote_rate * losses
        vote = np.exp(scores - scores.max())
        vote /= vote.sum()
        return np.asarray((1 - rates.vote_share) * vote + rates.vote_share / len(vote))


def _first_precisions(lesson: Lesson, rates: Rates) -> Floats:
    """How firmly each head starts at the base, (H, Kp, Kp)."""
    expected = rates.rows_per_night or float(len(lesson.actual))
    scale = rates.prior_rows * expected / (1 - rates.decays)
    parameters = lesson.inputs.shape[1] * lesson.opinions.shape[2]
    return np.asarray(scale[:, None, None] * np.eye(parameters))


class AdaptiveClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted base with adaptive heads, after scikit-learn's conventions.

    Rows are floats (n, d), or objects (n, d + 1) with a text last; `n_features_in_` is d.

    Fitting trains the base; `partial_fit` learns one night. The nightly loop keeps its bookkeeping
    in `line_` (see `online_model`), so that the artifact carries its own high-water mark.
    """

    # The name that saved models carry, so that every version loads those of every other.
    __module__ = "ml_pipeline.adaptive"

    # Models that were saved before there were texts have none.
    reads_text_ = False
    text_column_: str | None = None
    # The summary of the base's inputs, see `datasets.reference`; earlier models hold none.
    reference_: Mapping[str, Any] | None = None
    # And those that were saved before there were experts none of these.
    experts_: Sequence[Mapping[str, Any]] = ()

    def __init__(self, base: Any = None, rates: Mapping[str, Any] | None = None) -> None:  # noqa: ANN401
        self.base = base
        self.rates = rates

    # scikit-learn's names for the data are X and y.
    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803
        """Fit a clone of `base` on rows and labels (n,)."""
        return self.adopt(clone(self.base).fit(X, y), X)

    def adopt(
        self,
        fitted: Any,  # noqa: ANN401
        X: ArrayLike,  # noqa: N803
        classes: Sequence[str] | None = None,
    ) -> Self:
        """Take an already fitted base; `X` are the rows it was fitted on.

        `classes` is the model's class set and order when it is wider than what the base has seen.
        """
        rows, texts = parted(np.asarray(X))
        known = [str(label) for label in fitted.classes_]
        self.base_ = fitted
        self.classes_ = np.asarray([*(classes or known)])
        self.base_columns_ = encode(np.asarray(known), self.classes_)
        self.n_features_in_ = rows.shape[1]
        self.reads_text_ = texts is not None
        self.feature_names_: list[str] = []
        self.text_column_: str | None = None
        present = np.isfinite(rows)
        count = np.maximum(present.sum(axis=0), 1)
        filled = np.where(present, rows, 0.0)
        self.mean_ = filled.sum(axis=0) / count
        spread = np.where(present, rows - self.mean_, 0.0)
        scale = np.sqrt((spread**2).sum(axis=0) / count)
        # Rounding gives a constant feature a spread of about 1e-16 of its size.
        is_constant = scale <= 1e-10 * np.maximum(np.abs(self.mean_), 1.0)
        self.scale_ = np.where(is_constant, 1.0, scale)
        self.set_memory(Memory.fresh(self._width(), len(self.classes_), self.rates_()))
        self.line_: dict[str, Any] | None = None
        return self

    def rates_(self) -> Rates:
        """The settings as a record."""
        values = dict(self.rates or {})
        if "half_lives" in values:
            values["half_lives"] = tuple(values["half_lives"])
        return Rates(**values)

    def _width(self) -> int:
        classes = len(self.classes_)
        if self.reads_text_:
            # Thousands of inputs stand behind the probabilities; a few of them would mislead.
            return classes + 1
        wide = classes + self.n_features_in_ + 1
        too_wide = wide * classes > MAX_HEAD_PARAMETERS or self.n_features_in_ > MAX_HEAD_FEATURES
        return classes + 1 if too_wide else wide

    def memory(self) -> Memory:
        """The heads that serve."""
        return Memory(
            heads=self.heads_,
            precisions=self.precisions_,
            vote=self.vote_,
            last_night=self.last_night_,
            experts=tuple(Expert(**expert) for expert in self.experts_),
        )

    def set_memory(self, memory: Memory) -> Self:
        """Serve these heads and experts."""
        self.heads_ = memory.heads
        self.precisions_ = memory.precisions
        self.vote_ = memory.vote
        self.last_night_ = memory.last_night
        # Plain parts, which an artifact may hold.
        self.experts_ = [
            {"name": e.name, "model": e.model, "columns": e.columns, "night": e.night}
            for e in memory.experts
        ]
        return self

    def base_proba(self, X: ArrayLike) -> Floats:  # noqa: N803
        """Probabilities (n, K) of the base alone."""
        check_is_fitted(self, "base_")
        if not len(np.asarray(X)):
            return np.empty((0, len(self.classes_)))
        return in_order(self.base_.predict_proba(X), self.base_columns_, len(self.classes_))

    def head_inputs(self, X: ArrayLike, base: Floats) -> Floats:  # noqa: N803
        """What the heads see of the rows: (n, p)."""
        logs = np.log(np.clip(base, MIN_PROBABILITY, 1.0))
        centred = logs - logs.mean(axis=1, keepdims=True)
        ones = np.ones((len(base), 1))
        if self.heads_.shape[1] == len(self.classes_) + 1:
            return np.hstack([centred, ones])
        standardised = (np.asarray(X, dtype=np.float64) - self.mean_) / self.scale_
        standardised = np.where(np.isfinite(standardised), standardised, 0.0)
        clipped = np.clip(standardised, -MAX_STANDARDISED, MAX_STANDARDISED)
        return np.hstack([centred, clipped, ones])

    def predict_proba(self, X: ArrayLike) -> Floats:  # noqa: N803
        """Probabilities (n, K) in the order of `classes_`."""
        base = self.base_proba(X)
        memory = self.memory()
        if not len(base):
            return base
        return memory.vote_on(memory.opinions(X, base, self.head_inputs(X, base)))

    def predict(self, X: ArrayLike) -> NDArray[np.str_]:  # noqa: N803
        """The most probable label of each row."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def partial_fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803
        """Learn one night's rows. Raises DataError for a label the base does not know."""
        base = self.base_proba(X)
        inputs = self.head_inputs(X, base)
        memory = self.memory()
        actual = encode(np.asarray(y), self.classes_)
        lesson = Lesson(
            inputs=inputs,
            actual=actual,
            weights=np.ones(len(actual)),
            opinions=memory.opinions(X, base, inputs),
        )
        night = 1 if memory.last_night is None else memory.last_night + 1
        return self.set_memory(memory.learn(lesson, night, self.rates_()))


def in_order(known: Any, columns: Codes, n_classes: int) -> Floats:  # noqa: ANN401
    """A classifier's probabilities (n, k) in the order of the K >= k classes of a model.

    A class that the classifier has never seen is improbable, not impossible: the heads may learn
    it.
    """
    shares = np.asarray(known, dtype=np.float64)
    wide = np.full((len(shares), n_classes), MIN_PROBABILITY)
    wide[:, columns] = shares
    if len(columns) == n_classes:
        return wide
    return np.asarray(wide / wide.sum(axis=1, keepdims=True), dtype=np.float64)
