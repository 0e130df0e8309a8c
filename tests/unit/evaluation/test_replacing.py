"""A new model in the place of a champion that cannot answer: what is compared, and what is not."""

from __future__ import annotations

import numpy as np

from ml_pipeline.config.sections import PromotionSettings
from ml_pipeline.evaluation.gate import judge_first
from ml_pipeline.evaluation.metrics import evaluate
from ml_pipeline.evaluation.replacing import LostChampion, judge_replacement
from ml_pipeline.store.records import Outcome

RIGHT = evaluate(["H"] * 80 + ["A"] * 20, np.tile([0.8, 0.2], (100, 1)), ["H", "A"], ordered=False)
SETTINGS = PromotionSettings()
FIRST = judge_first(RIGHT, 0.7, SETTINGS)


def test_beside_what_the_lost_one_logged_more_right_answers_are_asked_for() -> None:
    for right, outcome in ((780, Outcome.PROMOTED), (950, Outcome.AWAITING_APPROVAL)):
        lost = LostChampion(model_id="m-1", why="it is gone.", rows=1000, right=right)
        decision = judge_replacement(FIRST, RIGHT, lost, SETTINGS, held=None)
        assert decision.outcome is outcome
        assert decision.checks[-1].numbers["difference"] == 0.8 - right / 1000


def test_where_it_logged_nothing_no_figure_is_made_up() -> None:
    lost = LostChampion(model_id="m-1", why="it is gone.", rows=0, right=0)
    decision = judge_replacement(FIRST, RIGHT, lost, SETTINGS, held=None)
    assert decision.outcome is Outcome.PROMOTED
    assert "judged by promotion's floors alone" in decision.sentence
    assert decision.checks[-1].numbers == {}
    assert decision.checks[-1].sentence == (
        "Accuracy 0.8000 on 100 unseen rows; m-1 logged no result to compare it with."
    )
