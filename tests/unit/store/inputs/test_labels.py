"""Labels: one reading of their spellings at every place where one enters."""

from __future__ import annotations

import csv
import enum
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from ml_pipeline.commands.analyse import analyse
from ml_pipeline.config.data import DataSettings
from ml_pipeline.config.environment import StoreSettings
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import from_frame
from ml_pipeline.datasets.ground_truth import read_truth
from ml_pipeline.errors import ConfigError, DataError, InputError, PipelineError
from ml_pipeline.evaluation_log.frames import labelled_events, since
from ml_pipeline.evaluation_log.loading import read_labelled
from ml_pipeline.evaluation_log.opening import MLLogger, open_logger
from ml_pipeline.evaluation_log.outcomes import read_outcomes, record
from ml_pipeline.evaluation_log.recording.parsed import ParsedOutcome
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.event_row import UNCERTAIN
from ml_pipeline.store.inputs.label_sql import NO_LABEL, UNKNOWN_LABEL, LabelCodes
from ml_pipeline.store.inputs.labels import SPACE, Labels
from tests.support.factories import make_id

AT = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
FEATURES = {"a": 1.0}


class Result(enum.StrEnum):
    HOME = "H"


HOME = ("H", "h", " H", "H\u00a0", "home", "HOME", "Home_Win", "0", "0.0", "0.00")
HOME_VALUES = (0, 0.0, np.int64(0), np.float32(0), np.str_("h"), Decimal(0), Result.HOME)
# One word for people: with the accented letter as one character, and as a letter and its accent.
CAFES = ("Caf\u00e9", "Cafe\u0301", " Cafe\u0301\n")
NONE = ("banana", "nan", "None", "", " ", "7", "H,D", "true", UNCERTAIN)
NO_VALUES = (None, float("nan"), pd.NA, pd.NaT, np.nan, 7, True, np.bool_(True))  # noqa: FBT003 - a label


def settings(**data: object) -> Settings:
    changes: dict[str, object] = {"features": ["a"], "time_column": None, "group_column": None}
    return Settings().changed({f"data.{name}": value for name, value in (changes | data).items()})


DEFAULT = settings()


def labels(**data: object) -> Labels:
    return Labels.of(DataSettings(**data))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [*HOME, *HOME_VALUES])
def test_every_spelling_of_a_label_is_that_label(value: object) -> None:
    assert labels().outcome(value) == "H"
    assert labels().prediction(value) == "H"
    assert labels().agree("home", value)


@pytest.mark.parametrize("value", [*NONE, *NO_VALUES])
def test_what_is_no_label_is_refused_and_the_known_ones_are_named(value: object) -> None:
    with pytest.raises(InputError) as caught:
        labels().outcome(value)
    assert "H, D, A" in caught.value.hint
    assert "data.labels" in caught.value.hint


@pytest.mark.parametrize("value", [b"H", ["H"], {"H": 1}, AT, np.array(["H"]), pd.Series(["H"])])
def test_what_cannot_be_a_label_is_refused_by_its_type(value: object) -> None:
    for one in (labels(), labels(classes=None)):
        with pytest.raises(InputError, match=type(value).__name__):
            one.outcome(value)


def test_two_classes_that_are_a_truth_take_either_of_its_spellings() -> None:
    numbers, truths = labels(classes=["0", "1"]), labels(classes=["True", "False"])
    assert [numbers.find(value) for value in (True, "false", 1.0, np.bool_(0), "TRUE")] == [
        "1", "0", "1", "0", "1",
    ]  # fmt: skip
    assert [truths.find(value) for value in (True, 0, "1.0", "true")] == [
        "True", "False", "True", "True",
    ]  # fmt: skip


@pytest.mark.parametrize("named", ["Caf\u00e9", "Cafe\u0301"])
def test_the_form_of_an_accented_letter_makes_no_other_label(named: str) -> None:
    closed = labels(classes=[named, "Bar"], labels={"bistro": "Caf\u00e9"})
    assert {closed.find(text) for text in (*CAFES, "CAFE\u0301", "CAF\u00c9", "bistro")} == {named}
    assert {labels(classes=None).find(text) for text in CAFES} == {"Caf\u00e9"}
    for one in (closed, labels(classes=None)):
        assert one.agree(*CAFES[:2])
    tables = closed.tables()
    assert {tables["exact"][text] for text in CAFES[:2]} == {named}
    assert {tables["folded"][text] for text in ("caf\u00e9", "cafe\u0301")} == {named}


def test_a_class_is_not_named_twice_in_two_forms_of_its_letters() -> None:
    with pytest.raises(ConfigError, match="classes names something twice"):
        settings(classes=[*CAFES[:2]])


def test_another_case_that_means_two_classes_means_neither() -> None:
    both = labels(classes=["a", "A", "b"])
    assert [both.find(text) for text in ("a", " A ", "B")] == ["a", "A", "b"]
    words = labels(classes=["Ja", "jA"])
    assert words.find("ja") is None


