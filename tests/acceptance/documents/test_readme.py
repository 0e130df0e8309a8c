"""The README, the settings file and the CI script say what the program does."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from ml_pipeline.cli import COMMANDS
from ml_pipeline.config import defaults
from ml_pipeline.config.environment import KEY_VARIABLES, PUBLIC_URL_VARIABLE, URL_VARIABLE
from ml_pipeline.config.sections import PromotionSettings
from ml_pipeline.config.settings import Settings, load_settings
from tests.support import build_reference, warm
from tests.support.shell import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = ROOT / "docs"
# argparse writes a flag's names in another way from the next version on.
MADE_WITH = (3, 11), (3, 12)


def block_after(marker: str, page: Path = ROOT / "README.md") -> str:
    """The fenced block that follows a comment in a page."""
    text = page.read_text(encoding="utf-8")
    found = re.search(rf"<!-- {marker} -->\n```\w*\n(.*?)```", text, re.DOTALL)
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


def test_the_readme_is_short_and_shows_a_picture_and_the_demo_first() -> None:
    assert len(README.splitlines()) <= 130
    first_screen = "\n".join(README.splitlines()[:20])
    assert ".github/images/monitor.png" in first_screen
    assert "--demo" in first_screen


def test_the_pages_of_commands_and_settings_are_what_the_program_says() -> None:
    for name, made in build_reference.PAGES.items():
        text = (DOCS / name).read_text(encoding="utf-8")
        again = made(text)
        if sys.version_info[:2] in MADE_WITH:
            assert text == again, f"python -m tests.support.build_reference writes {name} anew"
        assert set(re.findall(r"--\w+", text)) == set(re.findall(r"--\w+", again)), name


def test_the_short_table_of_figures_is_that_of_the_page_on_learning() -> None:
    def rows(text: str, marker: str) -> dict[str, list[str]]:
        lines = text.partition(f"<!-- {marker} -->\n")[2].partition("\n\n")[0].splitlines()[2:]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        return {name: [cell.partition(" / ")[0] for cell in found] for name, *found in cells}

    short = rows(README, "figures in short")
    long = rows((DOCS / "learning.md").read_text(encoding="utf-8"), "figures")
    assert [*short.values()] == [*long.values()]
    assert len(short) == len(long) == 4


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


def test_the_variables_in_the_manual_are_the_ones_that_are_read() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    listed = set(re.findall(r"^(\w+)=", example, re.MULTILINE))
    settings = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert {URL_VARIABLE, PUBLIC_URL_VARIABLE, KEY_VARIABLES[0], defaults.LOCAL_VARIABLE} <= listed
    for variable in {*listed, *KEY_VARIABLES, "LOG_FILE"}:
        assert f"`{variable}`" in settings, variable


def test_the_gates_policies_are_all_explained() -> None:
    section = (DOCS / "gate.md").read_text(encoding="utf-8")
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


def test_what_pip_is_told_to_install_is_this_distribution_and_an_extra_of_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == defaults.DISTRIBUTION == "auto-reinforcement"
    places = [README, *(path.read_text(encoding="utf-8") for path in DOCS.glob("*.*"))]
    places += [path.read_text(encoding="utf-8") for path in (ROOT / "ml_pipeline").rglob("*.py")]
    named = re.findall(r"""pip install ["']([a-z-]+)\[([a-z,]+)\]""", "\n".join(places))
    asked = re.findall(r"""install_extra\(["'](\w+)["']\)""", "\n".join(places))
    assert len(named) + len(asked) > 5
    assert {name for name, _ in named} == {defaults.DISTRIBUTION}
    extras = {extra for _, some in named for extra in some.split(",")} | {*asked}
    assert extras <= {*project["optional-dependencies"]}
