"""The gate: who may serve. Pure; every check is recorded with its numbers and a sentence.

The live line and a refit challenger are judged differently, because measurements say so: a night's
update is promoted unless its own out-of-sample record shows a regression, a new base has to show
that it is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

from ml_pipeline.config.sections import PromotionSettings
from ml_pipeline.evaluation.ledger import ChampionRecord, OnlineRecord, PairedGain
from ml_pipeline.evaluation.metrics import EvaluationReport
from ml_pipeline.store.records import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One question the gate asked, with its numbers and a sentence."""

    name: str
    passed: bool
    sentence: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    decides: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class PromotionDecision:
    """What the gate says: `outcome` is promoted, rejected or awaiting_approval."""

    outcome: Outcome
    sentence: str
    checks: tuple[Check, ...]
    policy: str

    def as_json(self) -> dict[str, Any]:
        """The decision as plain JSON values."""
        return {
            "outcome": str(self.outcome),
            "sentence": self.sentence,
            "policy": self.policy,
            "checks": [
                {
                    "name": check.name,
                    "passed": check.passed,
                    "decides": check.decides,
                    "sentence": check.sentence,
                    "numbers": dict(check.numbers),
                }
                for check in self.checks
            ],
        }


RECALL_DROP = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedComparison:
    """Champion and challenger on the same rows, which neither has learned."""

    champion: EvaluationReport
    challenger: EvaluationReport


def judge_online(
    record: OnlineRecord,
    duel: PairedComparison | None,
    settings: PromotionSettings,
    *,
    held: str | None = None,
) -> PromotionDecision:
    """Whether tonight's update of the live line serves. `held` says why a person has to decide."""
    checks = [*_regression_checks(record, settings)]
    if settings.policy == "evidence":
        checks.append(_evidence_check(record.over_champion, settings))
    if duel is not None:
        checks += _duel_checks(duel, settings)
    failed = [check for check in checks if check.decides and not check.passed]
    if settings.policy == "nightly":
        failed = []
    if failed:
        thin = settings.policy == "evidence" and _is_thin(record.over_champion, settings)
        only_thin = thin and all(check.name == "evidence" for check in failed)
        outcome = Outcome.AWAITING_APPROVAL if only_thin else Outcome.REJECTED
        sentence = " ".join(check.sentence for check in failed)
    elif held is not None:
        outcome, sentence = Outcome.AWAITING_APPROVAL, held
    elif settings.policy == "approval":
        outcome = Outcome.AWAITING_APPROVAL
        sentence = f"The config asks for a person's approval. {checks[0].sentence}"
    else:
        outcome, sentence = Outcome.PROMOTED, checks[0].sentence
    return PromotionDecision(
        outcome=outcome, sentence=sentence, checks=tuple(checks), policy=settings.policy
    )


def _is_thin(gain: PairedGain, settings: PromotionSettings) -> bool:
    return gain.nights < settings.min_nights or gain.rows < settings.min_evaluated_predictions


def _regression_checks(record: OnlineRecord, settings: PromotionSettings) -> list[Check]:
    window = f"over the last {settings.evaluation_window_days:g} days"
    approval = "since the anchor was approved"
    return [
        _regression_check("since_approval", approval, record.since_approval, settings),
        _regression_check("recent", window, record.recent, settings),
    ]


def _regression_check(name: str, when: str, gain: PairedGain, settings: PromotionSettings) -> Check:
    quantile = NormalDist().inv_cdf(settings.confidence_level)
    upper = gain.mean + quantile * gain.standard_error
    thin = _is_thin(gain, settings)
    passed = thin or upper >= 0
    verdict = (
        f"too little to show a regression (needs {settings.min_nights} nights and "
        f"{settings.min_evaluated_predictions} rows)"
        if thin
        else "no regression"
        if passed
        else "a regression"
    )
    sentence = (
        f"The live line against its anchor {when}: {gain.mean:+.4f} nats a row "
        f"(upper bound {upper:+.4f}) on {gain.rows} unseen rows of {gain.nights} nights, {verdict}."
    )
    numbers = _numbers(gain) | {"upper_bound": upper}
    decides = settings.policy != "nightly"
    return Check(name=name, passed=passed, sentence=sentence, numbers=numbers, decides=decides)


def _evidence_check(gain: PairedGain, settings: PromotionSettings) -> Check:
    passed = gain.mean > 0 and not _is_thin(gain, settings)
    sentence = (
        f"Gain over the champion since the last promotion: {gain.mean:+.4f} nats a row on "
        f"{gain.rows} rows of {gain.nights} nights (needs more than 0 on "
        f"{settings.min_evaluated_predictions} rows of {settings.min_nights} nights)."
    )
    return Check(name="evidence", passed=passed, sentence=sentence, numbers=_numbers(gain))


