"""What an answer was made of, at every door: taken as it is meant, or refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml_pipeline.config.data import DataSettings
from ml_pipeline.errors import InputError
from ml_pipeline.evaluation_log.logger import EvaluationLogger
from ml_pipeline.store.inputs.labels import Labels
from tests.support.logs import Desk, make_row

AT = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
Log = Callable[..., object]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Log one prediction of H, D or A and read its probabilities back."""
    logger = EvaluationLogger(
        str(tmp_path / "log.csv"), model_name="m", clock=lambda: AT,
        labels=lambda: Labels.of(DataSettings()),
    )  # fmt: skip

    def log_one(probabilities: object, **passed: object) -> object:
        values = {"model_id": "m-1", "match_id": "x", "prediction": "H", "confidence": 0.6}
        (event_id,) = logger.log_predictions([values | passed | {"probabilities": probabilities}])
        text = logger.csv.find([event_id])[event_id]["probabilities"]
        return None if text is None else json.loads(str(text))

    return log_one


GOOD: list[tuple[object, dict[str, object], object]] = [
    ({"H": 0.6, "D": 0.3, "A": 0.1}, {}, {"H": 0.6, "D": 0.3, "A": 0.1}),
    ({"home": 0.6, " d ": 0.3, "A": 0.1}, {}, {"H": 0.6, "D": 0.3, "A": 0.1}),
    ({"H": 0.2, "home": 0.4, "A": 0.4}, {}, {"H": 0.6000000000000001, "A": 0.4}),
    ({"H": 0.6, "A": 0.4}, {}, {"H": 0.6, "A": 0.4}),
    ({"H": 0.6, "D": 0.3, "A": 0.1 + 9e-7}, {}, {"H": 0.6, "D": 0.3, "A": 0.1 + 9e-7}),
    ({"H": 1.0, "D": -1e-9, "A": 0}, {"confidence": 1.0}, {"H": 1.0, "D": 0.0, "A": 0.0}),
    ({"H": 0.6049, "A": 0.3951}, {}, {"H": 0.6049, "A": 0.3951}),
    ({"H": 0.3, "A": 0.7}, {"confidence": 0.3}, {"H": 0.3, "A": 0.7}),
    ({"H": 0.6, "A": 0.4}, {"prediction": "UNCERTAIN"}, {"H": 0.6, "A": 0.4}),
    ({"H": 0.6, "A": 0.4}, {"confidence": None}, {"H": 0.6, "A": 0.4}),
]


@pytest.mark.parametrize(("given", "passed", "kept"), GOOD)
def test_what_can_be_meant_is_logged_by_the_names_of_the_classes(
    log: Log, given: object, passed: dict[str, object], kept: object
) -> None:
    assert log(given, **passed) == kept


@pytest.mark.parametrize(
    "given",
    [
        pd.Series({"H": 0.6, "A": 0.4}),
        {"H": np.float64(0.6), "A": np.float64(0.4)},
        {"H": Decimal("0.6"), "A": Decimal("0.4")},
        {np.str_("H"): 0.6, "A": 0.4},
    ],
)
def test_values_of_other_libraries_are_numbers_too(log: Log, given: object) -> None:
    assert log(given) == {"H": 0.6, "A": 0.4}


def test_numbers_are_labels_where_the_settings_say_so(log: Log) -> None:
    assert log({0: 0.6, 1.0: 0.1, "2": 0.3}) == {"H": 0.6, "D": 0.1, "A": 0.3}


@pytest.mark.parametrize("given", [None, float("nan"), pd.NA])
def test_no_probabilities_are_none(log: Log, given: object) -> None:
    assert log(given) is None


