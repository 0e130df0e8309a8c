"""The kinds of array that the learning passes on, and labels as codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.errors import DataError

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


def encode(labels: NDArray[Any], classes: NDArray[Any]) -> Codes:
    """Positions of labels in `classes`; raise DataError naming the ones that are not there."""
    places = {str(label): index for index, label in enumerate(classes)}
    texts = [str(label) for label in labels]
    unknown = sorted({text for text in texts if text not in places})
    if unknown:
        message = f"labels that the model does not know: {', '.join(unknown[:5])}"
        raise DataError(message, hint=f"It was trained on {', '.join(places)}.")
    return np.asarray([places[text] for text in texts], dtype=np.int64)
