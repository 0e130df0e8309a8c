"""The levels of logged rows that a model's base was not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.datasets.levels.new_levels import LevelCounter, NewLevels, found_by
from ml_pipeline.errors import NotFound
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import ModelVersion

_CHUNK: Final = 100_000


def base_reference(store: Store, model: ModelVersion | None) -> Mapping[str, Any] | None:
    """The summary of what the base of a model was trained on; None when it holds none."""
    if model is None:
        return None
    if model.anchor_id == model.model_id:
        return model.lineage.reference
    try:
        return store.get_model(model.model_name, model.anchor_id).lineage.reference
    except NotFound:  # the model was brought without its base
        return None


def new_levels(known: Mapping[str, NDArray[np.float64]], rows: Path) -> list[NewLevels]:
    """Of the categories in a file of rows, those with levels that are none of the `known`."""
    counters = {name: LevelCounter(name, levels) for name, levels in known.items()}
    if not counters:
        return []
    chunks = pd.read_csv(
        rows, usecols=counters.__contains__, dtype=str, keep_default_na=False, chunksize=_CHUNK
    )
    for chunk in chunks:
        for name in chunk.columns:
            counters[name].add(chunk[name].tolist())
    return found_by(counters.values())
