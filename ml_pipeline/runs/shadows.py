"""Bases in the shadow: new ones are trained every so often, and learn unseen beside the champion.

Each has an online model of its own and is held against whoever served, day by day, on rows that
neither has learned. When the evidence decides, it replaces the champion or is given up. A new base
comes twice, with fresh heads and with those of the serving model: the evidence decides that too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import numpy as np

from ml_pipeline.config.kind import Kind
from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import PipelineError
from ml_pipeline.evaluation.betting import Wealth
from ml_pipeline.evaluation.checks import sequence_bounds
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.gate import (
    PromotionDecision,
    judge_shadow,
    undecided_shadow,
    unless_unfair,
)
from ml_pipeline.evaluation.ledger import LEDGER_COLUMNS, champion_record
from ml_pipeline.evaluation.metrics import evaluate
from ml_pipeline.evaluation.sentences import counted
from ml_pipeline.evaluation_log import loading
from ml_pipeline.evaluation_log.known.rows import known_rows
from ml_pipeline.registry import models
from ml_pipeline.registry.champion import change_champion
from ml_pipeline.registry.model_inputs import inputs_of
from ml_pipeline.registry.registration import Registration
from ml_pipeline.registry.serving_state import serves_since
from ml_pipeline.registry.trained import Sample, TrainerAnswer
from ml_pipeline.runs.context import RunContext
from ml_pipeline.runs.preparing import UnlearnedRows, unlearned_rows
from ml_pipeline.store.contract import ModelRegistry, Store
from ml_pipeline.store.records import (
    ModelBrief,
    ModelState,
    ModelVersion,
    Outcome,
    PromotionKind,
)
from ml_pipeline.training.trainer import ModelFile, TrainingJob

log = logging.getLogger("shadows")

NOTHING_NEW: Final = "Not decided yet: no new result has come in to compare it on."
_STATES: Final = {
    None: ModelState.SHADOW,
    Outcome.PROMOTED: ModelState.CANDIDATE,
    Outcome.AWAITING_APPROVAL: ModelState.AWAITING,
    Outcome.REJECTED: ModelState.RETIRED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ShadowRun:
    """The shadows' turn in a run: the `champion` before it, and which model serves by now.

    `held` says why a person has to decide what serves next, if one has to, `unfair` why the results
    are nothing to promote on unasked. `serves_since` is the day since which the champion's base
    serves, None where no other served before.
    """

    context: RunContext
    champion: ModelVersion
    serving_id: str
    held: str | None
    unfair: str | None = None
    serves_since: int | None = None


def take_on_shadows(turn: ShadowRun) -> list[dict[str, Any]]:
    """Take every shadow on by the new rows, and train new ones when due; a note for each.

    One is promoted at most, the one that is better by the surest margin. A shadow that fails is
    noted and left where it was: the champion's part of the run is done.
    """
    context, store = turn.context, turn.context.store
    compared: dict[str, Compared] = {}
    notes: dict[str, dict[str, Any]] = {}
    shadows = undecided_shadows(store, turn.champion)
    if shadows:
        turn = replace(turn, serves_since=serves_since(store, turn.champion))
    for shadow in shadows:
        if context.stop.was_asked:
            log.warning("Somebody asked for an end: the shadows left wait for the next run")
            break
        with _noting_failure(notes, shadow):
            one = _compare(turn, shadow)
            if one is None:
                notes[shadow.model_id] = _note(shadow, "undecided", NOTHING_NEW)
            else:
                compared[shadow.model_id] = one
    # What the others have proven is against a champion that serves no more.
    promoted: str | None = None
    for one in sorted(compared.values(), key=lambda one: -one.surely):
        with _noting_failure(notes, one.shadow):
            note = notes[one.shadow.model_id] = _decide(turn, one, promoted)
            promoted = note["model_id"] if note["outcome"] == Outcome.PROMOTED else promoted
    taken_on = [notes[shadow.model_id] for shadow in shadows if shadow.model_id in notes]
    if promoted is None and not context.stop.was_asked and is_due(turn):
        taken_on += _train_new_bases(turn)
    return taken_on


@contextmanager
def _noting_failure(notes: dict[str, dict[str, Any]], shadow: ModelVersion) -> Iterator[None]:
    try:
        yield
    except PipelineError as error:
        log.warning("The shadow %s failed in this run: %s", shadow.model_id, error)
        notes[shadow.model_id] = {
            "model_id": shadow.model_id,
            "outcome": "failed",
            "reason": str(error),
        }


def undecided_shadows(store: ModelRegistry, champion: ModelVersion) -> list[ModelVersion]:
    """The newest member of each shadow's lineage that has not been decided on."""
    newest: dict[str, ModelBrief] = {}
    for model in store.list_models_in_brief(model_name=champion.model_name):
        if model.shadow_since is not None and model.state is not ModelState.CANDIDATE:
            newest.setdefault(model.anchor_id, model)
    return [
        store.get_model(champion.model_name, model.model_id)
        for anchor_id, model in newest.items()
        if anchor_id != champion.anchor_id and model.state is ModelState.SHADOW
    ]


