"""Answers by day and class: what a run keeps, how it goes on, and what is said of it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

from ml_pipeline.evaluation_log.classes.counts import ClassCount
from ml_pipeline.reports.classes.days import CELLS_KEPT, CLASSES_KEPT, ClassDays
from ml_pipeline.reports.classes.figures import class_view

FIRST = date(2026, 3, 2)  # a Monday
HOSTILE = "<script>alert('x')</script>"


def count(day: int, label: str, results: int, right: int, named: int | None = None) -> ClassCount:
    return ClassCount(
        day=FIRST + timedelta(days=day), label=label, results=results, answered=results,
        named=right if named is None else named, right=right,
    )  # fmt: skip


def test_a_run_goes_on_from_the_days_before_what_it_loads_and_counts_the_others_anew() -> None:
    earlier = ClassDays.of([count(day, "a", 10, 5) for day in range(3)], ["b"])
    kept = ClassDays.from_json(json.loads(json.dumps(earlier.as_json())))
    assert kept == earlier
    since = datetime(2026, 3, 4, tzinfo=UTC)
    found = ClassDays.after(kept, [count(2, "a", 12, 6), count(3, "c", 1, 0)], since, ["b"])
    assert found.labels == ("b", "a", "c")
    assert [(each.day.day, each.label, each.results) for each in found.counts] == [
        (2, "a", 10), (3, "a", 10), (4, "a", 12), (5, "c", 1)
    ]  # fmt: skip
    assert ClassDays.after(kept, [count(9, "a", 1, 1)], None, []).counts == (count(9, "a", 1, 1),)


def test_what_a_run_keeps_is_bounded_and_has_the_newest_days_of_the_commonest_classes() -> None:
    counts = [count(day, f"c{n}", n + 1, 1) for day in range(300) for n in range(40)]
    found = ClassDays.of(counts)
    assert found.labels[0] == "c39"
    assert len(found.labels) == CLASSES_KEPT
    assert len(found.counts) == CELLS_KEPT
    assert found.counts[-1].day == FIRST + timedelta(days=299)
    assert len(json.dumps(found.as_json())) < 30_000
    few = ClassDays.of([count(day, n, 500, 400) for day in range(300) for n in "ab"])
    assert len(few.counts) == 240
    assert len(json.dumps(few.as_json())) < 11_000


def test_recall_and_precision_are_of_answers_and_lately_of_the_last_week() -> None:
    unsure = ClassCount(day=FIRST, label="a", results=50, answered=40, named=60, right=30)
    view = class_view(ClassDays.of([unsure, count(20, "a", 40, 10, 20)]).as_json())
    ((whole, lately),) = view["rows"]
    assert (whole.results - whole.answered, whole.recall.value, whole.precision.value) == (
        10, 0.5, 0.5,
    )  # fmt: skip
    assert (lately.recall.value, lately.precision.value) == (0.25, 0.5)
    assert whole.recall.interval.low < 0.5 < whole.recall.interval.high


def test_days_with_few_results_of_a_class_are_joined_to_weeks() -> None:
    few = class_view(ClassDays.of([count(day, "a", 19, 9) for day in range(14)]).as_json())
    many = class_view(ClassDays.of([count(day, "a", 20, 9) for day in range(14)]).as_json())
    assert [str(chart).count('type="radio"') for chart in few["charts"]] == [2, 2]
    assert [str(chart).count('type="radio"') for chart in many["charts"]] == [14, 14]
    assert "Recall by week" in few["charts"][0]
    assert "Precision by day" in many["charts"][1]


def test_of_many_classes_those_with_the_most_results_are_drawn_and_all_stand_in_the_table() -> None:
    view = class_view(ClassDays.of([count(0, f"c{n}", 100 + n, 50) for n in range(9)]).as_json())
    assert len(view["rows"]) == 9
    assert "Of 9 classes those 6 with most results." in view["charts"][0]
    assert "c3 " in view["charts"][0]
    assert "c2 " not in view["charts"][0]


def test_rare_and_common_classes_are_told_in_words() -> None:
    counts = [count(0, "no", 900, 890), count(0, "yes", 14, 6)]
    told = class_view(ClassDays.of(counts, ["no", "yes", "maybe"]).as_json())["warnings"]
    common, unknown, rare = told
    assert common == (
        "98.5 % of the results are no: always answering so would be right as often. How many of "
        "the others are found says more than accuracy."
    )
    assert unknown == (
        "Of maybe no result is known since 2026-03-02: nobody can tell how it is found."
    )
    assert rare == (
        "Of yes only 14 results are known since 2026-03-02: 6 of 14 answered right may as well "
        "mean 21.4 % as 67.4 %, so its figures are unsure."
    )
    unsure = ClassCount(day=FIRST, label="odd", results=1, answered=0, named=0, right=0)
    (sentence,) = class_view(ClassDays.of([unsure, count(0, "no", 1, 1)]).as_json())["warnings"][:1]
    assert sentence == (
        "Of odd only 1 result is known since 2026-03-02, and none of them was answered: nobody "
        "can tell how it is found."
    )


def test_many_rare_classes_are_counted_together() -> None:
    counts = [count(0, f"c{n}", 5, 2) for n in range(5)] + [count(0, "x", 40, 20)]
    told = class_view(ClassDays.of(counts).as_json())["warnings"]
    assert len(told) == 4
    assert told[-1] == "The same goes for 2 further classes with fewer than 30 results."


def test_a_label_is_never_markup_and_nothing_is_shown_where_nothing_was_counted() -> None:
    view = class_view(ClassDays.of([count(0, HOSTILE, 100, 50)]).as_json())
    assert HOSTILE not in "".join(map(str, view["charts"]))
    assert class_view(None) == class_view(ClassDays.of([], ["a", "b"]).as_json()) == {}
