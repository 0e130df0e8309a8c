"""What the gate says to people, for every outcome: results, certainty, and what happens now."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipeline.config.sections import PromotionSettings
from ml_pipeline.evaluation.gate import (
    POLICIES,
    PromotionDecision,
    judge_first,
    judge_new_base,
    judge_online,
    judge_shadow,
    undecided_shadow,
)
from ml_pipeline.evaluation.ledger import ChampionRecord, OnlineRecord, PairedGain
from ml_pipeline.store.records import Outcome
from tests.unit.evaluation.test_gate import (
    BETTER,
    EVEN,
    FALLEN,
    NONE,
    WORSE,
    base,
    gain,
    record,
    report,
)

PRIVATE = re.compile(r"\b(nats?|anchors?|lines?|heads?|bounds?|nights?)\b", re.IGNORECASE)
HELD = "Since the rollback to m-1 on 2026-05-25 (odd) a person decides what serves next."


def shared(mean: float, old: float, new: float, *, rows: int = 900, nights: int = 30) -> PairedGain:
    """A gain with both shares of right predictions."""
    known = gain(mean, rows=rows, nights=nights)
    return replace(known, right=(old, new))


def settings(**changes: Any) -> PromotionSettings:  # noqa: ANN401 - the section's own types
    return PromotionSettings(**changes)


AS_GOOD = shared(-0.0003, 0.4834, 0.4853, rows=511, nights=12)
CASES: dict[str, tuple[Callable[[], PromotionDecision | None], Outcome, str]] = {
    "an update as good": (
        lambda: judge_online(record(AS_GOOD), EVEN, settings()),
        Outcome.PROMOTED,
        (
            "Promoted: on 511 new results the updated model did as well as the approved one (48.5 "
            "% against 48.3 % right; the difference is within noise)."
        ),
    ),
    "a better update": (
        lambda: judge_online(record(shared(0.05, 0.48, 0.52)), EVEN, settings()),
        Outcome.PROMOTED,
        (
            "Promoted: on 900 new results the updated model did better than the approved one "
            "(52.0 % against 48.0 % right; more than noise explains)."
        ),
    ),
    "an update that fits better and is right less often": (
        lambda: judge_online(record(shared(0.05, 0.48, 0.47)), EVEN, settings()),
        Outcome.PROMOTED,
        (
            "Promoted: on 900 new results the updated model did better than the approved one "
            "(47.0 % against 48.0 % right, yet its probabilities fit better; more than noise "
            "explains)."
        ),
    ),
    "an update with few results": (
        lambda: judge_online(record(gain(-0.5, rows=99, nights=2)), None, settings()),
        Outcome.PROMOTED,
        (
            "Promoted for now: 99 new results on 2 days are too few to compare the updated model "
            "with the approved one; 1 more result and 1 more day are needed."
        ),
    ),
    "an update that the policy lets through": (
        lambda: judge_online(record(shared(-0.05, 0.5, 0.48)), WORSE, settings(policy="nightly")),
        Outcome.PROMOTED,
        (
            "Promoted, as promotion.policy asks: on 900 new results the updated model did worse "
            "than the approved one (48.0 % against 50.0 % right; more than noise explains)."
        ),
    ),
    "a worse update": (
        lambda: judge_online(record(shared(-0.05, 0.5, 0.48)), EVEN, settings()),
        Outcome.REJECTED,
        (
            "Rejected: on 900 new results the updated model did worse than the approved one (48.0 "
            "% against 50.0 % right; more than noise explains); over the last 30 days, on 900 new "
            "results it did worse than the approved one (48.0 % against 50.0 % right; more than "
            "noise explains). The approved model serves meanwhile; learning goes on."
        ),
    ),
    "a worse update under another policy": (
        lambda: judge_online(
            OnlineRecord(
                since_approval=shared(-0.05, 0.5, 0.48), recent=NONE, over_champion=gain(0.1)
            ),
            None,
            settings(policy="evidence"),
        ),
        Outcome.REJECTED,
        (
            "Rejected: on 900 new results the updated model did worse than the approved one (48.0 "
            "% against 50.0 % right; more than noise explains). The model that serves stays."
        ),
    ),
    "an update that has gained nothing": (
        lambda: judge_online(record(AS_GOOD, over=gain(-0.1)), None, settings(policy="evidence")),
        Outcome.REJECTED,
        (
            "Rejected: on 900 new results since the last promotion the updated model has gained "
            "nothing on the model that serves. The model that serves stays."
        ),
    ),
    "an update that is right less often, with a veto": (
        lambda: judge_online(record(AS_GOOD), WORSE, settings(vetoes=["accuracy"])),
        Outcome.REJECTED,
        (
            "Rejected: on 100 unseen results the updated model was right less often than the "
            "model that serves (55.0 % against 60.0 %). The approved model serves meanwhile; "
            "learning goes on."
        ),
    ),
    "an update that neglects a class, with a veto": (
        lambda: judge_online(record(AS_GOOD), FALLEN, settings(vetoes=["recall"])),
        Outcome.REJECTED,
        (
            "Rejected: on 100 unseen results the updated model recognised D less often than the "
            "model that serves (recall down by 10.0 points). The approved model serves meanwhile; "
            "learning goes on."
        ),
    ),
    "an update below the threshold": (
        lambda: judge_online(record(AS_GOOD), WORSE, settings(promotion_threshold=0.01)),
        Outcome.REJECTED,
        (
            "Rejected: on 100 unseen results the updated model was right 5.0 points less often "
            "than the model that serves, and promotion.promotion_threshold asks for 1.0 more. The "
            "approved model serves meanwhile; learning goes on."
        ),
    ),
    "an update with too little evidence": (
        lambda: judge_online(
            record(AS_GOOD, over=gain(0.5, rows=40, nights=3)), None, settings(policy="evidence")
        ),
        Outcome.AWAITING_APPROVAL,
        (
            "Waiting for approval: 40 new results on 3 days are too few to compare the updated "
            "model with the model that serves; 60 more results are needed. The next run judges "
            "again. Approve it with `models promote ID`."
        ),
    ),
    "an update that needs approval": (
        lambda: judge_online(record(AS_GOOD), EVEN, settings(policy="approval")),
        Outcome.AWAITING_APPROVAL,
        (
            "Waiting for approval, as promotion.policy asks: on 511 new results the updated model "
            "did as well as the approved one (48.5 % against 48.3 % right; the difference is "
            "within noise). Approve it with `models promote ID`."
        ),
    ),
    "an update after a rollback": (
        lambda: judge_online(record(AS_GOOD), EVEN, settings(), held=HELD),
        Outcome.AWAITING_APPROVAL,
        (
            f"{HELD} On 511 new results the updated model did as well as the approved one (48.5 % "
            "against 48.3 % right; the difference is within noise)."
        ),
    ),
    "a better base": (
        lambda: judge_new_base(base(shared(0.1, 0.5, 0.6)), BETTER, settings()),
        Outcome.PROMOTED,
        (
            "Promoted: on 900 unseen results the new model did better than the model that serves "
            "(60.0 % against 50.0 % right; more than noise explains)."
        ),
    ),
    "a base that is no better": (
        lambda: judge_new_base(base(shared(0.01, 0.5, 0.51)), EVEN, settings()),
        Outcome.REJECTED,
        (
            "Rejected: on 900 unseen results the new model has not shown that it is better than "
            "the model that serves (51.0 % against 50.0 % right; the difference is within noise). "
            "The model that serves stays."
        ),
    ),
    "a worse base": (
        lambda: judge_new_base(base(shared(-0.1, 0.5, 0.51), NONE), EVEN, settings()),
        Outcome.REJECTED,
        (
            "Rejected: on 900 unseen results the new model did worse than the model that serves "
            "(51.0 % against 50.0 % right, yet its probabilities fit worse; more than noise "
            "explains). The model that serves stays."
        ),
    ),
    "a base that lost lately": (
        lambda: judge_new_base(base(gain(0.1), gain(-0.1, rows=200)), EVEN, settings()),
        Outcome.REJECTED,
        (
            "Rejected: over the last 30 days, on 200 unseen results, the new model did no better. "
            "The model that serves stays."
        ),
    ),
    "a base behind a former champion": (
        lambda: judge_new_base(
            ChampionRecord(everything=gain(0.1), recent=NONE, earlier={"m{7}": gain(-0.1)}),
            EVEN,
            settings(),
        ),
        Outcome.REJECTED,
        (
            "Rejected: on 900 unseen results the new model did worse than the former champion "
            "m{7}. The model that serves stays."
        ),
    ),
    "a base with too little evidence": (
        lambda: judge_new_base(base(gain(0.1, rows=40, nights=2)), EVEN, settings()),
        Outcome.AWAITING_APPROVAL,
        (
            "Waiting for approval: 40 unseen results on 2 days are too few to compare the new "
            "model with the model that serves; 60 more results and 1 more day are needed. Approve "
            "it with `models promote ID`."
        ),
    ),
    "a base that needs approval": (
        lambda: judge_new_base(base(shared(0.1, 0.5, 0.6)), EVEN, settings(policy="approval")),
        Outcome.AWAITING_APPROVAL,
        (
            "Waiting for approval, as promotion.policy asks: on 900 unseen results the new model "
            "did better than the model that serves (60.0 % against 50.0 % right; more than noise "
            "explains). Approve it with `models promote ID`."
        ),
    ),
    "a shadow that proved better": (
        lambda: judge_shadow(base(gain(0.1)), settings()),
        Outcome.PROMOTED,
        (
            "Promoted: on 900 unseen results the new model did better than the model that serves "
            "(more than noise explains)."
        ),
    ),
    "a shadow after a rollback": (
        lambda: judge_shadow(base(gain(0.1)), settings(), held=HELD),
        Outcome.AWAITING_APPROVAL,
        (
            f"{HELD} On 900 unseen results the new model did better than the model that serves "
            "(more than noise explains)."
        ),
    ),
    "a worse shadow": (
        lambda: judge_shadow(base(gain(-0.1), NONE), settings()),
        Outcome.REJECTED,
        (
            "Given up: on 900 unseen results the new model did worse than the model that serves "
            "(more than noise explains). The model that serves stays."
        ),
    ),
    "a shadow without a verdict": (
        lambda: judge_shadow(base(gain(0.005, nights=60)), settings()),
        Outcome.REJECTED,
        (
            "Given up: after 60 days, on 900 unseen results the new model has not shown that it "
            "is better than the model that serves (the difference is within noise). The model "
            "that serves stays."
        ),
    ),
    "a shadow with too little evidence": (
        lambda: judge_shadow(base(gain(0.5, rows=99, nights=60)), settings()),
        Outcome.REJECTED,
        (
            "Given up: 99 unseen results on 60 days are too few to compare the new model with the "
            "model that serves. The model that serves stays."
        ),
    ),
    "a first model": (
        lambda: judge_first(report(60), 2.0, settings()),
        Outcome.PROMOTED,
        (
            "Promoted as the first champion: on 100 held-out results it was right 60.0 % of the "
            "time, and its probabilities fit better than the bare frequencies of the classes."
        ),
    ),
    "a first model that needs approval": (
        lambda: judge_first(report(60), 2.0, settings(policy="approval")),
        Outcome.AWAITING_APPROVAL,
        (
            "Waiting for approval, as promotion.policy asks: on 100 held-out results it was right "
            "60.0 % of the time, and its probabilities fit better than the bare frequencies of "
            "the classes. Approve it with `models promote ID`."
        ),
    ),
    "a first model that knows nothing": (
        lambda: judge_first(report(60), 1.0, settings()),
        Outcome.REJECTED,
        (
            "Rejected: on 100 held-out results the probabilities of the first model fit no better "
            "than the bare frequencies of the classes. No model serves until one passes."
        ),
    ),
    "a first model under every floor": (
        lambda: judge_first(
            report(60), 1.2, settings(min_skill=0.5, min_accuracy=0.7, max_log_loss=0.5)
        ),
        Outcome.REJECTED,
        (
            "Rejected: on 100 held-out results the probabilities of the first model fit too "
            "little better than the bare frequencies of the classes; on 100 held-out results it "
            "was right 60.0 % of the time, and promotion.min_accuracy asks for 70.0 %; on 100 "
            "held-out results it had a log loss of 1.055, and promotion.max_log_loss allows "
            "0.500. No model serves until one passes."
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_outcome_is_said_in_plain_english(case: str) -> None:
    judged, outcome, sentence = CASES[case]
    decision = judged()
    assert decision is not None
    assert decision.outcome is outcome
    assert decision.sentence == sentence
    assert PRIVATE.search(decision.sentence) is None


@given(
    st.floats(-1, 1),
    st.floats(-1, 1),
    st.integers(0, 500),
    st.integers(0, 70),
    st.sampled_from(sorted(POLICIES)),
)
def test_no_headline_holds_a_word_of_the_method(
    mean: float, lately: float, rows: int, nights: int, policy: str
) -> None:
    chosen = settings(policy=policy, vetoes=["accuracy", "recall"], promotion_threshold=0.2)
    both = gain(mean, rows=rows, nights=nights), gain(lately, rows=rows, nights=nights)
    for decision in (
        judge_online(record(*both), FALLEN, chosen),
        judge_new_base(base(*both), WORSE, chosen),
        judge_shadow(base(*both), chosen),
        judge_first(report(60), 1.055 + mean, chosen),
    ):
        if decision is not None:
            assert PRIVATE.search(decision.sentence) is None
            assert decision.sentence.endswith(".")
            assert "{" not in decision.sentence


@pytest.mark.parametrize(
    ("gained", "sentence"),
    [
        (
            gain(0.5, rows=99, nights=1),
            (
                "Not decided yet: 99 unseen results on 1 day are too few to compare the new model "
                "with the model that serves; 1 more result and 2 more days are needed."
            ),
        ),
        (
            gain(0.01),
            (
                "Not decided yet: on 900 unseen results the new model did as well as the model "
                "that serves (the difference is within noise)."
            ),
        ),
    ],
)
def test_a_shadow_that_goes_on_says_how_it_stands(gained: PairedGain, sentence: str) -> None:
    assert judge_shadow(base(gained), settings()) is None
    assert undecided_shadow(base(gained), settings()) == sentence
    assert PRIVATE.search(sentence) is None


def test_every_policy_of_the_config_has_its_rules() -> None:
    field = PromotionSettings.model_fields["policy"]
    assert set(get_args(field.annotation)) == set(POLICIES)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_the_checks_say_which_of_them_decide(policy: str) -> None:
    chosen = settings(policy=policy, vetoes=["accuracy"], promotion_threshold=0.1)
    decision = judge_online(record(AS_GOOD), EVEN, chosen)
    deciding = {check.name for check in decision.checks if check.decides}
    assert deciding == POLICIES[policy].deciding - {"recall"}
