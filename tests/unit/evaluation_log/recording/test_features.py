"""What a program logs is of the kind that the settings name, or is refused as it is logged."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import InputError
from ml_pipeline.evaluation_log.opening import open_logger

KINDS = {"visits": "number", "plan": "category", "member": "boolean", "since": "datetime"}
GOOD: dict[str, Any] = {
    "visits": 3, "plan": "gold", "member": True, "since": "2026-03-14T16:00:00+01:00",
}  # fmt: skip


def settings(folder: Path, **data: object) -> Settings:
    changes: dict[str, object] = {
        "data.features": KINDS, "data.classes": ["no", "yes"], "data.ordered": False,
        "log.csv_file": str(folder / "log.csv"),
    }  # fmt: skip
    return Settings().changed(changes | {f"data.{name}": value for name, value in data.items()})


def logged(folder: Path, passed: object, **data: object) -> dict[str, Any]:
    """What the log keeps of them."""
    with open_logger(settings(folder, **data), None) as logger:
        event_id = logger.log_prediction("app", None, "no", 0.8, features=passed)  # type: ignore[arg-type]
        row = logger.csv.find([event_id])[event_id]
    return dict(json.loads(str(row["features"])))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("visits", "many", "visits = 'many' is not a number."),
        ("visits", [3], "visits"),
        ("visits", float("inf"), "visits = inf is not a finite number."),
        ("visits", "1e400", "visits = '1e400' is out of range."),
        ("visits", 10**400, "visits"),
        ("visits", datetime(2026, 1, 1), "is not a number."),  # noqa: DTZ001 - none is given
        ("member", "perhaps", "member = 'perhaps' is neither true nor false."),
        ("member", 2.5, "member = '2.5' is neither true nor false."),
        ("since", "yesterday", "since = 'yesterday' is not an ISO 8601 time."),
        ("since", 12, "since = '12' is not an ISO 8601 time."),
        ("plan", {"name": "gold"}, "plan"),
        ("plan", "x" * 1_000_000, "plan"),
        ("plan", "a\0b", "plan"),
    ],
)
def test_a_value_of_another_kind_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str, value: object, said: str
) -> None:
    with pytest.raises(InputError) as refused:
        logged(tmp_path, GOOD | {name: value})
    assert said in refused.value.message
    assert len(refused.value.message) < 300
    assert not (tmp_path / "log.csv").exists()


def test_the_refusal_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"name in data\.features what visits is"):
        logged(tmp_path, GOOD | {"visits": "many"})
    again = logged(tmp_path, GOOD | {"visits": "many"}, features=KINDS | {"visits": "category"})
    assert again["visits"] == "many"


def test_a_number_is_logged_as_one_however_it_is_written_and_the_rest_as_it_is_given(
    tmp_path: Path,
) -> None:
    assert logged(tmp_path, GOOD) == GOOD
    for value in (True, "1", " 1.0 ", np.True_, np.float32(1)):
        assert logged(tmp_path, GOOD | {"visits": value})["visits"] == 1
    odd = {"visits": "NA", "plan": 1.0, "member": "off", "since": None, "colour": "red"}
    assert logged(tmp_path, odd) == odd
    assert logged(tmp_path, {"visits": float("nan")}) == {"visits": None}


def test_a_list_without_kinds_says_nothing_of_them(tmp_path: Path) -> None:
    assert logged(tmp_path, {"visits": "many"}, features=["visits"]) == {"visits": "many"}


def test_what_is_no_text_is_none(tmp_path: Path) -> None:
    text: dict[str, Any] = {"features": [], "text_column": "query"}
    assert logged(tmp_path, {"query": "how?"}, **text) == {"query": "how?"}
    for value, said in ((3, "query = 3 is not a text."), (" ", "is empty"), ("a\0b", "NUL")):
        with pytest.raises(InputError, match=re.escape(said)):
            logged(tmp_path, {"query": value}, **text)
