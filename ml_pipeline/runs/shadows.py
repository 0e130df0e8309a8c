"""Bases in the shadow: new ones are trained every so often, and learn unseen beside the champion.

Each has a live line of its own and is held against whoever served, night by night, on rows that
neither has learned. When the evidence decides, it replaces the champion or is given up. A new base
comes twice, with fresh heads and with those of the serving line: the evidence decides that too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import PipelineError
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.gate import PromotionDecision, judge_shadow, undecided_shadow
from ml_pipeline.evaluation.ledger import champion_record
from ml_pipeline.evaluation.metrics import evaluate
from ml_pipeline.evaluation_log import loading
from ml_pipeline.evaluation_log.rules import LogRequest
from ml_pipeline.registry import models
from ml_pipeline.registry.champion import change_champion
from ml_pipeline.registry.registration import Registration
from ml_pipeline.registry.trained import Sample, TrainerAnswer
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import (
    LookbackWindow,
    ModelState,
    ModelVersion,
    Outcome,
    PromotionKind,
    day_start,
)
from ml_pipeline.training.trainer import ModelFile, TrainingJob, run_trainer

log = logging.getLogger("shadows")

HEADS: Final = ("fresh", "carried")
_STATES: Final = {
    None: ModelState.SHADOW,
    Outcome.PROMOTED: ModelState.CANDIDATE,
    Outcome.AWAITING_APPROVAL: ModelState.AWAITING,
    Outcome.REJECTED: ModelState.RETIRED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ShadowRun:
    """What the shadows need of a run: who served before it, and who does by now."""

    store: Store
    settings: Settings
    folder: Path
    started_at: datetime
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    beat: Callable[[], None]
    is_stopped: Callable[[], bool]
    run_id: str
    served: ModelVersion
    serving_id: str
    held: str | None

    @property
    def today(self) -> date:
        """The UTC day of the run."""
        return self.started_at.astimezone(UTC).date()


def pass_shadows(night: ShadowRun) -> list[dict[str, Any]]:
    """Take every shadow on by the night, and train new ones when they are due; say what happened.

    A shadow that fails is told and left where it stands: the champion's night is done.
    """
    told: list[dict[str, Any]] = []
    serving_id = night.serving_id
    for shadow in standing_shadows(night.store, night.served):
        if night.is_stopped():
            log.warning("Somebody asked for an end: the shadows left wait for the next run")
            return told
        try:
            note = _take_on(replace(night, serving_id=serving_id), shadow)
        except PipelineError as error:
            log.warning("The shadow %s failed tonight: %s", shadow.model_id, error)
            note = {"model_id": shadow.model_id, "outcome": "failed", "reason": str(error)}
        told.append(note)
        if note["outcome"] == Outcome.PROMOTED:
            serving_id = note["model_id"]
    if serving_id == night.serving_id and not night.is_stopped() and is_due(night):
        told += _births(night)
    return told


def standing_shadows(store: Store, champion: ModelVersion) -> list[ModelVersion]:
    """The newest member of each shadow's line that has not been decided on."""
    newest: dict[str, ModelVersion] = {}
    for model in store.list_models(model_name=champion.model_name):
        if model.lineage.shadow_since is not None and model.state is not ModelState.CANDIDATE:
            newest.setdefault(model.anchor_id, model)
    return [
        model
        for anchor_id, model in newest.items()
        if anchor_id != champion.anchor_id and model.state is ModelState.SHADOW
    ]


def is_due(night: ShadowRun) -> bool:
    """Whether a new base has to be trained: so many days after the last one was."""
    every = night.settings.training.refit_every_days
    if every is None:
        return False
    anchor = night.store.get_model(night.served.model_name, night.served.anchor_id)
    births = [anchor.created_at.astimezone(UTC).date()]
    births += [
        model.lineage.shadow_since
        for model in night.store.list_models(model_name=night.served.model_name)
        if model.lineage.shadow_since is not None
    ]
    return (night.today - max(births)).days >= every


# ------------------------------------------------------------------------------- one night


def _take_on(night: ShadowRun, shadow: ModelVersion) -> dict[str, Any]:
    folder = night.folder / f"shadow-{shadow.anchor_id}"
    dataset = _rows_since(night, shadow.lineage.settled_night, folder)
    answer = _train(
        night,
        dataset,
        folder,
        f"shadow-{night.started_at:%Y%m%d-%H%M%S}-{night.new_id()[:8]}",
        {"other_base": "true"},
        head=shadow,
        known=_rows_for_experts(night, shadow, folder),
    )
    ledger = np.asarray(answer.result["line"]["ledger"], dtype=np.float64)
    record = champion_record(
        ledger,
        today=night.today.toordinal(),
        window_days=night.settings.promotion.evaluation_window_days,
    )
    decision = judge_shadow(record, night.settings.promotion, held=night.held)
    version = _register(night, answer, decision, parent=shadow)
    note = {
        "model_id": version.model_id,
        "base": shadow.anchor_id,
        "heads": shadow.lineage.shadow_heads,
        "outcome": "undecided" if decision is None else str(decision.outcome),
        "reason": undecided_shadow(record, night.settings.promotion)
        if decision is None
        else decision.sentence,
    }
    log.info("Shadow %s: %s. %s", shadow.anchor_id, note["outcome"], note["reason"])
    return note


