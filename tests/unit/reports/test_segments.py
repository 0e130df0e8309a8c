"""Where confident errors are frequent: thirds, levels and truths of features, and by chance."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ml_pipeline.config.data import DataSettings
from ml_pipeline.reports.segments import NAME_KEPT, RARE_ROWS, SHOWN, segments

KINDS = {"plan": "category", "paid": "boolean", "age": "number", "since": "datetime"}
DATA = DataSettings.model_validate({"features": [{name: kind} for name, kind in KINDS.items()]})


def rows(count: int = 600, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "plan": random.choice(["basic", "plus", "pro"], count),
            "paid": random.choice(["yes", "no"], count),
            "age": random.uniform(18, 80, count).astype(str),
            "since": "2026-01-01T00:00:00Z",
            "is_error": np.where(random.random(count) < 0.1, "true", "false"),
        }
    )


def test_a_level_in_which_errors_are_frequent_comes_first_with_its_counts() -> None:
    frame = rows()
    frame.loc[frame["plan"] == "pro", "is_error"] = "true"
    found = segments(frame, DATA)
    first = found["by_segment"][0]
    count = int((frame["plan"] == "pro").sum())
    assert (first["feature"], first["values"]) == ("plan", "pro")
    assert (first["rows"], first["errors"], first["share"]) == (count, count, 1.0)
    assert first["low"] > 0.9
    # Three levels, two truths, three thirds; an instant makes no groups.
    assert found["segments"] == 8


def test_one_level_written_in_several_ways_is_one_group_and_a_missing_one_has_its_own() -> None:
    frame = rows()
    frame.loc[:99, "plan"] = " pro "
    frame.loc[100:199, "plan"] = ""
    frame.loc[200:299, "paid"] = "TRUE"
    frame["is_error"] = "true"
    frame.loc[:, "age"] = ""
    found = segments(frame, DATA)
    by_name = {(each["feature"], each["values"]): each["rows"] for each in found["by_segment"]}
    assert {values for name, values in by_name if name == "plan"} == {
        "basic", "plus", "pro", "missing"
    }  # fmt: skip
    assert by_name["plan", "pro"] == (frame["plan"].str.strip() == "pro").sum()
    assert by_name["paid", "true"] == frame["paid"].isin(["yes", "TRUE"]).sum()
    assert not [name for name, _ in by_name if name == "age"]


def test_rare_levels_are_counted_together_and_a_few_rows_do_not_stand_first() -> None:
    frame = rows()
    frame.loc[: RARE_ROWS - 2, "plan"] = [f"odd {n}" for n in range(RARE_ROWS - 1)]
    frame["is_error"] = "false"
    frame.loc[: RARE_ROWS - 2, "is_error"] = "true"
    frame.loc[frame["paid"] == "yes", "is_error"] = "true"
    found = segments(frame, DATA)["by_segment"]
    assert found[0]["feature"] == "paid"
    together = next(each for each in found if each["values"] == f"{RARE_ROWS - 1} rare values")
    assert (together["rows"], together["errors"]) == (RARE_ROWS - 1, RARE_ROWS - 1)
    assert together["low"] < found[0]["low"]
    assert len(found) <= SHOWN
    assert not [each for each in found if each["values"].startswith("odd")]


def test_where_errors_are_by_chance_hardly_any_group_is_certainly_over_the_rate() -> None:
    certain = 0
    for seed in range(100):
        frame = rows(seed=seed)
        found = segments(frame, DATA)["by_segment"]
        certain += any(each["low"] > 0.1 for each in found)
    assert certain <= 8


def test_a_feature_of_one_value_makes_no_groups_and_no_rows_make_none() -> None:
    frame = rows().assign(plan="basic", paid="yes", age="5")
    assert segments(frame, DATA) == {"by_segment": [], "segments": 0}
    assert segments(frame.iloc[:0], DATA) == {"by_segment": [], "segments": 0}


def test_levels_that_begin_alike_are_groups_of_their_own_and_none_is_taken_for_a_gap() -> None:
    frame = rows()
    long = "x" * 150
    frame["plan"] = np.resize([f"{long}1", f"{long}2", "missing", ""], len(frame))
    frame["is_error"] = "true"
    found = segments(frame[["plan", "is_error"]], DATA)
    assert found["segments"] == 4
    assert [each["rows"] for each in found["by_segment"]] == [150] * 4
    assert max(len(each["values"]) for each in found["by_segment"]) == NAME_KEPT
