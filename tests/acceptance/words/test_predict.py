"""`predict` as a person runs it: answers, files, exit codes, what is loaded, what is logged."""

from __future__ import annotations

import csv
import gzip
import json
import math
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml_pipeline.errors import InputError
from ml_pipeline.evaluation_log.event_csv import EventCsv
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.serving.batch import predict_csv
from ml_pipeline.serving.engine import PredictionEngine
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import PromotionEvent, PromotionKind
from tests.support import served
from tests.support.factories import NOW, make_id
from tests.support.served import FEATURES, HEAVY, ROW
from tests.support.shell import ROOT, Finished, python
from tests.support.warm import ml_pipeline

PAIRS = [f"{name}={value}" for name, value in zip(FEATURES, ROW, strict=True)]
KEYS = {
    "event_id", "match_id", "prediction", "confidence", "probabilities", "model_id", "timestamp",
    "status", "imputed",
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a regression as champion and a small ensemble beside it."""
    folder = tmp_path_factory.mktemp("trained")
    served.train(folder, "LogisticRegression", model_id="lr-1")
    served.train(
        folder, "Ensemble", model_id="vote-1",
        ML_PIPELINE__TRAINING__ENSEMBLE="[LogisticRegression, DecisionTree]",
    )  # fmt: skip
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained / "store", tmp_path / "store")
    return tmp_path


def predict(folder: Path, *arguments: str | Path, **variables: str) -> Finished:
    return ml_pipeline("predict", "--local", folder / "store", *arguments, cwd=folder, **variables)


def expected(folder: Path, model_id: str, rows: list[list[float]]) -> Any:  # noqa: ANN401 - an array
    store = LocalStore.open(folder / "store")
    model = load_model_version(store, store.get_model("default", model_id))
    return model.predict_proba(rows)


def table(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "store" / "store.db")) as db:
        return db.execute(query).fetchall()


def test_the_seeds_command_runs_as_it_stands_and_is_logged_in_both(folder: Path) -> None:
    done = python(
        ROOT / "ml_pipeline" / "prediction_engine.py",
        "--predict", *ROW, "--match-id", "match_001", cwd=folder,
        ML_PIPELINE_LOCAL=str(folder / "store"),
    )  # fmt: skip
    assert done.code == 0, done.stderr
    answer = done.json
    assert set(answer) >= KEYS
    probabilities = expected(folder, "lr-1", [[float(value) for value in ROW]])[0]
    assert list(answer["probabilities"].values()) == pytest.approx(probabilities, abs=1e-9)
    (row,) = table(
        folder, "SELECT event_id, match_id, model_id, confidence, features FROM evaluation_log"
    )
    assert row[:4] == (answer["event_id"], "match_001", "lr-1", answer["confidence"])
    assert json.loads(row[4]) == dict(zip(FEATURES, map(float, ROW), strict=True))
    events = EventCsv(str(folder / "store" / "logs" / "evaluation_log.csv")).find([row[0]])
    assert events[row[0]]["features"] == row[4]
    outcome = ml_pipeline(
        "outcome", "--local", folder / "store", "--match-id", "match_001", "--actual", "H",
        cwd=folder,
    )  # fmt: skip
    assert outcome.json["recorded"] == 1


@pytest.mark.parametrize("log", [True, False])
def test_a_cold_prediction_loads_none_of_the_large_libraries(folder: Path, *, log: bool) -> None:
    (folder / "model_config.yaml").write_text("prediction:\n  conflict_margin: 0.2\n")
    arguments = ["predict", "--local", "store", "--predict", *ROW, *([] if log else ["--no-log"])]
    code = (
        f"import sys; from ml_pipeline.cli import main; assert main({arguments}) == 0; "
        f"print(sorted(name for name in {HEAVY} if name in sys.modules))"
    )
    # The first call after a change of settings checks them, and keeps what it found.
    loaded = [python("-c", code, cwd=folder).stdout.splitlines()[-1] for _ in range(2)]
    assert "pydantic" in loaded[0]
    assert loaded[1] == "[]"


def test_settings_that_are_wrong_are_refused_cold_as_well(folder: Path) -> None:
    (folder / "model_config.yaml").write_text("prediction:\n  conflict_margin: 7\n")
    for _ in range(2):
        done = predict(folder, "--predict", *ROW)
        assert done.code == 1
        assert "prediction.conflict_margin = 7" in done.stderr


def test_under_the_threshold_the_answer_is_uncertain_with_a_best_guess(folder: Path) -> None:
    answer = predict(folder, "--predict", "5", "5", "5", "5", "0.5").json
    assert answer["confidence"] < 0.6
    assert (answer["prediction"], answer["confidence_level"]) == ("UNCERTAIN", "low")
    assert answer["best_guess"] == max(answer["probabilities"], key=answer["probabilities"].get)
    assert table(folder, "SELECT prediction, json_extract(metadata, '$.best_guess') "
                 "FROM evaluation_log") == [("UNCERTAIN", answer["best_guess"])]  # fmt: skip
    sure = predict(folder, "--predict", "9.9", "0.5", "9.9", "0.5", "1").json
    assert sure["prediction"] == "H"
    assert sure["confidence_level"] == ("high" if sure["confidence"] >= 0.7 else "medium")
    assert "best_guess" not in sure


def test_an_ensemble_shows_its_members_and_a_close_race_is_uncertain(folder: Path) -> None:
    sure = ["--predict", "9.9", "0.5", "9.9", "0.5", "1", "--model-id", "vote-1", "--no-log"]
    answer = predict(folder, *sure).json
    assert answer["model_id"] == "vote-1"
    assert set(answer["ensemble"]["members"]) == {"LogisticRegression", "DecisionTree"}
    assert answer["ensemble"]["missing"] == []
    assert sum(member["weight"] for member in answer["ensemble"]["members"].values()) == 1
    close = predict(folder, *sure, ML_PIPELINE__PREDICTION__CONFLICT_MARGIN="1").json
    assert close["prediction"] == "UNCERTAIN"
    assert "differ by less than 1" in close["blocked_reason"]
    assert close["alternate_outcome"] not in {close["best_guess"], None}


def test_info_and_an_unknown_model(folder: Path) -> None:
    info = predict(folder, "--info").json
    assert (info["model_id"], info["state"]) == ("lr-1", "champion")
    assert info["features"] == list(FEATURES)
    assert info["scored_from"] == "scoring file"
    unknown = predict(folder, "--predict", *ROW, "--model-id", "nobody")
    assert unknown.code == 1
    assert "no model nobody" in unknown.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--predict", "1", "2"], "takes 5 features (home_team_form, "),
        (["--predict", "1", "2", "3", "4", "x"], "home_advantage = 'x' is not a number"),
        (["--predict", "inf", "2", "3", "4", "5"], "home_team_form = inf is not a finite"),
        (["--predict", "", "nan", "None", "<NA>", " "], "Every feature is missing."),
        (["--predict", "1e200", "2", "3", "4", "5"], "home_team_form = 1e200 is out of range"),
        (
            ["--predict", "home_team_form=1", "away_team_form=2"],
            "Features are missing: home_team_s",
        ),
        (["--predict", "form=1", *PAIRS], "The model has no feature form."),
        (["--predict", PAIRS[0], *PAIRS], "A name stands there twice: home_team_form, "),
        (["--text", "how?"], "The model reads no text"),
        ([], "Give one of --predict"),
        (["--predict", *ROW, "--match-id", "a\nb"], "control character"),
    ],
)
def test_input_that_cannot_be_used_is_named_and_logs_nothing(
    folder: Path, arguments: list[str], words: str
) -> None:
    done = predict(folder, *arguments)
    assert done.code == 1
    assert words in done.json["error"]
    assert table(folder, "SELECT count(*) FROM evaluation_log") == [(0,)]


def test_features_may_come_by_name_in_any_order(folder: Path) -> None:
    by_name = predict(folder, "--predict", *reversed(PAIRS), "--no-log").json
    by_place = predict(folder, "--predict", *ROW, "--no-log").json
    assert by_name["probabilities"] == by_place["probabilities"]


def test_defect_20_without_a_model_there_is_no_answer(tmp_path: Path) -> None:
    LocalStore.open(tmp_path / "store")
    done = predict(tmp_path, "--predict", *ROW)
    assert done.code == 1
    assert "No model serves default yet" in done.json["error"]
    nowhere = ml_pipeline("predict", "--local", "nowhere", "--predict", *ROW, cwd=tmp_path)
    assert nowhere.code == 1
    assert not (tmp_path / "nowhere").exists()
    no_store = ml_pipeline("predict", "--predict", *ROW, cwd=tmp_path)
    assert (no_store.code, "SUPABASE_URL" in no_store.stderr) == (1, True)


def test_defect_20_a_missing_or_damaged_model_file_is_an_error_not_a_dummy(folder: Path) -> None:
    """A damaged scoring file alone is said: the artifact, whose digest holds, answers alike."""
    whole = predict(folder, "--predict", *ROW, "--no-log").json
    (scoring,) = (folder / "store" / "artifacts").rglob("lr-1/model.scoring")
    (artifact,) = (folder / "store" / "artifacts").rglob("lr-1/model.skops")
    for path in (scoring, artifact):
        path.chmod(0o644)
    scoring.write_bytes(scoring.read_bytes().replace(b"0", b"1", 1))
    slower = predict(folder, "--predict", *ROW, "--no-log")
    assert slower.code == 0, slower.stderr
    assert "scoring file" in slower.stderr
    assert slower.json["probabilities"] == pytest.approx(whole["probabilities"], abs=1e-9)
    artifact.write_bytes(artifact.read_bytes()[:-1] + b"x")
    damaged = predict(folder, "--predict", *ROW)
    assert damaged.code == 1
    assert "expected" in damaged.json["error"]
    for path in (scoring, artifact):
        path.unlink()
    missing = predict(folder, "--predict", *ROW)
    assert missing.code == 1
    assert "lr-1" in missing.json["error"]
    assert table(folder, "SELECT count(*) FROM evaluation_log") == [(0,)]


# ------------------------------------------------------------------------------------ batch


def write_rows(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["match_id", "note", *FEATURES], *rows])


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_batch_keeps_every_cell_and_a_bad_row_gets_its_error(folder: Path) -> None:
    write_rows(
        folder / "rows.csv",
        [
            ["m1", 'says "hi", twice', *ROW],
            ["m2", "", "", "", "", "nan", ""],
            ["m3", "", "x", "2", "3", "4", "0.5"],
            ["m4", "", "inf", "2", "3", "4", "0.5"],
            ["m5", "Ä", "9.9", "0.5", "9.9", "0.5", "1"],
            ["m6", "short", "1"],
        ],
    )
    done = predict(folder, "--batch", "rows.csv")
    assert done.code == 0, done.stderr
    assert (done.json["rows"], done.json["predicted"], done.json["errors"]) == (6, 2, 4)
    assert done.json["uncertain"] == 1
    assert done.json["abstention_rate"] == 0.5
    rows = read_rows(folder / "rows_predictions.csv")
    assert [row["note"] for row in rows] == ['says "hi", twice', "", "", "", "Ä", "short"]
    assert [row["error"] for row in rows] == [
        "", "Every feature is missing.", "home_team_form = x is not a number.",
        "home_team_form = inf is not a finite number.", "",
        "Line 7 has 3 cells, the header has 7 names.",
    ]  # fmt: skip
    assert [row["prediction"] for row in rows] == ["UNCERTAIN", "", "", "", "H", ""]
    shares = expected(folder, "lr-1", [[float(value) for value in ROW]])[0]
    assert list(json.loads(rows[0]["probabilities"]).values()) == pytest.approx(shares, abs=1e-9)
    served = table(folder, "SELECT probabilities, metadata FROM evaluation_log ORDER BY match_id")
    assert [json.loads(text) for text, _ in served] == [
        json.loads(rows[place]["probabilities"]) for place in (0, 4)
    ]
    assert json.loads(served[0][1]) == {"best_guess": "H"}
    assert served[1][1] is None
    logged = table(folder, "SELECT event_id, match_id, prediction FROM evaluation_log ORDER BY 2")
    assert logged == [(rows[0]["event_id"], "m1", "UNCERTAIN"), (rows[4]["event_id"], "m5", "H")]


def test_defect_20_a_row_is_answered_alike_alone_in_a_small_and_in_a_large_batch(
    folder: Path,
) -> None:
    rows = [[f"m{n}", "", str(n % 100 / 10), "6.2", "8.0", str(n % 7), "0.5"] for n in range(2500)]
    write_rows(folder / "large.csv", rows)
    write_rows(folder / "small.csv", rows[:40])
    for name in ("large", "small"):
        done = predict(folder, "--batch", f"{name}.csv", "--output", f"{name}_out.csv", "--no-log")
        assert done.code == 0, done.stderr
    large, small = read_rows(folder / "large_out.csv"), read_rows(folder / "small_out.csv")
    assert len(large) == 2500
    alone = predict(folder, "--predict", *rows[7][2:], "--no-log").json
    for row, other in zip(small, large[:40], strict=True):
        assert float(row["confidence"]) == pytest.approx(float(other["confidence"]), abs=1e-9)
        assert row["prediction"] == other["prediction"]
    assert float(large[7]["confidence"]) == pytest.approx(alone["confidence"], abs=1e-9)
    shares = expected(folder, "lr-1", [[float(v) for v in row[2:]] for row in rows])
    assert [float(row["confidence"]) for row in large] == pytest.approx(
        shares.max(axis=1), abs=1e-9
    )
    assert table(folder, "SELECT count(*) FROM evaluation_log") == [(0,)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "lacks the columns home_team_form"),
        (",".join([*FEATURES, FEATURES[0]]) + "\n", f"has the columns {FEATURES[0]} twice"),
        (",".join(["match_id", *FEATURES, "match_id"]) + "\n", "has the columns match_id twice"),
    ],
)
def test_a_file_that_cannot_be_used_leaves_no_output(
    folder: Path, content: str, words: str
) -> None:
    (folder / "rows.csv").write_text(content)
    done = predict(folder, "--batch", "rows.csv")
    assert done.code == 1
    assert words in done.json["error"]
    assert not (folder / "rows_predictions.csv").exists()
    missing = predict(folder, "--batch", "nothing.csv")
    assert (missing.code, "nothing.csv" in missing.json["error"]) == (1, True)


def test_columns_and_classes_may_be_called_anything(tmp_path: Path) -> None:
    names = ['it\'s "home"', "a.b", "rowid", "🎯 %s"]
    target, classes = 'what\'s "it"', ["it's", 'a "b"']
    data = {
        "features": names, "target": target, "classes": classes, "ordered": False,
        "time_column": None, "group_column": None,
    }  # fmt: skip
    (tmp_path / "model_config.yaml").write_text(json.dumps({"data": data}, ensure_ascii=False))
    rows = [[f"{n % 7}", f"{n % 5}", f"{n % 2}", "1", classes[n % 2]] for n in range(120)]
    with (tmp_path / "odd.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[*names, target], *rows])
    served.train(
        tmp_path, "LogisticRegression", model_id="odd",
        ML_PIPELINE__DATA__TRAINING_DATASET=str(tmp_path / "odd.csv"),
    )  # fmt: skip
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([names, *(row[:4] for row in rows[:3]), ["1", "x", "1", "1"]])
    done = predict(tmp_path, "--batch", "rows.csv")
    assert done.code == 0, done.stderr
    answers = read_rows(tmp_path / "rows_predictions.csv")
    assert [row["prediction"] for row in answers] == [*(row[4] for row in rows[:3]), ""]
    assert answers[3]["error"] == "a.b = x is not a number."
    assert list(json.loads(answers[0]["probabilities"])) == classes


def test_a_batch_of_nothing_is_a_header(folder: Path) -> None:
    write_rows(folder / "rows.csv", [])
    done = predict(folder, "--batch", "rows.csv")
    assert (done.code, done.json["rows"], done.json["abstention_rate"]) == (0, 0, None)
    assert "prediction" in (folder / "rows_predictions.csv").read_text()


def test_l12_what_a_program_writes_for_no_match_is_none(folder: Path) -> None:
    numbers = ["0.5"] * len(FEATURES)
    write_rows(folder / "rows.csv", [[name, "", *numbers] for name in ("nan", "None", "", "m1")])
    assert predict(folder, "--batch", "rows.csv").json["logged"] == 4
    logged = table(folder, "SELECT match_id FROM evaluation_log ORDER BY 1")
    assert logged == [(None,), (None,), (None,), ("m1",)]
    written = read_rows(folder / "rows_predictions.csv")
    assert [row["match_id"] for row in written] == ["nan", "None", "", "m1"]


# Names of ours, of DuckDB, of other programs, and none.
ODD = (
    "", "level", "best", "blocked", "p0", "p1", "rowid", "c0", "i0", "fault", "chunk", "answers",
    "input_rows", "Confidence", "Error", "Status", "error", "imputed", "prediction", "event_id",
    "input_prediction", "timestamp", "Age", "age", "a,b", 'say "hi"', "note", "note", " ", "🎯",
    "*",
    "COLUMNS(*)", "'", "probabilities", "model_id", "file_row_number", "filename",
)  # fmt: skip


def test_any_column_name_comes_through_a_batch(folder: Path) -> None:
    ours = ("prediction", "event_id", "error", "imputed", "timestamp", "probabilities", "model_id")
    rows = [[f"{place} of {n}" for place in range(len(ODD))] + [f"m{n}", *ROW] for n in range(3)]
    rows[1][-1] = "x"
    with (folder / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[*ODD, "match_id", *FEATURES], *rows])
    done = predict(folder, "--batch", "rows.csv")
    assert done.code == 0, done.stderr
    assert (done.json["predicted"], done.json["errors"], done.json["logged"]) == (2, 1, 2)
    written = {name: f"input_{name}" for name in ours} | {"prediction": "input_input_prediction"}
    assert done.json["renamed"] == written
    with (folder / "rows_predictions.csv").open(newline="") as file:
        header, *answers = csv.reader(file)
    width = len(ODD) + 1 + len(FEATURES)
    assert header[:width] == [written.get(name, name) for name in (*ODD, "match_id", *FEATURES)]
    assert [row[:width] for row in answers] == rows
    assert len(set(header[width:])) == len(header) - width
    named = [dict(zip(header, row, strict=True)) for row in answers]
    assert [row["error"] for row in named] == ["", "home_advantage = x is not a number.", ""]
    shares = expected(folder, "lr-1", [[float(value) for value in ROW]])[0]
    for row in (named[0], named[2]):
        found = list(json.loads(row["probabilities"]).values())
        assert found == pytest.approx(shares, abs=1e-9)
    logged = table(folder, "SELECT event_id, match_id FROM evaluation_log ORDER BY 2")
    assert logged == [(named[0]["event_id"], "m0"), (named[2]["event_id"], "m2")]
    # What was written is read again.
    again = predict(folder, "--batch", "rows_predictions.csv", "--no-log")
    assert (again.code, again.json["predicted"]) == (0, 2), again.stderr


@pytest.mark.parametrize("name", ["rows[1].csv", "a*.csv", "q?.csv", "{a,b}.csv"])
def test_a_batch_is_exactly_the_file_of_that_name(folder: Path, name: str) -> None:
    for other in ("rows1.csv", "ab.csv", "qx.csv", "a.csv", "b.csv"):
        write_rows(folder / other, [["wrong", "", *ROW]])
    write_rows(folder / name, [["right", "", *ROW]])
    with PredictionEngine(local_dir=str(folder / "store")) as engine:
        found = predict_csv(engine, str(folder / name), None, log=True, bars=no_bars)
    assert found["rows"] == 1
    assert [row["match_id"] for row in read_rows(Path(found["output"]))] == ["right"]


def no_bars(_name: str, _total: int) -> Callable[[], None]:
    return lambda: None


def batch(folder: Path, text: str | bytes, *, log: bool = False, **how: str) -> dict[str, Any]:
    content = text.encode() if isinstance(text, str) else text
    (folder / "rows.csv").write_bytes(content)
    with PredictionEngine(local_dir=str(folder / "store")) as engine:
        return predict_csv(
            engine, str(folder / "rows.csv"), how.get("output"), log=log, bars=no_bars
        )


def test_a_file_of_faulty_rows_alone_is_a_failure(folder: Path) -> None:
    write_rows(folder / "rows.csv", [["m1", "", "x", *ROW[1:]], ["m2", "", "y", *ROW[1:]]])
    done = predict(folder, "--batch", "rows.csv")
    assert (done.code, done.json["status"], done.json["errors"]) == (1, "failed", 2)
    message = (
        "None of the 2 rows could be predicted; the first: home_team_form = x is not a number."
    )
    assert done.json["error"] == message
    assert message in done.stderr
    rows = read_rows(folder / "rows_predictions.csv")
    assert [(row["match_id"], row["status"]) for row in rows] == [
        ("m1", "failed"),
        ("m2", "failed"),
    ]
    assert table(folder, "SELECT count(*) FROM evaluation_log") == [(0,)]


def test_no_line_of_a_file_vanishes(folder: Path) -> None:
    row = ",".join(ROW)
    text = "\n".join([
        ",".join([*FEATURES, "note"]),
        f"{row},one",
        "",
        f"{row},two,three",
        f'{row},"over\ntwo lines"',
        f"{row}",
        "1,2",
        f'"q"z,{row}',
        f"{row},\udcff",
        f'{row},"never closed',
        f"{row},last,,",
        f"{row},end",
    ])  # fmt: skip
    found = batch(folder, text.encode("utf-8", "surrogateescape"))
    assert (found["rows"], found["predicted"], found["unreadable_lines"]) == (10, 5, 5)
    rows = read_rows(Path(found["output"]))
    assert [row["note"] for row in rows] == [
        "one", "two", "over\ntwo lines", "", "", "", "\ufffd", "", "last", "end",
    ]  # fmt: skip
    errors = [row["error"] for row in rows]
    assert [place for place, error in enumerate(errors) if error] == [1, 4, 5, 6, 7]
    assert errors[1] == "Line 4 has 7 cells, the header has 6 names; too many: 'three'."
    assert errors[4] == "Line 8 has 2 cells, the header has 6 names."
    assert errors[5].startswith("Line 9 cannot be read as CSV (")
    assert errors[6] == "Line 10 is not valid UTF-8."
    assert errors[7].startswith("Line 11 cannot be read as CSV (")
    assert "never closed" in errors[7]
    assert [row["prediction"] != "" for row in rows] == [not error for error in errors]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('1,2,3,4,5,"never closed', "Line 3 cannot be read as CSV ("),
        ("1,2,3,4,5,6,7", "Line 3 has 7 cells"),
        ("1,2", "Line 3 has 2 cells"),
        ("1,2,3,4,5,6,", ""),
        ("1,2,3,4,5", ""),
    ],
)
def test_one_line_alone_does_not_vanish(folder: Path, line: str, fault: str) -> None:
    text = "\n".join([",".join([*FEATURES, "note"]), "1,2,3,4,5,first", line])
    found = batch(folder, text)
    rows = read_rows(Path(found["output"]))
    assert rows[0]["note"] == "first"
    assert len(rows) == found["rows"] == 2
    assert rows[1]["error"].startswith(fault)
    assert found["unreadable_lines"] == (fault != "")


def test_what_is_logged_was_written_out_before(folder: Path) -> None:
    (folder / "taken").write_text("a file")
    text = ",".join(FEATURES) + "\n" + ",".join(ROW) + "\n"
    for output in ("taken/rows.csv", "store"):
        with pytest.raises(InputError, match="cannot be written"):
            batch(folder, text, log=True, output=str(folder / output))
    assert table(folder, "SELECT count(*) FROM evaluation_log") == [(0,)]
    assert not list(folder.glob(".*.part"))
    found = batch(folder, text, log=True, output=str(folder / "new" / "rows.csv.gz"))
    with gzip.open(found["output"], "rt", newline="") as file:
        (row,) = csv.DictReader(file)
    assert table(folder, "SELECT event_id FROM evaluation_log") == [(row["event_id"],)]


# ------------------------------------------------------------------------------------ missing


@pytest.mark.parametrize("model_id", ["lr-1", "vote-1"])
def test_a_missing_value_is_imputed_as_in_training(folder: Path, model_id: str) -> None:
    values = [[7.5, math.nan, 8.0, math.nan, 0.5], [math.nan, 6.2, 8.0, 7.5, 0.5]]
    shares = expected(folder, model_id, values)
    store = str(folder / "store")
    with PredictionEngine(local_dir=store, model_id=model_id) as engine:
        answer = engine.predict([7.5, None, "8", "", 0.5], "m0")
        assert answer["imputed"] == ["away_team_form", "away_team_strength"]
        assert list(answer["probabilities"].values()) == pytest.approx(shares[0], abs=1e-9)
        assert engine.predict(dict(zip(FEATURES, map(float, ROW), strict=True)))["imputed"] == []
        answers = engine.batch_predict(values)
        assert [row["imputed"] for row in answers] == [answer["imputed"], ["home_team_form"]]
    (text,) = table(folder, "SELECT features FROM evaluation_log WHERE match_id = 'm0'")[0]
    assert list(json.loads(text).values()) == [7.5, None, 8.0, None, 0.5]
    cells = [["" if math.isnan(value) else str(value) for value in row] for row in values]
    cells[1][0] = " NaN "
    with (folder / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([FEATURES, *cells, ROW])
    with PredictionEngine(local_dir=store, model_id=model_id) as engine:
        found = predict_csv(engine, str(folder / "rows.csv"), None, log=True, bars=no_bars)
    assert (found["predicted"], found["imputed"]) == (3, 2)
    rows = read_rows(Path(found["output"]))
    assert [row["imputed"] for row in rows] == [
        '["away_team_form", "away_team_strength"]', '["home_team_form"]', "",
    ]  # fmt: skip
    for row, wanted in zip(rows, shares, strict=False):
        there = list(json.loads(row["probabilities"]).values())
        assert there == pytest.approx(wanted, abs=1e-9)
    logged = dict(table(folder, "SELECT event_id, features FROM evaluation_log"))
    assert list(json.loads(logged[rows[1]["event_id"]]).values()) == [None, 6.2, 8.0, 7.5, 0.5]


def test_a_missing_value_is_refused_where_the_settings_say_so(folder: Path) -> None:
    (folder / "model_config.yaml").write_text("prediction:\n  missing: refuse\n")
    done = predict(folder, "--predict", "", *ROW[1:])
    assert done.code == 1
    assert "home_team_form is missing." in done.json["error"]
    write_rows(folder / "rows.csv", [["m1", "", "", *ROW[1:]], ["m2", "", *ROW]])
    done = predict(folder, "--batch", "rows.csv")
    assert (done.code, done.json["errors"]) == (0, 1), done.stderr
    errors = [row["error"] for row in read_rows(folder / "rows_predictions.csv")]
    assert errors == ["home_team_form is missing.", ""]


# ------------------------------------------------------------------------------------ Python


def promote(folder: Path, model_id: str, before: str, number: int) -> None:
    LocalStore.open(folder / "store").promote(
        PromotionEvent(
            event_id=make_id(number), model_name="default", kind=PromotionKind.PROMOTION,
            to_model_id=model_id, from_model_id=before, reason="test", actor="test",
            created_at=NOW,
        )
    )  # fmt: skip


def test_a_new_champion_is_taken_up_and_one_that_cannot_be_loaded_is_not(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = [float(value) for value in ROW]
    with PredictionEngine(local_dir=str(folder / "store"), log=False, reload_after_s=0) as engine:
        assert engine.predict(row)["model_id"] == "lr-1"
        promote(folder, "vote-1", "lr-1", 1)
        answer = engine.predict(row)
        assert answer["model_id"] == "vote-1"
        promote(folder, "lr-1", "vote-1", 2)
        whole = {path: path.read_bytes() for path in (folder / "store").rglob("lr-1/model.s*")}
        assert len(whole) == 2
        for path in whole:
            path.chmod(0o644)
            path.write_bytes(b"rubbish")
        still = engine.predict(row)
        assert (still["model_id"], still["probabilities"]) == ("vote-1", answer["probabilities"])
        assert "vote-1 goes on answering" in still["warnings"][0]
        assert "goes on answering" in (engine.get_model_info()["warning"] or "")
        assert caplog.text.count("goes on answering") == 1
        for path, content in whole.items():
            path.write_bytes(content)
        assert engine.predict(row)["model_id"] == "lr-1"
        assert engine.get_model_info()["warning"] is None


def test_a_champion_that_cannot_be_loaded_is_left_alone_for_a_while(folder: Path) -> None:
    row = [float(value) for value in ROW]
    with PredictionEngine(
        local_dir=str(folder / "store"), log=False, reload_after_s=0, retry_after_s=0.5
    ) as engine:
        engine.predict(row)
        (scoring, artifact) = sorted((folder / "store").rglob("vote-1/model.s*"))
        whole = {path: path.read_bytes() for path in (scoring, artifact)}
        for path in whole:
            path.chmod(0o644)
            path.write_bytes(b"rubbish")
        promote(folder, "vote-1", "lr-1", 1)
        assert "lr-1 goes on answering" in engine.predict(row)["warnings"][0]
        for path, content in whole.items():
            path.write_bytes(content)
        assert "lr-1 goes on answering" in engine.predict(row)["warnings"][0]
        time.sleep(0.5)
        assert engine.predict(row)["model_id"] == "vote-1"
        promote(folder, "lr-1", "vote-1", 2)
        assert engine.predict(row)["model_id"] == "lr-1"


def test_the_engine_answers_many_rows_and_records_what_happened(folder: Path) -> None:
    good = dict(zip(FEATURES, map(float, ROW), strict=True))
    with PredictionEngine(local_dir=str(folder / "store")) as engine:
        answers = engine.batch_predict([{**good, "match_id": "m1"}, {"match_id": "m2"}, good])
        assert [answer.get("error") for answer in answers][::2] == [None, None]
        assert "Features are missing" in answers[1]["error"]
        accuracy = engine.evaluate_prediction(answers[0]["event_id"], "A")
        assert accuracy == 0.0
        far = engine.predict([900.0, *map(float, ROW[1:])])
        assert "home_team_form = 900" in far["warnings"][0]
    assert table(folder, "SELECT count(*), sum(accuracy) FROM evaluation_log") == [(3, 0.0)]


def test_the_engine_takes_what_numpy_and_pandas_hold_and_answers_by_row(folder: Path) -> None:
    row = [float(value) for value in ROW]
    frame = pd.DataFrame([row, row[::-1]], columns=list(FEATURES))
    with PredictionEngine(local_dir=str(folder / "store")) as engine:
        wanted = [engine.predict(numbers)["probabilities"] for numbers in (row, row[::-1])]
        rows: list[Any] = [
            np.array(row),
            np.array([row]),
            frame.iloc[0],
            frame.iloc[[0]],
            tuple(row),
        ]
        for one in rows:
            assert engine.predict(one)["probabilities"] == wanted[0]
        by_name = frame[list(FEATURES)[::-1]].assign(match_id=[7.0, np.nan])
        for many in (frame, frame.to_numpy(), by_name, list(frame.to_numpy())):
            answers = engine.batch_predict(many)
            assert [answer["probabilities"] for answer in answers] == wanted
        assert [answer["match_id"] for answer in engine.batch_predict(by_name)] == ["7", None]
        with pytest.raises(InputError, match="DataFrame of 2 came"):
            engine.predict(frame)
        for wrong in (frame.iloc[0], {"home_team_form": [1, 2]}, "7.5", 5):
            with pytest.raises(InputError, match="one row goes to predict"):
                engine.batch_predict(wrong)
        gap = frame.astype("Float64")
        gap["home_advantage"] = pd.array([pd.NA, pd.NA], dtype="Float64")
        filled = [answer["imputed"] for answer in engine.batch_predict(gap)]
        assert filled == [["home_advantage"]] * 2
        assert engine.evaluate_prediction(answers[0]["event_id"], np.int64(0)) in {0.0, 1.0}
        with pytest.raises(InputError, match="no label"):
            engine.evaluate_prediction(answers[1]["event_id"], "banana")
    logged = 2 + 5 + 8 + 2 + 2
    assert table(folder, "SELECT count(*), count(actual_result) FROM evaluation_log") == [
        (logged, 1)
    ]
    assert table(folder, "SELECT DISTINCT actual_result FROM evaluation_log")[1:] == [("H",)]


def test_a_model_without_a_scoring_file_is_scored_from_its_artifact(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "store" / "store.db")) as db, db:
        db.execute("UPDATE model_metadata SET lineage = json_remove(lineage, '$.scoring')")
    row = [float(value) for value in ROW]
    with PredictionEngine(local_dir=str(folder / "store"), model_id="vote-1", log=False) as engine:
        answer = engine.predict(row)
        assert engine.get_model_info()["scored_from"] == "artifact"
    shares = expected(folder, "vote-1", [row])[0]
    assert list(answer["probabilities"].values()) == pytest.approx(shares, abs=1e-9)
    assert set(answer["ensemble"]["members"]) == {"LogisticRegression", "DecisionTree"}


def test_a_target_accuracy_gives_each_model_a_threshold_of_its_own(tmp_path: Path) -> None:
    served.train(
        tmp_path, "LogisticRegression", model_id="sure-1",
        ML_PIPELINE__PREDICTION__TARGET_ACCURACY="0.7",
    )  # fmt: skip
    info = predict(tmp_path, "--info").json
    found = info["calibration"]
    assert info["confidence_threshold"] == found["threshold"] != 0.6
    assert found["accuracy"] >= 0.7
    assert 0 < found["coverage"] < 1
    answer = predict(tmp_path, "--predict", *ROW, "--no-log").json
    assert (answer["confidence"] < found["threshold"]) == (answer["prediction"] == "UNCERTAIN")
