"""What all tests share: one trained model for the session."""

from __future__ import annotations

import inspect
import os
from typing import Final

import pytest
from threadpoolctl import threadpool_limits

from tests.support import league, properties, shell
from tests.support.league import FirstModel
from tests.support.places import SUPABASE, our_schema, place
from tests.support.supabase.fixtures import project, supabase
from tests.support.supabase.project import SupabaseProject

__all__ = ["FirstModel", "our_schema", "place", "project", "properties", "supabase"]

_OF_LINUX: Final = ("/proc", "prlimit", "RLIMIT_")


def pytest_configure() -> None:
    """Take a person's variables out before anything asks for them; one thread for linear algebra.

    As in training. Threads that wait for one another by spinning cost the tests beside them, and
    these, three times what they compute: those of libraries that are there, and that come.
    """
    shell.shut_out()
    os.environ |= shell.ONE_THREAD
    threadpool_limits(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs Linux: real servers, whose binaries are Linux's, and its own interfaces."""
    for item in items:
        if _needs_servers(item) or _names_linux(item):
            item.add_marker(pytest.mark.linux)


def _needs_servers(item: pytest.Item) -> bool:
    # A test in both places asks for the servers when it runs, by its parameter.
    values = getattr(getattr(item, "callspec", None), "params", {})
    return "supabase" in getattr(item, "fixturenames", ()) or values.get("place") == SUPABASE


def _names_linux(item: pytest.Item) -> bool:
    function = getattr(item, "function", None)
    if function is None:
        return False
    try:
        return any(word in inspect.getsource(function) for word in _OF_LINUX)
    except OSError:
        return False  # a test that was made, not written


@pytest.fixture
def database(supabase: SupabaseProject) -> SupabaseProject:
    """A blank Supabase project."""
    supabase.blank()
    return supabase


@pytest.fixture(scope="session")
def first_model(tmp_path_factory: pytest.TempPathFactory) -> FirstModel:
    path = tmp_path_factory.mktemp("first") / "model.skops"
    return FirstModel(path=path, model=league.train_first(path, league.settings_for()))