def _rows_since(night: ShadowRun, settled: int | None, folder: Path) -> Path:
    """The labelled rows of the days after `settled`, as a CSV in the order of learning."""
    if settled is None:
        return loading.load_known(night.store, night.settings, folder, now=night.started_at)
    request = LogRequest(
        now=night.started_at,
        window=LookbackWindow.ending(night.started_at, days=night.settings.run.lookback_days),
        learn_from=day_start(date.fromordinal(settled) + timedelta(days=1)),
        model_ids=None,
    )
    return loading.load_log(night.store, night.settings, request, folder).labelled_path


def _rows_for_experts(night: ShadowRun, shadow: ModelVersion, folder: Path) -> Path | None:
    # A shadow's line is an adaptive one, whatever strategy made its base.
    settings = night.settings.changed({"training.strategy": "adaptive"})
    return loading.rows_for_experts(night.store, settings, shadow, folder, now=night.started_at)


def _train(  # noqa: PLR0913 - a job has that many parts
    night: ShadowRun,
    dataset: Path,
    folder: Path,
    model_id: str,
    extra: Mapping[str, str],
    *,
    head: ModelVersion,
    known: Path | None = None,
) -> TrainerAnswer:
    strategy = "refit" if "new_base" in extra else "adaptive"
    job = TrainingJob(
        dataset=dataset,
        folder=folder,
        model_id=model_id,
        settings=night.settings.changed({"training.strategy": strategy}),
        today=night.today.isoformat(),
        parent=_fetched(night, head, folder),
        champion=_fetched(night, night.served, folder),
        known=known,
        extra=extra,
    )
    return run_trainer(job, heartbeat=night.beat)


def _fetched(night: ShadowRun, version: ModelVersion, folder: Path) -> ModelFile:
    path = models.fetch_model(night.store, version, folder)
    return ModelFile(version=version, path=path)


def _register(
    night: ShadowRun,
    answer: TrainerAnswer,
    decision: PromotionDecision | None,
    *,
    parent: ModelVersion,
    heads: str | None = None,
) -> ModelVersion:
    """Store and register it; promote it if it may. `heads` are a new base's."""
    registration = Registration(
        store=night.store,
        settings=night.settings,
        answer=answer,
        parent=parent,
        clock=night.clock,
        run_id=night.run_id,
    )
    state = _STATES[None if decision is None else decision.outcome]
    version = registration.stored(state=state, metrics=_metrics(answer, night.settings))
    lineage = replace(
        version.lineage,
        shadow_since=parent.lineage.shadow_since if heads is None else night.today,
        shadow_heads=parent.lineage.shadow_heads if heads is None else heads,
    )
    version = replace(version, lineage=lineage)
    night.store.register(version)
    if decision is not None and decision.outcome is Outcome.PROMOTED:
        return change_champion(
            night.store,
            target=version,
            expected=night.serving_id,
            kind=PromotionKind.PROMOTION,
            reason=decision.sentence,
            actor="gate",
            now=night.clock(),
            event_id=night.new_id(),
            run_id=night.run_id,
            sample=Sample.load(answer.sample_path),
            verdict=decision.as_json(),
        )
    return version


def _metrics(answer: TrainerAnswer, settings: Settings) -> dict[str, float]:
    """The night's figures; a shadow without a new row has none."""
    evidence = Evidence.load(answer.evidence_path)
    if not len(evidence):
        return {}
    actual, ordered = evidence.actual_labels(), settings.data.ordered
    return evaluate(actual, evidence.challenger, evidence.labels, ordered=ordered).summary()


# -------------------------------------------------------------------------------- new bases


def _births(night: ShadowRun) -> list[dict[str, Any]]:
    """Train a base on every settled row, once with fresh heads and once with the line's."""
    told: list[dict[str, Any]] = []
    folder = night.folder / "new-base"
    try:
        dataset = _rows_since(night, None, folder)
        # The heads to carry are those that serve by now.
        serving = night.store.get_model(night.served.model_name, night.serving_id)
        for heads in HEADS:
            model_id = f"base-{heads}-{night.started_at:%Y%m%d-%H%M%S}-{night.new_id()[:8]}"
            answer = _train(night, dataset, folder, model_id, {"new_base": heads}, head=serving)
            version = _register(night, answer, None, parent=night.served, heads=heads)
            told.append(
                {
                    "model_id": version.model_id,
                    "base": version.model_id,
                    "heads": heads,
                    "outcome": "born",
                    "reason": f"a new base from {answer.result['training_rows']} rows",
                }
            )
    except PipelineError as error:
        log.warning("A new base is due and could not be trained: %s", error)
        told.append({"model_id": None, "outcome": "failed", "reason": str(error)})
    return told