BAD: list[tuple[object, dict[str, object], str, str]] = [
    ({"H": 0.6, "D": 0.3}, {}, r"sum to 0\.9, not to 1 \(within 0\.000001\)\. They do not name A",
     "probabilities do not sum to 1 (within 0.000001)"),
    ({"H": 0.6, "D": 0.3, "A": 0.2}, {}, r"sum to 1\.1, not to 1",
     "probabilities do not sum to 1 (within 0.000001)"),
    ({"H": 0.6, "D": 0.3, "A": 0.1001}, {}, r"sum to 1\.0001, not to 1",
     "probabilities do not sum to 1 (within 0.000001)"),
    ({}, {}, "sum to 0, not to 1", "probabilities do not sum to 1 (within 0.000001)"),
    ({"H": 0.6, "X": 0.4}, {}, "name 'X', which is no label",
     "probabilities name an unknown label"),
    ({"H": 0.6, "": 0.4}, {}, "name '', which is no label",
     "probabilities name an unknown label"),
    ({"H": 0.6, "UNCERTAIN": 0.4}, {}, "no label", "probabilities name an unknown label"),
    ({"H": 60, "D": 30, "A": 10}, {}, "these are percent", "probabilities are over 1 (percent?)"),
    ({"H": 1.2, "A": -0.2}, {"confidence": 1.0}, r"of H is a number from 0 to 1, not 1\.2",
     "probabilities are negative"),
    ({"H": 0.6, "A": "much"}, {}, "probability of A is a number from 0 to 1, not 'much'",
     "probabilities are not a JSON object of numbers"),
    ({"H": 0.6, "A": None}, {}, "probability of A is a number from 0 to 1, not None",
     "probabilities are not a JSON object of numbers"),
    ([0.6, 0.3, 0.1], {}, "probabilities is a mapping from name to value, not list",
     "probabilities are not a JSON object of numbers"),
    ({"D": 0.6, "A": 0.4}, {}, "do not name H, which is the prediction",
     "probabilities do not name the prediction"),
    ({"H": 0.7, "A": 0.3}, {}, r"confidence 0\.6 contradicts the probabilities, which give H 0\.7",
     "confidence contradicts probabilities"),
    ({"H": 0.3, "A": 0.7}, {"prediction": "UNCERTAIN"}, r"which give A 0\.7",
     "confidence contradicts probabilities"),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_what_contradicts_itself_is_refused_and_nothing_is_logged(
    log: Log, tmp_path: Path, bad: tuple[object, dict[str, object], str, str]
) -> None:
    with pytest.raises(InputError, match=bad[2]):
        log(bad[0], **bad[1])
    assert not (tmp_path / "log.csv").exists()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), np.float32("nan")])
def test_a_number_that_is_none_is_refused(log: Log, number: float) -> None:
    with pytest.raises(InputError, match="probability of A is a number from 0 to 1"):
        log({"H": 0.6, "A": number})


def line(number: int, given: object, passed: dict[str, object]) -> dict[str, str]:
    """The same prediction as a line of a log."""
    text = given if isinstance(given, str) else json.dumps(given)
    sure = passed.get("confidence", 0.6)
    return make_row(
        number,
        prediction=str(passed.get("prediction", "H")),
        confidence="0.6" if sure is None else str(sure),
        probabilities=text,
    )


def test_a_log_is_read_by_the_same_rules(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    good = [line(number, given, passed) for number, (given, passed, _) in enumerate(GOOD, 1)]
    bad = [line(number, given, passed) for number, (given, passed, *_) in enumerate(BAD, 50)]
    bad += [line(91, '{"H": NaN, "A": 0.4}', {}), line(92, '{"H": "nan", "A": 0.4}', {}),
            line(93, "H=0.6", {}), line(94, '{"H": 0.6, "H": 0.4}', {})]  # fmt: skip
    loaded = desk.load([*good, *bad, make_row(99)])
    wanted = [reason for *_, reason in BAD]
    wanted += ["probabilities are not a JSON object of numbers", "probabilities hold NaN"] * 2
    assert loaded.report.reasons == {reason: wanted.count(reason) for reason in wanted}
    assert (loaded.report.bad, loaded.labelled_rows) == (len(bad), len(good) + 1)


def test_open_labels_read_them_as_well(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    rows = [
        make_row(1, probabilities='{"H": 0.9, "new": 0.1}'),
        make_row(2, probabilities='{" H ": 0.9, "A": 0.1}'),
        make_row(3, probabilities='{"H": 0.9, "nan": 0.1}'),
        make_row(4, probabilities='{"A": 0.9, "H": 0.1}'),
        make_row(5, prediction="UNCERTAIN", probabilities='{"A": 0.9, "H": 0.1}'),
    ]
    loaded = desk.load(rows, data__classes=None, data__labels=None, data__ordered=False)
    assert loaded.report.reasons == {
        "probabilities name an unknown label": 1, "confidence contradicts probabilities": 1,
    }  # fmt: skip


def test_rows_of_one_event_bring_what_one_of_them_says(tmp_path: Path) -> None:
    text = '{"H": 0.9, "D": 0.06, "A": 0.04}'
    bare = make_row(1, actual_result="", evaluated_at="")
    rows = [bare, make_row(1, probabilities=text), make_row(2)]
    frame = pd.read_csv(Desk(tmp_path).load(rows).labelled_path, dtype=str, keep_default_na=False)
    assert sorted(frame["probabilities"]) == ["", text]
    assert [time[:16] for time in frame["predicted_at"]] == [
        row["timestamp"][:16] for row in (rows[0], rows[2])
    ]
