"""A trained model enters the registry: bytes, model row, promotion, in this order.

So a crash leaves bytes that nothing names, or a candidate that was never judged, and no row that
names what is not there. Only the approved base is called back before the row of the model that
was rejected: see `register_judged`. The nightly run, `train --register` and the demo all register
here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

import numpy as np

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import NotFound
from ml_pipeline.evaluation.calibration import Answers, calibrate
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.gate import rules_of
from ml_pipeline.evaluation.judging import Verdict
from ml_pipeline.registry.champion import change_champion
from ml_pipeline.registry.models import MODEL_BUCKET, artifact_path, scoring_path
from ml_pipeline.registry.serving_state import ServingState, rollback_to, serving_state_of
from ml_pipeline.registry.trained import SCORING_FILE, Sample, TrainerAnswer
from ml_pipeline.store.contract import Store
from ml_pipeline.store.lineage.open_rows import OpenRows
from ml_pipeline.store.records import (
    Lineage,
    ModelState,
    ModelVersion,
    Outcome,
    PromotionKind,
    RunStatus,
)

log = logging.getLogger("registering")


@dataclass(frozen=True, kw_only=True, slots=True)
class Registration:
    """A trained model on its way into the registry.

    `parent` is the model that it was trained on top of. `labelled_by_day` says how many labelled
    rows the log holds of the days from `counted_from` on, where a run has counted them, and
    `changes_by_day` how many rows of the log were changed after they were labelled. `answers` are
    the last ones that the lineage has given, for the threshold of a model that goes on from it.
    """

    store: Store
    settings: Settings
    answer: TrainerAnswer
    parent: ModelVersion | None
    clock: Callable[[], datetime]
    run_id: str | None = None
    labelled_by_day: Mapping[date, int] = field(default_factory=dict)
    changes_by_day: Mapping[date, int] | None = None
    counted_from: date | None = None
    answers: Answers | None = None

    @property
    def continued(self) -> ModelVersion | None:
        """The model whose lineage goes on with this one; None for a base of its own."""
        return self.parent if "line" in self.answer.result else None

    def stored(self, *, state: ModelState, metrics: Mapping[str, float]) -> ModelVersion:
        """Store the model's bytes; return the row to register."""
        result, continued = self.answer.result, self.continued
        model_id, name = result["model_id"], self.settings.model_name
        calibration = self._calibration()
        return ModelVersion(
            model_name=name,
            model_id=model_id,
            algorithm=result["algorithm"],
            artifact=self.store.put(
                MODEL_BUCKET, artifact_path(name, model_id), self.answer.model_path
            ),
            created_at=self.clock(),
            state=state,
            anchor_id=model_id if continued is None else continued.anchor_id,
            parent_id=None if self.parent is None else self.parent.model_id,
            run_id=self.run_id,
            confidence_threshold=calibration["threshold"],
            metrics=metrics,
            lineage=replace(self._lineage(), calibration=calibration),
            library_versions=result["library_versions"],
        )

    def _calibration(self) -> dict[str, Any]:
        """The model's own threshold, and what it comes to on the evidence."""
        wanted, continued = self.settings.prediction, self.continued
        threshold, target = wanted.min_confidence_threshold, wanted.target_accuracy
        if target is None or continued is None:
            return calibrate(self._held_out(), threshold=threshold, target_accuracy=target)
        # Versions before this one set it to 1 when a night was too small to choose on.
        if continued.confidence_threshold < 1:
            threshold = continued.confidence_threshold
        answers = self.answers or self._held_out().last(0)
        return calibrate(answers, threshold=threshold, target_accuracy=target)

    def _held_out(self) -> Answers:
        """What the model answers for the rows of its evidence."""
        evidence = Evidence.load(self.answer.evidence_path)
        shares = evidence.challenger if len(evidence) else np.zeros((0, len(evidence.labels)))
        return Answers(
            correct=shares.argmax(axis=1) == evidence.actual,
            confidences=shares.max(axis=1),
            weights=evidence.weights,
        )

    def _lineage(self) -> Lineage:
        """What the trainer says of itself, the log's rows of settled days, the scoring file."""
        result = self.answer.result
        marks = (
            "settled_night", "first_night", "experts", "learned_until", "classes", "rates",
            "reference",
            "inputs",
        )  # fmt: skip
        lineage = Lineage.from_json({name: result.get(name) for name in marks})
        lineage = replace(
            lineage,
            open_rows=OpenRows.of(result.get("open_event_ids", ())),
            labels=self.settings.data.labels or {},
        )
        if self.continued is not None:
            lineage = replace(
                lineage,
                learned_until=self.continued.lineage.learned_until,
                rebuilds=self._rebuilds(self.continued),
            )
        scoring = self.answer.model_path.with_name(SCORING_FILE)
        if scoring.exists():
            path = scoring_path(self.settings.model_name, result["model_id"])
            lineage = replace(lineage, scoring=self.store.put(MODEL_BUCKET, path, scoring))
        return self._with_log_rows(lineage)

    def _rebuilds(self, continued: ModelVersion) -> int | None:
        """One more than its members have when the lineage goes on from an earlier one of them.

        That is its base, or what a person went back to: what came after it is left behind.
        """
        event = rollback_to(self.store, continued)
        is_chosen = event is not None and event.to_model_id == continued.model_id
        if continued.model_id != continued.anchor_id and not is_chosen:
            return continued.lineage.rebuilds
        members = self.store.list_models_in_brief(
            model_name=continued.model_name, anchor_id=continued.anchor_id
        )
        before = [m.rebuilds or 0 for m in members if m.model_id != continued.model_id]
        return max(before) + 1 if before else None

    def _with_log_rows(self, lineage: Lineage) -> Lineage:
        """How many rows the log holds of the settled days: more of them later are late ones."""
        first, settled = lineage.first_night, lineage.settled_night
        if first is None or settled is None or self.counted_from is None:
            return self._with_changes(lineage, 0, settled or 0)
        days = {day.toordinal(): count for day, count in self.labelled_by_day.items()}
        start = min(self.counted_from.toordinal(), first)

        def until(night: int) -> int:
            return sum(count for day, count in days.items() if start <= day <= night)

        counted = replace(
            lineage,
            log_rows=until(settled),
            snapshots={str(n): until(n) for n in self.answer.result.get("snapshots", ())},
            first_night_rows=max(days.get(first, 0), self._known_of_first_night(first)),
            counted_from=start,
        )
        return self._with_changes(counted, start, settled)

    def _known_of_first_night(self, first: int) -> int:
        """How many rows of it the log has held: a log that forgets them cannot be learned again."""
        before = None if self.continued is None else self.continued.lineage
        return before.first_night_rows or 0 if before and before.first_night == first else 0

    def _with_changes(self, lineage: Lineage, start: int, settled: int) -> Lineage:
        """How often rows had changed by then: more later are corrections, or erased ones."""
        if self.changes_by_day is None:
            return lineage
        days = {day.toordinal(): count for day, count in self.changes_by_day.items()}
        return replace(
            lineage,
            log_changes=sum(count for day, count in days.items() if start <= day <= settled),
            open_changes=sum(count for day, count in days.items() if day > settled),
        )


