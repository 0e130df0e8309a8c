"""Results by day and class, as they were answered."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from ml_pipeline.evaluation_log.classes.counting import DAYS
from ml_pipeline.evaluation_log.classes.counts import ClassCount
from ml_pipeline.store.records import day_start
from tests.support.factories import NOW
from tests.support.logs import Desk, fill_table, make_log_request, make_row, without_outcome

# The rows of `make_row` became known as many hours before NOW as their number says.
LAST, BEFORE = NOW.date() - timedelta(days=1), NOW.date() - timedelta(days=2)


def rows() -> list[dict[str, str]]:
    return [
        make_row(3, prediction="H", actual_result="H"),
        make_row(4, prediction="D", actual_result="H"),
        make_row(5, prediction="UNCERTAIN", actual_result="D"),
        make_row(6, prediction="H", actual_result="H", features="{}"),
        make_row(30, prediction="A", actual_result="A"),
        without_outcome(31),
        make_row(24 * (DAYS + 1), prediction="A", actual_result="A"),
    ]


def count(day: date, label: str, *numbers: int) -> ClassCount:
    names = ("results", "answered", "named", "right")
    return ClassCount(day=day, label=label, **dict(zip(names, numbers, strict=True)))


@pytest.mark.parametrize("source", ["file", "table"])
def test_results_are_counted_by_day_and_class_also_those_that_cannot_be_learned(
    tmp_path: Path, source: str
) -> None:
    desk = Desk(tmp_path)
    if source == "table":
        fill_table(desk.store, rows())
        loaded = desk.load_file("table")
    else:
        loaded = desk.load(rows())
    assert loaded.by_class == (
        count(BEFORE, "A", 1, 1, 1, 1),
        count(LAST, "D", 1, 0, 1, 0),
        count(LAST, "H", 3, 3, 2, 2),
    )


def test_what_is_not_to_be_learned_is_not_counted(tmp_path: Path) -> None:
    request = make_log_request(learn_from=day_start(LAST))
    found = Desk(tmp_path).load(rows(), request=request).by_class
    assert {each.day for each in found} == {LAST}


def test_more_right_answers_than_answers_cannot_be() -> None:
    with pytest.raises(ValueError, match="2 right, 3 named, 1 of 5"):
        count(LAST, "H", 5, 1, 3, 2)
