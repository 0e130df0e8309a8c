"""Killed between any two writes: the next run repairs, nothing is learned twice, someone serves."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from ml_pipeline.domain import ModelState, Priority, RequestStatus, RetrainingRequest, RunStatus
from ml_pipeline.local_store import LocalStore
from ml_pipeline.model_registry import load_model_version
from ml_pipeline.runs import run_pass
from tests.conftest import FirstModel
from tests.support import crashing, league

ROWS = league.play(99, 200).features
WISH = league.event_id("wish")
WRITES = 11


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, first_model: FirstModel) -> Path:
    """A store with a champion, three nights and a waiting request."""
    folder = tmp_path_factory.mktemp("prepared") / "store"
    nights = league.nights_before(crashing.NOW, 3)
    store = league.open_league(folder, first_model.path, first_model.model, nights)
    store.submit(
        RetrainingRequest(
            request_id=WISH,
            model_name="default",
            priority=Priority.NORMAL,
            status=RequestStatus.PENDING,
            created_at=crashing.NOW - timedelta(minutes=5),
        )
    )
    store.close()
    return folder


def killed_run(folder: Path, work: Path, fatal: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.support.crashing", str(folder), str(work), str(fatal)]
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def probabilities(folder: Path) -> np.ndarray:
    store = LocalStore.open(folder)
    champion = store.champion(model_name="default")
    assert champion is not None
    model = load_model_version(store, champion)
    store.close()
    return np.asarray(model.predict_proba(ROWS))


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """What a run that nobody kills ends in."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(prepared, folder / "store")
    done = killed_run(folder / "store", folder / "work", 10_000)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == WRITES, "the run writes more or less often than is tested"
    return probabilities(folder / "store")


@pytest.mark.parametrize("fatal", range(1, WRITES + 1))
def test_a_run_killed_before_any_write_is_repaired_by_the_next(
    prepared: Path, undisturbed: np.ndarray, tmp_path: Path, fatal: int
) -> None:
    folder = tmp_path / "store"
    shutil.copytree(prepared, folder)
    killed = killed_run(folder, tmp_path / "work", fatal)
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    # A champion serves in the meantime, whatever happened.
    assert probabilities(folder).shape == (200, 3)
    store = LocalStore.open(folder)
    later = crashing.NOW + timedelta(hours=2)
    run_pass(store, crashing.order(tmp_path / "work", later, "repair"))

    runs = store.list_runs(model_name="default", limit=10)
    assert all(run.status in {RunStatus.COMPLETED, RunStatus.FAILED} for run in runs)
    champions = [
        model
        for model in store.list_models(model_name="default")
        if model.state is ModelState.CHAMPION
    ]
    assert len(champions) == 1
    assert store.get_request(WISH).status is RequestStatus.COMPLETED
    store.close()
    np.testing.assert_allclose(probabilities(folder), undisturbed, rtol=0, atol=1e-12)
