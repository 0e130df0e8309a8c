"""What the environment sets: the store with its secrets, child processes, log messages."""

from __future__ import annotations

import json

import pytest

from ml_pipeline.config import defaults
from ml_pipeline.config.environment import (
    KEY_VARIABLES,
    URL_VARIABLE,
    child_environment,
    code_revision,
    is_store_configured,
    load_logging_settings,
    load_store_settings,
)
from ml_pipeline.errors import ConfigError

SECRET = "sb_secret_0123456789"


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


def test_every_unknown_value_of_the_log_variables_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_logging_settings({"LOG_LEVEL": "loud", "LOG_FORMAT": "xml", "DEBUG": "perhaps"})
    assert caught.value.message.splitlines()[1:] == [
        "  DEBUG = 'perhaps': true or false",
        "  LOG_LEVEL = 'LOUD': DEBUG, INFO, WARNING or ERROR",
        "  LOG_FORMAT = 'xml': text or json",
    ]
