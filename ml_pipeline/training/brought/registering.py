"""`models register`: a person's own fitted classifier becomes a base, judged like every other one.

Nothing is learned from the logged rows. All that the champion has not learned are there to judge
on, and the heads of the new base learn what comes after them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.datasets import splits
from ml_pipeline.datasets.dataset import Dataset, class_order
from ml_pipeline.datasets.labelled_file import read_labelled
from ml_pipeline.errors import ArtifactIncompatible, ConfigError, DataError, NotFound
from ml_pipeline.registry.models import check_fits
from ml_pipeline.registry.serving_state import ServingState, serving_state_of
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import ModelState
from ml_pipeline.training import job
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.brought.bases import Base, algorithm_of, base_of, read_model_file
from ml_pipeline.training.learned_rows import fitted_on
from ml_pipeline.training.request import PreparedRows, TrainingRequest
from ml_pipeline.training.strategies import Challenger, evidence_on, new_model
from ml_pipeline.training.train_and_register import (
    NothingUnseen,
    Prepared,
    beside,
    judged,
    registration_of,
    unknown_rows,
)

AGAIN = "Register it again when newer results have come, before the nightly run learns them."


@dataclass(frozen=True, kw_only=True, slots=True)
class Registering:
    """A model file, and the rows to judge it on: those of the request's dataset.

    `rows_from` says in words where these are from. `fitted_until` is when the last row that the
    model was fitted on became known, where the person says so. `held` says why a person has to
    decide on it, if one has to.
    """

    request: TrainingRequest
    path: Path
    rows_from: str
    fitted_until: datetime | None = None
    dry_run: bool = False
    held: str | None = None


def register(store: Store, wanted: Registering) -> dict[str, Any]:
    """Check, judge and register the model; returns what `models register` prints.

    Raises ArtifactError and DataError for a model that cannot be registered, and changes nothing
    then; nor does a `dry_run`.
    """
    request = wanted.request
    _require_new(store, request.settings.model_name, request.model_id)
    data = replace(read_labelled(request.dataset, request.settings), source=wanted.rows_from)
    settings = request.settings.reading(data.kinds)
    request = replace(request, settings=settings)
    wanted = replace(wanted, request=request)
    base = _base(wanted, data)
    state = serving_state_of(store, settings.model_name)
    rows, lost, unseen = _rows(wanted, data, base), None, True
    try:
        rows, lost = beside(store, state.champion, rows, settings, AGAIN)
    except NothingUnseen:
        unseen = False
        rows = replace(rows, parts=replace(rows.parts, holdout=rows.parts.train))
    result = job.write(
        request,
        _challenger(wanted, base, rows),
        data,
        algorithm=algorithm_of(base.classifier),
        until=rows.learned_until,
    )
    if unseen:
        is_unknown = state.champion is not None and wanted.fitted_until is None
        unknown = unknown_rows(wanted.path) if is_unknown else None
        held = unknown or wanted.held
        prepared = Prepared(rows=rows, notes={}, lost=lost, unknown_past=held)
        result |= judged(store, state, prepared, result, request=request, dry_run=wanted.dry_run)
    else:
        result |= _in_the_shadow(store, state, result, wanted)
    shown = {name: value for name, value in result.items() if name not in _OF_A_TRAINING}
    return shown | {"missing_values": base.fills or "its own", "dry_run": wanted.dry_run}


def _in_the_shadow(
    store: Store, state: ServingState, result: dict[str, Any], wanted: Registering
) -> dict[str, Any]:
    """Let the next runs compare it with whoever serves, on results that neither has learned."""
    request = wanted.request
    if not wanted.dry_run:
        registration = registration_of(store, state, result, request)
        version = registration.stored(state=ModelState.SHADOW, metrics={})
        lineage = replace(version.lineage, shadow_since=request.today, shadow_heads="fresh")
        store.register(replace(version, lineage=lineage))
    return {
        "outcome": "shadow",
        "outcome_reason": (
            f"In the shadow: {state.champion_id}, which serves, has learned every row of "
            f"{wanted.rows_from}, so that none is left to judge on. The new model learns beside it "
            "from the next run on, and is compared with it on the results to come."
        ),
        "champion": state.champion_id,
    }


# What a training notes, of which there was none.
_OF_A_TRAINING = frozenset(
    {
        "model_path", "evidence_path", "training_rows", "known_rows", "training_digest",
        "cross_validation", "prior", "settled_night", "first_night", "rates", "reference",
        "open_event_ids", "snapshots", "experts", "learned_until",
    }
)  # fmt: skip


def _require_new(store: Store, model_name: str, model_id: str) -> None:
    try:
        store.get_model(model_name, model_id)
    except NotFound:
        return
    raise ConfigError(
        f"There is a model {model_id} already: nothing was registered.",
        hint="Name another one with --model-id.",
    )


def _base(wanted: Registering, data: Dataset) -> Base:
    settings = wanted.request.settings
    fitted = read_model_file(wanted.path, settings, data)
    if isinstance(fitted, AdaptiveClassifier):
        raise ArtifactIncompatible(
            f"The model {wanted.path} is one of this program, with heads that have learned.",
            hint="Bring it by `ml-pipeline models import`, beside the export that it is of, or go "
            "on from it by `ml-pipeline train --register --fine-tune --model-path FILE`.",
        )
    return base_of(fitted, f"The model {wanted.path}", data, settings)


def _rows(wanted: Registering, data: Dataset, base: Base) -> PreparedRows:
    """Nothing to learn, everything to judge on that the model was not fitted on."""
    everything = np.arange(len(data), dtype=np.int64)
    until, held = splits.learned_until(data, everything), everything
    if wanted.fitted_until is not None:
        until, held = wanted.fitted_until, _later(data, wanted.fitted_until)
    classes = class_order([*data.labels.tolist(), *base.classes], wanted.request.settings.data)
    return PreparedRows(
        data=data,
        classes=classes,
        answers=None,
        parts=splits.Split(train=everything[:0], holdout=held),
        learned_until=until,
    )


def _later(data: Dataset, until: datetime) -> NDArray[np.int64]:
    """Numbers of the rows that came after that time. Raises DataError without any."""
    if data.times is None:
        raise DataError(
            f"{data.source} has no times: which rows came after the last one that the model was "
            "fitted on cannot be told.",
            hint="Name their column as data.time_column, or leave --fitted-until away.",
        )
    held = np.flatnonzero((data.times > pd.Timestamp(until)).to_numpy())
    if not len(held):
        raise DataError(
            f"{data.source} holds no row that is later than {until:%Y-%m-%d %H:%M}: none is left "
            "to judge the model on.",
            hint=AGAIN,
        )
    return held


def _challenger(wanted: Registering, base: Base, rows: PreparedRows) -> Challenger:
    """The base with fresh heads, which learn what comes after the rows that it may know."""
    request, data, settings = wanted.request, rows.data, wanted.request.settings
    known = _known_to(wanted, data)
    # Rows of the log are known by their days.
    again = data.take(known) if data.times is None or "event_id" not in data.frame else None
    model = new_model(
        base.classifier,
        data.features,
        rows.classes,
        settings,
        taken=_taken_in(wanted, data, known),
        fitted=fitted_on(again, settings, request.today),
    )
    check_fits(model, settings)
    evidence = evidence_on(model, data.take(rows.parts.holdout), None, settings)
    return Challenger(
        model=model,
        evidence=replace(evidence, champion=rows.answers),
        rows_learned=0,
        training_digest=data.digest(),
        prior=_frequencies(data, rows.classes),
    )


def _frequencies(data: Dataset, classes: list[str]) -> NDArray[np.float64]:
    counts = np.asarray([(data.labels == label).sum() + 1.0 for label in classes])
    return np.asarray(counts / counts.sum(), dtype=np.float64)


def _known_to(wanted: Registering, data: Dataset) -> NDArray[np.int64]:
    """Numbers of the rows that it may have been fitted on."""
    if wanted.fitted_until is None or data.times is None:
        return np.arange(len(data), dtype=np.int64)
    return np.flatnonzero((data.times <= pd.Timestamp(wanted.fitted_until)).to_numpy())


def _taken_in(wanted: Registering, data: Dataset, known: NDArray[np.int64]) -> splits.TakenIn:
    """What the heads never learn: it would teach them that the base is right on its own rows."""
    taken = splits.taken_in(data, known, wanted.request.today)
    if taken.night is not None:
        return taken
    until = wanted.fitted_until or wanted.request.now
    return replace(taken, night=until.astimezone(UTC).date().toordinal() - 1)
