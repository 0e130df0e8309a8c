"""Predictions over HTTP: `ml-pipeline serve` beside `mlflow models serve`, on one core each.

`python -m tests.benchmarks.bench_serve` prints JSON with the medians of paired measurements, for
one caller and for four. Both serve a logistic regression of the bundled sample; ours has its
adaptive heads as well. The servers share one core and callers have the other, so nothing else
should run. MLflow is installed into a temporary folder, unless `--mlflow PYTHON` names the Python
of an environment that has it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support.served import FEATURES, ROW
from tests.support.shell import ROOT, environment

TOKEN = "a token of a benchmark"
SERVERS, CALLERS = 0, 1
CLIENTS = (1, 4)
MAKE_MODEL = """
import sys, csv, mlflow
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
rows = list(csv.DictReader(open(sys.argv[1])))
names = sys.argv[3:]
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
model.fit([[float(row[n]) for n in names] for row in rows], [row["result"] for row in rows])
mlflow.sklearn.save_model(model, sys.argv[2], pyfunc_predict_fn="predict_proba")
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Requests a second, and how long one took in milliseconds."""

    rate: float
    p50: float
    p99: float


def request(path: str, body: Any) -> bytes:  # noqa: ANN401 - JSON
    content = json.dumps(body).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(content)}\r\n\r\n"
    ).encode() + content


def measure(port: int, sent: bytes, *, clients: int, seconds: float) -> Measured:
    """So many callers, each of which asks again when it has its answer."""
    poll, callers = select.poll(), dict[int, tuple[socket.socket, bytearray]]()
    began, took = dict[int, float](), list[float]()
    for _ in range(clients):
        caller = socket.create_connection(("127.0.0.1", port), timeout=10)
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        callers[caller.fileno()] = caller, bytearray()
        poll.register(caller, select.POLLIN)
    for number, (caller, _) in callers.items():
        began[number] = time.perf_counter()
        caller.sendall(sent)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        for number, _ in poll.poll(1000):
            caller, answer = callers[number]
            answer += caller.recv(1 << 16)
            head, found, body = bytes(answer).partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if found and length is not None and len(body) >= int(length[1]):
                if b" 200 " not in head[:16]:
                    raise RuntimeError(answer.decode())
                took.append(time.perf_counter() - began[number])
                answer.clear()
                began[number] = time.perf_counter()
                caller.sendall(sent)
    for caller, _ in callers.values():
        caller.close()
    took.sort()
    return Measured(
        rate=len(took) / seconds,
        p50=1000 * took[len(took) // 2],
        p99=1000 * took[int(len(took) * 0.99)],
    )


@contextmanager
def running(command: list[str], folder: Path, port: int, **variables: str) -> Iterator[int]:
    """A server on its core, once it listens; yields its port."""
    os.sched_setaffinity(0, {SERVERS})  # which a child has from its parent
    with (folder / f"{port}.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, start_new_session=True,
            env={**environment(), **variables},
        )  # fmt: skip
    os.sched_setaffinity(0, {CALLERS})
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.2)
        yield port
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def ours(folder: Path, stack: ExitStack) -> int:
    subprocess.run(
        [sys.executable, "-m", "ml_pipeline", "train", "--register", "--local", "store",
         "--algorithm", "LogisticRegression", "--output_dir", "o"],
        cwd=folder, env=environment(), check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "ml_pipeline",
        "serve",
        "--local",
        "store",
        "--port",
        str(port),
    ]
    return stack.enter_context(running(command, folder, port, ML_PIPELINE_SERVE_TOKEN=TOKEN))


def theirs(folder: Path, stack: ExitStack, python: str | None) -> int:
    if python is None:
        subprocess.run([sys.executable, "-m", "venv", "mlflow"], cwd=folder, check=True)
        python = str(folder / "mlflow" / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "-q", "mlflow"], cwd=folder, check=True)
    data = str(ROOT / "ml_pipeline" / "data" / "training_dataset.csv")
    path = f"{Path(python).parent}:{os.environ['PATH']}"
    subprocess.run(
        [python, "-c", MAKE_MODEL, data, "model", *FEATURES],
        cwd=folder, env={**environment(), "PATH": path, "PYTHONPATH": ""}, check=True,
        capture_output=True,
    )  # fmt: skip
    port = free_port()
    command = [python, "-m", "mlflow", "models", "serve", "-m", "model", "-p", str(port),
               "--env-manager", "local"]  # fmt: skip
    return stack.enter_context(running(command, folder, port, PATH=path, PYTHONPATH=""))


def compared(mine: int, other: int, *, clients: int, rounds: int) -> dict[str, float]:
    row = [float(value) for value in ROW]
    asked = {
        "unlogged": (mine, request("/v1/predict", {"features": row, "log": False})),
        "logged": (mine, request("/v1/predict", {"features": row})),
        "mlflow": (
            other,
            request("/invocations", {"dataframe_split": {"columns": FEATURES, "data": [row]}}),
        ),
        "mlflow_inputs": (other, request("/invocations", {"inputs": [row]})),
    }
    found: dict[str, list[Measured]] = {name: [] for name in asked}
    for _ in range(rounds + 1):
        for name, (port, sent) in asked.items():
            found[name].append(measure(port, sent, clients=clients, seconds=2))
    # The first round warms up.
    middle = {
        name: {
            key: statistics.median(getattr(one, key) for one in every[1:])
            for key in ("rate", "p50", "p99")
        }
        for name, every in found.items()
    }
    pairs = list(zip(found["unlogged"], found["logged"], found["mlflow"], strict=True))[1:]
    return {
        **{
            f"{name}_{key}": round(value, 3)
            for name, it in middle.items()
            for key, value in it.items()
        },
        "times_mlflow": round(statistics.median(a.rate / c.rate for a, _, c in pairs), 2),
        "p99_of_mlflow_p50": round(statistics.median(a.p99 / c.p50 for a, _, c in pairs), 2),
        "logged_of_unlogged": round(statistics.median(b.rate / a.rate for a, b, _ in pairs), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mlflow", metavar="PYTHON", help="Python of an environment with MLflow")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with TemporaryDirectory() as name, ExitStack() as stack:
        mine = ours(Path(name), stack)
        other = theirs(Path(name), stack, args.mlflow)
        found = {
            f"{clients} callers": compared(mine, other, clients=clients, rounds=args.rounds)
            for clients in CLIENTS
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
