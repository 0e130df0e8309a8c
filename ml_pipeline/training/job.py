"""One training: a request in; model, evidence and result out."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from threadpoolctl import threadpool_limits

from ml_pipeline.config.environment import is_store_configured, load_store_settings
from ml_pipeline.config.kind import Kind
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import BUILTIN, LOG, Dataset, read_dataset, with_incumbent
from ml_pipeline.datasets.labelled_file import LabelledFile, read_labelled
from ml_pipeline.datasets.reference import kinds_of
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.metrics import evaluate
from ml_pipeline.registry import archive
from ml_pipeline.registry.model_inputs import in_classes
from ml_pipeline.registry.models import check_fits, load_model_version
from ml_pipeline.registry.scoring_writer import write_scoring
from ml_pipeline.registry.trained import (
    EVIDENCE_FILE,
    MODEL_FILE,
    RESULT_FILE,
    SAMPLE_FILE,
    SCORING_FILE,
    Sample,
)
from ml_pipeline.store.opening import open_store
from ml_pipeline.training import strategies
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.brought.bases import algorithm_of
from ml_pipeline.training.brought.model_files import knowing_kinds, load_any
from ml_pipeline.training.learned_rows import OPEN_EVENTS, Champion
from ml_pipeline.training.online.shadow_base import base_in_shadow
from ml_pipeline.training.online.snapshots import SNAPSHOTS
from ml_pipeline.training.online_training import adapt, by_settings
from ml_pipeline.training.request import PreparedRows, TrainingRequest
from ml_pipeline.training.strategies import Challenger

log = logging.getLogger("train_model")

SAMPLE_ROWS: Final = 50
_NO_INCUMBENT: Final = (
    "There is no model to fine-tune, and a base Incumbent is not trained on the way."
)
# Choices that a strategy has no use for.
_USELESS: Final[Mapping[str, tuple[str, ...]]] = {
    "adaptive": ("learning_rate", "algorithm"),
    "sgd": ("algorithm",),
    "refit": ("learning_rate", "epochs"),
    "errors_only": ("learning_rate", "epochs", "algorithm"),
    "from_scratch": ("learning_rate", "epochs", "model_path", "strategy"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rows:
    """The rows to learn: `data` at hand, or its last ones and the `file` they stand in."""

    data: Dataset
    file: LabelledFile | None = None

    @property
    def count(self) -> int:
        return len(self.data) if self.file is None else self.file.rows

    def parts(self) -> Iterable[Dataset]:
        return [self.data] if self.file is None else self.file.parts()


def train(request: TrainingRequest, prepared: PreparedRows | None = None) -> dict[str, Any]:
    """Train, write everything into the request's folder, and return what `train` prints."""
    request = knowing_kinds(request)
    rows = _read(request) if prepared is None else _Rows(data=prepared.data)
    if request.trains_incumbent:
        rows = replace(rows, data=with_incumbent(rows.data, request.settings.data))
    request = replace(request, settings=request.settings.reading(rows.data.kinds))
    base: dict[str, Any] | None = None
    if request.fine_tune and prepared is not None:
        learned = prepared.data.take(prepared.parts.train)
        model, base = _model_to_tune(request, learned)
        tuned = _fine_tuned(request, _Rows(data=learned), model)
        challenger = _judged_on(tuned, prepared, request.settings)
    elif request.fine_tune:
        model, base = _model_to_tune(request, rows.data)
        challenger = _fine_tuned(request, rows, model)
    else:
        challenger = strategies.train_base(
            rows.data,
            request.settings,
            algorithm=request.settings.training.algorithm,
            classes=None if prepared is None else prepared.classes,
            answers=None if prepared is None else prepared.answers,
            parts=None if prepared is None else prepared.parts,
            today=request.today,
            is_log=prepared is None,
        )
    result = write(
        request,
        challenger,
        rows.data,
        algorithm=_algorithm(request, challenger),
        until=None if prepared is None else prepared.learned_until,
    )
    result |= {
        "fine_tune": request.fine_tune,
        "strategy": request.strategy,
        "dataset_size": rows.count,
        "ignored": [name for name in _USELESS[request.strategy] if name in request.chosen],
        "base": base,
    }
    _write_json(request.folder / RESULT_FILE, result)
    return result


def write(
    request: TrainingRequest,
    challenger: Challenger,
    data: Dataset,
    *,
    algorithm: str,
    until: datetime | None,
) -> dict[str, Any]:
    """Write everything that is registered of it into the request's folder; return what it says.

    `until` is the time of the last row that its base was fitted on.
    """
    _write_sample(request.folder, challenger.model, data)
    return _write(request.folder, challenger, request.settings) | {
        "status": "completed",
        "model_id": request.model_id,
        "algorithm": algorithm,
        "timestamp": request.now.isoformat(),
        "learned_until": None if until is None else until.isoformat(),
    }


