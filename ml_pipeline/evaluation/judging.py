"""From the trainer's answer to a decision: both models on the same rows, then the gate."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.checks import PairedComparison
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.gate import (
    PromotionDecision,
    judge_first,
    judge_new_base,
    judge_online,
)
from ml_pipeline.evaluation.ledger import ChampionRecord, PairedGain, online_record
from ml_pipeline.evaluation.metrics import EvaluationReport, Floats, evaluate, row_losses


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The decision and the reports it rests on."""

    decision: PromotionDecision
    challenger: EvaluationReport
    champion: EvaluationReport | None
    holdout_digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgingContext:
    """What is known beside the evidence.

    `held` says why a person has to decide, if one has to. `earlier` is what former champions
    predict for the evidence's rows, (n, K) by id.
    """

    champion_id: str | None
    today: date
    held: str | None
    earlier: Mapping[str, Floats] = field(default_factory=dict)


def judge_evidence(
    evidence: Evidence, result: Mapping[str, Any], settings: Settings, context: JudgingContext
) -> Verdict:
    """Judge a challenger against the champion, or a first model against the floors.

    Raises DataError when there is no row that neither model has learned.
    """
    if not len(evidence):
        raise DataError("There is no row that neither model has learned: nothing to judge on.")
    ordered = settings.data.ordered
    actual = evidence.actual_labels()
    challenger = evaluate(actual, evidence.challenger, evidence.labels, ordered=ordered)
    champion = None
    if evidence.champion is not None:
        champion = evaluate(actual, evidence.champion, evidence.labels, ordered=ordered)
    comparison = None
    if champion is not None:
        comparison = PairedComparison(champion=champion, challenger=challenger)
    if context.champion_id is None:
        prior = np.repeat([result["prior"]], len(evidence), axis=0)
        floor = evaluate(actual, prior, evidence.labels, ordered=ordered).log_loss
        decision = judge_first(challenger, floor, settings.promotion)
    elif "line" in result:
        record = online_record(
            np.asarray(result["line"]["ledger"], dtype=np.float64),
            result["line"]["champions"],
            champion_id=context.champion_id,
            today=context.today.toordinal(),
            window_days=settings.promotion.evaluation_window_days,
        )
        decision = judge_online(record, comparison, settings.promotion, held=context.held)
    else:
        gains = _gains_of(evidence, comparison, settings, context)
        decision = judge_new_base(gains, comparison, settings.promotion, held=context.held)
    return Verdict(
        decision=decision,
        challenger=challenger,
        champion=champion,
        holdout_digest=digest_of(evidence),
    )


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
    gains = row_losses(evidence.actual, evidence.champion) - losses
    nights = len(np.unique(evidence.nights))
    earlier = {
        model_id: PairedGain.of_rows(row_losses(evidence.actual, predicted) - losses, nights)
        for model_id, predicted in context.earlier.items()
    }
    window = settings.promotion.evaluation_window_days
    recent = evidence.nights > context.today.toordinal() - window
    right = (comparison.champion.accuracy, comparison.challenger.accuracy)
    return ChampionRecord(
        everything=PairedGain.of_rows(gains, nights, right),
        recent=PairedGain.of_rows(gains[recent], len(np.unique(evidence.nights[recent]))),
        earlier=earlier,
    )


def digest_of(evidence: Evidence) -> str:
    """`sha256:` + hex over the ids and labels of the rows that were judged on."""
    chain = hashlib.sha256("\n".join(evidence.event_ids).encode())
    chain.update(evidence.actual_labels().astype(str).tobytes())
    return "sha256:" + chain.hexdigest()
