"""A classifier that cannot be retrained, corrected night by night, and served so."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_pipeline.commands.predict import main
from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import InputError
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Order, Trained
from ml_pipeline.serving.engine import PredictionEngine
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import EVENT_COLUMNS, Outcome, day_start
from tests.conftest import FirstModel
from tests.support import league
from tests.support.factories import frame_of
from tests.support.in_process import train_here
from tests.support.places import Place

FIRST = date(2026, 3, 1)
ROWS = 30
THEIRS = "llm-7"
FEATURES = ["a", "b"]
TRIED = np.random.default_rng(9).normal(size=(20, 2))

SETTINGS = Settings().changed(
    {
        "model_name": "tickets",
        "data.features": FEATURES,
        "data.classes": ["no", "yes"],
        "data.labels": {"no": "no", "yes": "yes"},
        "training.algorithm": "Incumbent",
        "run.trigger": "any",
    }
)


def night_after(day: int) -> datetime:
    return day_start(FIRST + timedelta(days=day + 1)) + timedelta(hours=2)


def share_of_yes(x: float) -> float:
    """What the incumbent answers: too sure, and the wrong way round."""
    return float(1 / (1 + np.exp(4 * x)))


def row_of(day: int, number: int, **changes: object) -> dict[str, Any]:
    """One answer of the incumbent: probabilities for one, label and confidence for the next."""
    random = np.random.default_rng([day, number])
    features = random.normal(size=2)
    known = day_start(FIRST + timedelta(days=day)) + timedelta(hours=12, minutes=number)
    yes = share_of_yes(features[0])
    event: dict[str, object] = dict.fromkeys(EVENT_COLUMNS) | {
        "event_id": league.event_id(f"{day}/{number}"),
        "timestamp": known - timedelta(hours=2),
        "event_type": "prediction",
        "model_name": SETTINGS.model_name,
        "model_id": THEIRS,
        "prediction": "yes" if yes > 0.5 else "no",
        "confidence": max(yes, 1 - yes),
        "features": json.dumps(dict(zip(FEATURES, features.tolist(), strict=True))),
        "probabilities": json.dumps({"yes": yes, "no": 1 - yes}) if number % 2 else None,
        "actual_result": "yes" if features[0] + random.normal() > 0 else "no",
        "evaluated_at": known,
        "status": "evaluated",
    }
    return event | changes


def day_of(day: int, **changes: object) -> list[dict[str, Any]]:
    return [row_of(day, number, **changes) for number in range(ROWS)]


Run = Callable[..., Trained]


def runs_in(folder: Path) -> Run:
    """What makes the run of the night after a day."""
    count = iter(range(10_000))

    def act(store: Store, day: int) -> Trained:
        order = Order(
            settings=SETTINGS,
            work_dir=folder / "work",
            clock=lambda: night_after(day),
            new_id=lambda: league.event_id(f"run {day} {next(count)}"),
            train=train_here,
        )
        done = recording.run(store, order)
        assert isinstance(done, Trained)
        return done

    return act


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return runs_in(tmp_path)


def champion(store: Store) -> Any:  # noqa: ANN401 - AdaptiveClassifier
    found = store.champion(model_name=SETTINGS.model_name)
    assert found is not None
    return load_model_version(store, found)


def corrected_by(store: Store) -> Any:  # noqa: ANN401 - an array
    """What the champion makes of some answers."""
    shares = np.random.default_rng(8).dirichlet([1, 1], size=len(TRIED))
    return champion(store).predict_proba(np.hstack([TRIED, shares]))


def append(store: Store, rows: Iterable[dict[str, Any]]) -> None:
    store.append_events(frame_of(list(rows)))


def begun(folder: Path, run: Run) -> Store:
    """A store whose first champion answers as the incumbent did on the first two days."""
    store = Place(kind="embedded", variables={"ML_PIPELINE_LOCAL": str(folder)}).open()
    for day in range(2):
        append(store, day_of(day))
    first = run(store, 1)
    assert first.run.outcome is Outcome.PROMOTED
    assert "answers as your classifier does" in str(first.run.outcome_reason)
    return store


@pytest.mark.long
def test_night_by_night_late_or_again_it_comes_out_the_same(tmp_path: Path, run: Run) -> None:
    nightly, late, again = (begun(tmp_path / name, run) for name in ("nightly", "late", "again"))
    for day in range(2, 5):
        append(nightly, day_of(day))
        append(late, day_of(day))
        assert run(nightly, day).run.outcome is Outcome.PROMOTED
        # The last answer of the third day comes late here: its days are learned again.
        append(again, day_of(day)[:-1] if day == 2 else day_of(day))
        run(again, day)
    done = run(late, 4)
    assert done.run.training_rows == 5 * ROWS
    append(again, day_of(2)[-1:])
    assert run(again, 5).run.details["learned_again_since"] == "2026-03-03"
    expected = corrected_by(nightly)
    assert np.abs(corrected_by(late) - expected).max() < 1e-12
    assert np.abs(corrected_by(again) - expected).max() < 1e-12
    for store in (nightly, late, again):
        store.close()


@pytest.mark.long
def test_corrected_answers_in_the_log_teach_what_the_incumbents_own_do(
    place: Place, tmp_path: Path, run: Run
) -> None:
    alone, mixed = begun(tmp_path / "alone", run), place.open()
    for day in range(2):
        append(mixed, day_of(day))
    run(mixed, 1)
    for store in (alone, mixed):
        append(store, day_of(2))
        run(store, 2)
    served = mixed.champion_id(model_name=SETTINGS.model_name)
    ours = champion(mixed)
    append(alone, day_of(3))
    append(mixed, [corrected_row(ours, str(served), row) for row in day_of(3)[::2]])
    append(mixed, day_of(3)[1::2])
    for store in (alone, mixed):
        done = run(store, 3)
        report = done.run.details["load_report"]
        assert (report["labelled"], report["unusable"], report["reasons"]) == (ROWS, 0, {})
    assert np.abs(corrected_by(mixed) - corrected_by(alone)).max() < 1e-12
    alone.close()
    mixed.close()


def corrected_row(model: Any, model_id: str, row: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """The same answer, corrected by the model and logged as `correct` logs it."""
    features = list(json.loads(row["features"]).values())
    yes = share_of_yes(features[0])
    (shares,) = model.predict_proba(np.array([[*features, 1 - yes, yes]]))
    answer = dict(zip(["no", "yes"], shares.tolist(), strict=True))
    label = max(answer, key=lambda name: answer[name])
    return row | {
        "model_id": model_id,
        "prediction": label,
        "confidence": answer[label],
        "probabilities": json.dumps(answer),
        "metadata": json.dumps({"incumbent": {"no": 1 - yes, "yes": yes}}),
    }


# ------------------------------------------------------------------------------------- served


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose champion has learned to correct."""
    folder = tmp_path_factory.mktemp("learned")
    run = runs_in(folder)
    store = begun(folder / "store", run)
    append(store, day_of(2))
    run(store, 2)
    store.close()
    return folder / "store"


