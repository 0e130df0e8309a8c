"""From the trainer's answer to a decision: both models on the same rows, then the gate."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.gate import (
    PairedComparison,
    PromotionDecision,
    judge_challenger,
    judge_first,
    judge_online,
)
from ml_pipeline.evaluation.ledger import PairedGain, online_record
from ml_pipeline.evaluation.metrics import EvaluationReport, Floats, evaluate, row_losses
from ml_pipeline.store.records import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The decision and the reports it rests on."""

    decision: PromotionDecision
    challenger: EvaluationReport
    champion: EvaluationReport | None
    holdout_digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgingContext:
    """What the judge knows beside the evidence.

    `held` says why a person has to decide, if one has to. `earlier` is what former champions say
    of the evidence's rows, (n, K) by id.
    """

    champion_id: str | None
    today: date
    held: str | None
    earlier: Mapping[str, Floats] = field(default_factory=dict)


def judge(
    evidence: Evidence, result: Mapping[str, Any], settings: Settings, bench: JudgingContext
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
    if bench.champion_id is None:
        prior = np.repeat([result["prior"]], len(evidence), axis=0)
        floor = evaluate(actual, prior, evidence.labels, ordered=ordered).log_loss
        decision = judge_first(challenger, floor, settings.promotion)
    elif "line" in result:
        record = online_record(
            np.asarray(result["line"]["ledger"], dtype=np.float64),
            result["line"]["champions"],
            champion_id=bench.champion_id,
            today=bench.today.toordinal(),
            window_days=settings.promotion.evaluation_window_days,
        )
        duel = (
            None if champion is None else PairedComparison(champion=champion, challenger=challenger)
        )
        decision = judge_online(record, duel, settings.promotion, held=bench.held)
    elif champion is None:
        raise DataError("A new base can only be judged beside the champion.")
    else:
        duel = PairedComparison(champion=champion, challenger=challenger)
        decision = _judge_new_base(evidence, duel, settings, bench)
    return Verdict(
        decision=decision,
        challenger=challenger,
        champion=champion,
        holdout_digest=digest_of(evidence),
    )


def _judge_new_base(
    evidence: Evidence, duel: PairedComparison, settings: Settings, bench: JudgingContext
) -> PromotionDecision:
    if evidence.champion is None:
        raise DataError("A new base can only be judged beside the champion.")
    losses = row_losses(evidence.actual, evidence.challenger)
    gains = row_losses(evidence.actual, evidence.champion) - losses
    nights = len(np.unique(evidence.nights))
    earlier = {
        model_id: PairedGain.of_rows(row_losses(evidence.actual, said) - losses, nights)
        for model_id, said in bench.earlier.items()
    }
    window = settings.promotion.evaluation_window_days
    recent = evidence.nights > bench.today.toordinal() - window
    decision = judge_challenger(
        PairedGain.of_rows(gains, nights),
        PairedGain.of_rows(gains[recent], len(np.unique(evidence.nights[recent]))),
        duel,
        settings.promotion,
        earlier,
    )
    if bench.held is not None and decision.outcome is Outcome.PROMOTED:
        return replace(decision, outcome=Outcome.AWAITING_APPROVAL, sentence=bench.held)
    return decision


def digest_of(evidence: Evidence) -> str:
    """`sha256:` + hex over the ids and labels of the rows that were judged on."""
    chain = hashlib.sha256("\n".join(evidence.event_ids).encode())
    chain.update(evidence.actual_labels().astype(str).tobytes())
    return "sha256:" + chain.hexdigest()
