"""When rows were predicted, by whom, and what people were answered."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml_pipeline.config.settings import load_settings
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.datasets.labelled_file import LabelledFile, read_labelled
from ml_pipeline.errors import DataError
from ml_pipeline.store.inputs.incumbents import MIN_PROBABILITY
from ml_pipeline.training.heads.inputs import MIN_PROBABILITY as OF_HEADS
from tests.support.logs import Desk, make_row, without_outcome

SETTINGS = load_settings(environment={}).changed({"data.features": ["form"]})
NAN = float("nan")
ROW = {"event_id": "e", "known_at": "2026-03-14T01:00:00Z", "form": 1.0, "result": "H"}


def read(path: Path, *rows: Mapping[str, object]) -> Dataset:
    """Rows as a run writes them, with an event id each."""
    written = [{**ROW, "event_id": f"e{number}", **row} for number, row in enumerate(rows)]
    pd.DataFrame(written).to_csv(path, index=False)
    return read_labelled(str(path), SETTINGS)


def served(path: Path, *texts: str | None, classes: tuple[str, ...] = ("A", "D", "H")) -> object:
    data = read(path, *({"probabilities": text} for text in texts))
    found = data.served(classes)
    return None if found is None else found.tolist()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labelled.csv"


def test_a_run_writes_when_what_and_by_whom_and_the_trainer_reads_it(tmp_path: Path) -> None:
    text = '{"H": 0.9, "D": 0.06, "A": 0.04}'
    rows = [make_row(1, probabilities=text, model_id="m-7"), make_row(40, model_id=None)]
    loaded = Desk(tmp_path).load([*rows, without_outcome(3, probabilities=text)])
    data = read_labelled(str(loaded.labelled_path), load_settings(environment={}))
    assert data.predicted is not None
    assert data.of_line is not None
    assert data.predicted.dtype == np.int64
    days = [date.fromisoformat(row["timestamp"][:10]).toordinal() for row in reversed(rows)]
    assert data.predicted.tolist() == days
    # Nobody's line learns them.
    assert data.of_line.tolist() == [False, False]
    found = data.served(["A", "D", "H"])
    np.testing.assert_array_equal(found, [[NAN] * 3, [0.04, 0.06, 0.9]])


def test_the_day_of_the_outcome_stands_where_the_prediction_has_none(path: Path) -> None:
    moments = ["2026-03-01T23:59:59Z", "2026-03-02T00:30:00+01:00", "", "2026-03-20T00:00:00Z"]
    data = read(path, *({"predicted_at": moment} for moment in moments))
    assert data.predicted is not None
    found = [date.fromordinal(day).isoformat() for day in data.predicted.tolist()]
    assert found == ["2026-03-01", "2026-03-01", "2026-03-14", "2026-03-14"]
    with pytest.raises(DataError, match=r"predicted_at is not an ISO 8601 time: '03/04/2026'"):
        read(path, {"predicted_at": "03/04/2026"})


def test_answers_come_in_the_order_that_is_asked_for(path: Path) -> None:
    text = '{"H": 0.5, "D": 0.25, "A": 0.25}'
    assert served(path, text, None, classes=("H", "A", "D")) == [
        [0.5, 0.25, 0.25],
        pytest.approx([NAN] * 3, nan_ok=True),
    ]
    assert served(path, '{" home ": 1, "away": 0, "D": 0}') == [[0.0, 0.0, 1.0]]


def test_a_class_that_the_answer_does_not_name_is_improbable(path: Path) -> None:
    whole = 1 + MIN_PROBABILITY
    assert served(path, '{"H": 0.75, "D": 0.25}') == [
        pytest.approx([MIN_PROBABILITY / whole, 0.25 / whole, 0.75 / whole])
    ]
    assert MIN_PROBABILITY == OF_HEADS


def test_what_the_answer_gave_to_other_classes_is_shared_or_nothing_is_known(path: Path) -> None:
    texts = ('{"H": 0.6, "D": 0.2, "A": 0.2}', '{"H": 0.0005, "A": 0, "D": 0.9995}')
    assert served(path, *texts, classes=("H", "A")) == [
        pytest.approx([0.75, 0.25]),
        pytest.approx([NAN, NAN], nan_ok=True),
    ]


@pytest.mark.parametrize("text", ["[0.5]", "x", '{"H": 0.5}', '{"H": NaN}', '{"X": 1.0}', "1"])
def test_an_answer_that_cannot_be_read_is_named(path: Path, text: str) -> None:
    with pytest.raises(DataError, match="probabilities of row 2: "):
        served(path, '{"H": 1.0}', text)


def test_other_files_know_nothing_of_it(path: Path) -> None:
    data = read(path, {})
    assert (data.predicted, data.of_line, data.served(["H"])) == (None, None, None)
    frame = pd.DataFrame([{"form": 1, "result": "H", "probabilities": "[1]", "model_id": "x"}])
    frame.to_csv(path, index=False)
    data = read_labelled(str(path), SETTINGS)
    assert (data.predicted, data.of_line, data.served(["H"])) == (None, None, None)


def test_they_stay_with_their_rows(path: Path) -> None:
    rows = [
        {"of_line": str(n == 5).lower(), "predicted_at": f"2026-03-0{n}T00:00:00Z",
         "probabilities": f'{{"H": 0.{n}, "A": 0.{10 - n}}}'}
        for n in range(1, 6)
    ]  # fmt: skip
    whole = read(path, *rows)
    for data in (
        whole.take(np.array([4, 1])),
        whole.take(np.array([0, 4, 1])).take(np.array([1, 2])),
    ):
        assert data.predicted is not None
        assert data.of_line is not None
        assert data.of_line.tolist() == [True, False]
        assert data.answers is not None
        assert np.isnan(data.answers.table(["A", "H"], data.of_line)).all(axis=1).tolist() == [
            False, True,
        ]  # fmt: skip
        assert [date.fromordinal(day).day for day in data.predicted.tolist()] == [5, 2]
        found = data.served(["A", "H"])
        assert found is not None
        np.testing.assert_allclose(found, [[0.5, 0.5], [0.8, 0.2]])
    assert whole.preceded_by(whole).predicted is None
    last = LabelledFile.read(path, SETTINGS.data).last
    assert last.predicted is not None
    assert sorted(last.predicted.tolist()) == sorted(whole.predicted.tolist())  # type: ignore[union-attr]


def test_rows_of_another_file_before_them_take_what_is_known_of_single_rows(path: Path) -> None:
    rows = read(path, {"of_line": "true", "probabilities": '{"H": 1.0}'})
    joined = rows.preceded_by(rows)
    assert len(joined) == 2 * len(rows)
    assert (joined.predicted, joined.of_line, joined.answers) == (None, None, None)
