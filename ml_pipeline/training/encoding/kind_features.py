"""Transformers for levels and instants; what they learn are plain arrays, which any code can read.

Their input are the numbers that stand for cells, see `store.inputs.cells`.
"""

from __future__ import annotations

from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin

Floats = NDArray[np.float64]

# The name that saved models carry, see `AdaptiveClassifier`.
MODULE: Final = "ml_pipeline.kind_features"
# Of more levels none is a column of its own.
MOST_COLUMNS: Final = 50
# Levels of fewer rows share one column: a hundredth of the rows, within these bounds.
FEWEST_ROWS: Final = (2, 10)
# How many rows the overall frequencies count for beside a level's own.
PRIOR_ROWS: Final = 10.0
FOLDS: Final = 5
# A level seen once says nothing that its prior would leave; so many others are kept.
MOST_LEVELS: Final = 10_000
_DAY: Final = 86_400.0
_HOUR: Final = 3_600.0
# 1970 began on a Thursday.
_FIRST_WEEKDAY: Final = 3.0


def _columns(X: ArrayLike) -> Floats:  # noqa: N803 - scikit-learn's name
    rows = np.asarray(X, dtype=np.float64)
    return rows.reshape(len(rows), -1)


def levels_in(column: Floats) -> int:
    """How many different levels a column (n,) has."""
    return len(np.unique(column[~np.isnan(column)]))


