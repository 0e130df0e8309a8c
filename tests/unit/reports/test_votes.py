"""The chart of the votes: memories together, whatever a run's row is as old as."""

from __future__ import annotations

from typing import Any

import pytest

from ml_pipeline.evaluation.ledger import COLUMN
from ml_pipeline.reports.review import _by_day
from ml_pipeline.reports.run_view import run_view
from tests.support.factories import make_finished_run

FORMER = {"half_lives": [5.0, 60.0]}
NOW = FORMER | {"families": ["plain", "pairs", "waves"], "experts": ["DecisionTree"]}


def _shown(record: dict[str, Any], vote: list[float]) -> str:
    row = [0.0] * len(COLUMN)
    for name, value in {"night": 739_700.0, "rows": 4.0, "weight": 4.0}.items():
        row[COLUMN[name]] = value
    kept = _by_day(record | {"ledger": [row], "votes": [vote]})
    return str(run_view(make_finished_run(details={"review": kept}), ())["votes"])


def test_memories_of_all_families_count_together_and_what_they_see_is_said() -> None:
    shown = _shown(NOW, [0.1, 0.1, 0.05, 0.2, 0.05, 0.3, 0.1, 0.1])
    assert (
        "After the last day half-life 5 days has the largest weight: base 10 %, half-life 5 days "
        "60 %, half-life 60 days 20 %, DecisionTree 10 %. By what they see: base 10 %, lines 15 %, "
        "products 25 %, waves 40 %, classifiers fitted anew 10 %."
    ) in shown
    assert shown.count("<polyline") == 4


@pytest.mark.parametrize("record", [FORMER, FORMER | {"families": ["plain"]}])
def test_a_record_of_lines_alone_says_what_it_always_said(record: dict[str, Any]) -> None:
    shown = _shown(record, [0.2, 0.7, 0.1])
    assert (
        "After the last day half-life 5 days has the largest weight: base 20 %, half-life 5 days "
        "70 %, half-life 60 days 10 %.</p>"
    ) in shown


def test_a_row_of_an_earlier_version_keeps_its_chart() -> None:
    review = {
        "experts": ["base", "half-life 5 days"],
        "nights": [{"night": 739_700, "rows": 4, "line": 1.0, "anchor": 0.5, "vote": [0.25, 0.75]}],
    }
    shown = str(run_view(make_finished_run(details={"review": review}), ())["votes"])
    assert "half-life 5 days has the largest weight: base 25 %, half-life 5 days 75 %.</p>" in shown
