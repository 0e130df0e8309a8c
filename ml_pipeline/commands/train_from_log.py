"""The rows of `train --from_log`: every result of the store's log that the settings can read."""

from __future__ import annotations

import logging
from dataclasses import replace

from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import BUILTIN
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation_log.fold import table_names
from ml_pipeline.evaluation_log.loading import load_known
from ml_pipeline.registry.model_inputs import inputs_of
from ml_pipeline.store.contract import Store
from ml_pipeline.store.opening import open_store
from ml_pipeline.training.request import TrainingRequest

log = logging.getLogger("train_model")


def rows_of_log(request: TrainingRequest, *, wanted: bool) -> TrainingRequest:
    """The request with the log's rows as its dataset.

    Unless they are `wanted` they are taken only where no training data is configured and the
    champion does not know the settings' features or classes: the bundled sample cannot bring them.
    Raises DataError for too few rows.
    """
    settings = request.settings
    store = open_store(load_store_settings(request.local))
    try:
        if not wanted and not _is_only_in_the_log(store, settings):
            return request
        log.info("Training on the results of the log")
        also = _read_by_champion(store, settings)
        folder = request.folder / "log"
        path = load_known(store, settings, None, folder, now=request.now, also=also)
    finally:
        store.close()
    with path.open(encoding="utf-8") as file:
        count = sum(1 for _ in file) - 1
    least = settings.training.min_training_samples
    if count < least:
        raise DataError(
            f"{count} results of the log have every feature that the settings name: too few to "
            f"train a base ({least} are needed).",
            hint="Wait until more have come, name a file by --dataset, or lower "
            "training.min_training_samples.",
        )
    return replace(request, dataset=str(path))


def _read_by_champion(store: Store, settings: Settings) -> list[str]:
    """Features that the champion reads and the settings no longer name: it is judged with them."""
    data, inputs = settings.data, inputs_of(store, store.champion(model_name=settings.model_name))
    if inputs is None or data.is_auto:
        return []
    taken = table_names(settings)
    return [name for name in inputs.features if name not in taken]


def _is_only_in_the_log(store: Store, settings: Settings) -> bool:
    champion = store.champion(model_name=settings.model_name)
    if champion is None or settings.data.training_dataset != BUILTIN:
        return False
    inputs = inputs_of(store, champion)
    return inputs is not None and bool(inputs.difference(inputs.completing(settings).data))