@pytest.fixture
def served(learned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with settings and such a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ML_PIPELINE_LOCAL", "store")
    Path("model_config.yaml").write_text(SETTINGS.as_yaml(), encoding="utf-8")
    shutil.copytree(learned, tmp_path / "store")
    return tmp_path


def events(folder: Path) -> list[dict[str, Any]]:
    """What was logged since, by the file beside the store."""
    with (folder / "store" / "logs" / "evaluation_log.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("served")
def test_an_answer_is_corrected_and_both_stay_known(served: Path) -> None:
    with PredictionEngine(local_dir="store", config_file="model_config.yaml") as engine:
        by_class = engine.correct({"a": 2.0, "b": 0.0}, probabilities={"yes": 0.2, "no": 0.8})
        by_label = engine.correct([2.0, 0.0], "case-7", prediction="no", confidence=0.8)
        passed = {"a": 2.0, "b": 0.0, "incumbent": {"no": 0.8, "yes": 0.2}}
        (of_batch,) = engine.batch_predict([passed])
        assert engine.get_model_info()["features"] == FEATURES
        assert engine.get_model_info()["corrects_incumbent"]
    assert by_class["incumbent"] == pytest.approx({"no": 0.8, "yes": 0.2})
    assert by_class["probabilities"]["yes"] > 0.2
    for answer in (by_label, of_batch):
        assert answer["probabilities"] == pytest.approx(by_class["probabilities"], abs=1e-12)
    logged = events(served)
    assert len(logged) == 3
    for row in logged:
        assert json.loads(row["features"]) == {"a": 2.0, "b": 0.0}
        assert json.loads(row["metadata"])["incumbent"] == pytest.approx({"no": 0.8, "yes": 0.2})
        assert json.loads(row["probabilities"]) == pytest.approx(by_class["probabilities"])
        assert row["model_id"] == by_class["model_id"]


@pytest.mark.usefixtures("served")
def test_a_label_that_is_surely_wrong_is_an_answer_at_every_door() -> None:
    passed = {"a": 2.0, "b": 0.0, "incumbent": "yes", "incumbent_confidence": 0.0}
    with PredictionEngine(local_dir="store", config_file="model_config.yaml", log=False) as engine:
        (of_batch,) = engine.batch_predict([passed])
        answer = engine.correct([2.0, 0.0], prediction="yes", confidence=0.0)
    assert of_batch["incumbent"] == answer["incumbent"] == {"no": 1.0, "yes": 0.0}


@pytest.mark.usefixtures("served")
def test_what_is_no_answer_to_correct_is_refused_with_the_way_out() -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"probabilities": {"yes": 0.5, "no": 0.6}}, "sum to 1.1"),
        ({"probabilities": {"yes": 0.5}}, "do not name no"),
        ({"probabilities": {"yes": 0.5, "maybe": 0.5}}, "'maybe', which is no label"),
        ({"probabilities": {"yes": float("nan"), "no": 1.0}}, "number from 0 to 1"),
        ({"probabilities": {"yes": -0.5, "no": 1.5}}, "number from 0 to 1"),
        ({"probabilities": {"yes": 40, "no": 60}}, "percent"),
        ({"probabilities": [0.5, 0.5]}, "mapping"),
        ({"prediction": "maybe", "confidence": 0.5}, "'maybe' is no label"),
        ({"prediction": "yes", "confidence": 50}, "number from 0 to 1"),
        ({"prediction": "yes"}, "its prediction and its confidence"),
        ({"prediction": "yes", "confidence": 0.5, "probabilities": {"yes": 1.0}}, "Give the"),
        ({}, "its prediction and its confidence"),
    ]
    with PredictionEngine(local_dir="store", config_file="model_config.yaml", log=False) as engine:
        for arguments, complaint in refused:
            with pytest.raises(InputError, match=complaint):
                engine.correct([1.0, 2.0], **arguments)
        with pytest.raises(InputError, match="predict --incumbent"):
            engine.predict([1.0, 2.0])
        (answer,) = engine.batch_predict([[1.0, 2.0]])
        assert "none was given" in answer["error"]
        base = str(engine.get_model_info()["model_id"])
    assert base.startswith("adaptive-")