def _judged_on(tuned: Challenger, prepared: PreparedRows, settings: Settings) -> Challenger:
    """The same model as a base of its own, judged on held-out rows beside the champion, if any."""
    data, parts, answers = prepared.data, prepared.parts, prepared.answers
    classes = [str(label) for label in tuned.model.classes_]
    evidence = strategies.evidence_on(tuned.model, data.take(parts.holdout), None, settings)
    if answers is not None:
        answers = in_classes(answers, prepared.classes, classes)
    learned = data.labels[parts.train]
    counts = np.asarray([(learned == label).sum() + 1.0 for label in classes])
    return replace(
        tuned,
        evidence=replace(evidence, champion=answers),
        online=None,
        prior=counts / counts.sum(),
    )


def _algorithm(request: TrainingRequest, challenger: Challenger) -> str:
    """The algorithm of the base, which a strategy may have taken over from the parent."""
    if request.strategy in {"from_scratch", "refit"}:
        return request.settings.training.algorithm
    return algorithm_of(challenger.model.base_)


def _read(request: TrainingRequest) -> _Rows:
    """The rows day by day where that is all that is asked for, else at hand."""
    is_by_day = request.strategy == "adaptive" and request.new_base is None
    if is_by_day and request.dataset != BUILTIN:
        file = LabelledFile.opened(Path(request.dataset), request.settings.data)
        if file is not None:
            return _Rows(data=file.last, file=file)
    trains_base = not request.fine_tune or request.new_base is not None
    return _Rows(data=read_labelled(request.dataset, request.settings, whole=trains_base))


def _model_to_tune(
    request: TrainingRequest, data: Dataset
) -> tuple[AdaptiveClassifier, dict[str, Any]]:
    """The model to start from, and where it comes from."""
    settings = request.settings
    if request.parent is not None:
        model = load_any(request.parent, settings, data)
        return model, {"kind": "model_path", "path": str(request.parent.path)}
    if is_store_configured(request.local):
        found = _champion_of_store(request.local, settings)
        if found is not None:
            return found
    source = settings.data.training_dataset
    if settings.training.is_incumbent:
        raise DataError(_NO_INCUMBENT, hint="Register one: `ml-pipeline train --register`.")
    log.warning("No model to fine-tune was named: training a base on %s first", source)
    training_data = read_dataset(source, settings.data)
    challenger = strategies.train_base(
        training_data, settings, algorithm=settings.training.algorithm
    )
    return challenger.model, {"kind": "training_data", "dataset": source}


def _champion_of_store(
    local: str | None, settings: Settings
) -> tuple[AdaptiveClassifier, dict[str, Any]] | None:
    store = open_store(load_store_settings(local))
    try:
        champion = store.champion(model_name=settings.model_name)
        if champion is None:
            return None
        model = load_model_version(store, champion)
    finally:
        store.close()
    check_fits(model, settings)
    return model, {"kind": "champion", "model_id": champion.model_id}


def _fine_tuned(request: TrainingRequest, rows: _Rows, model: AdaptiveClassifier) -> Challenger:
    """The challenger that the strategy makes of the model and the rows."""
    settings, data = request.settings, rows.data
    champion = Champion(model_id="", model=model)
    if request.champion is not None:
        serving = load_any(request.champion, settings, data)
        champion = Champion(model_id=request.champion.model_id, model=serving)
    if request.new_base is not None:
        carried = request.new_base == "carried"
        return base_in_shadow(data, model, request.today, settings, carry_heads=carried)
    if request.strategy == "adaptive":
        # On small matrices threads only wait for each other: 10 times the time and more.
        with threadpool_limits(1, user_api="blas"):
            return _adapted(request, rows, model, champion)
    if request.strategy == "refit":
        return _refitted(request, data, champion)
    if request.strategy == "errors_only":
        log.warning(
            "Strategy errors_only learns from errors alone: measured, it makes models worse"
        )
        return strategies.errors_only(data, champion, settings, today=request.today)
    replay_rows = _training_data(settings)
    return strategies.sgd(data, champion, settings, replay_rows, today=request.today)


def _refitted(request: TrainingRequest, data: Dataset, champion: Champion) -> Challenger:
    """A new base from the training data and the whole log."""
    settings, past = request.settings, None
    try:
        past = _training_data(settings)
    except DataError as error:
        # Nobody has configured the sample, so it need not fit; of the log all is learned anyway.
        if settings.data.training_dataset not in {BUILTIN, LOG}:
            raise
        log.info("Nothing is learned beside the log: %s", error)
    if request.known is not None:
        data = read_labelled(str(request.known), settings, whole=past is None)
    return strategies.refit(
        data,
        champion,
        settings,
        algorithm=settings.training.algorithm,
        past=past,
        today=request.today,
    )


def _training_data(settings: Settings) -> Dataset:
    """The configured training data; all of it is learned, so it needs no times."""
    data = settings.data.model_copy(update={"time_column": None})
    return read_dataset(settings.data.training_dataset, data)


