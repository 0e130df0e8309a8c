"""Clocks, disks, folders and locks that fail under a whole run, on both stores."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.errors import PipelineError, StoreUnavailable
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Failed
from ml_pipeline.store.contract import Store
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.opening import open_store
from ml_pipeline.store.records import ModelState, RunStatus
from ml_pipeline.store.supabase.store import SupabaseStore
from ml_pipeline.store.supabase.transport import Timeouts
from tests.conftest import FirstModel
from tests.support import crashing, league, warm
from tests.support.crashing import NOW
from tests.support.places import EMBEDDED, SUPABASE, Place, long_but
from tests.support.supabase.project import SupabaseProject

NIGHTS = league.nights_before(NOW, 3)
ROWS = league.play(99, 50).features
NOBODY = 65534


def assert_repaired(place: Place, work: Path, later: datetime) -> None:
    """The next run does what the broken one did not, and nothing stands there twice."""
    with place.opened() as store:
        recording.run(store, crashing.order(work, later, "repair"))
        runs = store.list_runs(model_name="default", limit=9)
        assert all(run.status in {RunStatus.COMPLETED, RunStatus.FAILED} for run in runs)
        events = store.promotion_events(model_name="default")
        assert len(events) == len({event.to_model_id for event in events}) == 2
        models = store.list_models(model_name="default")
        (champion,) = [model for model in models if model.state is ModelState.CHAMPION]
        answered = load_model_version(store, champion).predict_proba(ROWS)
        assert np.isfinite(answered).all()


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(hours=9)])
def test_a_clock_that_jumps_during_a_run_neither_stops_it_nor_blocks_the_next(
    place: Place, first_model: FirstModel, tmp_path: Path, jump: timedelta
) -> None:
    place.fill(first_model, NIGHTS)
    readings = iter([NOW] * 4 + [NOW + jump] * 10_000)
    with place.opened() as store:
        order = crashing.order(tmp_path / "w", clock=lambda: next(readings))
        outcome = recording.run(store, order)
        assert outcome.result["outcome"] == "promoted"
        following = recording.run(
            store, crashing.order(tmp_path / "w", NOW + timedelta(hours=1), "b")
        )
        assert following.result["outcome"] == "skipped_no_new_data"
        assert len(store.promotion_events(model_name="default")) == 2


def test_a_scheduler_whose_clock_is_years_ahead_blocks_nobody_when_it_dies(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    place.fill(first_model, NIGHTS)
    wrong = NOW + timedelta(days=1500)

    def die(name: str, _number: int) -> None:
        if name == "put":
            raise KeyboardInterrupt

    with place.opened() as store:
        with pytest.raises(KeyboardInterrupt):
            recording.run(
                crashing.through(store, die), crashing.order(tmp_path / "w", wrong, "from 2030")
            )
        assert store.list_runs(model_name="default", limit=9)[0].status is RunStatus.RUNNING
    assert_repaired(place, tmp_path / "w", NOW)


def full_disk(work: Path, step: str) -> None:
    """A run on the environment's store whose disk fills up before the first call of `step`."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(name: str, _number: int) -> None:
        if name == step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY))

    store = open_store(load_store_settings())
    try:
        outcome = recording.run(crashing.through(store, fill), crashing.order(work))
    except PipelineError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    finally:
        # What is said about it goes to files as well.
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    print(outcome.result["outcome"], outcome.result["error"])  # noqa: T201
    sys.exit(isinstance(outcome, Failed))


@pytest.mark.parametrize(
    "step", long_but(["put", "finish_run"], ["start_run", "claim", "put", "finish_run"])
)
def test_a_disk_that_fills_up_during_a_run_is_no_success_and_the_next_run_repairs(
    place: Place, first_model: FirstModel, tmp_path: Path, step: str
) -> None:
    place.fill(first_model, NIGHTS)
    done = warm.call(full_disk, tmp_path / "w", step, cwd=tmp_path, **place.variables)

    if place.kind == EMBEDDED or step != "finish_run":
        assert done.code == 1, done.stdout + done.stderr
    else:
        # All that a run on Supabase needs of this disk then is a place for the end of its log.
        assert done.stdout.startswith("promoted"), done.stdout + done.stderr
    assert_repaired(place, tmp_path / "w", NOW + timedelta(hours=2))


_FULL = """
create or replace function no_room() returns trigger language plpgsql as $$
begin raise 'could not extend file: No space left on device' using errcode = '53100'; end $$;
"""


@contextmanager
def without_room(project: SupabaseProject) -> Iterator[None]:
    """The database's own disk is full: it answers every write as PostgreSQL does then."""
    with psycopg.connect(project.dsn, autocommit=True) as database:
        database.execute(_FULL)
        tables = [
            name
            for (name,) in database.execute(
                "select tablename from pg_tables where schemaname = 'public'"
            )
        ]
        for name in tables:
            database.execute(
                sql.SQL(
                    "create trigger no_room before insert or update or delete on {} "
                    "for each statement execute function no_room()"
                ).format(sql.Identifier(name))
            )
        try:
            yield
        finally:
            for name in tables:
                database.execute(sql.SQL("drop trigger no_room on {}").format(sql.Identifier(name)))