def test_open_labels_are_any_text_but_what_stands_for_a_missing_value() -> None:
    some = labels(classes=None, labels={"yes": "won"})
    assert [some.find(text) for text in (" lost ", "YES", "won", 3)] == ["lost", "won", "won", "3"]
    for text in ("", "nan", "None", "NULL", "<NA>", UNCERTAIN):
        assert some.find(text) is None
    assert some.prediction(UNCERTAIN) == UNCERTAIN


def test_a_class_may_be_called_none_when_the_settings_name_it() -> None:
    named = labels(classes=["None", "mild"])
    assert [named.find(text) for text in ("None", "none", "mild")] == ["None", "None", "mild"]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"classes": None},
        {"classes": None, "labels": {"yes": "won", "0": "lost"}},
        {"classes": ["0", "1"]},
        {"classes": ["True", "False"]},
        {"classes": ["None", "nan", "x"]},
        {"classes": ["Ja", "jA", "1.0"], "labels": {"J": "Ja"}},
        {"classes": ["Caf\u00e9", "Bar"]},
        {"classes": ["Cafe\u0301", "Bar"], "labels": {"coff\u00e9e": "Caf\u00e9"}},
    ],
)
def test_sql_reads_every_label_as_python_does(data: dict[str, object]) -> None:
    read, codes = labels(**data), LabelCodes(settings(**data).data)
    texts = [
        *HOME, *NONE, "yes", "YES ", "\twon\r\n", "lost", "ja", "J", "1", "1.0", "-1.0", "1.0.0",
        "01.0", "<NA>", "NULL", "uncertain", f" {UNCERTAIN}", "False", "x", *SPACE,
        *(f"{space}h{space}" for space in SPACE), *CAFES, "COFF\u00c9E", "coffe\u0301e",
    ]  # fmt: skip
    for find, is_prediction in ((read.find, False), (read.find_answer, True)):
        code = codes.code("x", is_prediction=is_prediction)
        rows = duckdb.execute(
            f"SELECT x, {code} AS c, {codes.name('c', 'x')} FROM (SELECT unnest(?) AS x)",  # noqa: S608
            [texts],
        ).fetchall()
        labelled = {x: None if c in {NO_LABEL, UNKNOWN_LABEL} else name for x, c, name in rows}
        assert labelled == {text: find(text) for text in texts}


# ------------------------------------------------------------------- every place, one reading


def logger_of(folder: Path) -> MLLogger:
    return open_logger(DEFAULT, StoreSettings(local_dir=str(folder / "store")))


def by_log_prediction(text: str, folder: Path) -> object:
    with logger_of(folder) as logger:
        event_id = logger.log_prediction("m", "x", text, 0.9, features=FEATURES)
        logger.log_evaluation(event_id, "H")
        return logger.csv.find([event_id])[event_id]["prediction"]


def by_log_predictions(text: str, folder: Path) -> object:
    with logger_of(folder) as logger:
        (event_id,) = logger.log_predictions(
            [{"model_id": "m", "prediction": text, "confidence": 0.9}]
        )
        return logger.csv.find([event_id])[event_id]["prediction"]


def by_log_evaluation(text: str, folder: Path) -> object:
    with logger_of(folder) as logger:
        event_id = logger.log_prediction("m", "x", "H", 0.9, features=FEATURES)
        assert logger.log_evaluation(event_id, text) == 1.0
        return logger.csv.find([event_id])[event_id]["actual_result"]


def by_outcome_flags(text: str, folder: Path) -> object:
    with logger_of(folder) as logger:
        event_id = logger.log_prediction("m", "x", "H", 0.9, features=FEATURES, timestamp=AT)
        passed = ParsedOutcome(key="event_id", value=event_id, actual=text, known_at=AT)
        report = record(logger, None, [passed], DEFAULT)
        if report.refused:
            raise DataError(str(report.refused[0]))
        assert report.correct == 1
        return logger.csv.find([event_id])[event_id]["actual_result"]


def by_outcome_file(text: str, folder: Path) -> object:
    path = folder / "outcomes.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["match_id", "actual_result"], ["x", text]])
    with logger_of(folder) as logger:
        event_id = logger.log_prediction("m", "x", "H", 0.9, features=FEATURES, timestamp=AT)
        report = record(logger, None, read_outcomes(path, DEFAULT, AT)[0], DEFAULT)
        if report.refused:
            raise DataError(str(report.refused[0]))
        return logger.csv.find([event_id])[event_id]["actual_result"]


HEADER = "event_id,timestamp,model_name,prediction,actual_result,confidence,features"


def by_log_file(text: str, folder: Path) -> object:
    path = folder / "log.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = [["e1", AT.isoformat(), "default", text, text, 0.9, '{"a": 1}']]
        csv.writer(file).writerows([HEADER.split(","), *rows])
    reading = DEFAULT.changed({"log.source": str(path)})
    frame = read_labelled(LocalStore.open(folder / "store"), reading, folder, now=AT)
    (found,) = frame["result"].tolist()
    assert frame["prediction"].tolist() == [found]
    return found


