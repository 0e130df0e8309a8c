"""CONTRIBUTING.md and CHANGELOG.md name what is there."""

from __future__ import annotations

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import ml_pipeline
from ml_pipeline.cli import COMMANDS
from ml_pipeline.store import schema
from tests.acceptance.documents.naming import missing_modules, missing_paths
from tests.support.shell import ROOT

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# The tools that a line of the page's shell blocks may start with.
TOOLS = {
    ".ci/run",
    ".ci/try_distribution",
    "ruff",
    "mypy",
    "lint-imports",
    "python",
    "python3",
    "export",
    "cd",
}


def rooms() -> dict[str, int]:
    """Every room and module beside the rooms, with the floor that the table gives it."""
    rows = re.findall(r"^\| (\d+) \| ((?:`[\w./]+` ?)+) \|", CONTRIBUTING, re.MULTILINE)
    return {
        name.removesuffix(".py").removesuffix("/"): int(floor)
        for floor, names in rows
        for name in re.findall(r"`([\w./]+)`", names)
    }


def shell_lines() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", CONTRIBUTING, re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def test_the_table_has_every_room_on_the_floor_that_is_held() -> None:
    layers = reversed(PROJECT["tool"]["importlinter"]["contracts"][0]["layers"])
    held = enumerate(layer.split("|") for layer in layers)
    assert rooms() == {name.strip(): floor for floor, names in held for name in names}


def test_the_folders_of_tests_are_all_explained() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == set(re.findall(r"^\| `tests/(\w+)/`", CONTRIBUTING, re.MULTILINE))


def test_paths_and_modules_that_are_named_are_there() -> None:
    assert missing_paths(CONTRIBUTING + CHANGELOG) == []
    assert missing_modules(CONTRIBUTING) == []


def test_the_commands_that_are_named_are_there() -> None:
    for line in shell_lines():
        assert line.split()[0] in TOOLS, line
    assert set(re.findall(r"ml-pipeline ([a-z]+)", CONTRIBUTING)) <= {*COMMANDS}
    markers = PROJECT["tool"]["pytest"]["ini_options"]["markers"]
    named = set(re.findall(r"pytest -m (\w+)", CONTRIBUTING))
    assert named == {marker.partition(":")[0] for marker in markers}


def test_a_word_that_the_page_calls_by_name_is_where_it_says() -> None:
    for name, path in (
        ("UNCOUNTED", "tests/support/crashing.py"),
        ("WHO_CALLS", "tests/contract/supabase/test_policies.py"),
        ("TABLES", "tests/contract/supabase/test_schema.py"),
        ("COMMANDS", "ml_pipeline/cli.py"),
        ("ml_pipeline_lock", "ml_pipeline/sql/supabase/0001_ground.sql"),
    ):
        assert f"`{name}`" in CONTRIBUTING
        assert name in (ROOT / path).read_text(encoding="utf-8")


def test_the_changelog_ends_with_the_versions_in_their_order() -> None:
    headings = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert headings[1].startswith(f"[{ml_pipeline.__version__}]")


def test_the_changelog_says_nothing_twice_and_how_to_get_the_newest_schema() -> None:
    begins = [line[:80] for line in CHANGELOG.splitlines() if line.startswith("- ")]
    assert len(begins) == len({*begins})
    assert f" to {schema.newest()}, and `doctor`" in CHANGELOG


def test_the_names_that_the_changelog_sends_people_to_are_there() -> None:
    unreleased = CHANGELOG.partition("\n## [0.1.0]")[0]
    moves = re.findall(r"^\| `([\w.]+)` \| `([\w.]+)` \|", unreleased, re.MULTILINE)
    left = {old for old, _ in moves}
    assert len(left) > 5
    assert {*missing_modules(unreleased)} - programs_that_ended() == left


def test_the_programs_that_ended_are_gone_and_those_that_stay_are_there() -> None:
    stay = re.findall(
        r"`(ml_pipeline\.\w+)`", CHANGELOG.partition("These stay:")[2].partition("\n\n")[0]
    )
    assert len(stay) > 5
    assert [name for name in stay if not is_program(name)] == []
    assert len(programs_that_ended()) > 5
    assert [name for name in programs_that_ended() if is_program(name)] == []


def programs_that_ended() -> set[str]:
    return set(re.findall(r"`python -m (ml_pipeline\.\w+)`", CHANGELOG))


def is_program(module: str) -> bool:
    """Whether `python -m` starts something there."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return False
    return '__name__ == "__main__"' in Path(spec.origin).read_text(encoding="utf-8")


def test_the_security_policy_names_what_is_there_and_is_found() -> None:
    policy = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "Report a vulnerability" in policy
    assert "@" not in policy, "nobody's address"
    links = re.findall(r"\]\(([\w./-]+)\)", policy)
    assert "docs/security.md" in links
    assert all((ROOT / link).is_file() for link in links)
    assert missing_paths(policy) == []
    for page in ("README.md", "CONTRIBUTING.md", "docs/security.md"):
        assert "SECURITY.md)" in (ROOT / page).read_text(encoding="utf-8"), page
    shipped = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {"/SECURITY.md", "/requirements.lock"} <= {*shipped}
