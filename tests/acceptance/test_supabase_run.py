"""The whole nightly run on real servers, held against the embedded store on the same data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr

from ml_pipeline.errors import StoreUnavailable
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Failed, Order, Trained
from ml_pipeline.store.contract import Store
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import LookbackWindow, ModelState, RunStatus
from ml_pipeline.store.supabase.store import SupabaseStore
from ml_pipeline.store.supabase.transport import Timeouts
from tests.conftest import FirstModel
from tests.contract.supabase.callers import open_callers, seen_runs
from tests.support import league
from tests.support.places import long_but
from tests.support.supabase import faults
from tests.support.supabase.project import SupabaseProject
from tests.support.warm import ml_pipeline

NOW = datetime(2026, 3, 14, 2, 0, tzinfo=UTC)
NIGHTS = 25
ROWS = league.play(99, 200).features
# What differs between the stores by its nature.
PLACES = (
    "log_url", "report_path", "report_url", "report_markdown", "dataset_path", "training_path",
    "duration_s",
)  # fmt: skip


@pytest.fixture(scope="module")
def schema(supabase: SupabaseProject) -> None:
    folder = files("ml_pipeline") / "sql" / "supabase"
    scripts = sorted(folder.iterdir(), key=lambda script: script.name)
    supabase.blank()
    supabase.apply("\n".join(script.read_text(encoding="utf-8") for script in scripts))


@pytest.fixture
def store(schema: None, project: SupabaseProject) -> Iterator[SupabaseStore]:  # noqa: ARG001 - in this order
    opened = SupabaseStore.open(project.url, SecretStr(project.service_key))
    yield opened
    opened.close()


def history(first_model: FirstModel, rows: int) -> pd.DataFrame:
    """Labelled rows of 25 nights; the truth turns on the last three."""
    today = NOW.date()
    nights = [
        league.Night(day=today - timedelta(days=ago), matches=rows // NIGHTS, turned=ago <= 3)
        for ago in range(NIGHTS, 0, -1)
    ]
    return pd.concat([league.events_of(first_model.model, night) for night in nights])


def fill(store: Store, first_model: FirstModel, events: pd.DataFrame) -> None:
    league.enthrone(store, first_model.path, league.settings_for(), now=NOW - timedelta(days=60))
    for start in range(0, len(events), 10_000):
        store.append_events(events.iloc[start : start + 10_000])


def pass_over(store: Store, folder: Path) -> dict[str, Any]:
    count = iter(range(1000))
    outcome = recording.run(
        store,
        Order(
            settings=league.settings_for(),
            work_dir=folder,
            clock=lambda: NOW,
            new_id=lambda: league.event_id(f"both {next(count)}"),
        ),
    )
    assert isinstance(outcome, Trained), outcome.result
    return {key: value for key, value in outcome.result.items() if key not in PLACES}


def serving(store: Store) -> Any:  # noqa: ANN401 - AdaptiveClassifier
    champion = store.champion(model_name="default")
    assert champion is not None
    return load_model_version(store, champion)


@pytest.mark.parametrize("rows", long_but([2500], [2500, 25_000]))
def test_a_run_over_many_rows_comes_to_the_same_on_both_stores(
    store: SupabaseStore,
    project: SupabaseProject,
    first_model: FirstModel,
    rows: int,
    tmp_path: Path,
) -> None:
    events = history(first_model, rows)
    local = LocalStore.open(tmp_path / "local")
    for target in (local, store):
        fill(target, first_model, events)
    # The servers cut every plain answer at 1,000 rows.
    everything = LookbackWindow(start=NOW - timedelta(days=90), end=NOW)
    read = [len(frame) for frame in store.read_events(everything, model_name="default")]
    assert sum(read) == rows

    here, there = pass_over(local, tmp_path / "a"), pass_over(store, tmp_path / "b")

    assert there == here
    assert there["outcome"] == "promoted"
    assert there["training_rows"] == rows
    np.testing.assert_allclose(
        serving(store).predict_proba(ROWS), serving(local).predict_proba(ROWS), rtol=0, atol=0
    )
    runs = project.sql("select status, outcome, metrics from model_retraining_runs")
    assert [(run["status"], run["outcome"]) for run in runs] == [("completed", "promoted")]
    assert runs[0]["metrics"] == there["metrics"]
    states = project.sql("select state from model_metadata order by created_at")
    assert [row["state"] for row in states] == [ModelState.RETIRED, ModelState.CHAMPION]
    objects = {row["name"] for row in project.sql("select name from storage.objects")}
    assert f"training-logs/{there['run_id']}.txt" in objects
    # What any account of an app reads of it quotes none of the rows, which the run's row does.
    quoted = [str(name) for name in (*events["event_id"], *events["match_id"])]
    (row,) = project.sql("select to_jsonb(run)::text as row from model_retraining_runs as run")
    with open_callers(project) as callers:
        seen = seen_runs(callers["user"])
        assert seen.json()[0]["metrics"] == there["metrics"]
    assert any(name in row["row"] for name in quoted)
    assert not any(name in seen.text for name in quoted)


STEPS = (
    "rpc/fail_stale_retraining_runs",
    "rpc/start_retraining_run",
    "rpc/heartbeat_retraining_run",
    "model_metadata\\?select=model_id%2Canchor_id",
    "rpc/count_labelled_by_day",
    "rpc/read_evaluation_events",
    "object/.*ml-models",
    "rpc/register_model",
    "rpc/promote_model",
    "object/.*training-logs",
    "rpc/finish_retraining_run",
)
EVERYDAY = ("rpc/read_evaluation_events", "rpc/promote_model", "rpc/finish_retraining_run")


@dataclass(frozen=True, kw_only=True, slots=True)
class Calm:
    """Three nights of a first model, and what a run that nothing disturbs makes of them."""

    model: FirstModel
    events: pd.DataFrame
    probabilities: Any


@pytest.fixture(scope="module")
def calm(first_model: FirstModel, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    nights = league.nights_before(NOW, 3)
    events = pd.concat([league.events_of(first_model.model, night) for night in nights])
    folder = tmp_path_factory.mktemp("calm")
    local = LocalStore.open(folder / "local")
    fill(local, first_model, events)
    pass_over(local, folder)
    answered = serving(local).predict_proba(ROWS)
    return Calm(model=first_model, events=events, probabilities=answered)


@pytest.mark.usefixtures("schema")
@pytest.mark.parametrize(
    "step",
    long_but(EVERYDAY, STEPS),
)
def test_a_server_that_is_down_at_one_step_loses_and_doubles_nothing(
    project: SupabaseProject, calm: Calm, tmp_path: Path, step: str
) -> None:
    quick = Timeouts(attempts=2, budget=2, first_wait=0.01, longest_wait=0.02, jitter=0.01)
    store = SupabaseStore.open(project.url, SecretStr(project.service_key), timeouts=quick)
    fill(store, calm.model, calm.events)
    down = project.gateway.fault(faults.drop_before, path=step, times=1_000)
    # Failed and recorded, or not even recordable: never a success.
    with suppress(StoreUnavailable):
        broken = recording.run(store, order_at(NOW, tmp_path, "broken"))
        assert isinstance(broken, Failed) or "training-logs" in step
    assert down.hits > 0
    project.gateway.faults.clear()

    recording.run(store, order_at(NOW + timedelta(hours=2), tmp_path, "repair"))

    statuses = project.sql("select status from model_retraining_runs")
    assert all(row["status"] in {"completed", "failed"} for row in statuses)
    champions = project.sql("select model_id from model_metadata where state = 'champion'")
    assert len(champions) == 1
    assert len(project.sql("select event_id from evaluation_log")) == len(calm.events)
    answered = serving(store).predict_proba(ROWS)
    np.testing.assert_allclose(answered, calm.probabilities, rtol=0, atol=1e-12)
    store.close()


def order_at(now: datetime, folder: Path, name: str) -> Order:
    count = iter(range(1000))
    return Order(
        settings=league.settings_for(),
        work_dir=folder,
        clock=lambda: now,
        new_id=lambda: league.event_id(f"{name} {next(count)}"),
    )


def test_the_command_runs_on_supabase_and_shows_its_key_to_nobody(
    store: SupabaseStore, project: SupabaseProject, first_model: FirstModel, tmp_path: Path
) -> None:
    league.enthrone(store, first_model.path, league.settings_for(), now=NOW)
    for night in league.nights_before(datetime.now(UTC), 3):
        store.append_events(league.events_of(first_model.model, night))

    done = ml_pipeline(
        "run",
        cwd=tmp_path,
        SUPABASE_URL=project.url,
        SUPABASE_SERVICE_ROLE_KEY=project.service_key,
        LOG_LEVEL="DEBUG",
    )

    assert done.code == 0, done.stderr
    assert done.json["outcome"] == "promoted"
    assert store.get_run(done.json["run_id"]).status is RunStatus.COMPLETED
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for text in (done.stdout.encode(), done.stderr.encode(), *written):
        assert project.service_key.encode() not in text
