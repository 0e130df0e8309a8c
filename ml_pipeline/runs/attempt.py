"""What happens inside a run: load, decide whether to train, train, judge, register, promote."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation import judging
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation_log.loading import LoadedLog, load_log, rows_for_experts
from ml_pipeline.evaluation_log.rules import LogRequest
from ml_pipeline.registry import models
from ml_pipeline.registry.registration import Registration, register_judged
from ml_pipeline.registry.serving_state import ServingState, serving_models, serving_state_of
from ml_pipeline.registry.trained import TrainerAnswer
from ml_pipeline.reports.review import Judged
from ml_pipeline.runs import manifest
from ml_pipeline.runs.processes import Stop
from ml_pipeline.runs.requests import ServedRequests
from ml_pipeline.runs.shadows import ShadowRun, pass_shadows
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import (
    LookbackWindow,
    ModelVersion,
    Outcome,
    RetrainingRun,
    day_start,
)
from ml_pipeline.training.trainer import ModelFile, TrainingJob, run_trainer

log = logging.getLogger("auto_reinforcement")

MIN_LABELLED_ROWS = 30
# Reading the registry, loading, training, judging, registering; bases in the shadow come after.
STAGES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Skip:
    """The run had nothing to do."""

    outcome: Outcome
    reason: str
    champion_id: str | None
    dataset_size: int
    details: Mapping[str, Any]

    def run_fields(self) -> dict[str, Any]:
        """What the run row says."""
        return {
            "outcome": self.outcome,
            "outcome_reason": self.reason,
            "champion_id": self.champion_id,
            "dataset_size": self.dataset_size,
            "details": self.details,
        }


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


@dataclass(kw_only=True, slots=True)
class Attempt:
    """One attempt at a night; `stage` says what it is doing, for the record of a failure."""

    store: Store
    settings: Settings
    run: RetrainingRun
    folder: Path
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    dry_run: bool
    stop: Stop
    served: ServedRequests
    stage: str = "starting"
    on_stage: Callable[[], None] = lambda: None
    loaded: LoadedLog | None = None
    known: Path | None = None
    standing: ServingState | None = None
    judged: Judged | None = None
    serving: tuple[str, ...] | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def make(self) -> AttemptResult | Skip:
        """Do the night. Raises PipelineError for every fault it knows."""
        self._enter("reading the registry")
        standing = self.standing = serving_state_of(self.store, self.settings.model_name)
        self._enter("loading the evaluation log")
        loaded = self.loaded = self._load(standing)
        standing = self.standing
        skip = self._why_not(standing, loaded)
        if skip is not None:
            return skip
        self._enter("training")
        model_id = self._model_id()
        self.known = rows_for_experts(
            self.store, self.settings, standing.head, self.folder, now=self.run.started_at
        )
        answer = self._train(standing, loaded, model_id)
        self._enter("judging")
        evidence = Evidence.load(answer.evidence_path)
        verdict = judging.judge_evidence(
            evidence,
            answer.result,
            self.settings,
            judging.JudgingContext(
                champion_id=standing.champion_id,
                today=self.run.started_at.date(),
                held=standing.held,
            ),
        )
        self.judged = Judged(evidence=evidence, verdict=verdict, line=answer.result.get("line"))
        self._enter("registering")
        # From here on it is a matter of seconds, and half of it would be hard to explain.
        self.stop.hold()
        sealed = self._sealed(self.standing, self.loaded)
        champion_id = self._register(self.standing, answer, verdict)
        champion_id = self._shadows(self.standing, champion_id)
        return AttemptResult(
            outcome=verdict.decision.outcome,
            reason=verdict.decision.sentence,
            champion_id=champion_id,
            challenger_id=model_id,
            dataset_size=loaded.report.errors,
            training_rows=answer.result["training_rows"],
            metrics=verdict.challenger.summary(),
            training_digest=answer.result["training_digest"],
            holdout_digest=verdict.holdout_digest,
            details=self._details(loaded)
            | {
                "capsule": sealed,
                "decision": verdict.decision.as_json(),
                "challenger_metrics": verdict.challenger.summary(),
                "champion_metrics": {} if verdict.champion is None else verdict.champion.summary(),
                "holdout_rows": verdict.challenger.rows,
                "ignored": answer.result["ignored"],
            },
        )

    def _sealed(self, standing: ServingState, loaded: LoadedLog) -> dict[str, Any]:
        """What the challenger can be built again from."""
        return manifest.environment(self.settings) | manifest.ingredients(
            head=standing.head,
            champion=standing.champion,
            learn_from=_day_after(standing.settled_night),
            days=manifest.days_of(loaded.labelled_path, self.settings),
            known=None if self.known is None else manifest.days_of(self.known, self.settings),
        )

    def known_fields(self) -> dict[str, Any]:
        """What a failed run can say of itself."""
        fields: dict[str, Any] = {}
        if self.standing is not None:
            fields["champion_id"] = self.standing.champion_id
        if self.loaded is not None:
            fields |= {
                "dataset_size": self.loaded.report.errors,
                "details": self._details(self.loaded),
            }
        return fields

    def _enter(self, stage: str) -> None:
        self.stage = stage
        log.info("Now %s", stage)
        self.on_stage()
        self._beat()

    def _beat(self) -> None:
        self.stop.check()
        if not self.dry_run:
            self.store.heartbeat(self.run.run_id, now=self.clock())
            self.served.renew()

    # ------------------------------------------------------------------------------ loading

    def _load(self, standing: ServingState) -> LoadedLog:
        self.serving = serving_models(self.store, self.settings.model_name)
        request = LogRequest(
            now=self.run.started_at,
            window=LookbackWindow.ending(self.run.started_at, days=self.settings.run.lookback_days),
            learn_from=_day_after(standing.settled_night),
            model_ids=self.serving,
            count_from=self._line_start(standing),
        )
        loaded = load_log(self.store, self.settings, request, self.folder)
        if standing.head is None or not _has_late_rows(standing.head, loaded):
            return loaded
        return self._load_again(standing, request, loaded)

    def _load_again(
        self, standing: ServingState, request: LogRequest, loaded: LoadedLog
    ) -> LoadedLog:
        """Rows of settled days turned up: take the line up again from its anchor."""
        if standing.champion is None:
            return loaded
        log.warning("Rows of days already learned have arrived: rebuilding the line")
        self.notes["rebuilt"] = True
        anchor = self.store.get_model(self.settings.model_name, standing.champion.anchor_id)
        rebuilt = ServingState(champion=standing.champion, head=anchor, held=standing.held)
        self.standing = rebuilt
        again = LogRequest(
            now=request.now,
            window=request.window,
            learn_from=_day_after(rebuilt.settled_night),
            model_ids=request.model_ids,
            count_from=request.count_from,
        )
        return load_log(self.store, self.settings, again, self.folder)

    def _line_start(self, standing: ServingState) -> datetime:
        """From where labelled rows are counted: late ones show by the count."""
        first = None if standing.head is None else standing.head.lineage.first_night
        if first is not None:
            return day_start(date.fromordinal(first))
        return _day_after(standing.settled_night) or day_start(date(1970, 1, 1))

    # ------------------------------------------------------------------------------ trigger

    def _why_not(self, standing: ServingState, loaded: LoadedLog) -> Skip | None:
        """A skip with its sentence, or None when there is something to learn."""
        run = self.settings.run
        errors, rows = loaded.report.errors, loaded.labelled_rows
        fresh = loaded.fresh_rows(self._learned_ids(standing))
        found = (
            f"{errors} confident errors (over {run.confidence_threshold:g}, in the last "
            f"{run.lookback_days:g} days)"
        )
        outcome, reason = Outcome.SKIPPED_INSUFFICIENT_ERRORS, ""
        if run.trigger == "errors" and errors < run.min_error_samples:
            reason = (
                f"{found}, {run.min_error_samples} are needed. {fresh} new labelled rows are "
                "waiting; run.trigger: labels learns from them without errors."
            )
        elif run.trigger == "labels" and fresh < MIN_LABELLED_ROWS:
            outcome = Outcome.SKIPPED_NO_NEW_DATA
            reason = f"{fresh} new labelled rows, {MIN_LABELLED_ROWS} are needed; {found}."
        elif fresh == 0:
            outcome = Outcome.SKIPPED_NO_NEW_DATA
            reason = f"{found}, but no labelled row that has not been learned already."
        elif standing.champion is None and rows < self.settings.training.min_training_samples:
            reason = (
                f"There is no champion yet, and {rows} labelled rows are too few for a first one "
                f"({self.settings.training.min_training_samples}). Register one trained elsewhere "
                "or wait for more outcomes."
            )
        if not reason:
            log.info("%s; %d new labelled rows to learn", found, fresh)
            return None
        return Skip(
            outcome=outcome,
            reason=reason,
            champion_id=standing.champion_id,
            dataset_size=errors,
            details=self._details(loaded) | {"waiting_rows": fresh},
        )

    def _learned_ids(self, standing: ServingState) -> frozenset[str]:
        if standing.head is None:
            return frozenset()
        return frozenset(standing.head.lineage.open_event_ids or ())

    def _details(self, loaded: LoadedLog) -> dict[str, Any]:
        return {
            "load_report": loaded.report.as_json(),
            "dataset_path": str(loaded.errors_path),
            "training_path": str(loaded.labelled_path),
            **self.notes,
        }

    # ----------------------------------------------------------------------------- training

    def _model_id(self) -> str:
        strategy = self.settings.training.strategy
        return f"{strategy}-{self.run.started_at:%Y%m%d-%H%M%S}-{self.run.run_id[:8]}"

    def _train(self, standing: ServingState, loaded: LoadedLog, model_id: str) -> TrainerAnswer:
        job = TrainingJob(
            dataset=loaded.labelled_path,
            folder=self.folder,
            model_id=model_id,
            settings=self.settings,
            today=self.run.started_at.astimezone(UTC).date().isoformat(),
            parent=self._fetch(standing.head),
            champion=self._fetch(standing.champion),
            known=self.known,
        )
        return run_trainer(job, heartbeat=self._beat)

    def _fetch(self, version: ModelVersion | None) -> ModelFile | None:
        if version is None:
            return None
        path = models.fetch_model(self.store, version, self.folder)
        return ModelFile(version=version, path=path)

    def _register(
        self, standing: ServingState, answer: TrainerAnswer, verdict: judging.Verdict
    ) -> str | None:
        """Register the challenger; return who serves afterwards."""
        if self.dry_run:
            promoted = verdict.decision.outcome is Outcome.PROMOTED
            return answer.result["model_id"] if promoted else standing.champion_id
        registration = Registration(
            store=self.store,
            settings=self.settings,
            answer=answer,
            parent=standing.head,
            clock=self.clock,
            run_id=self.run.run_id,
            labelled_by_day={} if self.loaded is None else self.loaded.labelled_by_day,
        )
        return register_judged(registration, verdict, standing, new_id=self.new_id)

    def _shadows(self, standing: ServingState, serving_id: str | None) -> str | None:
        """Bases in the shadow take their night after the champion's is safe; who serves then."""
        if self.dry_run or standing.champion is None or serving_id is None:
            return serving_id
        self._enter("trying new bases")
        told = pass_shadows(
            ShadowRun(
                store=self.store,
                settings=self.settings,
                folder=self.folder,
                started_at=self.run.started_at,
                clock=self.clock,
                new_id=self.new_id,
                beat=self._beat,
                is_stopped=lambda: self.stop.was_asked,
                run_id=self.run.run_id,
                served=standing.champion,
                serving_id=serving_id,
                held=standing.held,
            )
        )
        if told:
            self.notes["shadows"] = told
        promoted = [note["model_id"] for note in told if note["outcome"] == Outcome.PROMOTED]
        return promoted[-1] if promoted else serving_id


def _day_after(night: int | None) -> datetime | None:
    return None if night is None else day_start(date.fromordinal(night) + timedelta(days=1))


def _has_late_rows(head: ModelVersion, loaded: LoadedLog) -> bool:
    """Whether the log holds more rows of settled days than it did when they were learned."""
    lineage = head.lineage
    first, settled, learned = lineage.first_night, lineage.settled_night, lineage.log_rows
    if first is None or settled is None or learned is None:
        return False
    days = {day.toordinal(): count for day, count in loaded.labelled_by_day.items()}
    found: int = sum(count for day, count in days.items() if first <= day <= settled)
    is_whole = days.get(first, 0) >= (lineage.first_night_rows or 0)
    return found > learned and is_whole
