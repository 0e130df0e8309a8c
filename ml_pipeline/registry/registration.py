"""After the verdict: bytes, model row, promotion, in this order.

Used by the nightly run, by `train --register` and by the demo, so that every model enters the
registry through the same door.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import Any

from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation.evidence import Evidence, calibrate
from ml_pipeline.evaluation.judging import Verdict
from ml_pipeline.registry.champion import ServingState, change_champion
from ml_pipeline.registry.models import (
    MODEL_BUCKET,
    SCORING_FILE,
    Sample,
    TrainerAnswer,
    artifact_path,
    scoring_path,
)
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import ModelState, ModelVersion, Outcome, PromotionKind


@dataclass(frozen=True, kw_only=True, slots=True)
class Registration:
    """What a model row is made of; the model's bytes are stored before it."""

    store: Store
    settings: Settings
    standing: ServingState
    answer: TrainerAnswer
    clock: Callable[[], datetime]
    run_id: str | None = None
    labelled_by_day: Mapping[date, int] = field(default_factory=dict)

    def version(self, *, state: ModelState, metrics: Mapping[str, float]) -> ModelVersion:
        """The challenger as it is registered; its bytes are stored first."""
        result, standing = self.answer.result, self.standing
        model_id, name = result["model_id"], self.settings.model_name
        path = artifact_path(name, model_id)
        anchor_id = model_id
        if self._is_line() and standing.champion is not None:
            anchor_id = standing.champion.anchor_id
        calibration = self._calibration()
        return ModelVersion(
            model_name=name,
            model_id=model_id,
            algorithm=result["algorithm"],
            artifact=self.store.put(MODEL_BUCKET, path, self.answer.model_path),
            created_at=self.clock(),
            state=state,
            anchor_id=anchor_id,
            parent_id=None if standing.head is None else standing.head.model_id,
            run_id=self.run_id,
            confidence_threshold=calibration["threshold"],
            metrics=metrics,
            lineage=self._lineage() | {"calibration": calibration},
            library_versions=result["library_versions"],
        )

    def _calibration(self) -> dict[str, Any]:
        """The model's own threshold, and what it comes to on the evidence."""
        evidence = Evidence.load(self.answer.evidence_path)
        wanted = self.settings.prediction
        said = evidence.challenger
        return calibrate(
            said.argmax(axis=1) == evidence.actual if len(evidence) else evidence.actual == -1,
            said.max(axis=1) if len(evidence) else said.ravel(),
            threshold=wanted.min_confidence_threshold,
            target_accuracy=wanted.target_accuracy if len(evidence) else None,
        )

    def _is_line(self) -> bool:
        return "line" in self.answer.result and self.standing.champion is not None

    def _lineage(self) -> dict[str, Any]:
        """The line's marks, how many rows the log held of its settled days, the scoring file."""
        result = self.answer.result
        marks = ("settled_night", "first_night", "open_event_ids", "experts")
        lineage = {name: result.get(name) for name in marks}
        head = self.standing.head if self._is_line() else None
        lineage["learned_until"] = (
            result.get("learned_until") if head is None else head.lineage.get("learned_until")
        )
        first, settled = lineage["first_night"], lineage["settled_night"]
        if first is not None and settled is not None and self.labelled_by_day:
            days = self.labelled_by_day
            lineage["log_rows"] = sum(
                count for day, count in days.items() if first <= day.toordinal() <= settled
            )
            lineage["first_night_rows"] = days.get(date.fromordinal(first), 0)
        scoring = self.answer.model_path.with_name(SCORING_FILE)
        if scoring.exists():
            path = scoring_path(self.settings.model_name, result["model_id"])
            lineage["scoring"] = asdict(self.store.put(MODEL_BUCKET, path, scoring))
        return lineage


@dataclass(frozen=True, kw_only=True, slots=True)
class Registrar(Registration):
    """A registration with its verdict, which may change who serves."""

    verdict: Verdict
    new_id: Callable[[], str]

    def register(self) -> str | None:
        """Store and register the challenger, promote it if it may; return who serves then."""
        version = self.version(state=self._state(), metrics=self.verdict.challenger.summary())
        self.store.register(version)
        if self.verdict.decision.outcome is Outcome.PROMOTED:
            sample = Sample.load(self.answer.sample_path)
            self._change_champion(version, PromotionKind.PROMOTION, sample)
            return version.model_id
        return self._step_back()

    def _step_back(self) -> str | None:
        """When the guard rejects the live line, its anchor serves instead."""
        champion = self.standing.champion
        if champion is None or not self._must_step_back(champion):
            return self.standing.champion_id
        anchor = self.store.get_model(champion.model_name, champion.anchor_id)
        self._change_champion(anchor, PromotionKind.DEMOTION, None)
        return anchor.model_id

    def _must_step_back(self, champion: ModelVersion) -> bool:
        return (
            self.verdict.decision.outcome is Outcome.REJECTED
            and self._is_line()
            and self.settings.promotion.policy == "guarded"
            and self.standing.held is None
            and champion.anchor_id != champion.model_id
        )

    def _change_champion(
        self, target: ModelVersion, kind: PromotionKind, sample: Sample | None
    ) -> None:
        change_champion(
            self.store,
            target=target,
            expected=self.standing.champion_id,
            kind=kind,
            reason=self.verdict.decision.sentence,
            actor="gate",
            now=self.clock(),
            event_id=self.new_id(),
            run_id=self.run_id,
            sample=sample,
            verdict=self.verdict.decision.as_json(),
        )

    def _state(self) -> ModelState:
        outcome = self.verdict.decision.outcome
        if outcome is Outcome.PROMOTED:
            return ModelState.CANDIDATE
        if outcome is Outcome.AWAITING_APPROVAL:
            return ModelState.AWAITING
        return ModelState.SHADOW if self._is_line() else ModelState.RETIRED
