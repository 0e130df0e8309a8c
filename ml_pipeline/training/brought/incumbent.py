"""The base that answers what a classifier answered that is not ours: heads correct it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from ml_pipeline.config.defaults import INCUMBENT_BASE
from ml_pipeline.config.kind import Kind
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.features import Inputs, parted
from ml_pipeline.store.inputs.incumbent_columns import classes_read
from ml_pipeline.training import algorithms
from ml_pipeline.training.encoding.columns import MEANS, READ, are_numbers, parts_of

Floats = NDArray[np.float64]


class IncumbentClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Answers with the last numbers of a row, one for each class, which the row brings along.

    Nothing is learned of labels. `read_` prepares features of other kinds than numbers for the
    heads, None where there are none or a text is read.
    """

    # The name that saved models carry, see `AdaptiveClassifier`.
    __module__ = "ml_pipeline.incumbent"

    def __init__(self, labels: Sequence[str] = (), kinds: Sequence[Kind] = ()) -> None:
        self.labels = labels
        self.kinds = kinds

    # scikit-learn's names for the data are X and y.
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:  # noqa: ARG002, N803
        """Take the classes, and the levels of features that are no numbers."""
        numbers, texts = parted(np.asarray(X))
        self.classes_ = np.asarray(list(self.labels))
        self.n_features_in_ = numbers.shape[1]
        self.read_ = None
        kinds = list(self.kinds)[: numbers.shape[1] - len(self.classes_)]
        if texts is None and not are_numbers(kinds):
            from sklearn.compose import ColumnTransformer

            own = self.own_numbers(numbers)
            # What says how often a level was which class would be learned of labels.
            parts = [part for part in parts_of(own, kinds) if part[0] != MEANS]
            self.read_ = ColumnTransformer(parts).fit(own)
        # What is kept is plain.
        self.labels, self.kinds = [], []
        return self

    def own_numbers(self, numbers: Floats) -> Floats:
        """The columns of rows (n, d) without those of the incumbent."""
        return numbers[:, : numbers.shape[1] - len(self.classes_)]

    @property
    def named_steps(self) -> dict[str, Any]:
        """The preparation of its features, as a Pipeline names its own."""
        return {} if self.read_ is None else {READ: self.read_}

    def predict_proba(self, X: ArrayLike) -> Floats:  # noqa: N803
        """The incumbent's probabilities (n, K)."""
        numbers, _ = parted(np.asarray(X))
        shares = np.clip(numbers[:, -len(self.classes_) :], 0.0, None)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def predict(self, X: ArrayLike) -> NDArray[np.str_]:  # noqa: N803
        """The incumbent's most probable label."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


def fitted_base(
    algorithm: str,
    features: Inputs,
    labels: NDArray[Any],
    settings: Settings,
    *,
    weights: Floats | None = None,
) -> Any:  # noqa: ANN401 - a fitted classifier
    """A base of that algorithm on rows as `settings.data` has them; see `algorithms.fit`.

    Of the incumbent the settings' last features are the probabilities.
    """
    kinds = settings.data.column_kinds
    if algorithm == INCUMBENT_BASE:
        classes = classes_read(settings.data.features)
        return IncumbentClassifier(classes, kinds).fit(features)
    training = settings.training
    return algorithms.fit(algorithm, features, labels, training, weights=weights, kinds=kinds)