def register_judged(
    registration: Registration,
    verdict: Verdict,
    serving: ServingState,
    *,
    new_id: Callable[[], str],
) -> str | None:
    """Store and register the challenger, promote it if it may; return who serves then.

    What was learned since the approved base steps back before its rejected member is registered:
    broken off in between, the rows are still to be learned, and the next run judges again.
    """
    store, decision = registration.store, verdict.decision
    version = registration.stored(
        state=_state_after(verdict, registration), metrics=verdict.figures()["challenger_metrics"]
    )

    def change(target: ModelVersion, kind: PromotionKind, sample: Sample | None) -> str:
        change_champion(
            store,
            registration.settings,
            target=target,
            expected=serving.champion_id,
            kind=kind,
            reason=decision.sentence,
            actor="gate",
            now=registration.clock(),
            event_id=new_id(),
            run_id=registration.run_id,
            sample=sample,
            verdict=decision.as_json(),
        )
        return target.model_id

    champion, serving_id = serving.champion, serving.champion_id
    if champion is not None and _must_step_back(registration, verdict, serving, champion):
        anchor = store.get_model(champion.model_name, champion.anchor_id)
        serving_id = change(anchor, PromotionKind.DEMOTION, None)
    store.register(version)
    if decision.outcome is Outcome.PROMOTED:
        sample = Sample.load(registration.answer.sample_path)
        serving_id = change(version, PromotionKind.PROMOTION, sample)
    return serving_id


