"""A settings file is plain YAML; one that is not is refused with line and advice."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.errors import ConfigError
from tests.support.settings_files import load, refused


def test_a_variable_is_read_as_yaml(tmp_path: Path) -> None:
    environment = {
        "ML_PIPELINE__RUN__LOOKBACK_DAYS": "14",
        "ML_PIPELINE__TRAINING__ADAPTIVE__HALF_LIVES": "[3, 30]",
        "ML_PIPELINE__TRAINING__ADAPTIVE__QUARANTINE": "true",
        "ML_PIPELINE__RUN__WORK_DIR": "null",
        "ML_PIPELINE_LOCAL": "ignored here",
        "HOME": "/root",
    }
    settings = load(tmp_path, "run: {work_dir: somewhere}", environment)
    assert settings.run.lookback_days == 14
    assert settings.run.work_dir is None
    assert settings.training.adaptive.half_lives == [3, 30]
    assert settings.training.adaptive.quarantine is True


@pytest.mark.parametrize("text", ["", "# nothing but a remark\n", "---\n"])
def test_an_empty_file_sets_nothing(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == Settings()


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeffmodel_name: marked").model_name == "marked"


def test_a_tab_is_refused_with_its_line_and_advice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "run:\n  trigger: any\ntraining:\n\tepochs: 5\n")
    assert "settings.yaml, line 4, column 1: found character '\\t'" in caught.value.message
    assert caught.value.hint == "YAML is indented with spaces, never with tabs."


def test_broken_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    (fault,) = refused(tmp_path, "run: {trigger: any\ntraining: 5\n")
    assert fault.startswith("FILE, line 2, column ")


def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "- a\n- b\n") == ["FILE holds a list, not settings."]
    assert refused(tmp_path, "just words") == ["FILE holds a str, not settings."]


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"model_name: \xff\xfe")
    with pytest.raises(ConfigError, match=r"settings\.yaml: .*decode"):
        load_settings(path, environment={})


def test_a_file_that_was_named_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no settings file .*missing\.yaml"):
        load_settings(tmp_path / "missing.yaml", environment={})
