"""What the gate decides beside a classifier that nobody here trained: it never replaces it unasked.

Where the incumbent logs probabilities, these are compared (log loss), else how often each was
right. Who has the better probabilities may still be right less often; that is no improvement to
somebody who reads labels, so both count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ml_pipeline.config.sections import PromotionSettings
from ml_pipeline.evaluation.betting import CLIP
from ml_pipeline.evaluation.checks import (
    Check,
    is_thin,
    normal_bounds,
    sequence_bounds,
)
from ml_pipeline.evaluation.gate import PromotionDecision
from ml_pipeline.evaluation.incumbent.record import IncumbentRecord
from ml_pipeline.evaluation.ledger import Bounds, PairedGain
from ml_pipeline.evaluation.sentences import NONE_SERVES, counted, missing, percent
from ml_pipeline.store.records import Outcome

# Worse than so much in the share of right answers is no improvement, however well probabilities
# fit and however few results show it.
LEAST_LOSS: Final = 0.01
SWITCH: Final = (
    "Approve it with `models promote ID`; yours goes on answering until your application asks this "
    "one."
)
GOES_ON: Final = "Yours goes on answering, and mine goes on learning beside it."


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """A challenger's record beside those who answered, whom `names` names.

    It is judged beside the `newest` of them, as one version replaces another.
    `serves` says that the settings name them as what people are answered by.
    """

    record: IncumbentRecord
    names: str
    serves: bool
    newest: str | None = None

    @property
    def judged(self) -> IncumbentRecord:
        """The part of the record that counts."""
        return self.record.beside(self.newest)

    def figures(self) -> dict[str, float]:
        """How often it was right on the results that were compared; nothing without any."""
        rows = self.judged.rows
        return {"accuracy": self.judged.right[0], "rows": float(rows)} if rows else {}

    def as_json(self) -> dict[str, Any]:
        """What a run says of it."""
        judged = self.judged
        theirs, mine = judged.right
        return {
            "names": self.names,
            "serves": self.serves,
            "rows": judged.rows,
            "yours": theirs,
            "mine": mine,
            "judged_by": "probabilities" if judged.by_probabilities else "labels",
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A challenger compared with them: which gain decides, and how sure it is."""

    gain: PairedGain
    accuracy: PairedGain
    bounds: Bounds
    accuracy_upper: float
    checks: tuple[Check, ...]
    thin: bool

    @classmethod
    def of(cls, record: IncumbentRecord, settings: PromotionSettings, *, today: int) -> Comparison:
        """On everything so far, and on the last days until `today` (an ordinal)."""
        name = "losses" if record.by_probabilities else "accuracy"
        gain, accuracy = record.gain(name), record.gain("accuracy")
        recent = record.gain(name, after=today - int(settings.evaluation_window_days))
        bounds = sequence_bounds(gain, settings)
        if name == "accuracy":  # whose wealth is that of scaled differences
            bounds = Bounds(lower=bounds.lower / CLIP, upper=bounds.upper / CLIP)
        return cls(
            gain=gain,
            accuracy=accuracy,
            bounds=bounds,
            accuracy_upper=normal_bounds(accuracy, settings).upper,
            checks=(
                _proof(name, gain, bounds, settings),
                _recent(recent, settings),
                _rights(accuracy, settings),
                _threshold(accuracy, settings),
            ),
            thin=is_thin(gain, settings),
        )

    @property
    def is_better(self) -> bool:
        """Whether it is better for certain, lately too, and right as often.

        What is certain is so however few results there are: see `evaluation.betting`.
        """
        return all(check.passed for check in self.checks)

    @property
    def is_worse(self) -> bool:
        """Whether it is worse for certain."""
        return self.bounds.upper < 0 or (not self.thin and self.accuracy_upper < 0)


def judge_beside(
    beside: Beside,
    settings: PromotionSettings,
    *,
    today: int,
    floors: Sequence[Check] = (),
    unfair: str | None = None,
) -> PromotionDecision:
    """Whether to ask a person to let it answer in the place of theirs; it never does unasked.

    `floors` are those of a first model. `unfair` says why the results are no fair sample.
    """
    comparison = Comparison.of(beside.judged, settings, today=today)
    failed = [check for check in floors if check.decides and not check.passed]
    figures = _figures(beside.judged)
    complaint = ""
    if comparison.is_worse or failed:
        complaints = "; ".join(check.complaint.format(it="my model") for check in failed)
        complaint = _worse(comparison) if comparison.is_worse else complaints
    elif not (comparison.is_better or comparison.thin):
        complaint = _not_shown(comparison)
    outcome = Outcome.REJECTED if complaint else Outcome.AWAITING_APPROVAL
    if complaint:
        sentence = f"Rejected: {complaint}. {figures} {GOES_ON}"
    elif comparison.is_better:
        doubt = f" But {unfair}" if unfair else ""
        sentence = f"Waiting for approval: {_better(comparison)}. {figures}{doubt} {SWITCH}"
    else:
        then = f"The next run compares again. {SWITCH}"
        sentence = f"Waiting for approval: {_thin(comparison, settings)} {figures} {then}"
    checks = (*comparison.checks, *floors)
    return PromotionDecision(
        outcome=outcome, sentence=sentence, checks=checks, policy=settings.policy
    )


