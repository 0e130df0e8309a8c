"""For how many answers a labelled one stands where right and wrong ones do not get labels alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.config.sections import AdaptiveSettings
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.store.records import UNCERTAIN


def label_weights(data: Dataset, adaptive: AdaptiveSettings) -> NDArray[np.float64]:
    """One over the probability that an answer like each row's gets a label, (n,).

    Rows that were never predicted, as those of a training file, weigh 1; UNCERTAIN is not wrong.
    """
    if "prediction" not in data.frame.columns:
        return np.ones(len(data))
    return weights_of(data.frame["prediction"].to_numpy(dtype=str), data.labels, adaptive)


def weights_of(
    predicted: NDArray[Any], actual: NDArray[Any], adaptive: AdaptiveSettings
) -> NDArray[np.float64]:
    """The same of what was predicted and what happened, (n,) each."""
    wrong = (predicted != actual) & (predicted != UNCERTAIN)
    return np.where(wrong, adaptive.wrong_weight, adaptive.right_weight)


def fitting_weights(
    learned: Dataset, adaptive: AdaptiveSettings, past: Dataset | None = None
) -> NDArray[np.float64] | None:
    """The weights of rows to fit, those of `past` before them; None when they are all alike."""
    weights = label_weights(learned, adaptive)
    if past is not None:
        weights = np.concatenate([np.ones(len(past)), weights])
    return None if (weights == 1).all() else weights