def step_back_left_undone(
    store: Store,
    settings: Settings,
    serving: ServingState,
    *,
    now: datetime,
    event_id: str,
) -> ServingState:
    """Let the approved base serve where a run died between its rejection and this step.

    Earlier versions registered the rejected model first. Only a run that was never completed can
    have left it so; the others left it on purpose, by the policy that they had.
    """
    champion, head = serving.champion, serving.head
    if champion is None or head is None or head.state is not ModelState.SHADOW:
        return serving
    is_wanted = rules_of(settings.promotion).steps_back and serving.held is None
    if not is_wanted or champion.anchor_id == champion.model_id or head.run_id is None:
        return serving
    if not _was_broken_off(store, head.run_id):
        return serving
    reason = (
        f"Run {head.run_id} rejected {head.model_id} and ended before the approved model "
        "served again: done now."
    )
    return _back_to_anchor(
        store, settings, champion, reason=reason, now=now, event_id=event_id, run_id=head.run_id
    )


def forget_erased(  # noqa: PLR0913 - a change of champion has that many parts
    store: Store,
    settings: Settings,
    serving: ServingState,
    *,
    now: datetime,
    event_id: str,
    run_id: str,
) -> ServingState:
    """Let the approved base serve when every result that was learned since has been erased."""
    champion = serving.champion
    if champion is None or champion.anchor_id == champion.model_id:
        return serving
    reason = (
        f"Every result that {champion.model_id} had learned was erased or taken back: the approved "
        "model serves again, which had not learned them."
    )
    return _back_to_anchor(
        store, settings, champion, reason=reason, now=now, event_id=event_id, run_id=run_id
    )


def _back_to_anchor(  # noqa: PLR0913 - a change of champion has that many parts
    store: Store,
    settings: Settings,
    champion: ModelVersion,
    *,
    reason: str,
    now: datetime,
    event_id: str,
    run_id: str,
) -> ServingState:
    log.warning("%s", reason)
    change_champion(
        store,
        settings,
        target=store.get_model(champion.model_name, champion.anchor_id),
        expected=champion.model_id,
        kind=PromotionKind.DEMOTION,
        reason=reason,
        actor="gate",
        now=now,
        event_id=event_id,
        run_id=run_id,
    )
    return serving_state_of(store, champion.model_name)


def _was_broken_off(store: Store, run_id: str) -> bool:
    try:
        return store.get_run(run_id).status is not RunStatus.COMPLETED
    except NotFound:
        return False  # a model that was imported: its run is another store's


def _state_after(verdict: Verdict, registration: Registration) -> ModelState:
    outcome = verdict.decision.outcome
    if outcome is Outcome.PROMOTED:
        # It becomes champion when its stored bytes were verified.
        return ModelState.CANDIDATE
    if outcome is Outcome.AWAITING_APPROVAL:
        return ModelState.AWAITING
    # Beside a classifier that nobody here trained a run's rejected base learns on unseen, too.
    is_beside = registration.settings.incumbent.serves and registration.run_id is not None
    learns_on = registration.continued is not None or is_beside
    return ModelState.SHADOW if learns_on else ModelState.RETIRED


def _must_step_back(
    registration: Registration, verdict: Verdict, serving: ServingState, champion: ModelVersion
) -> bool:
    """Whether the approved base serves instead: the guard rejected what was learned since."""
    return (
        verdict.decision.outcome is Outcome.REJECTED
        and registration.continued is not None
        and rules_of(registration.settings.promotion).steps_back
        and serving.held is None
        and champion.anchor_id != champion.model_id
    )
