"""The package keeps to its rooms: floors, circles, sizes, and the libraries that each may use.

What import-linter holds stands in pyproject.toml; here is what it cannot see.
"""

from __future__ import annotations

import ast
import importlib
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ml_pipeline
from tests.support.shell import ROOT

# The one that is imported: CI holds the wheel to the same in the place of the checkout.
PACKAGE = Path(ml_pipeline.__file__).parent
LONGEST_FILE, MOST_FILES, LONGEST_FUNCTION = 400, 16, 60
ALIASES = sorted(path.stem for path in (PACKAGE / "aliases").glob("[a-z]*.py"))
# scikit-learn's estimators are made where models are built, and named where they are taken apart.
# What the watchdog fits is a curve over confidences, no model.
MAY_NAME_ESTIMATORS = ("training", "datasets/features.py", "registry", "decay/drift.py")


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, known: frozenset[str]) -> Iterator[str]:
    """Modules of the package that a file imports anywhere, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def functions_of(path: Path) -> Iterator[tuple[str, int]]:
    """Every function with its number of lines, without its decorators."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_there_is_no_circle_not_even_inside_functions() -> None:
    known = frozenset(map(name_of, sources()))
    graph = {
        name_of(path): {name for name in imports_of(path, known) if name in known}
        - {"ml_pipeline", name_of(path)}
        for path in sources()
    }
    assert len(graph) > 100
    order = list(TopologicalSorter(graph).static_order())
    assert len(order) == len(graph)


def test_the_floors_name_every_room_and_every_module_beside_them() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    floors = settings["tool"]["importlinter"]["contracts"][0]
    assert floors["exhaustive"]
    assert not any(":" in floor for floor in floors["layers"])
    named = [name.strip() for floor in floors["layers"] for name in floor.split("|")]
    there = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    there |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(named) == sorted(there)


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_file_has_room_in_a_head(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def test_a_folder_has_few_files_but_for_the_one_of_the_words() -> None:
    folders = {path.parent for path in sources()} - {PACKAGE / "commands"}
    counts = {folder.name: len(list(folder.glob("*.py"))) for folder in folders}
    assert {name: count for name, count in counts.items() if count > MOST_FILES} == {}


def test_functions_are_short() -> None:
    lengths = [length for path in sources() for _, length in functions_of(path)]
    assert statistics.median(lengths) <= 8
    assert statistics.quantiles(lengths, n=10)[-1] <= 22
    assert max(lengths) <= LONGEST_FUNCTION


def test_estimators_are_made_in_few_places() -> None:
    named = {
        path.relative_to(PACKAGE).as_posix()
        for path in sources()
        for name in imports_of(path, frozenset())
        if name.startswith("sklearn.") and name != "sklearn.exceptions"
    }
    assert {name for name in named if not name.startswith(MAY_NAME_ESTIMATORS)} == set()


def test_rooms_inside_ask_files_and_never_faces() -> None:
    faces = {name_of(path) for path in sources() if path.stem == "__init__"} - {"ml_pipeline"}
    known = frozenset(map(name_of, sources()))
    asked = {
        (name_of(path), name)
        for path in sources()
        for name in imports_of(path, known)
        if name in faces
    }
    assert asked == set()


@pytest.mark.parametrize("alias", ALIASES)
def test_a_further_name_is_a_module_of_the_package(alias: str) -> None:
    module = importlib.import_module(f"ml_pipeline.{alias}")
    assert all(callable(getattr(module, name)) for name in module.__all__)


@pytest.mark.parametrize("room", ["config", "store", "runs", "web"])
def test_a_face_finds_what_it_names_and_nothing_else(room: str) -> None:
    face = importlib.import_module(f"ml_pipeline.{room}")
    for name in face._PUBLIC:
        assert getattr(face, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        face.nothing_of_the_kind  # noqa: B018


def test_the_package_itself_costs_next_to_nothing() -> None:
    program = (
        "import sys; before = set(sys.modules); import ml_pipeline;"
        "print(*sorted(set(sys.modules) - before - {'ml_pipeline'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = done.stdout.split()
    assert not any(name.startswith(("ml_pipeline", "numpy", "pydantic")) for name in loaded)
