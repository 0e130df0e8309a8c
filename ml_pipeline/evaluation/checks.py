"""The checks of the gate: one question each, with its numbers and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Final

from ml_pipeline.config.sections import PromotionSettings
from ml_pipeline.evaluation.ledger import Bounds, OnlineRecord, PairedGain
from ml_pipeline.evaluation.metrics import EvaluationReport
from ml_pipeline.evaluation.sentences import (
    NEW_BASE,
    UPDATE,
    compared,
    counted,
    not_better,
    percent,
)

RECALL_DROP: Final = 0.05
GUARD_QUESTIONS: Final = 2
# The guard asks every night, and stops an update that is right on a part of the nights that is no
# more than this share of what a single check may err by: on 2 % of them at the usual 95 %.
GUARD_SHARE: Final = 0.4


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One question the gate asked, with its numbers and a sentence.

    `complaint` is what the headline says when it fails, with `{it}` for the model.
    """

    name: str
    passed: bool
    sentence: str
    complaint: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    decides: bool = True

    def as_json(self) -> dict[str, Any]:
        """The check as plain JSON values."""
        return {
            "name": self.name,
            "passed": self.passed,
            "decides": self.decides,
            "sentence": self.sentence,
            "numbers": dict(self.numbers),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedComparison:
    """Champion and challenger on the same rows, which neither has learned."""

    champion: EvaluationReport
    challenger: EvaluationReport


def is_thin(gain: PairedGain, settings: PromotionSettings) -> bool:
    """Whether there is too little to judge on; rows of one entity are one result."""
    return gain.nights < settings.min_nights or gain.units < settings.min_evaluated_predictions


def normal_bounds(gain: PairedGain, settings: PromotionSettings) -> Bounds:
    """One-sided bounds of the mean for the two questions of the guard in one night.

    They are about everything and about the last days, and share what the guard may err by in a
    night (Bonferroni), however much the gains vary. The error is that of rows or entities, or that
    of whole nights where it is larger. Asymptotic: for rows enough that their mean is about normal.
    """
    alpha = GUARD_SHARE * (1 - settings.confidence_level) / GUARD_QUESTIONS
    half = NormalDist().inv_cdf(1 - alpha) * max(gain.standard_error, gain.night_error)
    return Bounds(lower=gain.mean - half, upper=gain.mean + half)


def sequence_bounds(gain: PairedGain, settings: PromotionSettings) -> Bounds:
    """Bounds of the mean at the configured confidence that hold however often it is checked."""
    alpha = 1 - settings.confidence_level
    return confidence_sequence(gain, alpha=alpha, horizon_rows=settings.horizon_rows)


def confidence_sequence(gain: PairedGain, *, alpha: float, horizon_rows: int) -> Bounds:
    """Betting confidence sequence for the mean of clipped gains; see `evaluation.betting`.

    Each bound is wrong at any time, at every sample size, with a probability of `alpha` at most.
    It assumes that results (rows, or the means over one entity's rows) have the same mean, given
    those before, and nothing of their distribution; gains are clipped to ±CLIP (5 nats). Without
    rows it is the clip.
    """
    proof = gain.proof()
    return Bounds(
        lower=proof.lower_bound(alpha=alpha, horizon_rows=horizon_rows),
        upper=proof.upper_bound(alpha=alpha, horizon_rows=horizon_rows),
    )


def _numbers(gain: PairedGain) -> dict[str, float]:
    return {
        "rows": gain.rows,
        "units": gain.units,
        "nights": gain.nights,
        "mean_gain": gain.mean,
        "standard_error": gain.standard_error,
        **({"standard_error_of_nights": gain.night_error} if gain.night_error else {}),
    }


def regression_checks(record: OnlineRecord, settings: PromotionSettings) -> list[Check]:
    """Whether an update has made things worse: since its base was approved, and lately."""
    return [
        _regression("since_approval", "since its approval", record.since_approval, settings),
        _regression("recent", _window(settings), record.recent, settings),
    ]


def _window(settings: PromotionSettings) -> str:
    return f"over the last {settings.evaluation_window_days:g} days"


def _regression(name: str, when: str, gain: PairedGain, settings: PromotionSettings) -> Check:
    bounds = normal_bounds(gain, settings)
    thin, least = is_thin(gain, settings), settings.least_regression
    passed = thin or not is_regression(gain, settings)
    verdict = (
        f"too little to show a regression (needs {settings.min_evaluated_predictions} rows of "
        f"{settings.min_nights} days)"
        if thin
        else f"no regression of more than {least:g}"
        if passed
        else f"a regression of more than {least:g}"
    )
    place = f"{when}, " if name == "recent" else ""
    return Check(
        name=name,
        passed=passed,
        sentence=(
            f"The updated model against the approved one {when}: {gain.mean:+.4f} nats a row "
            f"(upper bound {bounds.upper:+.4f}) on {_rows(gain)} of {gain.nights} days, {verdict}."
        ),
        complaint=place
        + compared(gain, bounds, UPDATE, least=least).replace(UPDATE.new, "{it}", 1),
        numbers=_numbers(gain) | {"upper_bound": bounds.upper, "least_regression": least},
    )


def is_regression(gain: PairedGain, settings: PromotionSettings) -> bool:
    """Whether a gain is surely a loss, and of more than `least_regression` nats a row.

    The line on a right base loses some ten thousandths of a nat for ever: to take it off for that
    would be noise, night after night.
    """
    return normal_bounds(gain, settings).upper < -settings.least_regression


def _rows(gain: PairedGain) -> str:
    of = "" if gain.units == gain.rows else f" of {gain.units} entities"
    return f"{gain.rows} unseen rows{of}"


def evidence_check(gain: PairedGain, settings: PromotionSettings) -> Check:
    """Whether an update has gained anything on the champion since it was promoted."""
    return Check(
        name="evidence",
        passed=gain.mean > 0 and not is_thin(gain, settings),
        sentence=(
            f"Gain over the champion since the last promotion: {gain.mean:+.4f} nats a row on "
            f"{gain.rows} rows of {gain.nights} days (needs more than 0 on "
            f"{settings.min_evaluated_predictions} rows of {settings.min_nights} days)."
        ),
        complaint=(
            f"on {counted(gain.rows, UPDATE.result)} since the last promotion {{it}} has gained "
            "nothing on the model that serves"
        ),
        numbers=_numbers(gain),
    )


def proof_check(gain: PairedGain, settings: PromotionSettings) -> Check:
    """Whether a new base is better than the champion, however often that was asked."""
    bounds = sequence_bounds(gain, settings)
    return Check(
        name="confidence_sequence",
        # The bounds are those of clipped gains: losses beyond the clip count here.
        passed=bounds.lower > 0 and gain.mean > 0,
        sentence=(
            f"Log-loss gain over the champion: {gain.mean:+.4f} nats a row, between "
            f"{bounds.lower:+.4f} and {bounds.upper:+.4f} however often it is checked, on "
            f"{gain.rows} rows{'' if gain.units == gain.rows else f' of {gain.units} entities'}."
        ),
        complaint=not_better(gain, bounds, NEW_BASE).replace(NEW_BASE.new, "{it}", 1),
        numbers=_numbers(gain) | {"lower_bound": bounds.lower, "upper_bound": bounds.upper},
    )


def latest_check(gain: PairedGain, settings: PromotionSettings) -> Check:
    """Whether a new base did better in the last days too, if there are any rows of them."""
    window = _window(settings)
    return Check(
        name="recent",
        passed=gain.rows == 0 or gain.mean > 0,
        sentence=(f"{window.capitalize()}: {gain.mean:+.4f} nats a row on {gain.rows} rows."),
        complaint=f"{window}, on {counted(gain.rows, NEW_BASE.result)}, {{it}} did no better",
        numbers=_numbers(gain),
    )


def earlier_check(model_id: str, gain: PairedGain) -> Check:
    """A champion that beats the last one may still be worse than the best: a ratchet downwards."""
    return Check(
        name="earlier_champion",
        passed=gain.rows == 0 or gain.mean >= 0,
        sentence=(
            f"Log-loss gain over the former champion {model_id}: {gain.mean:+.4f} nats a row "
            f"on {gain.rows} rows."
        ),
        complaint=(
            f"on {counted(gain.rows, NEW_BASE.result)} {{it}} did worse than the former champion "
            + model_id.replace("{", "{{").replace("}", "}}")
        ),
        numbers=_numbers(gain),
    )


def comparison_checks(comparison: PairedComparison, settings: PromotionSettings) -> list[Check]:
    """Accuracy and recall of both: warnings, unless the config makes them vetoes."""
    checks = [_accuracy(comparison, settings), _recall(comparison, settings)]
    if settings.promotion_threshold > 0:
        checks.append(_threshold(comparison, settings))
    return checks


def _accuracy(comparison: PairedComparison, settings: PromotionSettings) -> Check:
    old, new = comparison.champion.accuracy, comparison.challenger.accuracy
    rows = comparison.challenger.rows
    return Check(
        name="accuracy",
        passed=new >= old,
        sentence=f"Accuracy {old:.4f} → {new:.4f} on {rows} rows.",
        complaint=(
            f"on {counted(rows, 'unseen result')} {{it}} was right less often than the model that "
            f"serves ({percent(new)} against {percent(old)})"
        ),
        numbers={"gain": new - old, "rows": rows},
        decides="accuracy" in settings.vetoes,
    )


def _recall(comparison: PairedComparison, settings: PromotionSettings) -> Check:
    champion, challenger = comparison.champion, comparison.challenger
    drops = {
        label: champion.per_class[label]["recall"] - scores["recall"]
        for label, scores in challenger.per_class.items()
        if label in champion.per_class and scores["support"] > 0
    }
    worst = max(drops, key=lambda label: drops[label], default=None)
    drop = drops[worst] if worst is not None else 0.0
    label = str(worst).replace("{", "{{").replace("}", "}}")
    return Check(
        name="recall",
        passed=drop < RECALL_DROP,
        sentence=f"Largest fall of a class's recall: {max(drop, 0.0):.4f}"
        + (f" ({worst})." if worst is not None and drop > 0 else "."),
        complaint=(
            f"on {counted(challenger.rows, 'unseen result')} {{it}} recognised {label} less often "
            f"than the model that serves (recall down by {100 * drop:.1f} points)"
        ),
        numbers={"largest_drop": drop},
        decides="recall" in settings.vetoes,
    )


def _threshold(comparison: PairedComparison, settings: PromotionSettings) -> Check:
    gain = comparison.challenger.accuracy - comparison.champion.accuracy
    wanted, more = settings.promotion_threshold, "more" if gain >= 0 else "less"
    return Check(
        name="promotion_threshold",
        passed=gain >= wanted,
        sentence=f"Accuracy gain {gain:+.4f}, promotion_threshold asks for {wanted:+.4f}.",
        complaint=(
            f"on {counted(comparison.challenger.rows, 'unseen result')} {{it}} was right "
            f"{abs(100 * gain):.1f} points {more} often than the model that serves, and "
            f"promotion.promotion_threshold asks for {100 * wanted:.1f} more"
        ),
        numbers={"gain": gain, "threshold": wanted},
    )


def floor_checks(
    report: EvaluationReport, prior_log_loss: float, settings: PromotionSettings
) -> list[Check]:
    """Whether a first model clears the absolute floors of the config."""
    checks = [_skill(report, prior_log_loss, settings), _min_accuracy(report, settings)]
    if settings.max_log_loss is not None:
        checks.append(_max_log_loss(report, settings.max_log_loss))
    return checks


def _skill(report: EvaluationReport, prior_log_loss: float, settings: PromotionSettings) -> Check:
    skill = prior_log_loss - report.log_loss
    short = "no better than" if skill <= 0 else "too little better than"
    return Check(
        name="skill",
        passed=skill > settings.min_skill,
        sentence=(
            f"Log loss {report.log_loss:.4f} against {prior_log_loss:.4f} for the class "
            f"frequencies alone, on {report.rows} unseen rows."
        ),
        complaint=(
            f"on {counted(report.rows, 'held-out result')} the probabilities of {{it}} fit {short} "
            "the bare frequencies of the classes"
        ),
        numbers={"skill": skill, "floor": settings.min_skill},
    )


def _min_accuracy(report: EvaluationReport, settings: PromotionSettings) -> Check:
    return Check(
        name="min_accuracy",
        passed=report.accuracy >= settings.min_accuracy,
        sentence=f"Accuracy {report.accuracy:.4f}, floor {settings.min_accuracy:.4f}.",
        complaint=(
            f"on {counted(report.rows, 'held-out result')} {{it}} was right "
            f"{percent(report.accuracy)} of the time, and promotion.min_accuracy asks for "
            f"{percent(settings.min_accuracy)}"
        ),
        numbers={"accuracy": report.accuracy, "floor": settings.min_accuracy},
    )


def _max_log_loss(report: EvaluationReport, ceiling: float) -> Check:
    return Check(
        name="max_log_loss",
        passed=report.log_loss <= ceiling,
        sentence=f"Log loss {report.log_loss:.4f}, ceiling {ceiling:.4f}.",
        complaint=(
            f"on {counted(report.rows, 'held-out result')} {{it}} had a log loss of "
            f"{report.log_loss:.3f}, and promotion.max_log_loss allows {ceiling:.3f}"
        ),
        numbers={"log_loss": report.log_loss, "ceiling": ceiling},
    )