def is_due(turn: ShadowRun) -> bool:
    """Whether a new base has to be trained: so many days after the last one was.

    One that a wrong clock dated ahead does not count until then.
    """
    store, name = turn.context.store, turn.champion.model_name
    every = turn.context.settings.training.refit_every_days
    if every is None:
        return False
    anchor = store.get_model(name, turn.champion.anchor_id)
    since = [model.shadow_since for model in store.list_models_in_brief(model_name=name)]
    begun = [anchor.created_at.astimezone(UTC).date(), *(day for day in since if day is not None)]
    return all(abs((turn.context.today - day).days) >= every for day in begun)


# ------------------------------------------------------------------------------ one shadow


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """A shadow that was taken on from its `head` by new rows, and what its record says by now."""

    shadow: ModelVersion
    head: ModelVersion
    rows: UnlearnedRows
    answer: TrainerAnswer
    decision: PromotionDecision | None
    undecided: str
    surely: float


def _compare(turn: ShadowRun, shadow: ModelVersion) -> Compared | None:
    """The shadow after the new rows; None without one."""
    context = turn.context
    # A shadow is an online model, whatever strategy made its base.
    settings = context.settings.changed({"training.strategy": "adaptive"})
    inputs = inputs_of(context.store, shadow)
    settings = settings if inputs is None else inputs.reading(settings)
    folder = context.folder / f"shadow-{shadow.anchor_id}"
    now = context.run.started_at
    rows = unlearned_rows(context.store, settings, shadow, folder, now=now, model_ids=None)
    if not rows.loaded.labelled_rows:
        return None
    head, since = rows.head or shadow, turn.serves_since
    answer = _train(
        turn,
        rows.loaded.labelled_path,
        _new_model_id(context, "shadow"),
        {"other_base": "true"} | ({} if since is None else {"compared_from": str(since)}),
        head=head,
        known=known_rows(
            context.store, settings, head, folder, now=now, restart_night=rows.restart_night
        ),
        restart_night=rows.restart_night,
    )
    record = champion_record(
        np.asarray(answer.result["line"]["ledger"], dtype=np.float64).reshape(
            -1, len(LEDGER_COLUMNS)
        ),
        Wealth.from_list(answer.result["line"]["wealth"]),
        today=context.today.toordinal(),
        window_days=settings.promotion.evaluation_window_days,
        compared_from=since,
    )
    decision = judge_shadow(record, settings.promotion, held=turn.held)
    return Compared(
        shadow=shadow,
        head=head,
        rows=rows,
        answer=answer,
        decision=None if decision is None else unless_unfair(decision, turn.unfair),
        undecided=undecided_shadow(record, settings.promotion),
        surely=sequence_bounds(record.everything, settings.promotion).lower,
    )


def _decide(turn: ShadowRun, one: Compared, promoted: str | None) -> dict[str, Any]:
    """Register it as what it is by now; in the shadow still where another was promoted."""
    decision, also = one.decision, {}
    outcome, reason = "undecided", one.undecided
    if promoted is not None and decision is not None and decision.outcome is Outcome.PROMOTED:
        decision, also = None, {"yields_to": promoted}
        reason = (
            "Not decided yet: it, too, did better than the model that served, but less surely than "
            f"{promoted}, which serves now. From the next day on it is compared with that one."
        )
    elif decision is not None:
        outcome, reason = str(decision.outcome), decision.sentence
    version = _register(turn, one.answer, decision, parent=one.head, rows=one.rows)
    return _note(replace(one.shadow, model_id=version.model_id), outcome, reason) | also


def _note(shadow: ModelVersion, outcome: str, reason: str) -> dict[str, Any]:
    log.info("Shadow %s: %s. %s", shadow.anchor_id, outcome, reason)
    return {
        "model_id": shadow.model_id,
        "base": shadow.anchor_id,
        "heads": shadow.lineage.shadow_heads,
        "outcome": outcome,
        "reason": reason,
    }


def _heads_to_try(store: Store, serving: ModelVersion) -> tuple[str, ...]:
    """Fresh heads, and those that serve where they mean the same on another base.

    What heads see of a level or an instant is numbered by their base.
    """
    inputs = inputs_of(store, serving)
    are_numbers = inputs is not None and set(inputs.kinds.values()) <= {Kind.NUMBER, Kind.BOOLEAN}
    return ("fresh", "carried") if are_numbers else ("fresh",)