def _adapted(
    request: TrainingRequest, rows: _Rows, model: AdaptiveClassifier, champion: Champion
) -> Challenger:
    settings = request.settings
    model = by_settings(model, settings.training)
    if rows.data.times is None or "event_id" not in rows.data.frame.columns:
        return strategies.fine_tune_rows(model, rows.data, settings, today=request.today)
    # Experts are fitted on rows at hand: a file that comes day by day brings none.
    known = rows.data if settings.training.experts_in_use and rows.file is None else None
    if request.known is not None:
        known = read_labelled(str(request.known), settings, whole=False)
    return adapt(
        model,
        champion,
        rows.parts(),
        request.today,
        settings,
        other_base=request.other_base,
        compared_from=request.compared_from,
        known=known,
        restart_night=request.restart_night,
    )


def _write_sample(folder: Path, model: AdaptiveClassifier, data: Dataset) -> None:
    """What the model predicts for a few rows; the stored artifact has to predict the same."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = data.features[-SAMPLE_ROWS:]
    Sample(features=rows, probabilities=model.predict_proba(rows)).save(folder / SAMPLE_FILE)


def _write(folder: Path, challenger: Challenger, settings: Settings) -> dict[str, Any]:
    """Write model, scoring file and evidence; return the result's part that tells of them."""
    model, evidence = challenger.model, challenger.evidence
    model_path, evidence_path = folder / MODEL_FILE, folder / EVIDENCE_FILE
    archive.save_model(model, model_path)
    write_scoring(model, folder / SCORING_FILE)
    evidence.save(evidence_path)
    result: dict[str, Any] = {
        "model_path": str(model_path),
        "model_digest": archive.digest_file(model_path),
        "evidence_path": str(evidence_path),
        "training_rows": challenger.rows_learned,
        "known_rows": challenger.rows_known,
        "training_digest": challenger.training_digest,
        "metrics": {},
        "cross_validation": challenger.cross_validation,
        "library_versions": archive.library_versions(),
        "classes": [str(label) for label in model.classes_],
    }
    if len(evidence):
        result |= _metrics(evidence, ordered=settings.data.ordered)
    if challenger.prior is not None:
        result["prior"] = challenger.prior.tolist()
    return result | _online_record(challenger) | _state_to_go_on_from(model)


def _metrics(evidence: Evidence, *, ordered: bool) -> dict[str, Any]:
    actual = evidence.actual_labels()
    weights = evidence.weights
    report = evaluate(
        actual, evidence.challenger, evidence.labels, ordered=ordered, weights=weights
    )
    result: dict[str, Any] = {"metrics": report.summary(), "holdout_rows": report.rows}
    if evidence.champion is not None:
        incumbent = evaluate(
            actual, evidence.champion, evidence.labels, ordered=ordered, weights=weights
        )
        result["champion_metrics"] = incumbent.summary()
    return result


def _online_record(challenger: Challenger) -> dict[str, Any]:
    """The ledger and votes of an online model, by which it is judged and shown."""
    state = challenger.online
    if state is None:
        return {}
    record = {
        "ledger": state.ledger.tolist(),
        "champions": list(state.champions),
        "wealth": state.wealth.as_list(),
        "vote": state.memory.vote.tolist(),
        "votes": [None if any(map(math.isnan, vote)) else vote for vote in state.votes.tolist()],
        "half_lives": list(challenger.model.rates_().half_lives),
        "families": list(challenger.model.rates_().families),
        "experts": [expert.name for expert in state.memory.experts],
    }
    return {"line": record}


def _state_to_go_on_from(model: AdaptiveClassifier) -> dict[str, Any]:
    settled = model.line_ or {}
    return {
        "settled_night": settled.get("night"),
        "first_night": settled.get("first_night"),
        "rates": model.plain_rates(),
        "inputs": _inputs(model),
        # An online model's inputs are compared with those of its base, which holds them.
        "reference": model.reference_ if settled.get("first_night") is None else None,
        "open_event_ids": _open_event_ids(settled),
        "snapshots": [snapshot["night"] for snapshot in settled.get(SNAPSHOTS, ())],
        "experts": {expert.name: expert.night for expert in model.memory().experts},
    }


def _inputs(model: AdaptiveClassifier) -> dict[str, Any]:
    """What it reads; kinds where some are no numbers."""
    kinds = {name: str(kind) for name, kind in kinds_of(model).items()}
    inputs: dict[str, Any] = {"features": list(kinds), "text_column": model.text_column_}
    return inputs | ({"kinds": kinds} if set(kinds.values()) - {Kind.NUMBER} else {})


def _open_event_ids(settled: Mapping[str, Any]) -> list[str]:
    """Rows of days that are not settled; those that wait to be learned are of settled ones."""
    waiting = set(settled.get("waiting_event_ids", ()))
    return [event_id for event_id in settled.get(OPEN_EVENTS, ()) if event_id not in waiting]


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    temporary.replace(path)
