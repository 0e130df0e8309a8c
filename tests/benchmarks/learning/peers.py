"""Other people's learners as policies: each predicts a night and then sees its labels.

They start from the same initial rows, have one thread, and their probabilities get the floor that
a base's get, so that a log loss is not made of a few zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from ml_pipeline.evaluation.metrics import Codes, Floats, encode
from ml_pipeline.training.heads.inputs import MIN_PROBABILITY
from ml_pipeline.training.online.rows import Rows
from ml_pipeline.training.policies import History, Policy

EVERY_NIGHTS = 7
HALF_LIFE_NIGHTS = 60.0
# The policy's name, and the package that it needs.
PEERS = {"lightgbm": "lightgbm", "xgboost": "xgboost", "forest": "river"}


def missing(name: str) -> str | None:
    """The package that a peer lacks."""
    package = PEERS.get(name)
    return package if package is not None and find_spec(package) is None else None


def build(name: str, history: History, seed: int) -> Policy:
    """A peer that has learned the initial rows."""
    if name == "forest":
        return Forest.started(history, seed)
    return Boosted.started({"lightgbm": _lightgbm, "xgboost": _xgboost}[name], history, seed)


def _lightgbm(seed: int) -> Any:  # noqa: ANN401 - it comes without types
    from lightgbm import LGBMClassifier

    return LGBMClassifier(
        learning_rate=0.05, num_leaves=15, random_state=seed, n_jobs=1, verbosity=-1
    )


def _xgboost(seed: int) -> Any:  # noqa: ANN401 - it comes without types
    from xgboost import XGBClassifier

    return XGBClassifier(learning_rate=0.1, max_depth=4, random_state=seed, n_jobs=1)


def _floored(shares: Floats) -> Floats:
    clipped = np.maximum(shares, MIN_PROBABILITY)
    return np.asarray(clipped / clipped.sum(axis=1, keepdims=True), dtype=np.float64)


@dataclass(kw_only=True, slots=True)
class Boosted:
    """Boosted trees, fitted anew every week on every labelled row; older rows weigh less."""

    make: Callable[[int], Any]
    seed: int
    classes: int
    features: list[Floats]
    actual: list[Codes]
    nights: list[Codes]
    weights: list[Floats]
    last_fit: int
    model: Any = None
    promotions: int = 0

    @classmethod
    def started(cls, make: Callable[[int], Any], history: History, seed: int) -> Boosted:
        """Fitted on the initial rows."""
        first = slice(0, history.initial)
        policy = cls(
            make=make,
            seed=seed,
            classes=len(history.classes),
            features=[np.asarray(history.features[first], dtype=np.float64)],
            actual=[encode(history.labels[first], np.asarray(history.classes))],
            nights=[history.nights[first]],
            weights=[np.ones(history.initial)],
            last_fit=int(history.nights[history.initial - 1]),
        )
        policy._fit(policy.last_fit)
        return policy

    def predict(self, rows: Rows) -> Floats:
        """The latest model's probabilities."""
        shares = np.zeros((len(rows), self.classes))
        shares[:, self.model.classes_] = self.model.predict_proba(rows.features)
        return _floored(shares)

    def learn(self, night: int, rows: Rows) -> None:
        """Keep the rows; fit again when a week has passed."""
        self.features.append(rows.features)
        self.actual.append(rows.actual)
        self.nights.append(rows.predicted)
        self.weights.append(rows.weights)
        if night - self.last_fit >= EVERY_NIGHTS:
            self._fit(night)
            self.promotions += 1

    def _fit(self, night: int) -> None:
        ages = night - np.concatenate(self.nights)
        weights = np.concatenate(self.weights) * 0.5 ** (ages / HALF_LIFE_NIGHTS)
        self.model = self.make(self.seed).fit(
            np.vstack(self.features), np.concatenate(self.actual), sample_weight=weights
        )
        self.last_fit = night


@dataclass(kw_only=True, slots=True)
class Forest:
    """river's AdaptiveRandomForest, which learns row by row."""

    model: Any
    classes: int
    promotions: int = 0

    @classmethod
    def started(cls, history: History, seed: int) -> Forest:
        """With the initial rows learned."""
        from river.forest import ARFClassifier

        policy = cls(model=ARFClassifier(seed=seed), classes=len(history.classes))
        rows = np.asarray(history.features[: history.initial], dtype=np.float64)
        actual = encode(history.labels[: history.initial], np.asarray(history.classes))
        policy._learn(rows, actual, np.ones(history.initial))
        return policy

    def predict(self, rows: Rows) -> Floats:
        """Its probabilities, and those of an even vote where it has none."""
        shares = np.zeros((len(rows), self.classes))
        for place, row in enumerate(rows.features.tolist()):
            for code, share in self.model.predict_proba_one(dict(enumerate(row))).items():
                shares[place, code] = share
        return _floored(shares)

    def learn(self, night: int, rows: Rows) -> None:  # noqa: ARG002 - the protocol's
        """Row by row."""
        self._learn(rows.features, rows.actual, rows.weights)

    def _learn(self, features: Floats, actual: Codes, weights: Floats) -> None:
        for row, code, weight in zip(
            features.tolist(), actual.tolist(), weights.tolist(), strict=True
        ):
            self.model.learn_one(dict(enumerate(row)), code, w=weight)