def unless_theirs_is_better(
    decision: PromotionDecision, beside: Beside, settings: PromotionSettings, *, today: int
) -> PromotionDecision:
    """The decision on a first model where others have answered whom the settings do not name.

    It serves only if it is better than they were on the same results.
    """
    comparison = Comparison.of(beside.judged, settings, today=today)
    decision = replace(decision, checks=(*decision.checks, *comparison.checks))
    if decision.outcome is not Outcome.PROMOTED:
        return decision
    figures = _figures(beside.judged)
    if comparison.is_better:
        compared = f"It was compared with {beside.names}, which answered them: {figures}"
        return replace(decision, sentence=f"{decision.sentence} {compared}")
    if comparison.is_worse:
        outcome, what = Outcome.REJECTED, f"Rejected: {_worse(comparison)}"
    elif comparison.thin:
        outcome, what = Outcome.AWAITING_APPROVAL, "Waiting for approval: "
        what += _thin(comparison, settings).removesuffix(".")
    else:
        outcome, what = Outcome.AWAITING_APPROVAL, f"Waiting for approval: {_not_shown(comparison)}"
    then = NONE_SERVES if outcome is Outcome.REJECTED else SWITCH
    sentence = f"{what}. {figures} Yours is {beside.names}, which answered them. {then}"
    return replace(decision, outcome=outcome, sentence=sentence)


# ------------------------------------------------------------------------------------ checks


def _proof(name: str, gain: PairedGain, bounds: Bounds, settings: PromotionSettings) -> Check:
    """Whether it is better however often that was asked, with days as clusters where they tell."""
    by_days = normal_bounds(gain, settings).lower
    of = "Log-loss gain" if name == "losses" else "Gain in right answers"
    return Check(
        name=f"incumbent_{name}",
        passed=bounds.lower > 0 and gain.mean > 0 and by_days > 0,
        sentence=(
            f"{of} over the classifier that answers: {gain.mean:+.4f} a row, between "
            f"{bounds.lower:+.4f} and {bounds.upper:+.4f} however often it is checked, on "
            f"{gain.rows} rows of {gain.nights} days."
        ),
        complaint="{it} has not shown that it is better",
        numbers={
            "rows": gain.rows, "units": gain.units, "nights": gain.nights, "mean_gain": gain.mean,
            "standard_error": gain.standard_error, "standard_error_of_nights": gain.night_error,
            "lower_bound": bounds.lower, "upper_bound": bounds.upper,
        },
    )  # fmt: skip


def _recent(gain: PairedGain, settings: PromotionSettings) -> Check:
    window = f"Over the last {settings.evaluation_window_days:g} days"
    return Check(
        name="incumbent_recent",
        passed=gain.rows == 0 or gain.mean > 0,
        sentence=f"{window}: {gain.mean:+.4f} a row on {gain.rows} rows.",
        complaint=f"{window.lower()} {{it}} did no better",
        numbers={"rows": gain.rows, "mean_gain": gain.mean},
    )


def _rights(gain: PairedGain, settings: PromotionSettings) -> Check:
    """Whether it was right as often as theirs."""
    upper = normal_bounds(gain, settings).upper
    is_less = gain.rows > 0 and (gain.mean < -LEAST_LOSS or (gain.mean < 0 and upper < 0))
    return Check(
        name="incumbent_right",
        passed=not is_less,
        sentence=f"Right answers: {100 * gain.mean:+.2f} points (at most {100 * upper:+.2f}).",
        complaint="{it} was right less often",
        numbers={"gain": gain.mean, "upper_bound": upper},
    )


def _threshold(gain: PairedGain, settings: PromotionSettings) -> Check:
    wanted = settings.promotion_threshold
    return Check(
        name="promotion_threshold",
        passed=wanted <= 0 or gain.mean >= wanted,
        sentence=f"Accuracy gain {gain.mean:+.4f}, promotion_threshold asks for {wanted:+.4f}.",
        complaint=f"{{it}} was not right {100 * wanted:.1f} points more often, as "
        "promotion.promotion_threshold asks",
        numbers={"gain": gain.mean, "threshold": wanted},
    )


# ---------------------------------------------------------------------------------- in words


def _figures(record: IncumbentRecord) -> str:
    if not record.rows:
        return "There is no result yet that both have answered."
    theirs, mine = record.right
    return f"Yours {percent(theirs)}, mine {percent(mine)} on {counted(record.rows, 'result')}."


def _is_right_more_often(comparison: Comparison) -> bool:
    return comparison.accuracy.mean > 0


def _better(comparison: Comparison) -> str:
    by = "" if _is_right_more_often(comparison) else ", its probabilities fit better"
    return f"my model is better than yours on the same results{by} (more than noise explains)"


def _worse(comparison: Comparison) -> str:
    if comparison.bounds.upper < 0 and _is_right_more_often(comparison):
        return "the probabilities of yours fit better than those of my model on the same results"
    return "your classifier was right more often than my model on the same results"


def _not_shown(comparison: Comparison) -> str:
    proof, recent, rights, threshold = comparison.checks
    start = "my model was better than yours on the same results, but"
    if proof.passed and not recent.passed:
        return f"{start} not in the last days"
    if proof.passed and not rights.passed:
        return f"{start} only its probabilities were: it was right less often"
    if proof.passed and not threshold.passed:
        return f"{start} by less than promotion.promotion_threshold asks for"
    return (
        "my model has not shown that it is better than yours on the same results (the difference "
        "is within noise)"
    )


def _thin(comparison: Comparison, settings: PromotionSettings) -> str:
    gain = comparison.gain
    lacking = missing(gain, rows=settings.min_evaluated_predictions, days=settings.min_nights)
    return (
        f"{counted(gain.rows, 'result')} on {counted(gain.nights, 'day')} "
        f"{'is' if gain.rows == 1 else 'are'} too few to compare my model with yours; {lacking}."
    )
