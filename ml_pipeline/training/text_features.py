"""Rows with a text: how they travel, and the preprocessing that reads them inside a model.

Rows of numbers are an array of floats (n, d). Rows with a text are an array of objects (n, d + 1),
the text last. Either goes where the other goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets import texts
from ml_pipeline.datasets.features import Inputs
from ml_pipeline.training.encoding.columns import parts_of

MAX_TERMS = 5000


class TextStatistics(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Length, words, sentences, question words, code marks, upper-case and digit ratios."""

    # The name that saved models carry, see `AdaptiveClassifier`.
    __module__ = "ml_pipeline.text_features"

    def fit(self, X: Sequence[str], y: object = None) -> Self:  # noqa: ARG002, N803
        """Nothing is learned."""
        return self

    def transform(self, X: Sequence[str]) -> NDArray[np.float64]:  # noqa: N803
        """The statistics (n, 7) of n texts."""
        rows = [texts.statistics(text) for text in X]
        return np.asarray(rows, dtype=np.float64).reshape(-1, len(texts.STATISTICS))

    def __sklearn_is_fitted__(self) -> bool:
        return True


def text_preprocessing(rows: Inputs, kinds: Sequence[Kind] = ()) -> list[tuple[str, Any]]:
    """Pipeline steps before the classifier for rows (n, d + 1), the last column a text."""
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    terms = TfidfVectorizer(
        token_pattern=texts.WORD, ngram_range=(1, texts.LONGEST_PHRASE), max_features=MAX_TERMS
    )
    statistics = Pipeline([("count", TextStatistics()), ("scale", StandardScaler())])
    parts: list[tuple[str, Any, Any]] = [
        ("terms", terms, rows.shape[1] - 1),
        ("statistics", statistics, rows.shape[1] - 1),
        *parts_of(rows, kinds),
    ]
    # Rows stay sparse however few terms there are.
    return [("read", ColumnTransformer(parts, sparse_threshold=1.0))]


def with_plain_terms(model: Any) -> Any:  # noqa: ANN401 - a fitted pipeline
    """The same model, its terms numbered by Python's numbers.

    Each of NumPy's would become a file of the artifact.
    """
    vectors = model.named_steps["read"].named_transformers_["terms"]
    vectors.vocabulary_ = {str(term): int(place) for term, place in vectors.vocabulary_.items()}
    return model
