"""Train with the store at hand: rows from its table of labels, and `--register`.

A model that is registered here is judged beside the serving champion, on rows that neither has
learned, and by the same gate as every other one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np

from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.kind import Kind
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets import ground_truth, splits
from ml_pipeline.datasets.dataset import Dataset, class_order, with_incumbent
from ml_pipeline.datasets.entities import are_known, entities_of
from ml_pipeline.datasets.features import unreadable
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
from ml_pipeline.store.inputs.incumbent_columns import own_features
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.opening import open_store
from ml_pipeline.store.records import EVER, ModelBrief, ModelVersion, Outcome
from ml_pipeline.training.job import train
from ml_pipeline.training.learned_rows import Champion, unseen_rows
from ml_pipeline.training.request import PreparedRows, TrainingRequest

log = logging.getLogger("registering")

# Former champions that a new base has to match; each is fetched and loaded.
EARLIER_CHAMPIONS: Final = 5


_AGAIN: Final = (
    "Train again when newer rows have come, with their results and before the next run learns "
    "them. Or set training.refit_every_days, to 1 for now: `ml-pipeline run` then trains a base "
    "from the log and tries it beside the champion, on results to come."
)


class NothingUnseen(DataError):
    """The champion has learned every row that is there to judge on."""


def train_with_store(
    request: TrainingRequest,
    *,
    from_table: bool,
    register: bool,
    every_days: int,
    ask_first: Callable[[Store], str | None] = lambda _: None,
) -> dict[str, Any]:
    """`train --from-table` and `train --register`; returns what `train` prints.

    Nothing is trained when a base was registered so in the last `every_days` days. `ask_first` says
    why a person has to decide on it, if one has to.
    """
    settings = request.settings
    store = open_store(load_store_settings(request.local))
    try:
        recent = _last_base(store, settings, request.now, timedelta(days=every_days))
        if recent is not None:
            return _skipped(recent, every_days)
        state = serving_state_of(store, settings.model_name)
        prepared = _prepared(store, state, request, from_table=from_table)
        result = train(request, prepared.rows) | prepared.notes
        if register:
            held = prepared.unknown_past or ask_first(store)
            prepared = replace(prepared, unknown_past=held)
            result |= judged(store, state, prepared, result, request=request)
        return result
    finally:
        store.close()


def _last_base(
    store: Store, settings: Settings, now: datetime, within: timedelta
) -> ModelBrief | None:
    """A base that was registered by this command lately; runs register theirs as runs.

    One that a wrong clock dated ahead shall not stand in the way until then.
    """
    for model in store.list_models_in_brief(model_name=settings.model_name):
        is_recent = abs(now - model.created_at) < within
        if is_recent and model.anchor_id == model.model_id and not model.run_id:
            return model
    return None


def _skipped(recent: ModelBrief, every_days: int) -> dict[str, Any]:
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
class Prepared:
    """Rows that were read and split, and what is noted in the result.

    `lost` is the champion where it cannot answer for the rows, `unknown_past` says why a person has
    to decide on a model that was brought from elsewhere.
    """

    rows: PreparedRows
    notes: dict[str, Any]
    lost: LostChampion | None
    unknown_past: str | None = None


def _prepared(
    store: Store, state: ServingState, request: TrainingRequest, *, from_table: bool
) -> Prepared:
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
    if request.trains_incumbent:
        data = with_incumbent(data, settings.data, classes)
    rows = PreparedRows(
        data=data,
        classes=classes,
        answers=None,
        parts=parts,
        learned_until=until,
    )
    rows, lost = beside(store, champion, rows, settings, _AGAIN)
    unknown_past = None
    if request.parent is not None and champion is not None:
        unknown_past = unknown_rows(request.parent.path)
    return Prepared(rows=rows, notes=notes, lost=lost, unknown_past=unknown_past)


def unknown_rows(path: Path) -> str:
    """Why a person has to decide on the model of that file."""
    return f"Waiting for approval: nobody here knows which rows {path} was made of."


def beside(
    store: Store,
    champion: ModelVersion | None,
    rows: PreparedRows,
    settings: Settings,
    again: str,
) -> tuple[PreparedRows, LostChampion | None]:
    """The rows that the champion has not learned with its answers, or why it cannot answer.

    Raises NothingUnseen when it has learned all of them, with `again` for what to do.
    """
    if champion is None:
        return rows, None
    data, model = rows.data, loaded(store, champion)
    parts = splits.unlearned(data, rows.parts, champion.lineage.learned_until)
    if model is not None:
        unseen = unseen_rows(data, Champion(model_id=champion.model_id, model=model))
        parts = replace(parts, holdout=parts.holdout[unseen[parts.holdout]])
    if not len(parts.holdout):
        raise NothingUnseen(
            f"The champion has learned every row of {data.source}: none is left to judge on.",
            hint=again,
        )
    answers, lost = None, None
    held = data.take(parts.holdout).frame
    try:
        answers = answers_for(store, champion, model, held, rows.classes)
    except (ArtifactError, NotFound) as error:
        log.warning("The champion %s cannot be judged beside: %s", champion.model_id, error)
        lost = _lost(store, champion, Labels.of(settings.data), error.message)
    return replace(rows, parts=parts, answers=answers), lost


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


def judged(  # noqa: PLR0913 - what is judged, and whether it is registered
    store: Store,
    state: ServingState,
    prepared: Prepared,
    result: dict[str, Any],
    *,
    request: TrainingRequest,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Judge the model beside the champion, register it unless `dry_run`; say what came of it."""
    settings, now = request.settings, request.now
    evidence = Evidence.load(Path(result["evidence_path"]))
    held = prepared.rows.data.take(prepared.rows.parts.holdout)
    context = judging.JudgingContext(
        # Without answers of the champion there is nobody to be better than.
        champion_id=None if prepared.lost else state.champion_id,
        today=now.date(),
        held=state.held or prepared.unknown_past,
        lost=prepared.lost,
        outgrown=_outgrown(store, state, held),
        earlier=_earlier(store, state, held, evidence.labels),
    )
    verdict = judging.judge_evidence(evidence, result, settings, context)
    champion_id = state.champion_id
    if not dry_run:
        registration = registration_of(store, state, result, request)
        champion_id = register_judged(registration, verdict, state, new_id=lambda: str(uuid4()))
    return {
        "outcome": str(verdict.decision.outcome),
        "outcome_reason": verdict.decision.sentence,
        "decision": verdict.decision.as_json(),
        "champion": champion_id,
        "recent": _recent(evidence, settings, now),
    }


