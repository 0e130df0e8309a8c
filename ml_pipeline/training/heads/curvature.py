"""How firmly a head holds its weights, as a matrix that learning adds to and forgets.

A head of p inputs and C columns has Cp weights, and its curvature is a whole matrix (Cp, Cp); or,
where that would cost more than it can learn, a short form (p² + C + 2,), in which all columns share
one matrix (Kronecker-factored curvature: Martens & Grosse 2015). It holds

    the second moments A of the inputs (p, p) · a share sₖ for each column · weight n · prior π

and means, for the column k, `sₖ/n A + π U`. U is the block of the unit precision, `sₖ` the sum of
`w pₖ(1 - pₖ)`, or how undecided the rows are about the class. Short forms are added and
multiplied like matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Final

import numpy as np

from ml_pipeline.evaluation.metrics import Floats

# Weights over which a curvature is kept short.
MAX_WHOLE: Final = 400


def unit_precision(width: int, columns: int, n_classes: int) -> Floats:
    """The curvature of a spherical prior over the heads, of size 1.

    Against a reference class it is the one that heads with a column for each class, on centred log
    probabilities, would have: whichever class is the last changes nothing. Between columns that
    is `I - 11ᵀ/K`, between the first inputs, which are log odds, `I + 11ᵀ`.
    """
    if columns == n_classes:
        return np.eye(columns * width)
    if columns * width > MAX_WHOLE:
        return np.append(np.zeros(width**2 + columns + 1), 1.0)
    between = np.eye(columns) - 1 / n_classes
    return np.asarray(np.kron(between, _among(width, columns)))


def is_short(curvature: Floats) -> bool:
    """Whether the columns share one matrix."""
    return curvature.ndim == 1


def moments_of(inputs: Floats, weights: Floats) -> Floats:
    """A (p, p) of rows (n, p)."""
    return np.asarray((inputs * weights[:, None]).T @ inputs)


def short_form(moments: Floats, probabilities: Floats, weights: Floats, columns: int) -> Floats:
    """The curvature of the loss at probabilities (n, K)."""
    chances = probabilities[:, :columns]
    shares = weights @ (chances * (1 - chances))
    return np.concatenate([moments.ravel(), shares, [weights.sum(), 0.0]])


def times(curvature: Floats, delta: Floats, columns: int) -> Floats:
    """The curvature times weights (Cp,), which stand column by column."""
    if not is_short(curvature):
        return np.asarray(curvature @ delta)
    parts, wide = _Parts.of(curvature, columns), delta.reshape(columns, -1)
    found = parts.shares[:, None] * (wide @ parts.moments)
    return np.asarray((found + parts.prior * (wide @ parts.among())).ravel())


@dataclass(frozen=True, kw_only=True, slots=True)
class Basis:
    """(p, p): in it the moments are diagonal, with these `sizes` (p,), and U is 1."""

    rotation: Floats
    sizes: Floats

    @classmethod
    def of(cls, curvature: Floats, columns: int) -> Basis:
        """That of a short form; whatever has the same moments has the same."""
        parts = _Parts.of(curvature, columns)
        root = np.linalg.inv(np.linalg.cholesky(parts.among()))
        sizes, turned = np.linalg.eigh(root @ parts.moments @ root.T)
        return cls(rotation=turned.T @ root, sizes=np.maximum(sizes, 0.0))


def solved(curvature: Floats, vector: Floats, columns: int, basis: Basis | None = None) -> Floats:
    """The weights (Cp,) that times the curvature are the vector; `basis` spares finding it."""
    if not is_short(curvature):
        return np.asarray(np.linalg.solve(curvature, vector), dtype=np.float64)
    parts = _Parts.of(curvature, columns)
    basis = basis or Basis.of(curvature, columns)
    seen = vector.reshape(columns, -1) @ basis.rotation.T
    firmness = parts.shares[:, None] * basis.sizes + parts.prior
    return np.asarray(((seen / firmness) @ basis.rotation).ravel())


@dataclass(frozen=True, slots=True)
class _Parts:
    """A short form taken apart: A (p, p), `sₖ/n` (C,), and what U is multiplied by."""

    moments: Floats
    shares: Floats
    prior: float

    @classmethod
    def of(cls, curvature: Floats, columns: int) -> _Parts:
        width = isqrt(len(curvature) - columns - 2)
        moments, shares, (weight, prior) = np.split(curvature, [width**2, width**2 + columns])
        return cls(
            moments.reshape(width, width),
            shares / weight if weight > 0 else shares,
            float(prior) * (1 - 1 / (columns + 1)),
        )

    def among(self) -> Floats:
        return _among(len(self.moments), len(self.shares))


def _among(width: int, columns: int) -> Floats:
    found = np.eye(width)
    found[:columns, :columns] += 1
    return found
