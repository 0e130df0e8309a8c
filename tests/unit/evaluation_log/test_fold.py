"""Texts in an evaluation log: learned as they were asked, and set aside when they cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.datasets.dataset import read_csv
from ml_pipeline.datasets.labelled_file import read_labelled
from ml_pipeline.runs.manifest import days_of
from tests.support.factories import make_id
from tests.support.logs import Desk, make_row, settings_for

AWKWARD = (
    'a "quoted" word, a comma',
    "two\nlines\r\nand a\rthird",
    "none",
    "👍🏽 naïve 漢字 \u2028",
    "  spaces at both ends  ",
    "x" * 100_000,
)
TEXT: dict[str, Any] = {"data__features": [], "data__text_column": "query"}
BOTH: dict[str, Any] = {"data__features": ["a"], "data__text_column": "query"}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def with_features(number: int, features: object) -> dict[str, str]:
    return make_row(number, features=json.dumps(features))


def test_a_text_comes_out_of_the_log_as_it_was_asked(desk: Desk) -> None:
    rows = [with_features(n, {"query": text}) for n, text in enumerate(AWKWARD, 1)]
    loaded = desk.load(rows, **TEXT)
    assert (loaded.report.labelled, loaded.report.unusable) == (len(AWKWARD), 0)
    data = read_labelled(str(loaded.labelled_path), settings_for("table", **TEXT))
    read_texts = dict(zip(data.frame["event_id"], data.features[:, -1], strict=True))
    assert read_texts == {make_id(n): text for n, text in enumerate(AWKWARD, 1)}


def test_a_text_that_cannot_be_learned_is_counted_with_its_reason(desk: Desk) -> None:
    rows = [
        with_features(1, {"query": "fine"}),
        with_features(2, {"query": " \n\t\u00a0\u2003\x1f"}),
        with_features(3, {"a": 1.0}),
        with_features(4, {"query": "x" * 100_001}),
        with_features(5, {"query": "a\0b"}),
        with_features(6, {"query": None}),
        make_row(7, features="not JSON"),
    ]
    report = desk.load(rows, **TEXT).report
    assert (report.labelled, report.unusable, report.errors) == (7, 6, 7)
    assert report.reasons == {
        "unusable: text query is absent": 2,
        "unusable: features are not JSON": 1,
        "unusable: text query has more than 100000 characters": 1,
        "unusable: text query holds a NUL character": 1,
        "unusable: text query is empty": 1,
    }


def test_numbers_and_a_text_are_read_side_by_side(desk: Desk) -> None:
    rows = [
        with_features(1, {"a": 1.5, "query": "how?"}),
        with_features(2, {"a": "high", "query": "how?"}),
    ]
    loaded = desk.load(rows, **BOTH)
    assert loaded.report.reasons == {"unusable: feature a is not a number": 1}
    frame = read_csv(loaded.labelled_path)
    assert frame[["a", "query", "result"]].to_numpy().tolist() == [["1.5", "how?", "A"]]


def test_a_log_may_keep_its_text_in_a_column_of_its_name(desk: Desk) -> None:
    rows = [make_row(1, features=None) | {"query": " None "}, make_row(2, features=None)]
    header = [*make_row(1, features=None), "query"]
    loaded = desk.load(rows, header=header, **TEXT)
    assert read_csv(loaded.labelled_path)["query"].tolist() == [" None "]
    assert loaded.report.unusable == 1


def test_the_digest_of_a_day_takes_the_text_in(desk: Desk) -> None:
    def days(text: str) -> dict[str, list[object]]:
        loaded = desk.load([with_features(1, {"query": text})], **TEXT)
        return days_of(loaded.labelled_path, settings_for("table", **TEXT))

    (first,), (again,), (other,) = (days(text).values() for text in ("one", "one", "two"))
    assert first == again != other


def test_the_days_are_those_of_the_outcomes_where_a_feature_is_called_day(desk: Desk) -> None:
    rows = [with_features(number, {"day": 3}) for number in (1, 2, 30)]
    loaded = desk.load(rows, data__features=["day"])
    found = days_of(loaded.labelled_path, settings_for("table", data__features=["day"]))
    assert {day: rows for day, (rows, _) in found.items()} == {"2026-03-12": 1, "2026-03-14": 2}