def _train_new_bases(turn: ShadowRun) -> list[dict[str, Any]]:
    """Train a base on every settled row, once with fresh heads and once with the serving ones."""
    context = turn.context
    notes: list[dict[str, Any]] = []
    try:
        # The heads to carry are those that serve by now.
        serving = context.store.get_model(turn.champion.model_name, turn.serving_id)
        known = loading.load_known(
            context.store,
            context.settings,
            serving,
            context.folder / "new-base",
            now=context.run.started_at,
        )
        for heads in _heads_to_try(context.store, serving):
            model_id = _new_model_id(context, f"base-{heads}")
            answer = _train(turn, known.labelled_path, model_id, {"new_base": heads}, head=serving)
            version = _register(turn, answer, None, parent=turn.champion, heads=heads)
            rows = counted(answer.result["training_rows"], "result")
            note = {
                "model_id": version.model_id,
                "base": version.model_id,
                "heads": heads,
                "outcome": "born",
                "reason": f"A new base, trained on {rows}; it is compared from the next run on.",
            }
            notes.append(note)
    except PipelineError as error:
        log.warning("A new base is due and could not be trained: %s", error)
        notes.append({"model_id": None, "outcome": "failed", "reason": str(error)})
    return notes


# ----------------------------------------------------------------------------- its training


def _new_model_id(context: RunContext, kind: str) -> str:
    return f"{kind}-{context.run.started_at:%Y%m%d-%H%M%S}-{context.new_id()[:8]}"


def _train(  # noqa: PLR0913 - a job has that many parts
    turn: ShadowRun,
    dataset: Path,
    model_id: str,
    extra: Mapping[str, str],
    *,
    head: ModelVersion,
    known: Path | None = None,
    restart_night: int | None = None,
) -> TrainerAnswer:
    context, folder = turn.context, dataset.parent
    strategy = "refit" if "new_base" in extra else "adaptive"
    job = TrainingJob(
        dataset=dataset,
        folder=folder,
        model_id=model_id,
        settings=context.settings.changed({"training.strategy": strategy}),
        today=context.today.isoformat(),
        parent=_fetched(context, head, folder),
        champion=_fetched(context, turn.champion, folder),
        known=known,
        restart_night=restart_night,
        extra=extra,
    )
    return context.train(job, heartbeat=context.beat)


def _fetched(context: RunContext, version: ModelVersion, folder: Path) -> ModelFile:
    path = models.fetch_to_train(context.store, version, folder)
    return ModelFile(version=version, path=path)


def _register(  # noqa: PLR0913 - a row has that many parts
    turn: ShadowRun,
    answer: TrainerAnswer,
    decision: PromotionDecision | None,
    *,
    parent: ModelVersion,
    heads: str | None = None,
    rows: UnlearnedRows | None = None,
) -> ModelVersion:
    """Store and register it; promote it if it may. `heads` are a new base's, `rows` a shadow's."""
    context = turn.context
    registration = Registration(
        store=context.store,
        settings=context.settings,
        answer=answer,
        parent=parent,
        clock=context.clock,
        run_id=context.run.run_id,
        labelled_by_day={} if rows is None else rows.loaded.labelled_by_day,
        changes_by_day=None if rows is None else rows.loaded.changes_by_day,
        counted_from=None if rows is None else rows.counted_from,
    )
    state = _STATES[None if decision is None else decision.outcome]
    version = registration.stored(state=state, metrics=_metrics(answer, context.settings))
    lineage = replace(
        version.lineage,
        shadow_since=parent.lineage.shadow_since if heads is None else context.today,
        shadow_heads=parent.lineage.shadow_heads if heads is None else heads,
    )
    version = replace(version, lineage=lineage)
    context.store.register(version)
    if decision is not None and decision.outcome is Outcome.PROMOTED:
        return change_champion(
            context.store,
            context.settings,
            target=version,
            expected=turn.serving_id,
            kind=PromotionKind.PROMOTION,
            reason=decision.sentence,
            actor="gate",
            now=context.clock(),
            event_id=context.new_id(),
            run_id=context.run.run_id,
            sample=Sample.load(answer.sample_path),
            verdict=decision.as_json(),
        )
    return version


def _metrics(answer: TrainerAnswer, settings: Settings) -> dict[str, float]:
    """The figures on the new rows; a shadow without a new row has none."""
    evidence = Evidence.load(answer.evidence_path)
    if not len(evidence):
        return {}
    actual, ordered = evidence.actual_labels(), settings.data.ordered
    report = evaluate(
        actual, evidence.challenger, evidence.labels, ordered=ordered, weights=evidence.weights
    )
    return report.summary()
