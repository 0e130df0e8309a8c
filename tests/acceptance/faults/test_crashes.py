"""Killed between any two writes: the next run repairs, nothing is learned twice, someone serves."""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from ml_pipeline.registry.models import load_model_version
from ml_pipeline.runs import recording
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import (
    ModelState,
    Priority,
    RequestStatus,
    RetrainingRequest,
    RunStatus,
)
from tests.conftest import FirstModel
from tests.support import crashing, league, warm
from tests.support.places import EMBEDDED, Place, long_but
from tests.support.shell import Finished

ROWS = league.play(99, 200).features
WISH = league.event_id("wish")
NIGHTS = league.nights_before(crashing.NOW, 3)
WRITES = 14
# Before the run begins, the promotion and the run's end are written.
EVERYDAY = (3, 10, 13)


def prepare(place: Place, model: FirstModel) -> None:
    """A champion, three nights and a waiting request."""
    place.fill(model, NIGHTS)
    with place.opened() as store:
        store.submit(
            RetrainingRequest(
                request_id=WISH,
                model_name="default",
                priority=Priority.NORMAL,
                status=RequestStatus.PENDING,
                created_at=crashing.NOW - timedelta(minutes=5),
            )
        )


def killed_run(place: Place, work: Path, fatal: int) -> Finished:
    return warm.call(crashing.killed_run, work, fatal, cwd=work.parent, **place.variables)


def probabilities(store: Store) -> np.ndarray:
    champion = store.champion(model_name="default")
    assert champion is not None
    return np.asarray(load_model_version(store, champion).predict_proba(ROWS))


@pytest.fixture(scope="module")
def undisturbed(first_model: FirstModel, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """What a run that nobody kills ends in."""
    folder = tmp_path_factory.mktemp("undisturbed")
    place = Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": str(folder / "store")})
    prepare(place, first_model)
    done = killed_run(place, folder / "work", 10_000)
    assert done.code == 0, done.stderr
    assert int(done.stdout) == WRITES, "the run writes more or less often than is tested"
    with place.opened() as store:
        return probabilities(store)


@pytest.mark.parametrize("fatal", long_but(EVERYDAY, range(1, WRITES + 1)))
def test_a_run_killed_before_any_write_is_repaired_by_the_next(
    place: Place, first_model: FirstModel, undisturbed: np.ndarray, tmp_path: Path, fatal: int
) -> None:
    prepare(place, first_model)
    killed = killed_run(place, tmp_path / "work", fatal)
    assert killed.code == -signal.SIGKILL, killed.stderr

    with place.opened() as store:
        # A champion serves in the meantime, whatever happened.
        assert probabilities(store).shape == (200, 3)
        later = crashing.NOW + timedelta(hours=2)
        recording.run(store, crashing.order(tmp_path / "work", later, "repair"))

        runs = store.list_runs(model_name="default", limit=10)
        assert all(run.status in {RunStatus.COMPLETED, RunStatus.FAILED} for run in runs)
        models = store.list_models(model_name="default")
        assert sum(model.state is ModelState.CHAMPION for model in models) == 1
        promoted = [event.to_model_id for event in store.promotion_events(model_name="default")]
        assert len(promoted) == len(set(promoted)) == 2
        wish = store.get_request(WISH)
        assert wish.status is RequestStatus.COMPLETED
        assert wish.run_id in {run.run_id for run in runs if run.status is RunStatus.COMPLETED}
        np.testing.assert_allclose(probabilities(store), undisturbed, rtol=0, atol=1e-12)
