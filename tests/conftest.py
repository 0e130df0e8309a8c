"""What all tests share: one trained model for the session."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import league
from tests.support.supabase.bench import Bench
from tests.support.supabase.fixtures import bench, supabase

__all__ = ["bench", "supabase"]


@pytest.fixture
def database(supabase: Bench) -> Bench:
    """A blank Supabase project."""
    supabase.blank()
    return supabase


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstModel:
    """The league's first model and its saved artifact."""

    path: Path
    model: Any


@pytest.fixture(scope="session")
def first_model(tmp_path_factory: pytest.TempPathFactory) -> FirstModel:
    path = tmp_path_factory.mktemp("first") / "model.skops"
    return FirstModel(path=path, model=league.train_first(path, league.settings_for()))
