"""Two registered models on the labelled rows that neither has learned: `models compare`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets import dataset
from ml_pipeline.datasets.entities import entities_of
from ml_pipeline.datasets.labelled_file import timed
from ml_pipeline.datasets.weights import label_weights
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.ledger import PairedGain, cluster_codes
from ml_pipeline.evaluation.metrics import encode, evaluate, row_losses
from ml_pipeline.evaluation_log import loading
from ml_pipeline.registry import models
from ml_pipeline.registry.models import check_fits
from ml_pipeline.store.contract import Store
from ml_pipeline.training.learned_rows import Champion, unseen_rows


def compare(
    store: Store, settings: Settings, first_id: str, second_id: str, *, now: datetime
) -> dict[str, Any]:
    """Metrics of both on the labelled log, and the paired log-loss gain of the second, in nats.

    Raises DataError when there is no row that neither has learned.
    """
    pair = [_load(store, settings, model_id) for model_id in (first_id, second_id)]
    with TemporaryDirectory() as folder:
        frame = loading.read_labelled(store, settings, Path(folder), now=now)
    source = "the labelled log"
    if frame.empty:
        raise DataError("The labelled log has no rows to compare on.")
    data = dataset.from_frame(frame, timed(settings.data, frame.columns), source=source)
    unseen = np.logical_and(*(unseen_rows(data, model) for model in pair))
    rows = data.take(np.flatnonzero(unseen))
    if not len(rows):
        raise DataError(
            f"Of {len(data)} labelled rows {first_id} or {second_id} has learned every one.",
            hint="Compare again when the next outcomes are known.",
        )
    result: dict[str, Any] = {"rows": len(rows), "rows_left_out": len(data) - len(rows)}
    losses = []
    weights = label_weights(rows, settings.training.adaptive)
    for model in pair:
        probabilities = model.model.predict_proba(rows.features)
        labels = [str(label) for label in model.model.classes_]
        report = evaluate(
            rows.labels,
            probabilities,
            labels,
            ordered=settings.data.ordered,
            weights=weights,
        )
        result[model.model_id] = report.summary()
        losses.append(row_losses(encode(rows.labels, model.model.classes_), probabilities))
    nights = rows.times.dt.date.nunique() if rows.times is not None else 1
    gain = PairedGain.of_rows(
        losses[0] - losses[1],
        int(nights),
        weights=weights,
        clusters=cluster_codes(entities_of(rows)),
    )
    sums = {name: getattr(gain, name) for name in ("nights", "rows", "total", "squares", "right")}
    return result | {
        "gain": sums | {"mean": gain.mean, "standard_error": gain.standard_error, "of": second_id}
    }


def _load(store: Store, settings: Settings, model_id: str) -> Champion:
    version = store.get_model(settings.model_name, model_id)
    model = models.load_model_version(store, version)
    check_fits(model, settings)
    return Champion(model_id=model_id, model=model)
