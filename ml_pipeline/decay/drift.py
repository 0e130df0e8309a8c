"""An estimate before labels arrive: the expected accuracy."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.evaluation.metrics import Floats

MIN_LABELLED = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """The accuracy that answers without labels can be expected to have, with its interval."""

    accuracy: float
    low: float
    high: float
    rows: int
    labelled_rows: int

    def as_json(self) -> dict[str, Any]:
        """The estimate as plain JSON values."""
        return asdict(self)


def expected_accuracy(
    waiting: Floats,
    known: Floats,
    right: NDArray[np.bool_],
    *,
    weights: Floats | None = None,
    level: float = 0.95,
) -> Estimate | None:
    """The mean calibrated confidence of the `waiting` answers; None with too few labelled ones.

    `known` are confidences whose answers turned out `right` or not; isotonic regression on them
    makes confidences into chances. `weights` say for how many answers each of those stands (by
    default 1). The interval holds the chance in the waiting outcomes and the
    uncertainty of the calibration. It assumes that what a confidence means has not changed, which
    only labels can tell.
    """
    from sklearn.isotonic import IsotonicRegression

    if len(waiting) == 0 or len(known) < MIN_LABELLED:
        return None
    curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    chances = curve.fit(known, right.astype(float), sample_weight=weights).predict(waiting)
    mean, base = float(chances.mean()), float(np.average(right, weights=weights))
    variance = float((chances * (1 - chances)).mean()) / len(waiting)
    squares = 1 / len(known) if weights is None else (weights**2).sum() / weights.sum() ** 2
    variance += base * (1 - base) * float(squares)
    half = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(variance)
    return Estimate(
        accuracy=mean,
        low=max(0.0, mean - half),
        high=min(1.0, mean + half),
        rows=len(waiting),
        labelled_rows=len(known),
    )