def raw_table(text: str, folder: Path) -> LocalStore:
    """A row as another program writes it, past every place of ours."""
    with MLLogger(str(folder / "raw.csv"), model_name="default") as logger:
        event_id = logger.log_prediction("m", "x", "H", 0.9, features=FEATURES, timestamp=AT)
        row = logger.csv.find([event_id])[event_id]
    store = LocalStore.open(folder / "store")
    evaluated = {"actual_result": text, "evaluated_at": row["timestamp"]}
    store.append_rows([row | evaluated])
    return store


def by_table(text: str, folder: Path) -> object:
    frame = read_labelled(raw_table(text, folder), DEFAULT, folder, now=AT)
    (found,) = frame["result"].tolist()
    return found


def by_analyse(text: str, folder: Path) -> object:
    events = labelled_events(raw_table(text, folder), DEFAULT, since(AT, 1), model_ids=None)
    if analyse(events, DEFAULT)["accuracy"] != 1.0:
        raise DataError("not right: H, D, A")
    return events["actual_result"].iloc[0]


def by_training_data(text: str, _folder: Path) -> object:
    frame = pd.DataFrame({"a": ["1", "2"], "result": [text, "D"]})
    return from_frame(frame, DEFAULT.data, source="rows").labels[0]


def by_ground_truth(text: str, folder: Path) -> object:
    store = LocalStore.open(folder / "store")
    row = {"created_at": AT, "features": FEATURES, "label": text}
    store.add_labels([row | {"id": make_id(number)} for number in range(60)])
    return read_truth(store, DEFAULT)[0].labels[0]


PLACES: list[Callable[[str, Path], object]] = [
    by_log_prediction, by_log_predictions, by_log_evaluation, by_outcome_flags, by_outcome_file,
    by_log_file, by_table, by_analyse, by_training_data, by_ground_truth,
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_every_place_reads_the_same_spellings(
    place: Callable[[str, Path], object], tmp_path: Path
) -> None:
    for number, text in enumerate(("H", "h", " home", "0", "0.0", "HOME_WIN\u00a0")):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert place(text, folder) == "H", text


def test_every_reader_of_open_labels_makes_one_class_of_both_forms(tmp_path: Path) -> None:
    open_labels = settings(classes=None)
    rows = [{"a": float(n), "result": text} for n, text in enumerate([*CAFES[:2], "Bar"])]
    data = from_frame(pd.DataFrame(rows).astype(str), open_labels.data, source="rows")
    assert data.labels.tolist() == ["Caf\u00e9", "Caf\u00e9", "Bar"]
    path = tmp_path / "log.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        pairs = [CAFES[:2], CAFES[1::-1], ("Bar", "Bar")]
        lines = [
            [f"e{n}", AT.isoformat(), "default", said, was, 0.9, '{"a": 1}']
            for n, (said, was) in enumerate(pairs)
        ]
        csv.writer(file).writerows([HEADER.split(","), *lines])
    reading = open_labels.changed({"log.source": str(path)})
    frame = read_labelled(LocalStore.open(tmp_path / "store"), reading, tmp_path, now=AT)
    assert set(frame["result"]) == set(frame["prediction"]) == {"Caf\u00e9", "Bar"}
    assert not frame["is_error"].astype(int).any()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("text", ["banana", "nan"])
def test_every_place_refuses_what_is_no_label(
    place: Callable[[str, Path], object], text: str, tmp_path: Path
) -> None:
    with pytest.raises((PipelineError, ValueError)) as caught:
        place(text, tmp_path)
    if isinstance(caught.value, PipelineError) and text != "nan":
        assert "H, D, A" in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("text", ["None", "nan", "null", "<NA>", UNCERTAIN])
def test_a_class_that_reads_as_missing_is_refused_in_training_and_works_once_it_is_named(
    text: str, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"a": ["1", "2"], "result": [text, "mild"]})
    with pytest.raises(DataError, match=r"result is '.*' in 1 rows \(row 1\)") as caught:
        from_frame(frame, settings(classes=None).data, source="rows")
    assert "name it in data.classes" in caught.value.hint
    if text == UNCERTAIN:
        with pytest.raises(ConfigError, match="no class may be called UNCERTAIN"):
            settings(classes=[text, "mild"])
        return

    named = settings(classes=[text, "mild"])
    assert from_frame(frame, named.data, source="rows").labels.tolist() == [text, "mild"]
    open_store = StoreSettings(local_dir=str(tmp_path / "store"))
    with open_logger(named, open_store) as logger:
        for number in range(3):
            event_id = logger.log_prediction("m", str(number), text, 0.9, features=FEATURES)
            assert logger.log_evaluation(event_id, text) == 1.0
    now = datetime.now(UTC)
    store = LocalStore.open(tmp_path / "store")
    read = read_labelled(store, named, tmp_path, now=now)
    assert read["result"].tolist() == [text] * 3
    assert read["prediction"].tolist() == [text] * 3
    events = labelled_events(store, named, since(now, 1), model_ids=None)
    assert events["prediction"].tolist() == [text] * 3