class Levels(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """One-hot: a column for each frequent level, one for missing cells, one for all other levels.

    The last two only where the training rows have such cells; a level that they did not have is
    one of the others, or of none.
    """

    __module__ = MODULE

    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: ARG002, N803
        """Find the frequent levels of each column; `levels_` are sorted."""
        rows = _columns(X)
        least, most = FEWEST_ROWS
        fewest = min(max(len(rows) // 100, least), most)
        self.levels_: list[Floats] = []
        flags = []
        for column in rows.T:
            missing = np.isnan(column)
            found, counts = np.unique(column[~missing], return_counts=True)
            common = np.argsort(-counts, kind="stable")[:MOST_COLUMNS]
            kept = np.sort(found[common[counts[common] >= fewest]])
            self.levels_.append(kept)
            flags.append([float(missing.any()), float(len(kept) < len(found))])
        # Whether there is a column for missing cells, and one for the other levels.
        self.also_ = np.asarray(flags, dtype=np.float64).reshape(-1, 2)
        return self

    def transform(self, X: ArrayLike) -> Floats:  # noqa: N803
        """The columns (n, m), each 0 or 1."""
        rows = _columns(X)
        parts = [
            _one_hot(column, known, has_missing=bool(also[0]), has_others=bool(also[1]))
            for column, known, also in zip(rows.T, self.levels_, self.also_, strict=True)
        ]
        return np.hstack(parts) if parts else np.empty((len(rows), 0))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "levels_")


def _one_hot(column: Floats, known: Floats, *, has_missing: bool, has_others: bool) -> Floats:
    wide = np.zeros((len(column), len(known) + has_missing + has_others))
    missing = np.isnan(column)
    places, is_known = _places(column, known)
    rows = np.arange(len(column))
    wide[rows[is_known], places[is_known]] = 1.0
    if has_missing:
        wide[missing, len(known)] = 1.0
    if has_others:
        is_other = ~is_known & ~(missing & has_missing)
        wide[is_other, -1] = 1.0
    return wide


def _places(column: Floats, known: Floats) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each value stands among sorted ones, and whether it does."""
    if not len(known):
        nowhere = np.zeros(len(column), dtype=np.int64)
        return nowhere, np.zeros(len(column), dtype=bool)
    places = np.minimum(np.searchsorted(known, column), len(known) - 1)
    return places, known[places] == column


class LevelMeans(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Target encoding: what a level adds to the log odds of each class, shrunk towards nothing.

    For level l and class k: log((n_lk + m p_k) / (n_l + m)) - log p_k, of two classes the second
    against the first; m is PRIOR_ROWS (an m-estimate, Micci-Barreca 2001). A level that was not
    seen twice adds 0. In training a row's own label is not among those that encode it (FOLDS-fold
    cross fitting), or the classifier would trust levels that it knows by heart.
    """

    __module__ = MODULE

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803
        """Learn the levels of each column; `levels_` are sorted, a missing one last."""
        rows, labels = _columns(X), np.asarray(y)
        self.classes_ = np.unique(labels)
        codes = np.searchsorted(self.classes_, labels)
        self.levels_: list[Floats] = []
        self.values_: list[Floats] = []
        for column in rows.T:
            levels, values = _evidence(column, codes, len(self.classes_))
            self.levels_.append(levels)
            self.values_.append(values)
        return self

    def fit_transform(self, X: ArrayLike, y: ArrayLike, **_: Any) -> Floats:  # noqa: ANN401, N803
        """Learn, and encode each row by the other folds alone."""
        rows, labels = _columns(X), np.asarray(y)
        self.fit(rows, labels)
        folds = np.random.default_rng(0).permutation(len(rows)) % FOLDS
        codes, classes = np.searchsorted(self.classes_, labels), len(self.classes_)
        encoded = np.zeros((len(rows), rows.shape[1] * _width(classes)))
        for fold in range(FOLDS):
            inside = folds == fold
            parts = [
                _encoded(column[inside], *_evidence(column[~inside], codes[~inside], classes))
                for column in rows.T
            ]
            encoded[inside] = np.hstack(parts)
        return encoded

    def transform(self, X: ArrayLike) -> Floats:  # noqa: N803
        """The evidence (n, columns · classes; of two classes one each)."""
        rows = _columns(X)
        learned = zip(rows.T, self.levels_, self.values_, strict=True)
        return np.hstack([_encoded(column, known, values) for column, known, values in learned])

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "levels_")


def _width(classes: int) -> int:
    return 1 if classes == 2 else classes  # noqa: PLR2004 - the second against the first


def _evidence(column: Floats, codes: NDArray[np.int64], classes: int) -> tuple[Floats, Floats]:
    """The levels of more than one row, sorted, and what each adds, (levels, width)."""
    found, places = np.unique(column, return_inverse=True)
    counts = np.zeros((len(found), classes))
    np.add.at(counts, (places, codes), 1.0)
    prior = (np.bincount(codes, minlength=classes) + 1.0) / (len(codes) + classes)
    total = counts.sum(axis=1)
    common = np.argsort(-total, kind="stable")[:MOST_LEVELS]
    kept = np.sort(common[total[common] > 1])
    shares = (counts[kept] + PRIOR_ROWS * prior) / (total[kept, None] + PRIOR_ROWS)
    added = np.log(shares) - np.log(prior)
    if classes == 2:  # noqa: PLR2004
        added = added[:, 1:] - added[:, :1]
    return found[kept], added


def _encoded(column: Floats, known: Floats, values: Floats) -> Floats:
    # NaN sorts last and equals nothing: the missing level.
    has_missing = len(known) > 0 and bool(np.isnan(known[-1]))
    named = known[:-1] if has_missing else known
    places, is_known = _places(column, named)
    encoded = np.zeros((len(column), values.shape[1]))
    encoded[is_known] = values[places[is_known]]
    if has_missing:
        encoded[np.isnan(column)] = values[-1]
    return encoded


class MomentParts(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Of each instant in seconds since 1970 the hour of the day, the weekday and the day, in UTC.

    The hour is in [0, 24) with its fraction, Monday is 0, the day counts since 1970.
    """

    __module__ = MODULE

    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: ARG002, N803
        """Nothing is learned."""
        return self

    def transform(self, X: ArrayLike) -> Floats:  # noqa: N803
        """The parts (n, 3 · columns)."""
        rows = _columns(X)
        days = rows / _DAY
        parts = np.stack(
            [(rows % _DAY) / _HOUR, (np.floor(days) + _FIRST_WEEKDAY) % 7, days], axis=2
        )
        return parts.reshape(len(rows), -1)

    def __sklearn_is_fitted__(self) -> bool:
        return True