@pytest.mark.usefixtures("our_schema")
@pytest.mark.parametrize(
    "step", long_but(["promote"], ["start_run", "register", "promote", "finish_run"])
)
def test_a_database_without_room_is_no_success_and_the_next_run_repairs(
    project: SupabaseProject, first_model: FirstModel, tmp_path: Path, step: str
) -> None:
    place = Place(
        kind=SUPABASE,
        variables={"SUPABASE_URL": project.url, "SUPABASE_SERVICE_KEY": project.service_key},
        project=project,
    )
    place.fill(first_model, NIGHTS)
    full = without_room(project)

    def fill_up(name: str, _number: int) -> None:
        if name == step:
            full.__enter__()

    with with_short_timeouts(place) as store:
        try:
            with pytest.raises(StoreUnavailable, match="No space left on device"):
                recording.run(crashing.through(store, fill_up), crashing.order(tmp_path / "w"))
        finally:
            full.__exit__(None, None, None)
    assert_repaired(place, tmp_path / "w", NOW + timedelta(hours=2))


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def as_nobody(work: Path) -> None:
    """A run as a user who may not write there."""
    store = open_store(load_store_settings())
    # The interpreter's own folder may be closed to nobody: what is used has to be there already.
    store.list_runs(model_name="default", limit=1)
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    outcome = recording.run(store, crashing.order(work))
    print(outcome.result["outcome"], outcome.result["error"])  # noqa: T201 - the child's answer
    sys.exit(isinstance(outcome, Failed))


def test_a_run_that_may_not_write_its_files_is_recorded_as_failed_with_the_way_out(
    place: Place, first_model: FirstModel, public_folder: Path, tmp_path: Path
) -> None:
    variables = place.variables
    if place.kind == EMBEDDED:
        variables = {"ML_PIPELINE_LOCAL": str(public_folder / "store")}
        place = Place(kind=EMBEDDED, variables=variables)
    place.fill(first_model, NIGHTS)
    for item in (public_folder, *public_folder.rglob("*")):
        item.chmod(0o777 if item.is_dir() else 0o666)
    (public_folder / "work").mkdir(mode=0o555)

    done = warm.call(as_nobody, public_folder / "work", cwd=public_folder, **variables)

    assert done.code == 1, done.stderr
    assert "failed" in done.stdout
    assert "Permission denied" in done.stdout
    assert "run.work_dir" in done.stdout
    with place.opened() as store:
        (run,) = store.list_runs(model_name="default", limit=9)
        assert run.status is RunStatus.FAILED
    assert_repaired(place, tmp_path / "w", NOW + timedelta(minutes=1))


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Somebody holds the tables and does not let go."""
    if place.project is not None:
        with psycopg.connect(place.project.dsn) as other:
            other.execute("lock table model_retraining_runs in access exclusive mode")
            yield
            other.rollback()
        return
    other_local = sqlite3.connect(
        Path(place.variables["ML_PIPELINE_LOCAL"]) / "store.db", isolation_level=None
    )
    other_local.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other_local.close()


@contextmanager
def with_short_timeouts(place: Place) -> Iterator[Store]:
    """A handle that waits for a fraction of a second."""
    store = _impatient(place)
    try:
        yield store
    finally:
        store.close()


def _impatient(place: Place) -> Store:
    if place.project is None:
        folder = Path(place.variables["ML_PIPELINE_LOCAL"])
        return LocalStore.open(folder, lock_timeout=timedelta(milliseconds=200))
    timeouts = Timeouts(attempts=2, budget=1, first_wait=0.01, jitter=0.01, answer=0.5)
    return SupabaseStore.open(
        place.project.url, SecretStr(place.project.service_key), timeouts=timeouts
    )


@pytest.mark.parametrize("step", ["fail_stale_runs", "finish_run"])
def test_a_database_that_is_locked_for_longer_than_the_time_out_is_said_and_made_good_for(
    place: Place, first_model: FirstModel, tmp_path: Path, step: str
) -> None:
    place.fill(first_model, NIGHTS)
    lock = locked(place)

    def close_the_door(name: str, _number: int) -> None:
        if name == step:
            lock.__enter__()

    with with_short_timeouts(place) as store:
        try:
            with pytest.raises(StoreUnavailable) as reported:
                recording.run(
                    crashing.through(store, close_the_door), crashing.order(tmp_path / "w")
                )
        finally:
            lock.__exit__(None, None, None)
    assert "try again" in str(reported.value).lower() or "answer" in str(reported.value)
    assert_repaired(place, tmp_path / "w", NOW + timedelta(hours=2))
