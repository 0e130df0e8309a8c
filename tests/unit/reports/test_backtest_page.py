"""The page of a backtest: what it recommends follows from the losses of each row."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ml_pipeline.reports.backtest_page import Course, advise, write
from tests.support import league

NIGHTS, ROWS = 40, 30


def course(name: str, loss: float, *, cpu_s: float = 1.0, errors: int = 3, seed: int = 0) -> Course:
    """A policy with losses around `loss`, the same noise for each of a seed."""
    noise = np.random.default_rng(seed).normal(0, 0.05, NIGHTS * ROWS)
    losses = loss + noise
    nights = [
        (night, ROWS, float(losses[night * ROWS : (night + 1) * ROWS].mean()), 1 - loss)
        for night in range(NIGHTS)
    ]
    return Course(
        name=name,
        nights=nights,
        losses=losses,
        confident_errors=[errors] * NIGHTS,
        figures={
            "accuracy": 1 - loss, "log_loss": loss, "worst_block_points": 0.0,
            "worst_block_nats": 0.0, "train_cpu_s": cpu_s, "promotions": NIGHTS,
        },
    )  # fmt: skip


FROZEN = course("frozen", 0.5, cpu_s=0.0)


def test_the_policy_that_is_certainly_better_is_recommended_with_its_numbers() -> None:
    advice = advise([FROZEN, course("adaptive", 0.4, seed=1)], league.settings_for())
    assert (advice.policy, advice.trigger, advice.fired) == ("adaptive", "errors", 37)
    assert advice.sentences[0] == "Use training.strategy: adaptive with run.trigger: errors."
    assert "on 37 of 40 days" in advice.sentences[1]
    assert "promoted 40 times" in advice.sentences[2]
    assert (
        "adaptive was better than frozen: right 60.00 % of the time against 50.00 %"
        in advice.sentences[3]
    )


@pytest.mark.parametrize(
    ("challenger", "cpu_s", "expected"),
    [(0.4001, 9.0, "adaptive"), (0.39, 9.0, "refit"), (0.4001, 0.1, "refit")],
)
def test_of_equals_the_cheapest_is_recommended(
    challenger: float, cpu_s: float, expected: str
) -> None:
    courses = [FROZEN, course("adaptive", 0.4, seed=1), course("refit", challenger, cpu_s=cpu_s)]
    assert advise(courses, league.settings_for()).policy == expected


@pytest.mark.parametrize("loss", [0.5001, 0.7])
def test_without_a_certain_gain_the_model_is_kept(loss: float) -> None:
    advice = advise([FROZEN, course("adaptive", loss, seed=1)], league.settings_for())
    assert advice.policy == "frozen"
    assert advice.sentences[0].startswith("Keep the model as it is")


def test_where_errors_are_rare_the_labels_trigger_is_recommended() -> None:
    advice = advise([FROZEN, course("adaptive", 0.4, errors=1)], league.settings_for())
    assert (advice.trigger, advice.fired) == ("labels", 0)
    assert "nothing would have been learned" in advice.sentences[1]


def test_the_page_stands_alone_and_tells_its_charts(tmp_path: Path) -> None:
    courses = [FROZEN, course("adaptive", 0.4), course("seed", 9.0)]
    page = write(tmp_path, courses, league.settings_for()).read_text(encoding="utf-8")
    assert not re.findall(r"<script|<link|src=|https?://", page)
    assert page.count('<svg class="chart"') == 2
    assert page.count("<desc") == 2
    assert "it would flatten the rest: seed." in page
    assert "adaptive (recommended)" in page
