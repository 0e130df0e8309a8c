"""What Python callers hand over: taken as it is meant, or refused with the type that is wanted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from ml_pipeline.errors import InputError
from ml_pipeline.evaluation_log.logger import EvaluationLogger
from ml_pipeline.serving.answering import part_text, read_values
from ml_pipeline.store.inputs.values import many_rows, one_row
from tests.support.shell import ROOT

AT = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
NAMES = ["a", "b"]
FRAME = pd.DataFrame({"a": [1, 2], "b": [0.5, 0.25]})


@pytest.fixture
def log(tmp_path: Path) -> Callable[..., dict[str, object]]:
    """Log one prediction and read back its line."""
    logger = EvaluationLogger(str(tmp_path / "log.csv"), model_name="m", clock=lambda: AT)

    def log_one(**passed: object) -> dict[str, object]:
        values = {"model_id": "m-1", "match_id": "x", "prediction": "H", "confidence": 0.5} | passed
        event_id = logger.log_prediction(**values)  # type: ignore[arg-type]
        return logger.csv.find([event_id])[event_id]

    return log_one


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.int64(3), 3),
        (np.bool_(1), True),
        (np.array(2.5), 2.5),
        (Decimal("1.5"), 1.5),
        (Fraction(1, 4), 0.25),
        (float("nan"), None),
        (np.float32("nan"), None),
        (Decimal("NaN"), None),
        (pd.NA, None),
        (pd.NaT, None),
        (np.datetime64("NaT"), None),
        (None, None),
        (AT, "2026-03-14T12:00:00+00:00"),
        (pd.Timestamp(AT), "2026-03-14T12:00:00+00:00"),
        (date(2026, 3, 14), "2026-03-14"),
        (np.datetime64("2026-03-14"), "2026-03-14"),
        (np.str_("red"), "red"),
        (UUID(int=1), str(UUID(int=1))),
        (np.array([1, 2]), [1, 2]),
        ([np.int8(1), pd.NA], [1, None]),
    ],
)
def test_a_feature_of_any_library_is_logged_as_the_value_that_it_is(
    log: Callable[..., dict[str, object]], value: object, kept: object
) -> None:
    row = log(features={"a": value, "b": 1.0}, metadata={"about": {"it": value}})
    assert json.loads(str(row["features"])) == {"a": kept, "b": 1.0}
    assert json.loads(str(row["metadata"])) == {"about": {"it": kept}}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("inf"), "features.a = inf is not a finite number"),
        (np.float32("-inf"), "features.a = -inf is not a finite number"),
        (1j, "features.a is a number, a text, a boolean or a time, not complex"),
        (b"x", "not bytes"),
        ({1}, "not set"),
        (object(), "not object"),
    ],
)
def test_a_feature_without_meaning_is_refused_by_name_and_type(
    log: Callable[..., dict[str, object]], value: object, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        log(features={"a": value})


def test_features_are_a_mapping_or_a_series_with_names(
    log: Callable[..., dict[str, object]],
) -> None:
    for passed in (pd.Series({"a": 1.5}), FRAME.iloc[0], MappingProxyType({"a": 1.5})):
        assert json.loads(str(log(features=passed)["features"]))["a"] in {1.5, 1.0}
    for wrong in ([1.5], np.array([1.5]), FRAME, "a=1"):
        with pytest.raises(
            InputError, match=f"a mapping from name to value, not {type(wrong).__name__}"
        ):
            log(features=wrong)


@pytest.mark.parametrize(
    ("value", "kept"),
    [(1.0000001, 1.0), (np.float32(1.0000001), 1.0), (-1e-9, 0.0), (1, 1.0), (np.float32(0.5), 0.5),
     (Decimal("0.25"), 0.25)],
)  # fmt: skip
def test_a_confidence_is_a_share_and_rounding_is_forgiven(
    log: Callable[..., dict[str, object]], value: object, kept: float
) -> None:
    assert log(confidence=value)["confidence"] == kept


@pytest.mark.parametrize("value", [1.01, 85, -0.1, float("nan"), pd.NA, "high", [0.5], np.inf])
def test_a_confidence_that_is_no_share_is_refused(
    log: Callable[..., dict[str, object]], value: object
) -> None:
    with pytest.raises(InputError, match="A confidence is a number from 0 to 1, not"):
        log(confidence=value)


def test_a_prediction_may_be_a_number_and_zero_is_one(
    log: Callable[..., dict[str, object]],
) -> None:
    values = (0, np.int64(1), 2.0, np.str_("x"))
    assert [log(prediction=value)["prediction"] for value in values] == ["0", "1", "2", "x"]
    for nothing in ("", None, pd.NA, float("nan")):
        with pytest.raises(InputError, match="cannot be empty"):
            log(prediction=nothing)


@pytest.mark.parametrize(
    ("value", "kept"),
    [(7, "7"), (np.int64(7), "7"), (7.0, "7"), (pd.NA, None), (float("nan"), None), ("007", "007"),
     (UUID(int=1), str(UUID(int=1)))],
)  # fmt: skip
def test_an_id_is_text_and_a_whole_number_has_no_point(
    log: Callable[..., dict[str, object]], value: object, kept: str | None
) -> None:
    assert log(match_id=value)["match_id"] == kept


def test_a_time_is_a_datetime_with_a_zone_or_its_text(
    log: Callable[..., dict[str, object]],
) -> None:
    for value in (AT, pd.Timestamp(AT), AT.isoformat(), pd.NaT, None):
        assert log(timestamp=value)["timestamp"] == "2026-03-14T12:00:00.000000+00:00"
    ends = datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))
    for wrong, words in (
        (5, "not int"),
        (datetime(2026, 3, 14), "no time zone"),  # noqa: DTZ001
        ("soon", "ISO"),
        (ends, "9999"),
    ):
        with pytest.raises(InputError, match=words):
            log(timestamp=wrong)


def test_many_predictions_come_as_a_frame_too_and_unknown_arguments_are_named(
    tmp_path: Path,
) -> None:
    logger = EvaluationLogger(str(tmp_path / "log.csv"), model_name="m", clock=lambda: AT)
    frame = pd.DataFrame({
        "model_id": "m-1", "match_id": [1, None], "prediction": [0, 1],
        "confidence": np.array([0.5, 1.0], dtype=np.float32),
    })  # fmt: skip
    rows = logger.csv.find(logger.log_predictions(frame))  # type: ignore[arg-type]
    assert [(row["match_id"], row["prediction"]) for row in rows.values()] == [
        ("1", "0"),
        (None, "1"),
    ]
    size = logger.csv.size()
    with pytest.raises(InputError, match=r"lacks confidence, and has probability"):
        logger.log_predictions([{"model_id": "m", "prediction": "H", "probability": 0.5}])
    assert logger.csv.size() == size


@pytest.mark.parametrize(
    "row",
    [
        [1, 0.5], (1, 0.5), {"a": 1, "b": 0.5}, np.array([1, 0.5]), np.array([[1, 0.5]]),
        FRAME.iloc[0], FRAME.iloc[[0]], FRAME.iloc[0].to_numpy(), pd.Series([1, 0.5]),
        FRAME.astype(np.float32).iloc[0], pd.DataFrame([[1, 0.5]]),
        [np.int64(1), Decimal("0.5")], FRAME.convert_dtypes().iloc[0],
    ],
)  # fmt: skip
def test_one_row_is_read_from_whatever_holds_one(row: object) -> None:
    numbers, text = part_text(row, None, None)
    assert (read_values(numbers, NAMES)[0], text) == ([1.0, 0.5], None)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (FRAME, "DataFrame of 2 came"),
        (FRAME.to_numpy(), "ndarray of 2 came"),
        (5, "not int"),
        ({1.0, 0.5}, "not set"),
        (b"1", "not bytes"),
        ([pd.NA, 1], "a is missing"),
        ([10**400, 1], "a is out of range"),
        ([[1.0], 1], r"a = \[1.0\] is not a number"),
    ],
)
def test_what_is_no_row_is_refused_with_the_way_out(row: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_values(part_text(row, None, None)[0], NAMES)


@pytest.mark.parametrize(
    "rows",
    [FRAME, FRAME.to_numpy(), FRAME.to_dict("records"), [FRAME.iloc[0], FRAME.iloc[1]],
     iter(FRAME.to_numpy()), pd.DataFrame(FRAME.to_numpy())],
)  # fmt: skip
def test_many_rows_come_row_by_row(rows: object) -> None:
    found = [
        read_values(part_text(one_row(row), None, None)[0], NAMES)[0] for row in many_rows(rows)
    ]
    assert found == [[1.0, 0.5], [2.0, 0.25]]
    assert list(many_rows(pd.Series(["one", "two"]))) == ["one", "two"]


@pytest.mark.parametrize("rows", ["text", {"a": [1, 2]}, FRAME["a"], np.array([1.0, 0.5]), 5, None])
def test_one_row_alone_is_not_taken_for_many(rows: object) -> None:
    with pytest.raises(InputError, match="one row goes to predict"):
        list(many_rows(rows))


def test_reading_values_loads_no_library() -> None:
    code = (
        "import sys; from ml_pipeline.store.inputs import labels, values; "
        "print([n for n in ('numpy', 'pandas', 'typing', 'pydantic') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
