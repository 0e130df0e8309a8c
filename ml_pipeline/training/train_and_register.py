"""Train with the store at hand: rows from its table of labels, and `--register`.

A model that is registered here is judged beside the serving champion, on rows that neither has
learned, and by the same gate as every other one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np

from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets import ground_truth, splits
from ml_pipeline.datasets.dataset import Dataset, class_order
from ml_pipeline.datasets.entities import are_known, entities_of
from ml_pipeline.datasets.labelled_file import read_labelled
from ml_pipeline.errors import ArtifactError, DataError, NotFound
from ml_pipeline.evaluation import judging
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.metrics import Floats, evaluate
from ml_pipeline.evaluation.replacing import LostChampion
from ml_pipeline.registry.model_inputs import answers_for, inputs_of, loaded
from ml_pipeline.registry.registration import Registration, register_judged
from ml_pipeline.registry.serving_state import ServingState, serving_state_of
from ml_pipeline.registry.trained import SAMPLE_FILE, TrainerAnswer
from ml_pipeline.store.contract import Store
from ml_pipeline.store.event_row import UNCERTAIN, best_guess
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.opening import open_store
from ml_pipeline.store.records import EVER, ModelVersion, Outcome
from ml_pipeline.training.job import PreparedRows, train
from ml_pipeline.training.learned_rows import Champion
from ml_pipeline.training.request import TrainingRequest

log = logging.getLogger("registering")

# Former champions that a new base has to match; each is fetched and loaded.
EARLIER_CHAMPIONS: Final = 5


def train_with_store(
    request: TrainingRequest, *, from_table: bool, register: bool, every_days: int
) -> dict[str, Any]:
    """`train --from_table` and `train --register`; returns what `train` prints.

    Nothing is trained when a base was registered so in the last `every_days` days.
    """
    settings = request.settings
    store = open_store(load_store_settings(request.local))
    try:
        recent = _last_base(store, settings, request.now - timedelta(days=every_days))
        if recent is not None:
            return _skipped(recent, every_days)
        state = serving_state_of(store, settings.model_name)
        prepared = _prepared(store, state, request, from_table=from_table)
        result = train(request, prepared.rows) | prepared.notes
        if register:
            result |= _registered(store, state, prepared, result, request=request)
        return result
    finally:
        store.close()


def _last_base(store: Store, settings: Settings, since: datetime) -> ModelVersion | None:
    """A base that was registered by this command since then; runs register theirs as runs."""
    for model in store.list_models(model_name=settings.model_name):
        if model.created_at > since and model.anchor_id == model.model_id and not model.run_id:
            return model
    return None


def _skipped(recent: ModelVersion, every_days: int) -> dict[str, Any]:
    return {
        "status": "completed",
        "outcome": str(Outcome.SKIPPED_NO_NEW_DATA),
        "outcome_reason": (
            f"{recent.model_id} was registered on {recent.created_at:%Y-%m-%d}; a new base is due "
            f"every {every_days} days."
        ),
        "model_id": None,
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Prepared:
    """Rows that were read and split, and what is noted in the result.

    `lost` is the champion where it cannot answer for the rows.
    """

    rows: PreparedRows
    notes: dict[str, Any]
    lost: LostChampion | None


def _prepared(
    store: Store, state: ServingState, request: TrainingRequest, *, from_table: bool
) -> _Prepared:
    settings, champion = request.settings, state.champion
    notes: dict[str, Any] = {}
    inputs = inputs_of(store, champion)
    if from_table:
        also = () if inputs is None else inputs.features
        data, report = ground_truth.read_truth(store, settings, also=also)
        notes["load_report"] = asdict(report)
    else:
        data = read_labelled(request.dataset, settings)
    parts = splits.split_stable(data, settings)
    until = splits.learned_until(data, parts.train)
    known = [] if inputs is None or settings.data.classes is not None else inputs.classes
    classes = class_order([*data.labels.tolist(), *known], settings.data)
    answers, lost = None, None
    if champion is not None:
        model = loaded(store, champion)
        parts = splits.unlearned(data, parts, champion.lineage.learned_until)
        if model is not None:
            learned = Champion(model_id=champion.model_id, model=model).entities()
            parts = splits.without_entities(data, parts, learned)
        if not len(parts.holdout):
            raise DataError(
                f"The champion has learned every row of {data.source}: none is left to judge on.",
                hint="Train again when newer rows have come.",
            )
        held = data.take(parts.holdout).frame
        try:
            answers = answers_for(store, champion, model, held, classes)
        except (ArtifactError, NotFound) as error:
            log.warning("The champion %s cannot be judged beside: %s", champion.model_id, error)
            lost = _lost(store, champion, Labels.of(settings.data), error.message)
    rows = PreparedRows(
        data=data, classes=classes, answers=answers, parts=parts, learned_until=until
    )
    return _Prepared(rows=rows, notes=notes, lost=lost)


def _lost(store: Store, champion: ModelVersion, labels: Labels, why: str) -> LostChampion:
    """Count what the champion answered, its best guess where it was not sure."""
    rows = right = 0
    for page in store.read_events(EVER, model_name=champion.model_name):
        own = page[page["model_id"] == champion.model_id]
        own = own[own["actual_result"].map(labels.find).notna()]
        guesses = own["metadata"].map(best_guess)
        answers = own["prediction"].where(own["prediction"] != UNCERTAIN, guesses)
        rows += len(own)
        right += sum(map(labels.agree, answers, own["actual_result"]))
    return LostChampion(model_id=champion.model_id, why=why, rows=rows, right=right)


def _registered(
    store: Store,
    state: ServingState,
    prepared: _Prepared,
    result: dict[str, Any],
    *,
    request: TrainingRequest,
) -> dict[str, Any]:
    """Judge the model beside the champion, register it, and say what came of it."""
    settings, now = request.settings, request.now
    evidence = Evidence.load(Path(result["evidence_path"]))
    held = prepared.rows.data.take(prepared.rows.parts.holdout)
    context = judging.JudgingContext(
        # Without answers of the champion there is nobody to be better than.
        champion_id=None if prepared.lost else state.champion_id,
        today=now.date(),
        held=state.held or _unknown_past(request, prepared),
        lost=prepared.lost,
        earlier=_earlier(store, state, held, evidence.labels),
    )
    verdict = judging.judge_evidence(evidence, result, settings, context)
    registration = Registration(
        store=store,
        settings=settings,
        answer=TrainerAnswer(
            result=result,
            model_path=Path(result["model_path"]),
            evidence_path=Path(result["evidence_path"]),
            sample_path=Path(result["model_path"]).with_name(SAMPLE_FILE),
        ),
        parent=state.head,
        clock=lambda: now,
    )
    champion_id = register_judged(registration, verdict, state, new_id=lambda: str(uuid4()))
    return {
        "outcome": str(verdict.decision.outcome),
        "outcome_reason": verdict.decision.sentence,
        "decision": verdict.decision.as_json(),
        "champion": champion_id,
        "recent": _recent(evidence, settings, now),
    }


def _unknown_past(request: TrainingRequest, prepared: _Prepared) -> str | None:
    """Why a person has to decide on a model that was brought from elsewhere."""
    if request.parent is None or prepared.rows.answers is None:
        return None
    return f"Waiting for approval: nobody here knows which rows {request.parent.path} was made of."


def _earlier(
    store: Store, state: ServingState, held: Dataset, classes: Sequence[str]
) -> dict[str, Floats]:
    """What the last champion of each former lineage predicts for the held-out rows."""
    if state.champion is None:
        return {}
    predicted: dict[str, Floats] = {}
    for version in _former_champions(store, state.champion)[:EARLIER_CHAMPIONS]:
        until = version.lineage.learned_until
        model = loaded(store, version)
        learned = None
        if model is not None:
            learned = Champion(model_id=version.model_id, model=model).entities()
        is_old = until is not None and held.times is not None and (held.times <= until).any()
        if is_old or (learned is not None and are_known(entities_of(held), learned).any()):
            log.warning(
                "The former champion %s is not compared: it has learned some of the rows",
                version.model_id,
            )
            continue
        try:
            predicted[version.model_id] = answers_for(store, version, model, held.frame, classes)
        except (ArtifactError, DataError, NotFound) as error:
            log.warning("The former champion %s is not compared: %s", version.model_id, error)
    return predicted


def _former_champions(store: Store, champion: ModelVersion) -> list[ModelVersion]:
    """The last champion of each lineage but the serving one, newest first."""
    name = champion.model_name
    models = {model.model_id: model for model in store.list_models(model_name=name)}
    newest: dict[str, ModelVersion] = {}
    for event in store.promotion_events(model_name=name):
        version = models.get(event.to_model_id)
        if version is not None and version.anchor_id != champion.anchor_id:
            newest.setdefault(version.anchor_id, version)
    return list(newest.values())


def _recent(evidence: Evidence, settings: Settings, now: datetime) -> dict[str, Any]:
    """Both models on the held-out rows of the last days."""
    window = settings.promotion.evaluation_window_days
    start = (now - timedelta(days=window)).date().toordinal()
    rows = np.flatnonzero(evidence.nights > start)
    recent: dict[str, Any] = {"days": window, "rows": len(rows)}
    if not len(rows):
        return recent
    actual = evidence.actual_labels()[rows]
    for name in ("challenger", "champion"):
        probabilities = getattr(evidence, name)
        if probabilities is not None:
            ordered = settings.data.ordered
            report = evaluate(
                actual,
                probabilities[rows],
                evidence.labels,
                ordered=ordered,
                weights=evidence.weights[rows],
            )
            recent[name] = report.summary()
    return recent
