"""Which kind a column is, told by its values, and when a person should be asked."""

from __future__ import annotations

import pandas as pd
import pytest

from ml_pipeline.datasets.kinds import Kind, infer, infer_kinds

SURE = {
    "numbers": (["1.5", "2", "", "-3e2", "nan"], Kind.NUMBER),
    "zeros and ones": (["0", "1", "1", "0"], Kind.NUMBER),
    "levels": (["red", "blue", "", "red"], Kind.CATEGORY),
    "M and F": (["M", "F", "F", "M"], Kind.CATEGORY),
    "yes, no and neither": (["yes", "no", "no internet"], Kind.CATEGORY),
    "codes with letters": (["12", "B5", "7", "C1"] * 20, Kind.CATEGORY),
    "truths": (["true", "false", "", "None"], Kind.BOOLEAN),
    "truths in six spellings": (["TRUE", "no", "1", "Y", "f", "off"], Kind.BOOLEAN),
    "days": (["2026-03-14", "2026-03-15"], Kind.DATETIME),
    "times of several zones": (
        ["2026-03-14T15:00:00Z", "2026-03-14 16:00:00+02:00", "2026-03-14T10:00 America/New_York"],
        Kind.DATETIME,
    ),
    "few numbers and a text": ([*"0123" * 30, *["more"] * 5], Kind.CATEGORY),
}
UNSURE = {
    "nothing": (["", "nan"], Kind.NUMBER, "no value"),
    "postal codes": (["01234", "99999"], Kind.NUMBER, "leading zeros"),
    "few whole numbers": ([*"123" * 20], Kind.NUMBER, "may be codes"),
    "another number in each row": ([str(n) for n in range(100)], Kind.NUMBER, "may be an id"),
    "few rows with a text": (["1", "high", "3"], Kind.NUMBER, "'high' is no number"),
    "numbers and a slip": ([*map(str, range(99)), "12 kg"], Kind.NUMBER, "'12 kg' is no number"),
    "days of any order": (["03/04/2026", "05/06/2026"], Kind.CATEGORY, "look like dates"),
    "names": ([f"name {n}" for n in range(200)], Kind.CATEGORY, "may be an id or a name"),
    "sentences": (["how do I write a loop in it", "what is it that I see here"], Kind.CATEGORY,
                  "data.text_column"),
    "times and a slip": ([f"2026-03-{n:02}" for n in range(1, 29)] + ["soon"], Kind.DATETIME,
                         "'soon' is no time"),
}  # fmt: skip


@pytest.mark.parametrize("name", SURE)
def test_values_tell_the_kind(name: str) -> None:
    values, kind = SURE[name]
    found = infer(pd.Series(values, dtype=str))
    assert found.kind is kind
    assert found.is_sure, found.doubt


@pytest.mark.parametrize("name", UNSURE)
def test_a_doubt_says_what_else_it_may_be(name: str) -> None:
    values, kind, doubt = UNSURE[name]
    found = infer(pd.Series(values, dtype=str))
    assert found.kind is kind
    assert doubt in str(found.doubt)
    assert not found.is_sure


def test_frames_of_any_type_are_read_alike() -> None:
    frame = pd.DataFrame(
        {
            "n": [1.5, None],
            "b": [True, False],
            "c": pd.Categorical(["x", None]),
            "t": pd.to_datetime(["2026-01-01", "2026-01-02"], utc=True),
        }
    )
    assert infer_kinds(frame, [*"nbct"]) == {
        "n": "number",
        "b": "boolean",
        "c": "category",
        "t": "datetime",
    }


def test_many_levels_are_counted_in_no_time() -> None:
    found = infer(pd.Series([f"level {n % 10_000}" for n in range(30_000)]))
    assert (found.kind, found.levels, found.doubt) == (Kind.CATEGORY, 10_000, None)


def test_a_huge_value_is_shown_cut() -> None:
    found = infer(pd.Series(["x" * 1_000_000, "y"]))
    assert found.kind is Kind.CATEGORY
    assert len(found.reason) < 200


@pytest.mark.parametrize(
    "cells", [["0,31", "1,5", "-2,25"], ["1.234,5", "1,5", "2"], ["1,234", "2,345.5", "17"]]
)
def test_numbers_with_commas_are_no_levels(cells: list[str]) -> None:
    found = infer(pd.Series(cells * 20))
    assert found.kind is Kind.NUMBER
    assert found.doubt is not None
    assert "commas" in found.doubt
    assert infer(pd.Series(["a,b", "1,2", "c"] * 20)).kind is Kind.CATEGORY
