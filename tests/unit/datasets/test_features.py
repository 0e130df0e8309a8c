"""What is no number is refused by name and row; what is missing is NaN."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from ml_pipeline.datasets.features import check_usable, matrix
from ml_pipeline.errors import DataError
from ml_pipeline.training.preprocessing import preprocessing


def _frame(**columns: list[object]) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_features_stand_in_the_order_of_the_config() -> None:
    frame = _frame(b=["1", "2"], other=["x", "y"], a=["0.5", "-1e-3"])
    assert matrix(frame, ["a", "b"]).tolist() == [[0.5, 1.0], [-0.001, 2.0]]
    assert matrix(frame, ["b", "a"]).tolist() == [[1.0, 0.5], [2.0, -0.001]]
    assert matrix(frame, []).shape == (2, 0)


@given(st.lists(st.floats(-1e150, 1e150), min_size=1, max_size=20))
def test_numbers_written_as_text_are_read_back_exactly(numbers: list[float]) -> None:
    written = matrix(_frame(a=[repr(number) for number in numbers]), ["a"])
    assert written[:, 0] == pytest.approx(numbers, rel=1e-15)
    assert np.array_equal(matrix(_frame(a=list(numbers)), ["a"])[:, 0], numbers)


@pytest.mark.parametrize("blank", ["", "  ", "nan", "NaN", None, math.nan, pd.NA])
def test_an_empty_cell_is_missing(blank: object) -> None:
    values = matrix(_frame(a=["1", blank, " 3 "]), ["a"])
    assert np.isnan(values[1, 0])
    assert values[[0, 2], 0].tolist() == [1, 3]


@pytest.mark.parametrize("text", ["high", "1,5", "inf", "-Infinity", "1e400", "0x10", "true", "??"])
def test_what_is_not_a_finite_number_is_refused_with_its_row(text: str) -> None:
    frame = _frame(a=["1", "2"], form=["0.5", text])
    with pytest.raises(DataError) as caught:
        matrix(frame, ["a", "form"])
    assert caught.value.message == (
        f"Feature form holds {text!r} in row 2 (1 such rows): not a finite number."
    )
    assert "an empty cell is allowed" in caught.value.hint


def test_infinite_numbers_are_refused_as_well() -> None:
    with pytest.raises(DataError, match=r"holds inf, -inf in row 2, 3 \(2 such rows\)"):
        matrix(_frame(a=[1.0, math.inf, -math.inf]), ["a"])


def test_of_many_bad_rows_the_first_are_shown_and_all_are_counted() -> None:
    with pytest.raises(DataError, match=r"in row 1, 2, 3, 4, 5 \(40 such rows\)"):
        matrix(_frame(a=["x"] * 40), ["a"])


def test_missing_columns_are_all_named_with_what_there_is() -> None:
    with pytest.raises(DataError, match=r"missing: b, c\.") as caught:
        matrix(_frame(a=["1"], d=["2"]), ["b", "a", "c"])
    assert caught.value.hint == "The data has: a, d."


def test_a_feature_without_a_single_value_cannot_be_trained_on() -> None:
    values = np.array([[1.0, np.nan, np.nan], [np.nan, np.nan, 2.0]])
    with pytest.raises(DataError, match=r"without a single value: b\."):
        check_usable(values, ["a", "b", "c"])
    check_usable(values[:, [0, 2]], ["a", "c"])


def test_preprocessing_fills_medians_and_standardises_with_what_it_was_fitted_on() -> None:
    rows = np.array([[1.0], [2.0], [np.nan], [9.0]])
    pipeline = Pipeline([*preprocessing(), ("classify", LogisticRegression())])
    pipeline.fit(rows, ["a", "b", "a", "b"])
    filled = np.array([1.0, 2.0, 2.0, 9.0])
    prepared = pipeline[:-1].transform(np.array([[np.nan], [10.0], [1e6], [-1e6]]))
    expected = (np.array([2.0, 10.0]) - filled.mean()) / filled.std()
    assert prepared[:, 0] == pytest.approx([*expected, 5.0, -5.0])


def test_a_feature_that_was_empty_in_training_is_kept() -> None:
    rows = np.array([[1.0, np.nan], [2.0, np.nan]])
    pipeline = Pipeline([*preprocessing(), ("classify", LogisticRegression())])
    pipeline.fit(rows, ["a", "b"])
    assert pipeline[:-1].transform(rows).shape == (2, 2)
    assert np.isfinite(pipeline.predict_proba(np.array([[1.0, 5.0]]))).all()
