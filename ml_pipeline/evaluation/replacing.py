"""Whether a new model serves in the place of a champion that cannot be loaded any more."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ml_pipeline.config.sections import PromotionSettings
from ml_pipeline.evaluation.checks import Check
from ml_pipeline.evaluation.gate import PromotionDecision
from ml_pipeline.evaluation.intervals import wilson_interval
from ml_pipeline.evaluation.metrics import EvaluationReport
from ml_pipeline.evaluation.sentences import APPROVE, counted, percent
from ml_pipeline.store.records import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class LostChampion:
    """A champion that cannot answer any more, `why`, and what it logged.

    Of `rows` logged answers whose outcome is known, `right` were right.
    """

    model_id: str
    why: str
    rows: int
    right: int

    @property
    def accuracy(self) -> float:
        """The share of right answers; 0 without any."""
        return self.right / self.rows if self.rows else 0.0


def judge_replacement(
    first: PromotionDecision,
    report: EvaluationReport,
    lost: LostChampion,
    settings: PromotionSettings,
    *,
    held: str | None,
) -> PromotionDecision:
    """The decision on a first model, with what the lost champion logged beside it.

    Two samples are weaker than one, so what looks worse waits for a person. `held` says why a
    person has to decide, if one has to.
    """
    check = _logged_check(report, lost, settings.confidence_level)
    decision = replace(first, checks=(*first.checks, check))
    if first.outcome is not Outcome.PROMOTED:
        return decision
    figures = (
        f"On {counted(report.rows, 'held-out result')} it was right {percent(report.accuracy)} of "
        f"the time, {_logged(lost)}. {lost.model_id} cannot answer here: {lost.why}"
    )
    if check.passed and held is None:
        by = "and by what that one logged" if lost.rows else "alone"
        start = f"Promoted in the place of {lost.model_id}, judged by promotion's floors {by}."
        return replace(decision, sentence=f"{start} {figures}")
    sentence = f"{held or _worse(lost)} {figures} {APPROVE}"
    return replace(decision, outcome=Outcome.AWAITING_APPROVAL, sentence=sentence)


def _worse(lost: LostChampion) -> str:
    return f"Waiting for approval: {lost.model_id}, which it would replace, was right more often."


def _logged(lost: LostChampion) -> str:
    if not lost.rows:
        return "and nothing is known of how often the lost one was"
    return f"the lost one {percent(lost.accuracy)} on {counted(lost.rows, 'logged result')}"


def _logged_check(report: EvaluationReport, lost: LostChampion, confidence: float) -> Check:
    """Newcombe's upper bound for the difference of two shares, from two Wilson intervals.

    "Interval Estimation for the Difference Between Independent Proportions", Statistics in Medicine
    17 (1998), method 10. Where the lost one logged nothing there is none.
    """
    mine = f"Accuracy {report.accuracy:.4f} on {report.rows} unseen rows"
    complaint = f"{{it}} was right less often than {lost.model_id}, {_logged(lost)}"
    if not lost.rows:
        sentence = f"{mine}; {lost.model_id} logged no result to compare it with."
        return Check(name="lost_champion", passed=True, sentence=sentence, complaint=complaint)
    new = wilson_interval(round(report.accuracy * report.rows), report.rows, confidence)
    old = wilson_interval(lost.right, lost.rows, confidence)
    apart = report.accuracy - lost.accuracy
    most = apart + ((new.high - report.accuracy) ** 2 + (lost.accuracy - old.low) ** 2) ** 0.5
    return Check(
        name="lost_champion",
        passed=most >= 0,
        sentence=(
            f"{mine}; {lost.model_id} logged {lost.accuracy:.4f} on {lost.rows} others (difference "
            f"at most {most:+.4f})."
        ),
        complaint=complaint,
        numbers={"difference": apart, "at_most": most},
    )
