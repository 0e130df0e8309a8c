"""What happens inside a run: load, decide whether to train, train, judge, register, promote.

Two halves: what may be broken off anywhere (`train_and_judge`), and what has to be whole
(`register`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ml_pipeline.evaluation import judging
from ml_pipeline.evaluation.calibration import Answers
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.label_sample import LabelSample
from ml_pipeline.evaluation_log.frames import served_answers
from ml_pipeline.evaluation_log.known.rows import known_rows
from ml_pipeline.registry import models
from ml_pipeline.registry.in_database.publishing import refresh
from ml_pipeline.registry.registration import (
    Registration,
    forget_erased,
    register_judged,
    step_back_left_undone,
)
from ml_pipeline.registry.serving_state import ServingState
from ml_pipeline.registry.trained import TrainerAnswer
from ml_pipeline.reports.label_delays import delays, delays_json
from ml_pipeline.reports.labels_given import label_samples, refusal_of
from ml_pipeline.reports.review import Judged
from ml_pipeline.runs import manifest
from ml_pipeline.runs.context import Progress, RunContext
from ml_pipeline.runs.incumbent.answering import state_before
from ml_pipeline.runs.incumbent.beside import beside_of, record_of
from ml_pipeline.runs.preparing import Prepared, prepare
from ml_pipeline.runs.shadows import ShadowRun, take_on_shadows
from ml_pipeline.runs.trigger import Skip, known_rows_of, nothing_learned, reason_to_skip
from ml_pipeline.store.records import RUN_MANIFEST, ModelVersion, Outcome
from ml_pipeline.training.trainer import ModelFile, TrainingJob

log = logging.getLogger("auto_reinforcement")

# Reading the registry, loading, training, judging, registering; bases in the shadow come after.
STAGES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedChallenger:
    """A trained challenger that waits to be registered; `known` are the rows experts learned."""

    prepared: Prepared
    known: Path | None
    answer: TrainerAnswer
    verdict: judging.Verdict
    samples: list[LabelSample]

    def reason(self) -> str:
        """What the gate says, and that labels are no fair sample where it does not say so."""
        decision = self.verdict.decision
        refusal, warning = refusal_of(self.samples), self.samples[0].warning()
        is_there = refusal is not None and refusal in decision.sentence
        return (
            decision.sentence if warning is None or is_there else f"{decision.sentence} {warning}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptResult:
    """The run trained a challenger and judged it."""

    outcome: Outcome
    reason: str
    champion_id: str | None
    challenger_id: str
    dataset_size: int
    training_rows: int
    metrics: Mapping[str, float]
    training_digest: str
    holdout_digest: str
    details: Mapping[str, Any]

    def run_fields(self) -> dict[str, Any]:
        """What the run row says."""
        return {
            "outcome": self.outcome,
            "outcome_reason": self.reason,
            **{name: getattr(self, name) for name in (
                "champion_id", "challenger_id", "dataset_size", "training_rows",
                "metrics", "training_digest", "holdout_digest", "details",
            )},
        }  # fmt: skip


def train_and_judge(context: RunContext, progress: Progress) -> JudgedChallenger | Skip:
    """Do everything up to the verdict. Raises PipelineError for every fault it knows.

    What is found out on the way stands in `progress`, in case that the rest fails.
    """
    store, settings = context.store, context.settings
    progress.enter("reading the registry")
    progress.serving = state_before(store, settings)
    if not context.dry_run:
        progress.serving = step_back_left_undone(
            store,
            settings,
            progress.serving,
            now=context.clock(),
            event_id=context.new_id(),
        )
        refresh(store, settings)
    progress.enter("loading the evaluation log")
    prepared = progress.prepared = prepare(
        store, settings, progress.serving, context.folder, now=context.run.started_at
    )
    progress.serving = serving = prepared.serving
    if prepared.is_corrected and prepared.is_rebuilt and not prepared.loaded.labelled_rows:
        prepared = _without_what_was_erased(context, progress, prepared)
    skip = reason_to_skip(prepared, settings)
    if skip is not None:
        return _naming_the_step_back(skip, serving, progress.serving)
    progress.enter("training")
    known = known_rows(
        store,
        prepared.settings,
        prepared.serving.head,
        context.folder,
        now=context.run.started_at,
        restart_night=prepared.restart_night,
    )
    answer = _train(context, prepared, known)
    skip = nothing_learned(prepared, answer.result)
    if skip is not None:
        return skip
    progress.enter("judging")
    evidence = Evidence.load(answer.evidence_path)
    samples = label_samples(store, settings, prepared.loaded, now=context.run.started_at)
    verdict = _judge(context, prepared, answer, evidence, refusal_of(samples))
    shown = evidence
    if verdict.beside is not None:
        # The trainer compares with the model that it goes on from, which nobody is answered by.
        shown = replace(evidence, champion=None)
    progress.judged = Judged(
        evidence=shown, verdict=verdict, online_state=answer.result.get("line")
    )
    progress.enter("registering")
    return JudgedChallenger(
        prepared=prepared, known=known, answer=answer, verdict=verdict, samples=samples
    )


def _naming_the_step_back(skip: Skip, before: ServingState, now: ServingState) -> Skip:
    """A run that had nothing to learn may all the same have changed who serves."""
    if before.champion is None or now.champion is None or before.champion == now.champion:
        return skip
    reason = (
        f"{now.champion.model_id} serves again: every result that {before.champion.model_id} had "
        f"learned was erased or taken back. {skip.reason}"
    )
    return replace(skip, reason=reason, champion_id=now.champion.model_id)


def _without_what_was_erased(
    context: RunContext, progress: Progress, prepared: Prepared
) -> Prepared:
    """Nothing is left to learn again: the approved base serves."""
    if context.dry_run:
        return prepared
    progress.serving = forget_erased(
        context.store,
        context.settings,
        prepared.serving,
        now=context.clock(),
        event_id=context.new_id(),
        run_id=context.run.run_id,
    )
    progress.prepared = replace(
        prepared, serving=replace(progress.serving, head=prepared.serving.head)
    )
    return progress.prepared


def _train(context: RunContext, prepared: Prepared, known: Path | None) -> TrainerAnswer:
    run, strategy = context.run, context.settings.training.strategy
    job = TrainingJob(
        dataset=prepared.loaded.labelled_path,
        folder=context.folder,
        model_id=f"{strategy}-{run.started_at:%Y%m%d-%H%M%S}-{run.run_id[:8]}",
        settings=prepared.trained_by or context.settings,
        today=context.today.isoformat(),
        parent=_fetched(context, prepared.serving.head),
        champion=_fetched(context, prepared.serving.champion),
        known=known,
        restart_night=prepared.restart_night,
    )
    return context.train(job, heartbeat=context.beat)


def _fetched(context: RunContext, version: ModelVersion | None) -> ModelFile | None:
    if version is None:
        return None
    path = models.fetch_to_train(context.store, version, context.folder)
    return ModelFile(version=version, path=path)


def _judge(
    context: RunContext,
    prepared: Prepared,
    answer: TrainerAnswer,
    evidence: Evidence,
    unfair: str | None,
) -> judging.Verdict:
    judging_context = judging.JudgingContext(
        champion_id=prepared.serving.champion_id,
        today=context.run.started_at.date(),
        held=prepared.serving.held,
        unfair=unfair,
        beside=beside_of(context.store, prepared, evidence, answer.result),
    )
    return judging.judge_evidence(evidence, answer.result, context.settings, judging_context)


def register(
    context: RunContext, progress: Progress, challenger: JudgedChallenger
) -> AttemptResult:
    """Register the challenger, promote it if it may, then let the shadows take their turn.

    A matter of seconds but for the shadows, and half of it would be hard to explain.
    """
    prepared, verdict = challenger.prepared, challenger.verdict
    result, decision = challenger.answer.result, challenger.verdict.decision
    made_of, figures = _manifest(challenger), verdict.figures()
    champion_id = _register(context, challenger)
    champion_id, shadows = _take_on_shadows(context, progress, challenger, champion_id)
    return AttemptResult(
        outcome=decision.outcome,
        reason=challenger.reason()
        + taken_over(shadows)
        + prepared.what_waits()
        + prepared.proposed(),
        champion_id=champion_id,
        challenger_id=result["model_id"],
        dataset_size=prepared.loaded.report.errors,
        training_rows=result["training_rows"],
        metrics=figures["challenger_metrics"],
        training_digest=result["training_digest"],
        holdout_digest=verdict.holdout_digest,
        details={
            **prepared.details(),
            **({"shadows": shadows} if shadows else {}),
            RUN_MANIFEST: made_of,
            "decision": decision.as_json(),
            **record_of(verdict.beside),
            "label_sample": challenger.samples[0].as_json(),
            "label_delays": delays_json(
                delays(
                    context.store,
                    context.settings,
                    prepared.loaded.labelled_path,
                    now=context.run.started_at,
                )
            ),
            **figures,
            "ignored": result["ignored"],
            **known_rows_of(result),
        },
    )


def _manifest(challenger: JudgedChallenger) -> dict[str, Any]:
    """What the challenger can be built again from."""
    serving, settings = challenger.prepared.serving, challenger.prepared.settings
    known = challenger.known
    return manifest.environment(challenger.prepared.trained_by or settings) | manifest.ingredients(
        head=serving.head,
        champion=serving.champion,
        learn_from=challenger.prepared.learn_from,
        restart_night=challenger.prepared.restart_night,
        days=manifest.days_of(challenger.prepared.loaded.labelled_path, settings),
        known=None if known is None else manifest.days_of(known, settings),
    )


def _register(context: RunContext, challenger: JudgedChallenger) -> str | None:
    """Who serves afterwards; a dry run says who would."""
    serving, verdict = challenger.prepared.serving, challenger.verdict
    if context.dry_run:
        promoted = verdict.decision.outcome is Outcome.PROMOTED
        return challenger.answer.result["model_id"] if promoted else serving.champion_id
    registration = Registration(
        store=context.store,
        settings=context.settings,
        answer=challenger.answer,
        parent=serving.head,
        clock=context.clock,
        run_id=context.run.run_id,
        labelled_by_day=challenger.prepared.loaded.labelled_by_day,
        changes_by_day=challenger.prepared.loaded.changes_by_day,
        counted_from=challenger.prepared.counted_from,
        answers=_served_answers(context, challenger.prepared),
    )
    return register_judged(registration, verdict, serving, new_id=context.new_id)


def _served_answers(context: RunContext, prepared: Prepared) -> Answers | None:
    """What the lineage has answered of late, where the threshold is chosen on it."""
    is_theirs = context.settings.incumbent.serves  # what it answered is not the lineage's
    wanted = context.settings.prediction.target_accuracy
    if wanted is None or prepared.counted_ids is None or is_theirs:
        return None
    now = context.run.started_at
    return served_answers(context.store, prepared.settings, model_ids=prepared.counted_ids, now=now)


def _take_on_shadows(
    context: RunContext, progress: Progress, challenger: JudgedChallenger, serving_id: str | None
) -> tuple[str | None, list[dict[str, Any]]]:
    """Bases in the shadow come when the champion's turn is safe; who serves then, and notes."""
    prepared = challenger.prepared
    champion = prepared.serving.champion
    if context.dry_run or champion is None or serving_id is None or prepared.difference:
        return serving_id, []
    progress.enter("trying new bases")
    notes = take_on_shadows(
        ShadowRun(
            context=context,
            champion=champion,
            serving_id=serving_id,
            held=prepared.serving.held,
            unfair=refusal_of(challenger.samples),
        )
    )
    promoted = [note["model_id"] for note in notes if note["outcome"] == Outcome.PROMOTED]
    return (promoted[-1] if promoted else serving_id), notes


def taken_over(shadows: Sequence[Mapping[str, Any]]) -> str:
    """Which base from the shadow serves now, as a further sentence of a reason; '' for none.

    Whatever the gate said of the update, and who serves until then, was said before it.
    """
    promoted = [note for note in shadows if note["outcome"] == Outcome.PROMOTED]
    if not promoted:
        return ""
    last = promoted[-1]
    found = last["reason"].partition(": ")[2]
    sentence = f" Then {last['model_id']}, a new base from the shadow, was promoted: {found}"
    others = [note["model_id"] for note in shadows if "yields_to" in note]
    if others:
        are, they = ("is", "It goes") if len(others) == 1 else ("are", "They go")
        sentence += (
            f" {' and '.join(others)}, too, did better than the model that served, but less "
            f"surely. {they} on in the shadow and {are} compared with {last['model_id']} from the "
            "next day on."
        )
    return sentence