def _numbers(gain: PairedGain) -> dict[str, float]:
    return {
        "rows": gain.rows,
        "nights": gain.nights,
        "mean_gain": gain.mean,
        "standard_error": gain.standard_error,
    }


def _duel_checks(duel: PairedComparison, settings: PromotionSettings) -> list[Check]:
    """Accuracy and recall of tonight: warnings, unless the config makes them vetoes."""
    checks = [_accuracy_check(duel, settings), _recall_check(duel, settings)]
    if settings.promotion_threshold > 0:
        checks.append(_threshold_check(duel, settings))
    return checks


def _accuracy_check(duel: PairedComparison, settings: PromotionSettings) -> Check:
    gain = duel.challenger.accuracy - duel.champion.accuracy
    return Check(
        name="accuracy",
        passed=gain >= 0,
        sentence=(
            f"Accuracy {duel.champion.accuracy:.4f} → {duel.challenger.accuracy:.4f} "
            f"on {duel.challenger.rows} rows."
        ),
        numbers={"gain": gain, "rows": duel.challenger.rows},
        decides="accuracy" in settings.vetoes,
    )


def _recall_check(duel: PairedComparison, settings: PromotionSettings) -> Check:
    drops = {
        label: duel.champion.per_class[label]["recall"] - scores["recall"]
        for label, scores in duel.challenger.per_class.items()
        if label in duel.champion.per_class and scores["support"] > 0
    }
    worst = max(drops, key=lambda label: drops[label], default=None)
    drop = drops[worst] if worst is not None else 0.0
    return Check(
        name="recall",
        passed=drop < RECALL_DROP,
        sentence=f"Largest fall of a class's recall: {max(drop, 0.0):.4f}"
        + (f" ({worst})." if worst is not None and drop > 0 else "."),
        numbers={"largest_drop": drop},
        decides="recall" in settings.vetoes,
    )


def _threshold_check(duel: PairedComparison, settings: PromotionSettings) -> Check:
    gain = duel.challenger.accuracy - duel.champion.accuracy
    return Check(
        name="promotion_threshold",
        passed=gain >= settings.promotion_threshold,
        sentence=(
            f"Accuracy gain {gain:+.4f}, promotion_threshold asks for "
            f"{settings.promotion_threshold:+.4f}."
        ),
        numbers={"gain": gain, "threshold": settings.promotion_threshold},
    )


# ------------------------------------------------------------------------- refit challengers


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """An interval for a mean that holds at every look at once."""

    lower: float
    upper: float


def confidence_sequence(gain: PairedGain, *, alpha: float, horizon_rows: int) -> Bounds:
    """Asymptotic normal-mixture confidence sequence (Waudby-Smith et al. 2021, theorem 2.2).

    `mean ± σ̂ sqrt(2(nρ²+1)/(n²ρ²) · ln(sqrt(nρ²+1)/α))`, ρ tuned to be tightest at
    `horizon_rows`. Unbounded under two rows.
    """
    if gain.rows < 2:  # noqa: PLR2004 - no spread, no bound
        return Bounds(lower=-math.inf, upper=math.inf)
    n = gain.rows
    rho_squared = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha)) + 1) / horizon_rows
    spread = n * rho_squared + 1
    half = gain.deviation * math.sqrt(
        2 * spread / (n**2 * rho_squared) * math.log(math.sqrt(spread) / alpha)
    )
    return Bounds(lower=gain.mean - half, upper=gain.mean + half)