def _outgrown(store: Store, state: ServingState, held: Dataset) -> str | None:
    """Why the champion cannot learn such rows: for what it reads, or for what classes it knows."""
    inputs = inputs_of(store, state.champion)
    if inputs is None:
        return None
    own = own_features(inputs.features)
    reads = ", ".join(name for name in own if _is_gone(held, name, inputs.kinds[name]))
    new = ", ".join(sorted({*held.labels.tolist()} - {*inputs.classes}))
    reasons = [f"reads {reads} as these results no longer have it"] if reads else []
    reasons += [f"does not know the class {new}"] if new else []
    return f"The model that serves {' and '.join(reasons)}, and cannot learn." if reasons else None


def _is_gone(held: Dataset, name: str, kind: Kind) -> bool:
    """Whether no row has a feature any more, or one has it as something else."""
    if name not in held.frame.columns:
        return True
    cells = held.frame[name]
    return bool((cells.fillna("") == "").all() or unreadable(cells, kind).any())


def registration_of(
    store: Store, state: ServingState, result: dict[str, Any], request: TrainingRequest
) -> Registration:
    """What was written into the request's folder, on its way into the registry."""
    return Registration(
        store=store,
        settings=request.settings,
        answer=TrainerAnswer(
            result=result,
            model_path=Path(result["model_path"]),
            evidence_path=Path(result["evidence_path"]),
            sample_path=Path(result["model_path"]).with_name(SAMPLE_FILE),
        ),
        parent=state.head,
        clock=lambda: request.now,
    )


def _earlier(
    store: Store, state: ServingState, held: Dataset, classes: Sequence[str]
) -> dict[str, Floats]:
    """What the last champion of each former lineage predicts for the held-out rows."""
    if state.champion is None:
        return {}
    predicted: dict[str, Floats] = {}
    for version in former_champions(store, state.champion, EARLIER_CHAMPIONS):
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


def former_champions(store: Store, champion: ModelVersion, most: int) -> list[ModelVersion]:
    """The last champion of each lineage but the serving one, newest first."""
    name = champion.model_name
    anchors = {m.model_id: m.anchor_id for m in store.list_models_in_brief(model_name=name)}
    newest: dict[str, str] = {}
    for event in store.promotion_events(model_name=name):
        anchor = anchors.get(event.to_model_id, champion.anchor_id)
        if anchor != champion.anchor_id:
            newest.setdefault(anchor, event.to_model_id)
    return [store.get_model(name, model_id) for model_id in islice(newest.values(), most)]


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
