"""Whether labels are a fair sample: said in plain words, with the setting, and held against."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ml_pipeline.config.sections import PromotionSettings
from ml_pipeline.evaluation.gate import judge_online, unless_unfair
from ml_pipeline.evaluation.label_sample import AnswerShare, ConfidenceShare, LabelSample
from ml_pipeline.store.records import Outcome
from tests.unit.evaluation.test_gate import BAD, GOOD, record

# 1,000 answers, 75 % right and as sure: every error has a label, and a tenth of the right ones.
TENTH = LabelSample(
    when="of the last 30 days",
    answers=1000,
    confidence=0.75,
    labelled=325,
    right=75,
    by_answer={
        "H": AnswerShare(answers=600, labelled=240),
        "A": AnswerShare(answers=400, labelled=85),
    },
)
ERRORS = replace(TENTH, labelled=250, right=0)
WEIGHED = replace(TENTH, right_weight=10.0)
READ = LabelSample(when="to learn from", answers=None, confidence=0.8, labelled=200, right=0)


def test_a_sample_of_errors_and_few_right_answers_names_the_setting() -> None:
    assert TENTH.is_biased
    assert not TENTH.is_nearly_all_errors
    assert TENTH.refusal() is None
    assert TENTH.warning() == (
        "325 outcomes of 1,000 answers of the last 30 days are known; 23.1 % of these answers were "
        "right, while all answers were 75.0 % sure on average. Wrong answers seem to get labels "
        "more often than right ones. Label a random part of all answers, or set "
        "training.adaptive.label_probability_wrong to 1 and label_probability_right to 0.1, if the "
        "model is as often right as it is sure."
    )
    assert TENTH.shares() == "Labelled by answer: H 40.0 %, A 21.2 %."


def by_confidence(*shares: float, answers: int = 100) -> LabelSample:
    """Of answers that are half sure, two thirds and quite sure such shares have a label."""
    edges = ((0.5, 0.6), (0.6, 0.7), (0.9, 1.0))
    bins = (
        ConfidenceShare(low=low, high=high, answers=answers, labelled=share)
        for (low, high), share in zip(edges, shares, strict=True)
    )
    return replace(TENTH, by_confidence=tuple(bins))


def test_it_says_whether_sure_answers_get_labels_as_often_as_unsure_ones() -> None:
    assert TENTH.shares_by_confidence() == ""
    assert by_confidence(0.4, 0.3, 0.05).shares_by_confidence() == (
        "Labelled by confidence: 50 to 60 % sure 40.0 %, 60 to 70 % sure 30.0 %, 90 to 100 % sure "
        "5.0 %. Sure answers get labels less often than unsure ones: figures of labelled answers "
        "are not those of all answers."
    )
    assert " Unsure answers get" in by_confidence(0.1, 0.3, 0.5).shares_by_confidence()
    assert "about alike." in by_confidence(0.31, 0.3, 0.35).shares_by_confidence()
    assert by_confidence(0.1, 0.2, 0.9, answers=20).shares_by_confidence() == ""
    said = by_confidence(0.4, 0.3, 0.05).as_json()["said"]
    assert said.startswith(TENTH.warning() or "?")
    assert said.endswith(by_confidence(0.4, 0.3, 0.05).shares_by_confidence())


def test_with_the_setting_that_was_suggested_the_sample_is_fair() -> None:
    assert WEIGHED.accuracy == pytest.approx(0.75)
    assert WEIGHED.warning() is None


def test_a_sample_of_errors_alone_is_nothing_to_promote_on() -> None:
    assert ERRORS.is_nearly_all_errors
    refusal = ERRORS.refusal()
    assert refusal is not None
    assert refusal.startswith("nearly all results that a model could be judged on are errors: 250")
    assert "Label a random part of all answers, right ones as well" in refusal
    assert READ.refusal() is not None
    assert replace(READ, right=15).refusal() is not None


def test_a_world_that_has_turned_over_is_not_taken_for_a_bias() -> None:
    """Every answer has its label and one in twenty was right: learning is what is wanted."""
    turned = replace(TENTH, answers=330, labelled=325, right=16)
    assert turned.warning() is None
    assert turned.refusal() is None
    assert replace(turned, right=3).refusal() is not None
    assert replace(READ, right=15, pending=5).refusal() is None
    assert replace(READ, right=15, pending=500).refusal() is not None


@pytest.mark.parametrize(
    "fair",
    [
        replace(TENTH, labelled=325, right=240),
        replace(TENTH, answers=330),
        replace(TENTH, answers=1000, labelled=29, right=0),
        replace(TENTH, confidence=None),
        replace(TENTH, confidence=0.3),
        replace(TENTH, answers=None),
        LabelSample(when="of the last 30 days", answers=0, confidence=None, labelled=0, right=0),
    ],
    ids=["right", "nearly all labelled", "few", "unsure", "low", "unknown", "none"],
)
def test_a_fair_sample_or_too_small_a_one_is_not_complained_of(fair: LabelSample) -> None:
    assert fair.warning() is None
    assert fair.refusal() is None
    assert fair.sentence().endswith(".")


def test_a_model_that_is_often_wrong_and_knows_it_is_not_taken_for_a_bias() -> None:
    many_classes = replace(ERRORS, right=20, confidence=0.1)
    assert not many_classes.is_nearly_all_errors


def test_a_promotion_waits_and_a_rejection_stays_one() -> None:
    settings, refusal = PromotionSettings(), ERRORS.refusal()
    promoted = judge_online(record(GOOD), None, settings)
    waiting = unless_unfair(promoted, refusal)
    assert waiting.outcome is Outcome.AWAITING_APPROVAL
    assert waiting.sentence.startswith("Waiting for approval: nearly all results")
    assert waiting.sentence.endswith("Approve it with `models promote ID`.")
    rejected = judge_online(record(BAD), None, settings)
    assert unless_unfair(rejected, refusal) is rejected
    assert unless_unfair(promoted, None) is promoted


def test_a_sample_is_plain_json() -> None:
    plain = json.loads(json.dumps(TENTH.as_json(), allow_nan=False))
    assert plain["by_answer"]["H"] == {"answers": 600, "labelled": 240}
    assert plain["accuracy"] == pytest.approx(75 / 325)
    assert replace(TENTH, labelled=0, right=0).as_json()["accuracy"] is None


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="5 right answers of 4 labelled ones cannot be"):
        replace(TENTH, labelled=4, right=5)
