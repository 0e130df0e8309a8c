"""From the trainer's answer to a decision: both models on the same rows, then the gate."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.config.defaults import INCUMBENT_BASE
from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.checks import Check, PairedComparison, floor_checks
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.gate import (
    PromotionDecision,
    judge_first,
    judge_incumbent,
    judge_new_base,
    judge_online,
    unless_held,
    unless_unfair,
)
from ml_pipeline.evaluation.incumbent.judging import (
    Beside,
    judge_beside,
    unless_theirs_is_better,
)
from ml_pipeline.evaluation.ledger import (
    LEDGER_COLUMNS,
    ChampionRecord,
    PairedGain,
    cluster_codes,
    online_record,
)
from ml_pipeline.evaluation.metrics import EvaluationReport, Floats, evaluate, row_losses
from ml_pipeline.evaluation.replacing import LostChampion, judge_replacement


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The decision and the reports it rests on; `beside` where others had answered the rows.

    There is no report on the challenger when every new row is of an entity that was learned before.
    """

    decision: PromotionDecision
    challenger: EvaluationReport | None
    champion: EvaluationReport | None
    holdout_digest: str
    beside: Beside | None = None

    def figures(self) -> dict[str, Any]:
        """What a run notes of both reports."""
        challenger, champion = self.challenger, self.champion
        theirs = {} if self.beside is None else self.beside.figures()
        return {
            "challenger_metrics": {} if challenger is None else challenger.summary(),
            "champion_metrics": theirs if champion is None else champion.summary(),
            "holdout_rows": 0 if challenger is None else challenger.rows,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgingContext:
    """What is known beside the evidence.

    `held` says why a person has to decide, if one has to, `unfair` why the results are nothing to
    promote on unasked. `earlier` is what former champions predict for the evidence's rows, (n, K)
    by id. `lost` is the champion where it cannot be loaded: then there is none to compare with, and
    `champion_id` is None. `outgrown` says why the champion can learn no more, if it cannot.
    `beside` are those whom nobody here trained and who have answered the rows, if there are any.
    """

    champion_id: str | None
    today: date
    held: str | None
    lost: LostChampion | None = None
    outgrown: str | None = None
    unfair: str | None = None
    beside: Beside | None = None
    earlier: Mapping[str, Floats] = field(default_factory=dict)


def judge_evidence(
    evidence: Evidence, result: Mapping[str, Any], settings: Settings, context: JudgingContext
) -> Verdict:
    """Judge a challenger against the champion, or a first model against the floors.

    Raises DataError when there is no row that neither model has learned, but for an online model,
    which is judged on its record.
    """
    if context.beside is not None and context.beside.serves:
        return _judge_beside(evidence, result, settings, context, context.beside)
    is_online = context.champion_id is not None and "line" in result
    if not len(evidence) and not is_online:
        raise DataError("There is no row that neither model has learned: nothing to judge on.")
    challenger = _report(evidence, evidence.challenger, settings)
    champion = _report(evidence, evidence.champion, settings)
    comparison = None
    if champion is not None and challenger is not None:
        comparison = PairedComparison(champion=champion, challenger=challenger)
    if is_online:
        decision = _judge_online(result["line"], comparison, settings, context)
    elif context.champion_id is None and challenger is not None:
        floor = _prior_loss(evidence, result, settings)
        if result.get("algorithm") == INCUMBENT_BASE:
            decision = judge_incumbent(challenger, floor, settings.promotion)
            decision = unless_held(decision, context.held if settings.incumbent.serves else None)
        else:
            decision = judge_first(challenger, floor, settings.promotion)
            decision = _unless_others_are_better(decision, challenger, settings, context)
    else:
        gains = _gains_of(evidence, comparison, settings, context)
        decision = judge_new_base(
            gains, comparison, settings.promotion, held=context.held, outgrown=context.outgrown
        )
    return Verdict(
        decision=unless_unfair(decision, context.unfair),
        challenger=challenger,
        champion=champion,
        holdout_digest=digest_of(evidence),
        beside=context.beside,
    )


def _prior_loss(evidence: Evidence, result: Mapping[str, Any], settings: Settings) -> float:
    """The log loss of the class frequencies that a new base was trained on."""
    prior = np.repeat([result["prior"]], len(evidence), axis=0)
    floor = _report(evidence, prior, settings)
    return floor.log_loss if floor else 0.0


def _unless_others_are_better(
    decision: PromotionDecision,
    challenger: EvaluationReport,
    settings: Settings,
    context: JudgingContext,
) -> PromotionDecision:
    """The decision on a first model, with what is known of those who answered before it."""
    promotion = settings.promotion
    if context.lost is not None:
        return judge_replacement(decision, challenger, context.lost, promotion, held=context.held)
    if context.beside is not None:
        today = context.today.toordinal()
        decision = unless_theirs_is_better(decision, context.beside, promotion, today=today)
    return unless_held(decision, context.held)


def _judge_beside(
    evidence: Evidence,
    result: Mapping[str, Any],
    settings: Settings,
    context: JudgingContext,
    beside: Beside,
) -> Verdict:
    """Judge a challenger beside a classifier that people go on being answered by."""
    challenger = _report(evidence, evidence.challenger, settings)
    floors: list[Check] = []
    is_incumbent = result.get("algorithm") == INCUMBENT_BASE
    if challenger is not None and "line" not in result and not is_incumbent:
        prior_loss = _prior_loss(evidence, result, settings)
        floors = floor_checks(challenger, prior_loss, settings.promotion)
    decision = judge_beside(
        beside,
        settings.promotion,
        today=context.today.toordinal(),
        floors=floors,
        unfair=context.unfair,
    )
    return Verdict(
        decision=decision,
        challenger=challenger,
        champion=None,
        holdout_digest=digest_of(evidence),
        beside=beside,
    )


def _report(
    evidence: Evidence, probabilities: Floats | None, settings: Settings
) -> EvaluationReport | None:
    if probabilities is None or not len(evidence):
        return None
    return evaluate(
        evidence.actual_labels(),
        probabilities,
        evidence.labels,
        ordered=settings.data.ordered,
        weights=evidence.weights,
    )


def _judge_online(
    line: Mapping[str, Any],
    comparison: PairedComparison | None,
    settings: Settings,
    context: JudgingContext,
) -> PromotionDecision:
    record = online_record(
        np.asarray(line["ledger"], dtype=np.float64).reshape(-1, len(LEDGER_COLUMNS)),
        line["champions"],
        champion_id=context.champion_id or "",
        today=context.today.toordinal(),
        window_days=settings.promotion.evaluation_window_days,
    )
    return judge_online(record, comparison, settings.promotion, held=context.held)


def _gains_of(
    evidence: Evidence,
    comparison: PairedComparison | None,
    settings: Settings,
    context: JudgingContext,
) -> ChampionRecord:
    """What a new base gained on the champion, on all rows of the evidence and on the last ones."""
    if evidence.champion is None or comparison is None:
        raise DataError("A new base can only be judged beside the champion.")
    losses = row_losses(evidence.actual, evidence.challenger)
    clusters = cluster_codes(evidence.entities)
    full_weight = settings.training.adaptive.full_weight

    def gain_over(
        other: Floats, rows: NDArray[np.bool_], right: tuple[float, float] | None = None
    ) -> PairedGain:
        return PairedGain.of_rows(
            (row_losses(evidence.actual, other) - losses)[rows],
            len(np.unique(evidence.nights[rows])),
            right,
            weights=evidence.weights[rows],
            clusters=clusters[rows],
            full_weight=full_weight,
        )

    everything = np.ones(len(evidence), dtype=bool)
    window = settings.promotion.evaluation_window_days
    recent = evidence.nights > context.today.toordinal() - window
    right = (comparison.champion.accuracy, comparison.challenger.accuracy)
    return ChampionRecord(
        everything=gain_over(evidence.champion, everything, right),
        recent=gain_over(evidence.champion, recent),
        earlier={
            model_id: gain_over(predicted, everything)
            for model_id, predicted in context.earlier.items()
        },
    )


def digest_of(evidence: Evidence) -> str:
    """`sha256:` + hex over the ids and labels of the rows that were judged on."""
    chain = hashlib.sha256("\n".join(evidence.event_ids).encode())
    chain.update(evidence.actual_labels().astype(str).tobytes())
    return "sha256:" + chain.hexdigest()
