"""The gate: who may serve. Pure; every check is recorded with its numbers and a sentence.

An update of the online model and a new base are judged differently, because measurements say so:
an update is promoted unless its own out-of-sample record shows a regression, a new base has to
show that it is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ml_pipeline.config.sections import PromotionSettings
from ml_pipeline.evaluation.checks import (
    Check,
    PairedComparison,
    comparison_checks,
    earlier_check,
    evidence_check,
    floor_checks,
    is_thin,
    latest_check,
    normal_bounds,
    proof_check,
    regression_checks,
    sequence_bounds,
)
from ml_pipeline.evaluation.ledger import ChampionRecord, OnlineRecord, PairedGain
from ml_pipeline.evaluation.metrics import EvaluationReport
from ml_pipeline.evaluation.sentences import (
    APPROVE,
    FIRST,
    NEW_BASE,
    NONE_SERVES,
    STAYS,
    STEPS_BACK,
    UPDATE,
    Sides,
    capital,
    compared,
    counted,
    headline,
    joined,
    missing,
    percent,
    too_few,
)
from ml_pipeline.store.records import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyRules:
    """What a promotion policy lets happen.

    `deciding` names the checks that decide on an update; a new base is held to all of its own.
    `asks_person`: what passes waits for approval. `steps_back`: when an update is rejected, the
    approved base serves.
    """

    deciding: frozenset[str]
    asks_person: bool = False
    steps_back: bool = False


_GUARD: Final = frozenset({"since_approval", "recent"})
# What a config may ask for beside: see `promotion.vetoes` and `promotion.promotion_threshold`.
_ASKED: Final = frozenset({"accuracy", "recall", "promotion_threshold"})
POLICIES: Final[Mapping[str, PolicyRules]] = {
    "guarded": PolicyRules(deciding=_GUARD | _ASKED, steps_back=True),
    "nightly": PolicyRules(deciding=frozenset()),
    "evidence": PolicyRules(deciding=_GUARD | _ASKED | {"evidence"}),
    "approval": PolicyRules(deciding=_GUARD | _ASKED, asks_person=True),
}


def rules_of(settings: PromotionSettings) -> PolicyRules:
    """The rules of the configured policy: nothing else asks which it is."""
    return POLICIES[settings.policy]


@dataclass(frozen=True, kw_only=True, slots=True)
class PromotionDecision:
    """What the gate decides: `outcome` is promoted, rejected or awaiting_approval.

    `sentence` is for people; what the checks found stands in their own sentences.
    """

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
            "checks": [check.as_json() for check in self.checks],
        }


def judge_online(
    record: OnlineRecord,
    comparison: PairedComparison | None,
    settings: PromotionSettings,
    *,
    held: str | None = None,
) -> PromotionDecision:
    """Whether an update of the online model serves.

    `held` says why a person has to decide, if one has to.
    """
    rules = rules_of(settings)
    checks = regression_checks(record, settings)
    if "evidence" in rules.deciding:
        checks.append(evidence_check(record.over_champion, settings))
    if comparison is not None:
        checks += comparison_checks(comparison, settings)
    checks = [replace(c, decides=c.decides and c.name in rules.deciding) for c in checks]
    failed = _failed(checks)
    summary = _summary(record.since_approval, settings)
    if [check.name for check in failed] == ["evidence"] and is_thin(record.over_champion, settings):
        outcome, sentence = Outcome.AWAITING_APPROVAL, _wait(record.over_champion, settings)
    elif failed:
        then = STEPS_BACK if rules.steps_back and held is None else STAYS
        outcome, sentence = Outcome.REJECTED, _rejection(failed, UPDATE, then)
    elif held is not None:
        outcome, sentence = Outcome.AWAITING_APPROVAL, f"{held} {capital(summary)}"
    elif rules.asks_person:
        outcome, sentence = Outcome.AWAITING_APPROVAL, _ask(summary)
    else:
        outcome, sentence = Outcome.PROMOTED, headline(_promoted(record, settings), summary)
    return _decision(outcome, sentence, checks, settings)


def _promoted(record: OnlineRecord, settings: PromotionSettings) -> str:
    if not rules_of(settings).deciding:
        return "Promoted, as promotion.policy asks"
    return "Promoted for now" if is_thin(record.since_approval, settings) else "Promoted"


def _summary(gain: PairedGain, settings: PromotionSettings) -> str:
    """How an update did beside the approved base, or that nobody can tell yet."""
    if not is_thin(gain, settings):
        least = settings.least_regression
        return compared(gain, normal_bounds(gain, settings), UPDATE, least=least)
    return f"{too_few(gain, UPDATE)}; {_missing(gain, settings)}"


def judge_new_base(
    record: ChampionRecord,
    comparison: PairedComparison | None,
    settings: PromotionSettings,
    *,
    held: str | None = None,
    outgrown: str | None = None,
) -> PromotionDecision:
    """Whether a new base has shown that it is better than the champion.

    `held` says why a person has to decide, if one has to. `outgrown` says why the champion can
    learn no more, if it cannot: then a person may let serve in its place what is as good as it.
    """
    everything = record.everything
    bounds = sequence_bounds(everything, settings)
    checks = [
        proof_check(everything, settings),
        latest_check(record.recent, settings),
        *(earlier_check(name, gain) for name, gain in record.earlier.items()),
        *(() if comparison is None else comparison_checks(comparison, settings)),
    ]
    failed = _failed(checks)
    summary = compared(everything, bounds, NEW_BASE)
    if is_thin(everything, settings) and bounds.upper >= 0:
        clause = f"{too_few(everything, NEW_BASE)}; {_missing(everything, settings)}"
        outcome = Outcome.AWAITING_APPROVAL
        sentence = headline("Waiting for approval", clause, APPROVE)
    elif failed and outgrown is not None and _is_as_good(everything, failed, settings):
        outcome = Outcome.AWAITING_APPROVAL
        clause = joined(_complaints(failed), NEW_BASE)
        sentence = headline("Waiting for approval", clause, f"{outgrown} {APPROVE}")
    elif failed:
        outcome, sentence = Outcome.REJECTED, _rejection(failed, NEW_BASE, STAYS)
    elif rules_of(settings).asks_person:
        outcome, sentence = Outcome.AWAITING_APPROVAL, _ask(summary)
    elif held is not None:
        outcome, sentence = Outcome.AWAITING_APPROVAL, f"{held} {capital(summary)}"
    else:
        outcome, sentence = Outcome.PROMOTED, headline("Promoted", summary)
    return _decision(outcome, sentence, checks, settings)


def _is_as_good(gain: PairedGain, failed: Sequence[Check], settings: PromotionSettings) -> bool:
    """Whether all that a new base lacks is the proof that it is better, lately or at all."""
    is_unproven = {check.name for check in failed} <= {"confidence_sequence", "recent"}
    return is_unproven and gain.mean >= -settings.least_regression


def judge_shadow(
    record: ChampionRecord, settings: PromotionSettings, *, held: str | None = None
) -> PromotionDecision | None:
    """Whether a base in the shadow replaces the champion; None while the evidence is open.

    It is given up when its upper bound is below 0, or after `max_shadow_nights` without a verdict.
    """
    gain = record.everything
    decision = judge_new_base(record, None, settings, held=held)
    is_over = gain.nights >= settings.max_shadow_nights
    thin = is_thin(gain, settings)
    if not thin and decision.outcome is not Outcome.REJECTED:
        return decision
    is_worse = not thin and sequence_bounds(gain, settings).upper < 0
    if not is_over and not is_worse:
        return None
    clause = too_few(gain, NEW_BASE)
    if not thin:
        after = f"after {counted(gain.nights, 'day')}, " if is_over else ""
        clause = after + joined(_complaints(decision.checks), NEW_BASE)
    sentence = headline("Given up", clause, STAYS)
    return replace(decision, outcome=Outcome.REJECTED, sentence=sentence)


def undecided_shadow(record: ChampionRecord, settings: PromotionSettings) -> str:
    """How a shadow stands on which `judge_shadow` has not decided."""
    gain = record.everything
    clause = f"{too_few(gain, NEW_BASE)}; {_missing(gain, settings)}"
    if not is_thin(gain, settings):
        clause = compared(gain, sequence_bounds(gain, settings), NEW_BASE)
    return headline("Not decided yet", clause)


def unless_unfair(decision: PromotionDecision, refusal: str | None) -> PromotionDecision:
    """The decision, or a wait for a person where the results are no fair sample of all answers.

    `refusal` says why, without a capital; see `LabelSample.refusal`.
    """
    if refusal is None or decision.outcome is not Outcome.PROMOTED:
        return decision
    sentence = f"Waiting for approval: {refusal} {APPROVE}"
    return replace(decision, outcome=Outcome.AWAITING_APPROVAL, sentence=sentence)


def unless_held(decision: PromotionDecision, held: str | None) -> PromotionDecision:
    """The decision, or a wait for a person where `held` says why one has to decide."""
    if held is None or decision.outcome is not Outcome.PROMOTED:
        return decision
    found = decision.sentence.partition(": ")[2]
    sentence = f"{held} {found[:1].upper()}{found[1:]}"
    return replace(decision, outcome=Outcome.AWAITING_APPROVAL, sentence=sentence)


def judge_first(
    report: EvaluationReport, prior_log_loss: float, settings: PromotionSettings
) -> PromotionDecision:
    """Whether a first model clears the absolute floors of the config.

    `prior_log_loss` is the log loss of always answering the training class frequencies.
    """
    checks = floor_checks(report, prior_log_loss, settings)
    failed = _failed(checks)
    summary = (
        f"on {counted(report.rows, FIRST.result)} it was right {percent(report.accuracy)} of the "
        "time, and its probabilities fit better than the bare frequencies of the classes"
    )
    if failed:
        outcome, sentence = Outcome.REJECTED, _rejection(failed, FIRST, NONE_SERVES)
    elif rules_of(settings).asks_person:
        outcome, sentence = Outcome.AWAITING_APPROVAL, _ask(summary)
    else:
        outcome, sentence = Outcome.PROMOTED, headline("Promoted as the first champion", summary)
    return _decision(outcome, sentence, checks, settings)


def judge_incumbent(
    report: EvaluationReport, prior_log_loss: float, settings: PromotionSettings
) -> PromotionDecision:
    """Whether a base serves that answers as a classifier does which answers already.

    No floor holds it back, for it changes no answer until it has learned to correct them: what is
    wrong with the answers is what it is there for.
    """
    checks = floor_checks(report, prior_log_loss, settings)
    checks = [replace(check, decides=False) for check in checks]
    summary = (
        "it answers as your classifier does, which was right "
        f"{percent(report.accuracy)} of the time on {counted(report.rows, FIRST.result)}, and "
        "corrects it once it has learned from new results"
    )
    if rules_of(settings).asks_person:
        outcome, sentence = Outcome.AWAITING_APPROVAL, _ask(summary)
    else:
        outcome, sentence = Outcome.PROMOTED, headline("Promoted as the first champion", summary)
    return _decision(outcome, sentence, checks, settings)


def _decision(
    outcome: Outcome, sentence: str, checks: Sequence[Check], settings: PromotionSettings
) -> PromotionDecision:
    return PromotionDecision(
        outcome=outcome, sentence=sentence, checks=tuple(checks), policy=settings.policy
    )


def _failed(checks: Sequence[Check]) -> list[Check]:
    return [check for check in checks if check.decides and not check.passed]


def _complaints(checks: Sequence[Check]) -> list[str]:
    return [check.complaint for check in _failed(checks)]


def _rejection(failed: Sequence[Check], sides: Sides, then: str) -> str:
    return headline("Rejected", joined(_complaints(failed), sides), then)


def _ask(summary: str) -> str:
    start = "Waiting for approval, as promotion.policy asks"
    return headline(start, summary, APPROVE)


def _wait(gain: PairedGain, settings: PromotionSettings) -> str:
    against_the_champion = replace(UPDATE, old=NEW_BASE.old)
    clause = f"{too_few(gain, against_the_champion)}; {_missing(gain, settings)}"
    return headline("Waiting for approval", clause, f"The next run judges again. {APPROVE}")


def _missing(gain: PairedGain, settings: PromotionSettings) -> str:
    return missing(gain, rows=settings.min_evaluated_predictions, days=settings.min_nights)
