"""What heads see of a text: the first components of its terms, and its statistics.

The components are those of the rows of the base (truncated SVD of the TF-IDF weights of the terms
that weigh most in them), found without labels. They are kept by the names of their terms, so that
they mean the same on another base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ml_pipeline.datasets import texts
from ml_pipeline.datasets.features import Inputs, parted
from ml_pipeline.evaluation.metrics import Floats

# Of the up to 5,000 terms of a base; more say next to nothing, and each is 24 numbers.
MOST_TERMS: Final = 1000
COMPONENTS: Final = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class TextComponents:
    """`terms` t, one a line; `loadings` (t, c) make c components of their TF-IDF weights."""

    terms: str
    loadings: Floats

    @classmethod
    def fitted(cls, base: Any, rows: Inputs) -> TextComponents | None:  # noqa: ANN401
        """Of rows with a text and a base that reads it; None where there is nothing to find."""
        vectorizer = _vectorizer(base)
        _, found = parted(rows)
        if vectorizer is None or found is None:
            return None
        weights = vectorizer.transform(found)
        sizes = np.asarray(weights.multiply(weights).sum(axis=0)).ravel()
        kept = np.sort(np.argsort(-sizes, kind="stable")[:MOST_TERMS])
        loadings = _directions((weights[:, kept].T @ weights[:, kept]).toarray())
        if not loadings.size:
            return None
        names = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
        return cls(terms="\n".join(names[place] for place in kept), loadings=loadings)

    def of(self, base: Any, rows: Inputs) -> Floats:  # noqa: ANN401
        """Components and statistics (n, c + 7) of rows with a text."""
        _, found = parted(rows)
        vectorizer = _vectorizer(base)
        counted = [texts.statistics(text) for text in found or ()]
        statistics = np.asarray(counted, dtype=np.float64).reshape(-1, len(texts.STATISTICS))
        if vectorizer is None or not len(statistics):
            return np.zeros((len(statistics), self.loadings.shape[1] + len(texts.STATISTICS)))
        places = [vectorizer.vocabulary_.get(term) for term in self.terms.split("\n")]
        there = np.asarray([place is not None for place in places])
        known = [place for place in places if place is not None]
        weights = vectorizer.transform(found)[:, known]
        return np.hstack([np.asarray(weights @ self.loadings[there]), statistics])


def _directions(products: Floats) -> Floats:
    """The right singular vectors (t, c) of weights (n, t), from their products (t, t).

    The largest part of each is positive, so that they are the same on every machine.
    """
    from scipy.linalg import eigh

    count = len(products)
    sizes, vectors = eigh(products, subset_by_index=[max(count - COMPONENTS, 0), count - 1])
    found = vectors[:, sizes > 1e-9 * max(sizes[-1], 1e-9)][:, ::-1]
    largest = np.abs(found).argmax(axis=0)
    return np.asarray(found * np.sign(found[largest, np.arange(found.shape[1])]))


def text_components(terms: str, loadings: Floats | None) -> TextComponents | None:
    """As a model keeps them."""
    return None if loadings is None else TextComponents(terms=terms, loadings=loadings)


def _vectorizer(base: Any) -> Any | None:  # noqa: ANN401
    read = getattr(base, "named_steps", {}).get("read")
    names: Sequence[str] = [name for name, *_ in getattr(read, "transformers_", ())]
    return read.named_transformers_["terms"] if read is not None and "terms" in names else None
