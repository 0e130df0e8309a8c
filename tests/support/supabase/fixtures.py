"""Fixtures: name them in a conftest.py to have them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.supabase.binaries import Missing, find_postgres, find_postgrest
from tests.support.supabase.project import SupabaseProject, open_project

__all__ = ["project", "supabase"]


@pytest.fixture(scope="session")
def supabase() -> Iterator[SupabaseProject]:
    """The session's Supabase, its database as new; whoever applies a schema calls `blank` first."""
    require_servers()
    with open_project() as opened:
        yield opened


@pytest.fixture
def project(supabase: SupabaseProject) -> SupabaseProject:
    """The session's Supabase with the rows of the last `apply`, and no faults."""
    supabase.reset()
    return supabase


def require_servers() -> None:
    """Skip where the servers cannot be had; under CI that is an error."""
    try:
        find_postgres()
        find_postgrest()
    except Missing as reason:
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            raise
        pytest.skip(str(reason))
