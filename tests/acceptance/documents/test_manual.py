"""The manual says what is there: columns, commands, settings, names, files."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from ml_pipeline.cli import COMMANDS
from ml_pipeline.config.settings import Settings
from tests.acceptance.documents.naming import missing_modules, missing_paths
from tests.support.places import our_schema
from tests.support.shell import ROOT
from tests.support.supabase.project import SupabaseProject

__all__ = ["our_schema"]

PAGES = sorted((ROOT / "docs").glob("*.md"))
OF_OTHER_PROGRAMS = {"handle_path"}  # Caddy's
COLUMNS = """
    select table_name, column_name from information_schema.columns where table_schema = 'public'
"""


def said_columns() -> set[tuple[str, str]]:
    """(table, column) of the schema page: tables under their headings, or by their first cell."""
    found: set[tuple[str, str]] = set()
    heading = ""
    for line in (ROOT / "docs" / "schema.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line[3:]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = [re.findall(r"`(\w+)`", cell) for cell in cells[:2]]
        if not line.startswith("| `"):
            continue
        if re.fullmatch(r"\w+", heading):
            found |= {(heading, name) for name in names[0]}
        else:
            found |= {(names[0][0], name) for name in names[1]}
    return found


@pytest.mark.usefixtures("our_schema")
def test_the_schema_page_names_every_column_of_the_database_and_no_other(
    project: SupabaseProject,
) -> None:
    there = {(row["table_name"], row["column_name"]) for row in project.sql(COLUMNS)}
    assert said_columns() == there


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_commands_settings_and_files_that_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for command in re.findall(r"\bml-pipeline ([a-z]+)\b", text):
        assert command in {*COMMANDS, "help"}, command
    for section, key in re.findall(
        r"`(run|log|data|training|promotion|prediction|decay)\.([a-z_]+)", text
    ):
        assert key in type(getattr(Settings(), section)).model_fields, (section, key)
    for target in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (page.parent / target).is_file(), target
    assert re.search(r"(^|[\s`'\"])/(work|home|root)/", text) is None


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_a_page_names_paths_and_modules_that_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert missing_paths(text) == []
    assert missing_modules(text) == []


def source_texts() -> list[str]:
    files = (ROOT / "ml_pipeline").rglob("*")
    return [path.read_text(encoding="utf-8") for path in files if path.suffix in {".py", ".sql"}]


def test_columns_keys_and_values_that_the_manual_names_are_in_the_source() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *PAGES])
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)\b", pages))
    assert len(named) > 100
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", " ".join([compose, *source_texts()])))
    assert named - OF_OTHER_PROGRAMS - words == set()


def test_the_symptoms_of_the_table_are_what_the_program_says() -> None:
    table = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8").partition("by symptom")[2]
    symptoms = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")]
    quoted = [text for cell in symptoms for text in re.findall(r"`([^`]*)`", cell)]
    messages = [text for text in quoted if " " in text and ": " not in text]
    assert len(messages) > 5
    # Sentences go over several lines of the source.
    source = "".join(re.sub(r'"\s*\n\s*f?"', "", text) for text in source_texts())
    for message in messages:
        assert message.removeprefix("Failed while ") in source, message


def test_every_page_is_in_the_list_and_the_readme_leads_to_it() -> None:
    listed = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert {page.name for page in PAGES} - {"README.md"} == set(
        re.findall(r"\((\S+\.md)\)", listed)
    )
    assert "(docs/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_page_imports_what_there_is_and_calls_it_as_it_is() -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    names = 0
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names), node.module
                names += len(node.names)
    assert names > 8