def judge_challenger(
    everything: PairedGain,
    recent: PairedGain,
    duel: PairedComparison | None,
    settings: PromotionSettings,
    earlier: Mapping[str, PairedGain] | None = None,
) -> PromotionDecision:
    """Whether a new base has shown that it is better than the champion.

    `everything` and `recent` (the last days) are paired gains on rows that neither has learned;
    `earlier` are the gains over former champions on the same rows, by their ids.
    """
    alpha = 1 - settings.confidence_level
    bounds = confidence_sequence(everything, alpha=alpha, horizon_rows=settings.horizon_rows)
    proof = Check(
        name="confidence_sequence",
        passed=bounds.lower > 0,
        sentence=(
            f"Log-loss gain over the champion: {everything.mean:+.4f} nats a row, between "
            f"{bounds.lower:+.4f} and {bounds.upper:+.4f} at any look, on {everything.rows} rows."
        ),
        numbers=_numbers(everything) | {"lower_bound": bounds.lower, "upper_bound": bounds.upper}
        if everything.rows >= 2  # noqa: PLR2004 - JSON has no infinity
        else _numbers(everything),
    )
    latest = Check(
        name="recent",
        passed=recent.rows == 0 or recent.mean > 0,
        sentence=(
            f"Over the last {settings.evaluation_window_days:g} days: {recent.mean:+.4f} nats a "
            f"row on {recent.rows} rows."
        ),
        numbers=_numbers(recent),
    )
    checks = (
        proof,
        latest,
        *(_earlier_check(name, gain) for name, gain in (earlier or {}).items()),
        *(() if duel is None else _duel_checks(duel, settings)),
    )
    failed = [check for check in checks if check.decides and not check.passed]
    if _is_thin(everything, settings) and bounds.upper >= 0:
        outcome = Outcome.AWAITING_APPROVAL
        sentence = (
            f"Only {everything.rows} rows of {everything.nights} nights to judge on; the gate "
            f"wants {settings.min_evaluated_predictions} of {settings.min_nights}. "
        )
        sentence += proof.sentence
    elif failed:
        outcome, sentence = Outcome.REJECTED, " ".join(check.sentence for check in failed)
    elif settings.policy == "approval":
        outcome = Outcome.AWAITING_APPROVAL
        sentence = f"The config asks for a person's approval. {proof.sentence}"
    else:
        outcome, sentence = Outcome.PROMOTED, proof.sentence
    return PromotionDecision(
        outcome=outcome, sentence=sentence, checks=checks, policy=settings.policy
    )


def _earlier_check(model_id: str, gain: PairedGain) -> Check:
    """A champion that beats the last one may still be worse than the best: a ratchet downwards."""
    return Check(
        name="earlier_champion",
        passed=gain.rows == 0 or gain.mean >= 0,
        sentence=(
            f"Log-loss gain over the former champion {model_id}: {gain.mean:+.4f} nats a row "
            f"on {gain.rows} rows."
        ),
        numbers=_numbers(gain),
    )


def judge_shadow(
    record: ChampionRecord, settings: PromotionSettings, *, held: str | None = None
) -> PromotionDecision | None:
    """Whether a base in the shadow replaces the champion; None while the evidence is open.

    It is given up when its upper bound is below 0, or after `max_shadow_nights` without a verdict.
    """
    gain = record.everything
    decision = judge_challenger(gain, record.recent, None, settings)
    is_over = gain.nights >= settings.max_shadow_nights
    if _is_thin(gain, settings):
        return replace(decision, outcome=Outcome.REJECTED) if is_over else None
    if decision.outcome is Outcome.PROMOTED and held is not None:
        return replace(decision, outcome=Outcome.AWAITING_APPROVAL, sentence=held)
    if decision.outcome is not Outcome.REJECTED:
        return decision
    alpha = 1 - settings.confidence_level
    bounds = confidence_sequence(gain, alpha=alpha, horizon_rows=settings.horizon_rows)
    return decision if is_over or bounds.upper < 0 else None


def judge_first(
    report: EvaluationReport, prior_log_loss: float, settings: PromotionSettings
) -> PromotionDecision:
    """Whether a first model clears the absolute floors of the config.

    `prior_log_loss` is the log loss of always answering the training class frequencies.
    """
    skill = prior_log_loss - report.log_loss
    checks = [
        Check(
            name="skill",
            passed=skill > settings.min_skill,
            sentence=(
                f"Log loss {report.log_loss:.4f} against {prior_log_loss:.4f} for the class "
                f"frequencies alone, on {report.rows} unseen rows."
            ),
            numbers={"skill": skill, "floor": settings.min_skill},
        ),
        Check(
            name="min_accuracy",
            passed=report.accuracy >= settings.min_accuracy,
            sentence=f"Accuracy {report.accuracy:.4f}, floor {settings.min_accuracy:.4f}.",
            numbers={"accuracy": report.accuracy, "floor": settings.min_accuracy},
        ),
    ]
    if settings.max_log_loss is not None:
        checks.append(
            Check(
                name="max_log_loss",
                passed=report.log_loss <= settings.max_log_loss,
                sentence=f"Log loss {report.log_loss:.4f}, ceiling {settings.max_log_loss:.4f}.",
                numbers={"log_loss": report.log_loss, "ceiling": settings.max_log_loss},
            )
        )
    failed = [check for check in checks if not check.passed]
    if failed:
        outcome, sentence = Outcome.REJECTED, " ".join(check.sentence for check in failed)
    elif settings.policy == "approval":
        outcome = Outcome.AWAITING_APPROVAL
        sentence = f"The config asks for a person's approval. {checks[0].sentence}"
    else:
        outcome, sentence = Outcome.PROMOTED, f"First champion. {checks[0].sentence}"
    return PromotionDecision(
        outcome=outcome, sentence=sentence, checks=tuple(checks), policy=settings.policy
    )
