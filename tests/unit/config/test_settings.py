"""Settings come in layers, and what is wrong is refused all at once with its source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.errors import ConfigError
from tests.support.settings_files import load, refused


def test_without_a_file_the_constants_of_the_documents_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(environment={})
    assert settings == Settings()
    assert (settings.run.lookback_days, settings.run.min_error_samples) == (7, 10)
    assert (settings.run.confidence_threshold, settings.run.trigger) == (0.7, "errors")
    assert (settings.training.epochs, settings.training.learning_rate) == (5, 0.001)
    assert (settings.training.test_size, settings.training.random_seed) == (0.2, 42)
    assert (settings.training.cv_folds, settings.training.min_training_samples) == (5, 50)
    assert settings.training.strategy == "adaptive"
    assert settings.prediction.min_confidence_threshold == 0.6
    assert settings.prediction.conflict_margin == 0.1
    assert settings.promotion.policy == "guarded"
    assert settings.promotion.promotion_threshold == 0
    assert settings.promotion.min_evaluated_predictions == 100


def test_flags_win_over_the_environment_over_the_file_over_the_constants(tmp_path: Path) -> None:
    text = "training: {epochs: 6, random_seed: 6, cv_folds: 6}"
    environment = {"ML_PIPELINE__TRAINING__EPOCHS": "7", "ML_PIPELINE__TRAINING__RANDOM_SEED": "7"}
    training = load(tmp_path, text, environment, {"training.epochs": 8}).training
    assert (training.epochs, training.random_seed, training.cv_folds) == (8, 7, 6)
    assert training.min_training_samples == 50


def test_a_flag_that_was_not_given_changes_nothing(tmp_path: Path) -> None:
    settings = load(tmp_path, "training: {epochs: 6}", flags={"training.epochs": None})
    assert settings.training.epochs == 6


def test_the_file_in_the_working_folder_is_read_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model_config.yaml").write_text("model_name: here", encoding="utf-8")
    assert load_settings(environment={}).model_name == "here"
    assert load(tmp_path, "model_name: there").model_name == "there"


def test_settings_written_down_are_read_back_as_they_were(tmp_path: Path) -> None:
    settings = load(
        tmp_path, "data: {classes: [a, b], labels: {1: a}}\npromotion: {vetoes: [recall]}"
    )
    assert load(tmp_path, settings.as_yaml()) == settings


@pytest.mark.parametrize("name", ["1e5", "12E03", "1.5e-3", "yes", "0o17", "1:30", "null", "\x85"])
def test_a_class_whose_name_looks_like_a_number_keeps_its_name(tmp_path: Path, name: str) -> None:
    data = {"data.classes": [name, "other"], "data.labels": {name: "other", "b": name}}
    settings = Settings().changed(data | {"data.features": [f"{name}.", name, "b"]})
    assert load(tmp_path, settings.as_yaml()) == settings


def test_every_fault_is_named_at_once_with_key_value_and_source(tmp_path: Path) -> None:
    faults = refused(
        tmp_path,
        "training: {epochs: 0, algorithm: Magic}\nrun: {trigger: never}\nspeed: 3\n",
        {"ML_PIPELINE__RUN__LOOKBACK_DAYS": "-1", "ML_PIPELINE__RUN__LOKBACK": "7"},
        {"training.learning_rate": 0.0},
    )
    assert faults == [
        (
            "run.lokback = 7 (environment variable ML_PIPELINE__RUN__LOKBACK): no such setting. "
            "Did you mean run.lookback_days?"
        ),
        (
            "run.lookback_days = -1 (environment variable ML_PIPELINE__RUN__LOOKBACK_DAYS): "
            "input should be greater than 0"
        ),
        "run.trigger = 'never' (FILE): input should be 'errors', 'labels' or 'any'",
        "speed = 3 (FILE): no such setting",
        (
            "training.algorithm = 'Magic' (FILE): input should be 'LogisticRegression', "
            "'SGDClassifier', 'DecisionTree', 'RandomForest', 'HistGradientBoosting', 'Ensemble' "
            "or 'Incumbent'"
        ),
        "training.epochs = 0 (FILE): input should be greater than or equal to 1",
        "training.learning_rate = 0.0 (flag --learning-rate): input should be greater than 0",
    ]


def test_a_number_written_as_text_is_no_number(tmp_path: Path) -> None:
    assert refused(tmp_path, 'training: {epochs: "5"}') == [
        "training.epochs = '5' (FILE): input should be a valid integer"
    ]
    assert refused(tmp_path, "", {"ML_PIPELINE__RUN__LOOKBACK_DAYS": "a week"}) == [
        (
            "run.lookback_days = 'a week' (environment variable ML_PIPELINE__RUN__LOOKBACK_DAYS): "
            "input should be a valid number"
        )
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("training: {epochs: true}", "training.epochs = True (FILE)"),
        ("training: {epochs: 2.5}", "training.epochs = 2.5 (FILE)"),
        ("run: {confidence_threshold: 1.01}", "run.confidence_threshold = 1.01 (FILE)"),
        ("run: {confidence_threshold: .nan}", "run.confidence_threshold = nan (FILE)"),
        ("run: {lookback_days: .nan}", "run.lookback_days = nan (FILE)"),
        ("promotion: {vetoes: [f1]}", "promotion.vetoes.0 = 'f1' (FILE)"),
        ("promotion: {confidence_level: 0.5}", "promotion.confidence_level = 0.5 (FILE)"),
        ("model_name: ../other", "model_name = '../other' (FILE)"),
        ("training: {adaptive: {speed: 1}}", "training.adaptive.speed = 1 (FILE)"),
        ("run: 5", "run = 5 (FILE)"),
        ("run:", "run = None (FILE)"),
        ("3: 4", "3 = 4 (FILE)"),
    ],
)
def test_a_value_that_cannot_be_is_refused_at_its_place(
    tmp_path: Path, text: str, fault: str
) -> None:
    (found,) = refused(tmp_path, text)
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("data: {features: [a, b, a]}", "features names something twice"),
        ("data: {classes: [a, b, a]}", "classes names something twice"),
        ("data: {classes: [a]}", "classes needs at least two labels"),
        ("data: {labels: {x: X, y: Y}}", "labels maps to X, Y, not one of classes"),
        ("log: {columns: {colour: [c], match_id: [m]}}", "no evaluation event has: colour"),
        ("training: {adaptive: {half_lives: [5, 0]}}", "half_lives must all be over 0"),
        ("training: {ensemble: [Ensemble]}", "cannot be a member of itself"),
        ("training: {ensemble_weights: [1, 1]}", "one weight for each member"),
        ("data: {features: []}", "a model needs an input"),
        ("data: {features: [a], text_column: a}", "text_column a is a feature or the target"),
        ("data: {text_column: result}", "text_column result is a feature or the target"),
        (
            "data: {text_column: query}\ntraining: {algorithm: HistGradientBoosting}",
            "cannot be read by HistGradientBoosting",
        ),
        (
            "data: {text_column: query}\ntraining: {algorithm: Ensemble}",
            "cannot be read by HistGradientBoosting",
        ),
        (
            "data: {text_column: query}\ntraining: {strategy: sgd}",
            "strategy sgd learns from numbers alone",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    tmp_path: Path, text: str, fault: str
) -> None:
    (found,) = refused(tmp_path, text)
    assert fault in found
    assert "(FILE)" in found


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().model_name = "other"


@pytest.mark.parametrize(
    "change",
    [
        {"model_name": "other"},
        {"training.adaptive.ridge": 5.5},
        {"data.classes": ["H", "D", "A", "X"]},
        {"promotion.vetoes": ["recall"]},
        {"run.lookback_days": 8},
    ],
)
def test_the_digest_changes_with_a_setting(change: dict[str, Any]) -> None:
    digest = Settings().digest()
    assert digest.startswith("sha256:")
    assert len(digest) == 71
    assert Settings().changed(change).digest() != digest
    assert Settings().changed({}).digest() == digest


def test_the_digest_does_not_depend_on_how_a_number_was_written(tmp_path: Path) -> None:
    whole, broken = "run: {lookback_days: 7}", "run: {lookback_days: 7.0}"
    assert load(tmp_path, whole).digest() == load(tmp_path, broken).digest()


def test_a_change_is_checked_like_everything_else() -> None:
    changed = Settings().changed({"training.adaptive.ridge": 2.0, "data.labels": {"x": "H"}})
    assert changed.training.adaptive.ridge == 2
    assert changed.data.label_map()["x"] == "H"
    with pytest.raises(ConfigError, match=r"training\.epochs = -1 \(change\)"):
        Settings().changed({"training.epochs": -1})


def test_the_order_of_features_outlives_json_that_sorts_its_keys(tmp_path: Path) -> None:
    data = load(tmp_path, "data: {features: {b: category, a: number}}").data
    kept = json.dumps(data.model_dump(mode="json"), sort_keys=True)
    again = type(data).model_validate_json(kept)
    assert again.features == data.features == ["b", "a"]
    assert list(again.kinds.items()) == list(data.kinds.items())
    twice = refused(tmp_path, "data: {features: [{a: number}, {a: category}]}")
    assert "names something twice" in twice[0]


def test_an_incumbent_is_named_by_ids_that_can_stand_in_a_log(tmp_path: Path) -> None:
    assert not Settings().incumbent.serves
    assert Settings().incumbent.model_ids is None
    theirs = load(tmp_path, "incumbent: {serves: true, model_ids: [loan-v3, loan-v4]}").incumbent
    assert (theirs.serves, theirs.model_ids) == (True, ["loan-v3", "loan-v4"])
    for text in ("[]", "['']", "[' a']", "[a, a]", "a", "[1]"):
        faults = refused(tmp_path, f"incumbent: {{model_ids: {text}}}")
        assert len(faults) == 1, text
        assert faults[0].startswith("incumbent"), faults
        assert "model_ids" in faults[0], faults
    assert refused(tmp_path, "incumbent: {serves: perhaps}")[0].startswith("incumbent.serves")