@pytest.mark.usefixtures("served")
def test_the_command_takes_the_answer_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    def ask(*flags: str) -> dict[str, Any]:
        code = main([*flags, "--local", "store", "--no-log", "--json"])
        answer: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert code == (0 if answer["status"] == "completed" else 1)
        return answer

    row = ["--predict", "2", "0"]
    by_class = ask(*row, "--incumbent", '{"yes": 0.2, "no": 0.8}')
    by_label = ask(*row, "--incumbent", '{"prediction": "no", "confidence": 0.8}')
    assert by_label["probabilities"] == pytest.approx(by_class["probabilities"], abs=1e-12)
    assert "no JSON" in ask(*row, "--incumbent", '{"yes": 0.2')["error"]
    assert "no JSON object" in ask(*row, "--incumbent", "yes")["error"]
    assert "--incumbent JSON" in ask(*row)["error"]
    assert "goes with --predict" in ask("--info", "--incumbent", '{"yes": 1}')["error"]


@pytest.mark.parametrize(
    ("header", "answers"),
    [
        (["incumbent:no", "incumbent:yes"], [["0.8", "0.2"], ["0.8", ""], ["80", "20"]]),
        (["incumbent"], [['{"no": 0.8, "yes": 0.2}'], [""], ['{"no": 0.8}']]),
        (["incumbent", "incumbent_confidence"], [["no", "0.8"], ["", ""], ["maybe", "0.8"]]),
    ],
    ids=["columns", "json", "label"],
)
def test_a_file_of_rows_has_the_answers_in_its_columns(
    served: Path,
    capsys: pytest.CaptureFixture[str],
    header: list[str],
    answers: list[list[str]],
) -> None:
    with Path("rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["a", "b", *header], *(["2", "0", *row] for row in answers)])
    assert main(["--batch", "rows.csv", "--local", "store", "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["predicted"], result["errors"], result["logged"]) == (1, 2, 1)
    with Path("rows_predictions.csv").open(encoding="utf-8") as file:
        good, empty, bad = csv.DictReader(file)
    with PredictionEngine(local_dir="store", config_file="model_config.yaml", log=False) as engine:
        alone = engine.correct([2.0, 0.0], prediction="no", confidence=0.8)
    assert json.loads(good["probabilities"]) == pytest.approx(alone["probabilities"], abs=1e-9)
    assert "answer is missing" in empty["error"]
    assert bad["error"]
    (logged,) = events(served)
    assert json.loads(logged["metadata"])["incumbent"] == pytest.approx({"no": 0.8, "yes": 0.2})
    assert json.loads(logged["features"]) == {"a": 2.0, "b": 0.0}


@pytest.mark.usefixtures("served")
def test_a_file_without_the_answers_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    assert main(["--batch", "rows.csv", "--local", "store", "--json"]) == 1
    error = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert "incumbent:no, incumbent:yes" in error


def test_a_model_of_another_base_corrects_nobody(
    tmp_path: Path,
    first_model: FirstModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    now = datetime(2026, 3, 14, tzinfo=UTC)
    store = league.open_league(
        tmp_path / "store", first_model.path, first_model.model, league.nights_before(now, 0)
    )
    store.close()
    with (
        PredictionEngine(local_dir="store", log=False) as engine,
        pytest.raises(InputError, match="corrects nobody's answers"),
    ):
        engine.correct([1.0] * 5, prediction="H", confidence=0.7)
