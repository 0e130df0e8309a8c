"""What people read of a decay: what happened, on how many results, how sure, what now."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import pytest

from ml_pipeline.decay import messages
from ml_pipeline.decay.notify import message_of
from ml_pipeline.decay.rules import ORDER
from ml_pipeline.store.alerts import ActionState, AlertStatus, Cause, Severity
from tests.support.factories import NOW, make_alert, make_id

INSIDE_WORDS = re.compile(r"\b(nats?|anchors?|lines?|heads?|bounds?|nights?)\b", re.IGNORECASE)
TRIGGERED = {"status": AlertStatus.TRIGGERED, "action_state": ActionState.TRIGGERED}
FAILED = {"status": AlertStatus.TRIGGERED, "action_state": ActionState.FAILED}
CLOSED = {"resolved_at": NOW}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "football has decayed (warning)"),
        ({"severity": Severity.SEVERE}, "football has decayed (severe)"),
        ({"cause": Cause.INPUT_DRIFT}, "The inputs of football have shifted (warning)"),
        ({"cause": Cause.ERROR_CLUSTERS}, "The errors of football come in clusters (warning)"),
        (
            {**TRIGGERED, "action": "request"},
            "football has decayed (warning): a retraining is queued",
        ),
        (
            {**FAILED, "action": "request"},
            "football has decayed (warning): the retraining failed",
        ),
        ({**FAILED, "action": "command"}, "football has decayed (warning): the command failed"),
        ({"needs_person": True}, "football has decayed (warning): a person is needed"),
        (
            {"status": AlertStatus.ACKNOWLEDGED},
            "football has decayed (warning): somebody takes care of it",
        ),
        ({"status": AlertStatus.RESOLVED, **CLOSED}, "The decay of football is over"),
        (
            {"status": AlertStatus.OVERRIDDEN, **CLOSED},
            "The decay of football was accepted as the new normal",
        ),
        (
            {"cause": Cause.INPUT_DRIFT, "status": AlertStatus.RESOLVED, **CLOSED},
            "The shift in the inputs of football is over",
        ),
    ],
)
def test_the_headline_says_what_happened_and_where_it_stands(
    changes: dict[str, Any], expected: str
) -> None:
    alert = make_alert(**changes)
    assert messages.headline(alert) == expected
    assert not INSIDE_WORDS.search(message_of(alert).text)


@pytest.mark.parametrize("metric", ORDER)
def test_every_metric_has_its_sentence(metric: str) -> None:
    sentences = (
        messages.compared(metric, days=7, recent=(0.6, 420), usual=(0.5, 1200)),
        messages.certainty(metric, at_least=0.05, level=0.9999),
        messages.since_then(make_alert(metric=metric), 0.6, 420, since=date(2026, 3, 11)),
    )
    assert "(420 new results)" in sentences[0]
    assert "on the 1,200 results before" in sentences[0]
    assert sentences[1].endswith("worse, with 99.99 % confidence.")
    assert not any(INSIDE_WORDS.search(sentence) for sentence in sentences)


def test_a_change_within_noise_is_called_that() -> None:
    assert messages.certainty("accuracy", at_least=-0.01, level=0.99) == (
        "That is no certain decline."
    )


def test_a_person_who_is_needed_reads_what_to_do() -> None:
    step = messages.next_step(make_alert(needs_person=True, fruitless=3))
    assert "3 retrainings in a row brought no better model" in step
    assert f"`ml-pipeline decay --acknowledge {make_id(1)}`" in step
