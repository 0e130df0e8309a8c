"""The rows of `train --from-log`: every result of the store's log that the settings can read."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

from ml_pipeline.config.data import DataSettings
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import Settings, work_dir
from ml_pipeline.datasets.dataset import BUILTIN, read_frame, source_name
from ml_pipeline.datasets.kinds import infer_kinds
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation_log.known.files import table_names
from ml_pipeline.evaluation_log.loading import load_known
from ml_pipeline.registry.model_inputs import ModelInputs, inputs_of
from ml_pipeline.runs.run_log import folder_for_rows
from ml_pipeline.store.contract import Store
from ml_pipeline.store.inputs.columns import named
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.opening import open_store
from ml_pipeline.store.records import LookbackWindow
from ml_pipeline.training.request import TrainingRequest

log = logging.getLogger("train_model")

DAYS: Final = 90


def rows_of_log(request: TrainingRequest, *, wanted: bool) -> TrainingRequest:
    """The request with the log's rows as its dataset.

    Unless they are `wanted` they are taken only where the settings name a feature or a class that
    the configured training data lacks, and there are enough of them. Raises DataError for too few
    rows that are wanted.
    """
    settings = request.settings
    least = settings.training.min_training_samples
    chosen = load_store_settings(request.local)
    store = open_store(chosen)
    try:
        lacking = "" if wanted else _lacking(store, settings)
        if not wanted and not lacking:
            _name_the_log(store, request)
            return request
        also = _read_by_champion(store, settings)
        known = load_known(
            store,
            settings,
            None,
            folder_for_rows(work_dir(settings, chosen.local_dir)),
            now=request.now,
            also=also,
            of_incumbent=request.trains_incumbent,
        )
    finally:
        store.close()
    count = known.labelled_rows
    if count >= least:
        why = f": {lacking}" if lacking else ""
        log.info("Training on %d results of the log%s", count, why)
        return replace(request, dataset=str(known.labelled_path))
    if lacking:
        log.warning(
            "%s, and the log has only %d results to train on (%d are needed)", lacking, count, least
        )
        return request
    raise DataError(
        f"{count} results of the log have every feature that the settings name: too few to "
        f"train a base ({least} are needed).",
        hint="Wait until more have come, name a file by --dataset, or lower "
        "training.min_training_samples.",
    )


def _name_the_log(store: Store, request: TrainingRequest) -> None:
    """Say that the log has results as well: what is new in them is not learned from a file."""
    window = LookbackWindow.ending(request.now, days=DAYS)
    counts = store.count_labelled(window, model_name=request.settings.model_name)
    results = sum(counts.values())
    if results:
        log.info(
            "Training on %s. The log has %d results of the last %d days: "
            "`ml-pipeline train --register --from-log` trains on those, with what is new in them",
            source_name(request.dataset), results, DAYS,
        )  # fmt: skip


def _read_by_champion(store: Store, settings: Settings) -> list[str]:
    """Features that the champion reads and the settings no longer name: it is judged with them."""
    data, inputs = settings.data, inputs_of(store, store.champion(model_name=settings.model_name))
    if inputs is None or data.is_auto:
        return []
    taken = table_names(settings)
    return [name for name in inputs.features if name not in taken]


def _lacking(store: Store, settings: Settings) -> str:
    """What the champion's successor is to know and the training data does not have; else ''."""
    inputs = inputs_of(store, store.champion(model_name=settings.model_name))
    if inputs is None:
        return ""
    settings = inputs.completing(settings)
    is_sample = settings.data.training_dataset == BUILTIN
    is_other = bool(inputs.difference(settings.data))
    if is_sample and is_other:
        return f"{source_name(BUILTIN)} has nothing of what the settings name"
    # A file that a champion of these features was trained on need not be read twice.
    return _missing_in(settings.data, inputs) if is_sample or is_other else ""


def _missing_in(data: DataSettings, inputs: ModelInputs) -> str:
    """What the training data lacks of the features, their kinds and the classes that are new."""
    source = source_name(data.training_dataset)
    frame = named(read_frame(data.training_dataset), [data.target, *data.inputs], source)
    if missing := [name for name in data.inputs if name not in frame.columns]:
        return f"{source} has no column {', '.join(missing)}"
    changed = [name for name, kind in inputs.kinds.items() if data.kinds.get(name, kind) != kind]
    for name, kind in infer_kinds(frame, changed).items():
        if kind is not data.kind(name):
            return f"{source} has {name} as a {kind}"
    classes = [name for name in data.classes or () if name not in inputs.classes]
    if not classes or data.target not in frame.columns:
        return ""
    find = Labels.of(data).find
    found = {find(text) for text in frame[data.target].fillna("").astype(str).unique()}
    unknown = [name for name in classes if name not in found]
    return f"{source} has no row of the class {', '.join(unknown)}" if unknown else ""
