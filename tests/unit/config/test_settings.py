"""Settings come in layers, are refused all at once with their sources, and keep their secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ml_pipeline.config import defaults
from ml_pipeline.config.data import DEFAULT_COLUMNS, DataSettings, LogSettings
from ml_pipeline.config.environment import (
    KEY_VARIABLES,
    URL_VARIABLE,
    child_environment,
    code_revision,
    is_store_configured,
    load_logging_settings,
    load_store_settings,
)
from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.errors import ConfigError

SECRET = "sb_secret_0123456789"


def _load(
    folder: Path,
    text: str = "",
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, environment=environment or {}, flags=flags)


def _refused(
    folder: Path,
    text: str = "",
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> list[str]:
    """The faults of settings that are refused, each with its file named FILE."""
    with pytest.raises(ConfigError) as caught:
        _load(folder, text, environment, flags)
    lines = caught.value.message.replace(str(folder / "settings.yaml"), "FILE").splitlines()
    return [line.strip() for line in lines if line.startswith("  ")] or lines


# ------------------------------------------------------------------------------------ layers


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
    training = _load(tmp_path, text, environment, {"training.epochs": 8}).training
    assert (training.epochs, training.random_seed, training.cv_folds) == (8, 7, 6)
    assert training.min_training_samples == 50


def test_a_flag_that_was_not_given_changes_nothing(tmp_path: Path) -> None:
    settings = _load(tmp_path, "training: {epochs: 6}", flags={"training.epochs": None})
    assert settings.training.epochs == 6


def test_the_file_in_the_working_folder_is_read_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model_config.yaml").write_text("model_name: here", encoding="utf-8")
    assert load_settings(environment={}).model_name == "here"
    assert _load(tmp_path, "model_name: there").model_name == "there"


def test_a_variable_is_read_as_yaml(tmp_path: Path) -> None:
    environment = {
        "ML_PIPELINE__RUN__LOOKBACK_DAYS": "14",
        "ML_PIPELINE__TRAINING__ADAPTIVE__HALF_LIVES": "[3, 30]",
        "ML_PIPELINE__TRAINING__ADAPTIVE__QUARANTINE": "true",
        "ML_PIPELINE__RUN__WORK_DIR": "null",
        "ML_PIPELINE_LOCAL": "ignored here",
        "HOME": "/root",
    }
    settings = _load(tmp_path, "run: {work_dir: somewhere}", environment)
    assert settings.run.lookback_days == 14
    assert settings.run.work_dir is None
    assert settings.training.adaptive.half_lives == [3, 30]
    assert settings.training.adaptive.quarantine is True


@pytest.mark.parametrize("text", ["", "# nothing but a remark\n", "---\n"])
def test_an_empty_file_sets_nothing(tmp_path: Path, text: str) -> None:
    assert _load(tmp_path, text) == Settings()


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert _load(tmp_path, "\ufeffmodel_name: marked").model_name == "marked"


def test_settings_written_down_are_read_back_as_they_were(tmp_path: Path) -> None:
    settings = _load(
        tmp_path, "data: {classes: [a, b], labels: {1: a}}\npromotion: {vetoes: [recall]}"
    )
    assert _load(tmp_path, settings.as_yaml()) == settings


# ------------------------------------------------------------------------------------ faults


def test_every_fault_is_named_at_once_with_key_value_and_source(tmp_path: Path) -> None:
    faults = _refused(
        tmp_path,
        "training: {epochs: 0, algorithm: Magic}\nrun: {trigger: never}\nspeed: 3\n",
        {"ML_PIPELINE__RUN__LOOKBACK_DAYS": "-1", "ML_PIPELINE__RUN__LOKBACK": "7"},
        {"training.learning_rate": 0.0},
    )
    assert faults == [
        "run.lokback = 7 (environment variable ML_PIPELINE__RUN__LOKBACK): no such setting",
        (
            "run.lookback_days = -1 (environment variable ML_PIPELINE__RUN__LOOKBACK_DAYS): "
            "input should be greater than 0"
        ),
        "run.trigger = 'never' (FILE): input should be 'errors', 'labels' or 'any'",
        "speed = 3 (FILE): no such setting",
        (
            "training.algorithm = 'Magic' (FILE): input should be 'LogisticRegression', "
            "'SGDClassifier', 'DecisionTree', 'RandomForest', 'HistGradientBoosting' or 'Ensemble'"
        ),
        "training.epochs = 0 (FILE): input should be greater than or equal to 1",
        "training.learning_rate = 0.0 (flag --learning_rate): input should be greater than 0",
    ]


def test_a_number_written_as_text_is_no_number(tmp_path: Path) -> None:
    assert _refused(tmp_path, 'training: {epochs: "5"}') == [
        "training.epochs = '5' (FILE): input should be a valid integer"
    ]
    assert _refused(tmp_path, "", {"ML_PIPELINE__RUN__LOOKBACK_DAYS": "a week"}) == [
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
    (found,) = _refused(tmp_path, text)
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
    (found,) = _refused(tmp_path, text)
    assert fault in found
    assert "(FILE)" in found


def test_a_tab_is_refused_with_its_line_and_advice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, "run:\n  trigger: any\ntraining:\n\tepochs: 5\n")
    assert "settings.yaml, line 4, column 1: found character '\\t'" in caught.value.message
    assert caught.value.hint == "YAML is indented with spaces, never with tabs."


def test_broken_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    (fault,) = _refused(tmp_path, "run: {trigger: any\ntraining: 5\n")
    assert fault.startswith("FILE, line 2, column ")


def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path) -> None:
    assert _refused(tmp_path, "- a\n- b\n") == ["FILE holds a list, not settings."]
    assert _refused(tmp_path, "just words") == ["FILE holds a str, not settings."]


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"model_name: \xff\xfe")
    with pytest.raises(ConfigError, match=r"settings\.yaml: .*decode"):
        load_settings(path, environment={})


def test_a_file_that_was_named_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no settings file .*missing\.yaml"):
        load_settings(tmp_path / "missing.yaml", environment={})


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().model_name = "other"


# ------------------------------------------------------------------------- labels and columns


def test_labels_that_yaml_reads_as_numbers_are_text(tmp_path: Path) -> None:
    settings = _load(tmp_path, "data: {labels: {0: H, 1: D, 2: A, 1.5: A}}")
    accepted = {"0": "H", "1": "D", "2": "A", "1.5": "A", "H": "H", "D": "D", "A": "A"}
    assert settings.data.label_map() == accepted


def test_classes_that_yaml_reads_as_numbers_are_text(tmp_path: Path) -> None:
    data = _load(tmp_path, "data: {classes: [0, 1], labels: {lost: 0, won: 1}}").data
    assert data.classes == ["0", "1"]
    assert data.label_map() == {"lost": "0", "won": "1", "0": "0", "1": "1"}


def test_football_knows_the_spellings_of_the_documents() -> None:
    accepted = DataSettings().label_map()
    for name, spellings in {
        "H": ["H", "0", "home", "home_win"],
        "D": ["D", "1", "draw"],
        "A": ["A", "2", "V", "away", "away_win"],
    }.items():
        assert {accepted[spelling] for spelling in spellings} == {name}


def test_other_classes_know_nothing_of_football() -> None:
    assert DataSettings(classes=["yes", "H"]).label_map() == {"yes": "yes", "H": "H"}
    assert DataSettings(classes=None).label_map() == {}


def test_a_configured_spelling_of_a_column_comes_before_the_known_ones() -> None:
    log = LogSettings(columns={"match_id": ["game"], "prediction": ["predicted_outcome"]})
    assert log.spellings("match_id") == ["game", "match_id"]
    assert log.spellings("prediction") == ["predicted_outcome", "prediction", "predicted_result"]
    assert log.spellings("timestamp") == DEFAULT_COLUMNS["timestamp"]


# ----------------------------------------------------------------------- digest and changes


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
    assert _load(tmp_path, whole).digest() == _load(tmp_path, broken).digest()


def test_a_change_is_checked_like_everything_else() -> None:
    changed = Settings().changed({"training.adaptive.ridge": 2.0, "data.labels": {"x": "H"}})
    assert changed.training.adaptive.ridge == 2
    assert changed.data.label_map()["x"] == "H"
    with pytest.raises(ConfigError, match=r"training\.epochs = -1 \(change\)"):
        Settings().changed({"training.epochs": -1})


# ------------------------------------------------------------------------------------- store


def test_both_halves_of_the_credentials_open_supabase() -> None:
    store = load_store_settings(
        environment={"SUPABASE_URL": " https://x.supabase.co ", "SUPABASE_SERVICE_KEY": SECRET}
    )
    assert (store.local_dir, store.supabase_url) == (None, "https://x.supabase.co")
    assert store.supabase_key is not None
    assert store.supabase_key.get_secret_value() == SECRET


def test_the_seeds_other_name_of_the_key_is_read_as_well() -> None:
    environment = {"SUPABASE_URL": "u", "SUPABASE_SERVICE_ROLE_KEY": SECRET}
    store = load_store_settings(environment=environment)
    assert store.supabase_key is not None
    assert store.supabase_key.get_secret_value() == SECRET
    first = load_store_settings(environment=environment | {"SUPABASE_SERVICE_KEY": "first"})
    assert first.supabase_key is not None
    assert first.supabase_key.get_secret_value() == "first"


@pytest.mark.parametrize(
    ("environment", "missing"),
    [
        ({"SUPABASE_URL": "https://x"}, "SUPABASE_SERVICE_KEY is not set, though the other half"),
        ({"SUPABASE_SERVICE_KEY": SECRET}, "SUPABASE_URL is not set, though the other half"),
        ({"SUPABASE_SERVICE_ROLE_KEY": SECRET}, "SUPABASE_URL is not set, though the other half"),
        ({"SUPABASE_URL": "  ", "SUPABASE_SERVICE_KEY": SECRET}, "SUPABASE_URL is not set"),
        ({}, "SUPABASE_URL and SUPABASE_SERVICE_KEY are not set."),
    ],
)
def test_half_a_pair_of_credentials_is_no_store(environment: dict[str, str], missing: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_store_settings(environment=environment)
    assert missing in caught.value.message
    assert "--local DIR" in caught.value.hint
    assert SECRET not in str(caught.value)


def test_local_wins_over_its_variable_over_supabase() -> None:
    environment = {"SUPABASE_URL": "u", "SUPABASE_SERVICE_KEY": SECRET, "ML_PIPELINE_LOCAL": "b"}
    assert load_store_settings("a", environment=environment).local_dir == "a"
    from_variable = load_store_settings(environment=environment)
    assert (from_variable.local_dir, from_variable.supabase_key) == ("b", None)
    assert load_store_settings(environment=environment | {"ML_PIPELINE_LOCAL": ""}).supabase_url


def test_the_key_is_never_shown() -> None:
    store = load_store_settings(
        environment={"SUPABASE_URL": "https://x", "SUPABASE_SERVICE_KEY": SECRET}
    )
    shown = [repr(store), str(store), store.model_dump_json(), f"{store.model_dump()}"]
    shown.append(json.dumps(store.model_dump(mode="json")))
    assert not any(SECRET in text for text in shown)
    assert "**********" in repr(store)


def test_half_a_pair_is_a_choice_all_the_same() -> None:
    assert is_store_configured("folder", environment={})
    assert is_store_configured(environment={"ML_PIPELINE_LOCAL": "folder"})
    assert is_store_configured(environment={"SUPABASE_SERVICE_ROLE_KEY": SECRET})
    assert not is_store_configured(environment={"SUPABASE_URL": "", "OTHER": "x"})


def test_a_child_process_gets_the_settings_and_no_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (URL_VARIABLE, *KEY_VARIABLES, defaults.LOCAL_VARIABLE):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("ML_PIPELINE__TRAINING__EPOCHS", "3")
    child = child_environment()
    assert SECRET not in child.values()
    assert child["ML_PIPELINE__TRAINING__EPOCHS"] == "3"


def test_the_commit_of_a_job_is_known_or_it_is_not() -> None:
    assert code_revision({"GITHUB_SHA": "abc"}) == "abc"
    assert code_revision({"GITHUB_SHA": ""}) is None
    assert code_revision({}) is None


# ----------------------------------------------------------------------------------- logging


@pytest.mark.parametrize(
    ("environment", "level", "form"),
    [
        ({}, "INFO", "text"),
        ({"LOG_LEVEL": "warning", "LOG_FORMAT": "JSON"}, "WARNING", "json"),
        ({"DEBUG": "true", "LOG_LEVEL": "ERROR"}, "DEBUG", "text"),
        ({"DEBUG": "0"}, "INFO", "text"),
        ({"DEBUG": ""}, "INFO", "text"),
    ],
)
def test_the_environment_says_how_messages_are_written(
    environment: dict[str, str], level: str, form: str
) -> None:
    logging = load_logging_settings(environment)
    assert (logging.level, logging.format) == (level, form)


def test_every_unknown_way_of_telling_it_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_logging_settings({"LOG_LEVEL": "loud", "LOG_FORMAT": "xml", "DEBUG": "perhaps"})
    assert caught.value.message.splitlines()[1:] == [
        "  DEBUG = 'perhaps': true or false",
        "  LOG_LEVEL = 'LOUD': DEBUG, INFO, WARNING or ERROR",
        "  LOG_FORMAT = 'xml': text or json",
    ]
