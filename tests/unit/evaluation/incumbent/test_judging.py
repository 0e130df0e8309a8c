"""Beside a classifier that nobody here trained: kept, or a person is asked; never replaced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml_pipeline.config.sections import PromotionSettings
from ml_pipeline.evaluation.checks import Check
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.gate import PromotionDecision
from ml_pipeline.evaluation.incumbent.judging import (
    Beside,
    judge_beside,
    unless_theirs_is_better,
)
from ml_pipeline.evaluation.incumbent.record import IncumbentRecord, LoggedAnswers
from ml_pipeline.store.records import Outcome

TODAY = 1000
PROMOTED = PromotionDecision(
    outcome=Outcome.PROMOTED, sentence="Promoted as the first champion: good.", checks=(),
    policy="guarded",
)  # fmt: skip
UNFAIR = "wrong answers got labels far more often than right ones."


def record(  # noqa: PLR0913 - two models on some rows
    rows: int, theirs: float, mine: float, *, sure: float = 0.9, my_sure: float = 0.8,
    probable: float = 0.0, days: int = 20, last: int = TODAY, version: str = "loan-v3",
) -> IncumbentRecord:  # fmt: skip
    """Rows of which each was right so often, independently; `sure` of their answers."""
    random = np.random.default_rng(7)
    actual = random.integers(0, 2, size=rows)
    their_right, my_right = (_right(random, rows, share) for share in (theirs, mine))

    def table(right: np.ndarray[Any, np.dtype[np.bool_]], confidence: float) -> Any:  # noqa: ANN401
        said = np.where(right, actual, 1 - actual)
        shares = np.full((rows, 2), 1 - confidence)
        shares[np.arange(rows), said] = confidence
        return shares

    logged = table(their_right, sure)
    logged[random.random(rows) >= probable] = np.nan
    evidence = Evidence(
        labels=("H", "A"), event_ids=tuple(map(str, range(rows))), actual=actual,
        nights=np.sort(last - np.arange(rows) % days), challenger=table(my_right, my_sure),
        champion=None,
    )  # fmt: skip
    answers = LoggedAnswers(
        answered=np.ones(rows, dtype=bool), right=their_right, probabilities=logged,
        model_ids=np.full(rows, version, dtype=object),
    )  # fmt: skip
    return IncumbentRecord.of(evidence, answers, full_weight=None)


def _right(random: np.random.Generator, rows: int, share: float) -> Any:  # noqa: ANN401
    right = np.arange(rows) < round(share * rows)
    random.shuffle(right)
    return right


def judged(it: IncumbentRecord, **changes: Any) -> PromotionDecision:  # noqa: ANN401
    settings = PromotionSettings(**changes)
    return judge_beside(Beside(record=it, names="loan-v3", serves=True), settings, today=TODAY)


def test_a_worse_one_is_rejected_with_both_figures() -> None:
    found = judged(record(1200, 0.918, 0.856))
    assert found.outcome is Outcome.REJECTED
    assert found.sentence == (
        "Rejected: your classifier was right more often than my model on the same results. Yours "
        "91.8 %, mine 85.6 % on 1,200 results. Yours goes on answering, and mine goes on learning "
        "beside it."
    )


@pytest.mark.parametrize("policy", ["guarded", "nightly", "evidence", "approval"])
def test_a_better_one_asks_whatever_the_policy(policy: str) -> None:
    found = judged(record(1200, 0.80, 0.92), policy=policy)
    assert found.outcome is Outcome.AWAITING_APPROVAL
    assert found.sentence == (
        "Waiting for approval: my model is better than yours on the same results (more than noise "
        "explains). Yours 80.0 %, mine 92.0 % on 1,200 results. Approve it with `models promote "
        "ID`; yours goes on answering until your application asks this one."
    )


def test_one_that_is_about_as_good_is_not_asked_about_night_after_night() -> None:
    found = judged(record(1200, 0.90, 0.905))
    assert found.outcome is Outcome.REJECTED
    assert "has not shown that it is better than yours" in found.sentence
    assert "Yours 90.0 %, mine 90.5 % on 1,200 results." in found.sentence


def test_better_probabilities_of_one_that_is_right_less_often_are_no_improvement() -> None:
    # Over-confident: right 91.8 % of the time, and sure of nearly everything.
    sure = record(1200, 0.918, 0.856, sure=0.9999, probable=1.0)
    assert sure.by_probabilities
    assert sure.gain("losses").mean > 0
    assert judged(sure).outcome is Outcome.REJECTED
    little = record(6000, 0.918, 0.914, sure=0.9999, probable=1.0)
    found = judged(little)
    assert found.outcome is Outcome.AWAITING_APPROVAL
    assert "its probabilities fit better" in found.sentence
    lower = record(6000, 0.918, 0.902, sure=0.9999, probable=1.0)
    assert judged(lower).outcome is Outcome.REJECTED


def test_too_few_results_say_how_many_more_are_needed() -> None:
    found = judged(record(40, 0.9, 0.9, days=2))
    assert found.outcome is Outcome.AWAITING_APPROVAL
    assert found.sentence.startswith(
        "Waiting for approval: 40 results on 2 days are too few to compare my model with yours; 60 "
        "more results and 1 more day are needed. Yours 90.0 %, mine 90.0 % on 40 results."
    )
    none = judged(record(0, 0.9, 0.9))
    assert "There is no result yet that both have answered." in none.sentence
    assert none.outcome is Outcome.AWAITING_APPROVAL


def test_one_that_was_better_once_and_not_lately_is_not_asked_about() -> None:
    old = record(3000, 0.70, 0.95, last=TODAY - 60)
    found = judged(old.plus(record(300, 0.95, 0.80)))
    assert found.outcome is Outcome.REJECTED
    assert "but not in the last days" in found.sentence


def test_floors_and_the_threshold_hold_and_unfair_labels_are_said() -> None:
    better = Beside(record=record(1200, 0.80, 0.92), names="loan-v3", serves=True)
    floor = Check(
        name="min_accuracy", passed=False, sentence="", complaint="{it} was right 92.0 % of the "
        "time, and promotion.min_accuracy asks for 95.0 %",
    )  # fmt: skip
    settings = PromotionSettings()
    under = judge_beside(better, settings, today=TODAY, floors=[floor])
    assert under.outcome is Outcome.REJECTED
    assert under.sentence.startswith("Rejected: my model was right 92.0 % of the time, and")
    unfair = judge_beside(better, settings, today=TODAY, unfair=UNFAIR)
    assert f"But {UNFAIR}" in unfair.sentence
    assert unfair.outcome is Outcome.AWAITING_APPROVAL
    asked = judged(better.record, promotion_threshold=0.2)
    assert asked.outcome is Outcome.REJECTED
    assert "less than promotion.promotion_threshold asks for" in asked.sentence


@pytest.mark.parametrize(
    ("theirs", "mine", "rows", "outcome", "said"),
    [
        (0.918, 0.856, 1200, Outcome.REJECTED, "No model serves until one passes."),
        (0.90, 0.905, 1200, Outcome.AWAITING_APPROVAL, "has not shown that it is better"),
        (0.90, 0.90, 40, Outcome.AWAITING_APPROVAL, "too few to compare"),
        (0.80, 0.92, 1200, Outcome.PROMOTED, "It was compared with loan-v3"),
    ],
)
def test_a_first_model_serves_only_if_it_beats_those_whom_the_settings_do_not_name(
    theirs: float, mine: float, rows: int, outcome: Outcome, said: str
) -> None:
    beside = Beside(record=record(rows, theirs, mine), names="loan-v3", serves=False)
    found = unless_theirs_is_better(PROMOTED, beside, PromotionSettings(), today=TODAY)
    assert found.outcome is outcome
    assert said in found.sentence
    assert f"Yours {100 * theirs:.1f} %, mine {100 * mine:.1f} %" in found.sentence
    assert "loan-v3" in found.sentence


def test_the_version_that_answers_now_is_the_one_that_counts() -> None:
    old = record(1200, 0.80, 0.92, last=TODAY - 40)
    new = record(400, 0.97, 0.92, version="loan-v4", last=TODAY)
    beside = Beside(record=old.plus(new), names="loan-v4, loan-v3", serves=True, newest="loan-v4")
    found = judge_beside(beside, PromotionSettings(), today=TODAY)
    assert found.outcome is Outcome.REJECTED
    assert "Yours 97.0 %, mine 92.0 % on 400 results." in found.sentence
    assert beside.figures() == {"accuracy": pytest.approx(0.97), "rows": 400.0}
