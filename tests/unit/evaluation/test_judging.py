"""Both models are judged on the rows of the evidence, by the question that fits what they are."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.judging import JudgingContext, digest_of, judge_evidence
from ml_pipeline.evaluation.ledger import FORMER_COLUMNS, with_all_columns
from ml_pipeline.store.records import Outcome

TODAY = date(2025, 6, 1)
CONTEXT = JudgingContext(champion_id="champion", today=TODAY, held=None)
HELD = "A person rolled the champion back: a person decides."


def _evidence(challenger: float, champion: float | None, *, rows: int = 300) -> Evidence:
    """Ten nights to today; each model gives what happened that probability, give or take."""
    rng = np.random.default_rng(3)
    actual = rng.integers(0, 3, rows)

    def predicted(right: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        chances = np.clip(right + rng.normal(scale=0.05, size=rows), 0.05, 0.95)
        spread = np.repeat((1 - chances)[:, None] / 2, 3, axis=1)
        spread[np.arange(rows), actual] = chances
        return spread

    return Evidence(
        labels=("H", "D", "A"),
        event_ids=tuple(f"{number:04d}" for number in range(rows)),
        nights=np.sort(TODAY.toordinal() - np.arange(rows) % 10),
        actual=actual,
        challenger=predicted(challenger),
        champion=None if champion is None else predicted(champion),
    )


def _online(gain_per_row: float) -> dict[str, Any]:
    entry = dict.fromkeys(FORMER_COLUMNS, 0.0)
    entry |= {"rows": 50, "gain_sum": 50 * gain_per_row, "gain_squares": 50 * 0.01}
    entry |= {"anchor_correct": 25, "live_correct": 26}
    nights = [entry | {"night": TODAY.toordinal() - ago} for ago in (3, 2, 1, 0)]
    ledger = with_all_columns(np.array([list(night.values()) for night in nights])).tolist()
    return {"line": {"ledger": ledger, "champions": ["champion"] * 4}}


def test_without_a_row_nothing_is_judged() -> None:
    with pytest.raises(DataError, match="nothing to judge on"):
        judge_evidence(_evidence(0.5, 0.5, rows=0), {}, Settings(), CONTEXT)


def test_a_first_model_is_judged_against_the_frequencies_of_its_training_rows() -> None:
    context = replace(CONTEXT, champion_id=None)
    prior = [0.5, 0.3, 0.2]
    verdict = judge_evidence(_evidence(0.6, None), {"prior": prior}, Settings(), context)
    counts = np.bincount(_evidence(0.6, None).actual, minlength=3)
    floor = -float(counts @ np.log(prior)) / 300
    assert verdict.decision.outcome is Outcome.PROMOTED
    assert verdict.decision.sentence.startswith("Promoted as the first champion: on 300 held-out")
    skill = verdict.decision.checks[0]
    assert f"against {floor:.4f} for the class frequencies" in skill.sentence
    assert verdict.champion is None
    assert verdict.challenger is not None
    assert verdict.challenger.rows == 300
    worse = judge_evidence(_evidence(0.25, None), {"prior": prior}, Settings(), context)
    assert worse.decision.outcome is Outcome.REJECTED


def test_an_update_is_judged_by_its_record() -> None:
    better = judge_evidence(_evidence(0.5, 0.5), _online(0.05), Settings(), CONTEXT)
    worse = judge_evidence(_evidence(0.5, 0.5), _online(-0.05), Settings(), CONTEXT)
    assert better.decision.outcome is Outcome.PROMOTED
    assert worse.decision.outcome is Outcome.REJECTED
    assert "-0.0500 nats a row" in worse.decision.checks[0].sentence
    assert "on 200 unseen rows of 4 days" in worse.decision.checks[0].sentence
    assert "on 200 new results the updated model did worse" in worse.decision.sentence
    assert (
        "(52.0 % against 50.0 % right, yet its probabilities fit worse;" in worse.decision.sentence
    )
    held = judge_evidence(
        _evidence(0.5, 0.5), _online(0.05), Settings(), replace(CONTEXT, held=HELD)
    )
    assert held.decision.outcome is Outcome.AWAITING_APPROVAL
    assert held.decision.sentence == (
        f"{HELD} On 200 new results the updated model did better than the approved one (52.0 % "
        "against 50.0 % right; more than noise explains)."
    )


@pytest.mark.parametrize(
    ("challenger", "champion", "outcome"),
    [
        (0.6, 0.4, Outcome.PROMOTED),
        (0.4, 0.6, Outcome.REJECTED),
        (0.5, 0.5, Outcome.REJECTED),
    ],
)
def test_a_new_base_is_judged_beside_the_champion(
    challenger: float, champion: float, outcome: Outcome
) -> None:
    evidence = _evidence(challenger, champion)
    verdict = judge_evidence(evidence, {"prior": [0.4, 0.3, 0.3]}, Settings(), CONTEXT)
    assert verdict.decision.outcome is outcome
    assert verdict.champion is not None
    assert verdict.challenger is not None
    assert verdict.champion.log_loss == pytest.approx(-math.log(champion), abs=0.03)
    assert verdict.challenger.log_loss == pytest.approx(-math.log(challenger), abs=0.03)
    gained = verdict.champion.log_loss - verdict.challenger.log_loss
    assert verdict.decision.checks[0].numbers["mean_gain"] == pytest.approx(gained, abs=1e-9)
    assert verdict.decision.checks[0].numbers["nights"] == 10


def test_only_the_last_days_are_recent() -> None:
    settings = Settings().changed({"promotion.evaluation_window_days": 4.0})
    verdict = judge_evidence(_evidence(0.6, 0.4), {}, settings, CONTEXT)
    recent = next(check for check in verdict.decision.checks if check.name == "recent")
    assert recent.numbers["nights"] == 4
    assert recent.numbers["rows"] == 120


def test_the_digest_names_the_rows_and_labels_that_were_judged_on() -> None:
    evidence = _evidence(0.5, 0.5)
    same = replace(evidence, challenger=evidence.challenger[:, ::-1])
    other = replace(evidence, event_ids=("x", *evidence.event_ids[1:]))
    relabelled = replace(evidence, actual=(evidence.actual + 1) % 3)
    assert digest_of(evidence) == digest_of(same)
    assert digest_of(evidence).startswith("sha256:")
    assert len({digest_of(each) for each in (evidence, other, relabelled)}) == 3
    assert judge_evidence(evidence, _online(0.0), Settings(), CONTEXT).holdout_digest == digest_of(
        evidence
    )
