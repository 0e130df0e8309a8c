"""The two places where everything can be kept, for tests that have to hold in both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import pytest
from _pytest.mark import ParameterSet

from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.store.contract import Store
from ml_pipeline.store.opening import open_store
from tests.support import league
from tests.support.supabase.project import SupabaseProject

T = TypeVar("T")
EMBEDDED, SUPABASE = "embedded", "supabase"
# For a long scenario that is short enough for every day on the embedded store.
FAR_IS_LONG = pytest.mark.parametrize(
    "place", [EMBEDDED, pytest.param(SUPABASE, marks=pytest.mark.long)], indirect=True
)


def long_but(everyday: Iterable[T], values: Iterable[T]) -> list[T | ParameterSet]:
    """All the values for `parametrize`; those that are not for every day are `long`."""
    short = set(everyday)
    return [
        value if value in short else pytest.param(value, marks=pytest.mark.long) for value in values
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A store that is empty at first; `variables` is the environment that names it.

    `project` is there for Supabase only.
    """

    kind: str
    variables: Mapping[str, str]
    project: SupabaseProject | None = None

    def open(self) -> Store:
        """Another handle on it."""
        return open_store(load_store_settings(environment=self.variables))

    @contextmanager
    def opened(self) -> Iterator[Store]:
        """Another handle on it, closed in the end."""
        store = self.open()
        try:
            yield store
        finally:
            store.close()

    def fill(self, model: league.FirstModel, nights: list[league.Night]) -> None:
        """A champion that has predicted those nights."""
        with self.opened() as store:
            league.enthrone(
                store, model.path, league.settings_for(), now=league.before_first(nights)
            )
            for night in nights:
                store.append_events(league.events_of(model.model, night))


@pytest.fixture(scope="module")
def our_schema(supabase: SupabaseProject) -> None:
    """A Supabase project with our tables in it."""
    folder = files("ml_pipeline") / "sql" / "supabase"
    scripts = sorted(folder.iterdir(), key=lambda script: script.name)
    supabase.blank()
    supabase.apply("\n".join(script.read_text(encoding="utf-8") for script in scripts))


@pytest.fixture(params=[EMBEDDED, SUPABASE])
def place(request: Any, tmp_path: Path) -> Place:  # noqa: ANN401 - pytest's own
    """One place after the other, empty."""
    if request.param == EMBEDDED:
        folder = str(tmp_path / "store")
        return Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": folder})
    request.getfixturevalue("our_schema")
    project: SupabaseProject = request.getfixturevalue("project")
    return Place(
        kind=SUPABASE,
        variables={"SUPABASE_URL": project.url, "SUPABASE_SERVICE_KEY": project.service_key},
        project=project,
    )
