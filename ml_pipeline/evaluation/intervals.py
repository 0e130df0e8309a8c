"""How sure a share or a mean is, from the rows that it was taken of."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A closed interval within 0..1."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            message = f"not an interval within 0..1: {self.low} to {self.high}"
            raise ValueError(message)


def wilson_interval(successes: int, n: int, confidence: float) -> Interval:
    """Two-sided score interval for a share of `successes` in `n` trials.

    Without trials nothing is known, which is the interval 0..1. Source: Wilson, "Probable
    Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927). Raises
    ValueError for counts or a confidence that cannot be.
    """
    if not 0 <= successes <= n:
        message = f"{successes} successes in {n} trials cannot be"
        raise ValueError(message)
    if not 0 < confidence < 1:
        message = f"a confidence of {confidence} is not between 0 and 1"
        raise ValueError(message)
    if n == 0:
        return Interval(low=0.0, high=1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    # At 0 and n the bound is exact; rounding must not leave the share outside its interval.
    low = 0.0 if successes == 0 else max(0.0, min(centre - half, share))
    high = 1.0 if successes == n else min(1.0, max(centre + half, share))
    return Interval(low=low, high=high)


def mean_bounds(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Two-sided normal interval of a mean: `mean ± z · s / √n`; one value bounds nothing."""
    mean, half = float(values.mean()), 0.0
    if len(values) > 1:
        z = NormalDist().inv_cdf(0.5 + confidence / 2)
        half = z * float(values.std(ddof=1)) / len(values) ** 0.5
    return mean - half, mean + half
