"""What heads see of a row: the base's log odds and its numbers, in three ways.

Plain heads see a line in the numbers Z, standardised by the rows of the base. `pairs` see their
products as well, `waves` random waves over them (random Fourier features: Rahimi & Recht 2007).
Of more than 64 numbers their principal components stand for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.evaluation.metrics import Floats

MIN_PROBABILITY = 1e-3
MAX_STANDARDISED = 8.0
MAX_NUMBERS: Final = 64
COMPONENTS: Final = 24
# For two classes, for more.
PAIRED: Final = (10, 7)
WAVES: Final = (80, 40)
WAVE_SCALES: Final = (0.5, 1.0, 2.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadInputs:
    """Fixed with the base: d numbers of a row become z of those that heads see.

    `mean` and `scale` (d,) standardise; `components` (d, z) or None; `pairs` (m, 2) are places
    among the z; `frequencies` (z, D) and `phases` (D,) make the waves. `terms` and `loadings` make
    numbers of a text, see `encoding.text_columns`. `sees_numbers` is False for rows with a text of
    which they do not. `is_former`: centred log probabilities of all K classes, as before there
    were families.
    """

    mean: Floats
    scale: Floats
    components: Floats | None
    pairs: NDArray[np.int64]
    frequencies: Floats
    phases: Floats
    sees_numbers: bool = True
    is_former: bool = False
    terms: str = ""
    loadings: Floats | None = None

    @classmethod
    def former(cls, mean: Floats, scale: Floats, *, sees_numbers: bool) -> HeadInputs:
        """As it was before there were families."""
        return cls(
            mean=mean,
            scale=scale,
            components=None,
            pairs=np.empty((0, 2), dtype=np.int64),
            frequencies=np.empty((len(mean), 0)),
            phases=np.empty(0),
            sees_numbers=sees_numbers,
            is_former=True,
        )

    @classmethod
    def fitted(
        cls,
        numbers: Floats,
        base: Floats,
        seed: int,
        *,
        sees_numbers: bool = True,
        text: tuple[str, Floats] | None = None,
    ) -> HeadInputs:
        """For the rows (n, d) of the base and its probabilities (n, K) of them.

        `text` are terms and loadings by which some of the numbers were made.
        """
        mean, scale = spread_of(numbers)
        is_binary = base.shape[1] == 2  # noqa: PLR2004 - two classes
        seen = _standardised(numbers, mean, scale)
        components = None
        if seen.shape[1] > MAX_NUMBERS and sees_numbers:
            components = _principal(seen)
            seen = np.clip(seen @ components, -MAX_STANDARDISED, MAX_STANDARDISED)
        width = seen.shape[1] if sees_numbers else 0
        rng = np.random.default_rng(seed)
        count = WAVES[0 if is_binary else 1] if width else 0
        sizes = rng.choice(WAVE_SCALES, count) * np.sqrt(2 / max(width, 1))
        return cls(
            mean=mean,
            scale=scale,
            components=components,
            pairs=_pairs(seen[:, :width], base, PAIRED[0 if is_binary else 1]),
            frequencies=rng.normal(size=(width, count)) * sizes,
            phases=rng.uniform(0, 2 * np.pi, count),
            sees_numbers=sees_numbers,
            terms="" if text is None else text[0],
            loadings=None if text is None else text[1],
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain arrays and values, for the artifact."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> HeadInputs:
        """The inverse of `as_dict`."""
        return cls(**plain)

    def width(self, family: str, n_classes: int) -> int:
        """How many inputs a head of the family has."""
        numbers = len(self.frequencies) if self.sees_numbers else 0
        further = {"pairs": len(self.pairs), "waves": len(self.phases)}.get(family, 0)
        return self.columns(n_classes) + numbers + further + 1

    def columns(self, n_classes: int) -> int:
        """How many columns of weights a head has."""
        return n_classes if self.is_former else n_classes - 1

    def of(self, numbers: Floats, base: Floats, families: tuple[str, ...]) -> tuple[Floats, ...]:
        """The inputs (n, p) for each family of rows (n, d) with the base's probabilities (n, K)."""
        first = [log_odds(base, centred=self.is_former)]
        seen = np.empty((len(base), 0))
        if self.sees_numbers:
            seen = self.numbers(numbers)
            first.append(seen)
        one = np.ones((len(base), 1))
        return tuple(np.hstack([*first, self._further(family, seen), one]) for family in families)

    def numbers(self, rows: Floats) -> Floats:
        """Z (n, z) of rows (n, d), within ±8; what is missing says nothing."""
        seen = _standardised(rows, self.mean, self.scale)
        if self.components is None:
            return seen
        return np.clip(seen @ self.components, -MAX_STANDARDISED, MAX_STANDARDISED)

    def _further(self, family: str, seen: Floats) -> Floats:
        if family == "pairs":
            numbers = np.ascontiguousarray(seen.T)  # whole columns are quick to copy
            products = (numbers[self.pairs[:, 0]] * numbers[self.pairs[:, 1]]).T
            return np.clip(products, -MAX_STANDARDISED, MAX_STANDARDISED)
        if family == "waves" and len(self.phases):
            return np.asarray(np.sqrt(2) * np.cos(seen @ self.frequencies + self.phases))
        return np.empty((len(seen), 0))


def log_odds(probabilities: Floats, *, centred: bool = False) -> Floats:
    """(n, K - 1) against the last class, or log probabilities (n, K) around their mean."""
    logs = np.log(np.clip(probabilities, MIN_PROBABILITY, 1.0))
    if centred:
        return np.asarray(logs - logs.mean(axis=1, keepdims=True))
    return np.asarray(logs[:, :-1] - logs[:, -1:])


def spread_of(numbers: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation (d,) of what is there; 1 for a constant."""
    present = np.isfinite(numbers)
    count = np.maximum(present.sum(axis=0), 1)
    mean = np.where(present, numbers, 0.0).sum(axis=0) / count
    spread = np.where(present, numbers - mean, 0.0)
    scale = np.sqrt((spread**2).sum(axis=0) / count)
    # Rounding gives a constant feature a spread of about 1e-16 of its size.
    is_constant = scale <= 1e-10 * np.maximum(np.abs(mean), 1.0)
    return mean, np.where(is_constant, 1.0, scale)


def _standardised(numbers: Floats, mean: Floats, scale: Floats) -> Floats:
    seen = (np.asarray(numbers, dtype=np.float64) - mean) / scale
    seen = np.where(np.isfinite(seen), seen, 0.0)
    return np.clip(seen, -MAX_STANDARDISED, MAX_STANDARDISED)


def _principal(seen: Floats) -> Floats:
    """(d, c): the first principal components, each of standard deviation 1."""
    _, sizes, rows = np.linalg.svd(seen - seen.mean(axis=0), full_matrices=False)
    kept = min(COMPONENTS, int((sizes > 1e-9 * sizes[0]).sum()))
    return np.asarray(rows[:kept].T / (sizes[:kept] / np.sqrt(len(seen))))


def _pairs(seen: Floats, base: Floats, most: int) -> NDArray[np.int64]:
    """Products of the numbers that move the base's log odds the most, squares included."""
    count = seen.shape[1]
    chosen = np.arange(count)
    if count > most:
        odds = log_odds(base)
        slopes, *_ = np.linalg.lstsq(seen - seen.mean(axis=0), odds - odds.mean(axis=0))
        chosen = np.sort(np.argsort(-np.abs(slopes).max(axis=1), kind="stable")[:most])
    first, second = np.triu_indices(len(chosen))
    return np.column_stack([chosen[first], chosen[second]]).astype(np.int64)
