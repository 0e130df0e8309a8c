"""What stands before every classifier for columns of numbers."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

# Standard deviations. A unit that is wrong for a night then costs a quarter as much, and rows as
# they should be lose nothing.
FARTHEST = 5.0


class Clip(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Numbers within `-farthest` and `farthest`."""

    # The name that saved models carry, see `AdaptiveClassifier`.
    __module__ = "ml_pipeline.preprocessing"

    def __init__(self, farthest: float = FARTHEST) -> None:
        self.farthest = farthest

    def fit(self, X: NDArray[np.float64], y: object = None) -> Self:  # noqa: ARG002, N803
        """Nothing is learned."""
        return self

    def transform(self, X: NDArray[np.float64]) -> NDArray[np.float64]:  # noqa: N803
        """The same shape (n, d)."""
        return np.clip(X, -self.farthest, self.farthest)

    def __sklearn_is_fitted__(self) -> bool:
        return True


def preprocessing() -> list[tuple[str, Any]]:
    """Pipeline steps before the classifier: fill in medians, standardise, clip."""
    return [
        ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
        ("scale", StandardScaler()),
        ("clip", Clip()),
    ]
