"""The README, the settings file and the CI script say what the program does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from ml_pipeline.cli import COMMANDS, usage
from ml_pipeline.config import defaults
from ml_pipeline.config.environment import KEY_VARIABLES, PUBLIC_URL_VARIABLE, URL_VARIABLE
from ml_pipeline.config.sections import PromotionSettings
from ml_pipeline.config.settings import Settings, load_settings
from tests.support import warm
from tests.support.shell import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def block_after(marker: str) -> str:
    """The fenced block that follows a comment in the README."""
    found = re.search(rf"<!-- {marker} -->\n```\w*\n(.*?)```", README, re.DOTALL)
    assert found is not None, f"no block after {marker}"
    return found.group(1)


def shell_lines() -> list[str]:
    return [
        line
        for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
        for line in block.splitlines()
    ]


def test_the_first_command_is_the_demo_and_ci_runs_the_second_word_for_word() -> None:
    demo, tests = shell_lines()[:2]
    assert demo.endswith("-m ml_pipeline.auto_reinforcement --demo")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.rstrip().endswith(tests)


def test_the_list_of_commands_is_the_programs_own() -> None:
    assert block_after("commands") == usage().partition("commands:\n")[2]


def test_every_command_shows_its_defaults_and_the_environment(tmp_path: Path) -> None:
    for name in COMMANDS:
        done = warm.ml_pipeline(name, "--help", cwd=tmp_path)
        assert done.code == 0
        for words in ("SUPABASE_URL", "ML_PIPELINE_LOCAL", "--config", "--local"):
            assert words in done.stdout, f"{name} --help does not name {words}"


def test_the_settings_file_lists_every_setting_with_its_default() -> None:
    listed = load_settings(ROOT / "model_config.yaml", environment={})
    assert listed == Settings()
    written = yaml.safe_load((ROOT / "model_config.yaml").read_text(encoding="utf-8"))
    assert written.keys() == Settings.model_fields.keys()
    for section, values in written.items():
        if isinstance(values, dict):
            declared = type(getattr(listed, section)).model_fields
            assert values.keys() == declared.keys(), section


def test_the_variables_in_the_readme_are_the_ones_that_are_read() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    listed = set(re.findall(r"^(\w+)=", example, re.MULTILINE))
    assert {URL_VARIABLE, PUBLIC_URL_VARIABLE, KEY_VARIABLES[0], defaults.LOCAL_VARIABLE} <= listed
    for variable in {*listed, *KEY_VARIABLES, "LOG_FILE"}:
        assert f"`{variable}`" in README, variable


def test_the_gates_policies_are_all_explained() -> None:
    section = README.partition("## The gate")[2].partition("\n## ")[0]
    annotation = PromotionSettings.model_fields["policy"].annotation
    for policy in annotation.__args__:  # type: ignore[union-attr]
        assert f"| `{policy}`" in section


@pytest.mark.parametrize("path", ["requirements.txt", "tests/requirements.txt"])
def test_everything_the_project_depends_on_is_pinned(path: str) -> None:
    pins = (ROOT / path).read_text(encoding="utf-8").lower()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    if path.startswith("tests"):
        wanted += project["optional-dependencies"]["test"]
    for requirement in wanted:
        name = re.split(r"[\[<>=!; ]", requirement)[0].lower().replace("_", "-")
        assert re.search(rf"^{re.escape(name)}(\[.*\])?==", pins, re.MULTILINE), name


def test_the_text_names_no_machine_and_no_registry() -> None:
    text = README + (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert re.search(r"(^|[\s`'\"])/(work|tmp|home|root)/", text) is None
    assert "index-url" not in text
