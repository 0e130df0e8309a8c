"""On a Dask cluster of two workers the numbers are the same, to the last bit."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.support.shell import PYTHON, TIMEOUT_S, environment, ml_pipeline, python
from tests.support.streams import FEATURES, draw

BACKTEST = ("backtest", "--csv", "history.csv", "--target", "y", "--night", "night")
WORKED = (
    "from distributed import Client; import sys; client = Client(sys.argv[1]);"
    "counts = client.run(lambda dask_worker: dask_worker.state.transition_counter);"
    "print(sorted(counts.values()))"
)
CONFIG = {"data": {"features": FEATURES, "target": "y", "classes": ["A", "D", "H"]}}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler and two workers, each a process of its own."""
    folder = tmp_path_factory.mktemp("dask")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    host, _, port = address.partition(":")
    dask = [PYTHON, "-m", "dask"]
    where = {"cwd": folder, "env": environment(), "stderr": subprocess.DEVNULL}
    scheduler = [*dask, "scheduler", "--host", host, "--port", port, "--no-dashboard"]
    worker = [*dask, "worker", f"tcp://{address}", "--nthreads", "1", "--no-dashboard"]
    started = [subprocess.Popen(scheduler, **where)]  # type: ignore[call-overload]
    try:
        _wait_for(host, int(port))
        started += [subprocess.Popen(worker, **where) for _ in range(2)]  # type: ignore[call-overload]
        yield f"tcp://{address}"
    finally:
        for process in started:
            process.kill()
            process.wait()


def _wait_for(host: str, port: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        with socket.socket() as caller:
            if caller.connect_ex((host, port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"no scheduler at {host}:{port}")


@pytest.fixture
def history(tmp_path: Path) -> Path:
    features, labels = draw(5, 1200)
    frame = pd.DataFrame(features, columns=FEATURES)
    frame["y"] = labels
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame["night"] = frame.index // 60
    frame.to_csv(tmp_path / "history.csv", index=False)
    (tmp_path / "model_config.yaml").write_text(json.dumps(CONFIG), encoding="utf-8")
    return tmp_path


@pytest.mark.long
def test_a_replay_and_a_cross_validation_are_the_same_on_a_cluster_to_the_last_bit(
    history: Path, cluster: str
) -> None:
    here = ml_pipeline(*BACKTEST, "--output_dir", "here", cwd=history)
    away = ml_pipeline(*BACKTEST, "--output_dir", "away", "--cluster", cluster, cwd=history)
    assert (here.code, away.code) == (0, 0), away.stderr
    assert (history / "here" / "nights.csv").read_bytes() == (
        history / "away" / "nights.csv"
    ).read_bytes()
    train = ("train", "--dataset", "rows.csv", "--algorithm", "RandomForest")
    alone = ml_pipeline(*train, cwd=history)
    spread = ml_pipeline(*train, "--cluster", cluster, cwd=history)
    assert (alone.code, spread.code) == (0, 0), spread.stderr
    assert alone.json["cross_validation"] == spread.json["cross_validation"]
    assert alone.json["cross_validation"]["folds"] == 5
    assert alone.json["metrics"] == spread.json["metrics"]
    worked = json.loads(python("-c", WORKED, cluster, cwd=history).stdout)
    assert len(worked) == 2
    assert min(worked) > 0, "a worker was given nothing"


@pytest.mark.long
def test_a_cluster_that_is_not_there_is_named_and_nothing_is_written(history: Path) -> None:
    done = ml_pipeline(
        *BACKTEST, "--output_dir", "out", "--cluster", "tcp://127.0.0.1:1", cwd=history
    )
    assert done.code == 1
    assert done.json["error_type"] == "ConfigError"
    assert "no Dask scheduler at tcp://127.0.0.1:1" in done.json["error"]
    assert not (history / "out").exists()
