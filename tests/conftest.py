"""What all tests share: one trained model for the session."""

from __future__ import annotations

import pytest

from tests.support import league, properties, shell
from tests.support.league import FirstModel
from tests.support.places import our_schema, place
from tests.support.supabase.fixtures import project, supabase
from tests.support.supabase.project import SupabaseProject

__all__ = ["FirstModel", "our_schema", "place", "project", "properties", "supabase"]


def pytest_configure() -> None:
    """Take a person's variables out before anything asks for them."""
    shell.shut_out()


@pytest.fixture
def database(supabase: SupabaseProject) -> SupabaseProject:
    """A blank Supabase project."""
    supabase.blank()
    return supabase


@pytest.fixture(scope="session")
def first_model(tmp_path_factory: pytest.TempPathFactory) -> FirstModel:
    path = tmp_path_factory.mktemp("first") / "model.skops"
    return FirstModel(path=path, model=league.train_first(path, league.settings_for()))
