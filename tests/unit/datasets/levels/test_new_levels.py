"""Levels that training had not: counted, named, and said what to do about."""

from __future__ import annotations

import numpy as np

from ml_pipeline.datasets.levels.new_levels import COUNTED, LevelCounter, found_by, known_levels
from ml_pipeline.datasets.reference import LevelSummary
from ml_pipeline.store.inputs.cells import level_code


def known(*names: str) -> np.ndarray:
    return np.sort([level_code(name) for name in names])


def test_new_levels_are_counted_by_their_name_whatever_they_are_written_like() -> None:
    counter = LevelCounter("city", known("Oslo", "1"))
    counter.add(["Oslo", " Oslo", 1.0, "Rome", "Rome ", ""])
    counter.add([None, "Lima", "Rome"])
    (found,) = found_by([counter, LevelCounter("plan", known("gold"))])
    assert (found.rows, found.of, found.levels) == (4, 9, ("Rome", "Lima"))
    assert found.sentence("new result") == (
        "city has levels that training had not ('Rome', 'Lima') in 4 new results of 9: each is "
        "answered as a rare one. A base that knows them: `ml-pipeline train --register "
        "--from-log`, once there are results enough."
    )
    assert found.as_json()["said"] == found.sentence("row")


def test_a_level_of_a_megabyte_is_shown_shortly_and_many_are_counted_in_bounded_memory() -> None:
    counter = LevelCounter("city", known())
    counter.add([f"c{number}" for number in range(2 * COUNTED)])
    counter.add(["x" * 1_000_000, "c0"])
    (found,) = found_by([counter])
    assert found.rows == 2 * COUNTED + 2
    assert found.levels[0] == "c0"
    assert len(counter._names) == COUNTED
    assert len(found.sentence()) < 500


def test_of_a_category_with_more_levels_than_are_listed_nothing_is_new() -> None:
    few, many = np.arange(3.0), np.arange(300.0)
    summaries = {"few": LevelSummary.of(few), "many": LevelSummary.of(many)}
    columns = {
        name: {"levels": list(summary.levels), "others": summary.others}
        for name, summary in summaries.items()
        if summary is not None
    }
    kinds = {"few": "category", "many": "category", "true": "boolean"}
    found = known_levels({"columns": columns, "kinds": kinds})
    assert {name: levels.tolist() for name, levels in found.items()} == {"few": [0.0, 1.0, 2.0]}
    assert known_levels(None) == {}
