"""Memory of a line that learns a long file: day by day, and with the file read whole.

`python -m tests.benchmarks.bench_long_file --rows 1000000`: each way in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from ml_pipeline.config.settings import load_settings
from ml_pipeline.datasets.labelled_file import LabelledFile, read_labelled
from ml_pipeline.training import algorithms
from ml_pipeline.training.learned_rows import Champion
from ml_pipeline.training.online_training import adapt
from ml_pipeline.training.strategies import new_model
from tests.support.shell import ROOT, environment

FEATURES = [f"f{number}" for number in range(8)]
DAYS = 700
SETTINGS = load_settings(environment={}).changed({"data.features": FEATURES})


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--learn", nargs=2, metavar=("HOW", "FILE"), help="be one of the two")
    args = parser.parse_args()
    if args.learn:
        print(json.dumps(_learn(args.learn[0], Path(args.learn[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.csv"
        _write(path, args.rows)
        reported = {how: _child(how, path) for how in ("days", "whole")}
    assert reported["days"]["digest"] == reported["whole"]["digest"]
    print(json.dumps({"rows": args.rows} | {how: one["peak_mb"] for how, one in reported.items()}))


def _child(how: str, path: Path) -> dict[str, object]:
    command = [sys.executable, "-m", "tests.benchmarks.bench_long_file", "--learn", how, str(path)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def _learn(how: str, path: Path) -> dict[str, object]:
    if how == "days":
        file = LabelledFile.read(path, SETTINGS.data)
        first, parts = file.last, file.parts()
    else:
        first = read_labelled(str(path), SETTINGS)
        parts = iter([first])
    rows = first.features[-5000:]
    base = algorithms.fit("LogisticRegression", rows, first.labels[-5000:], SETTINGS.training)
    model = new_model(base, rows, list(SETTINGS.data.classes or ()), SETTINGS)
    today = datetime.now(UTC).date()
    learned = adapt(model, Champion(model_id="base", model=model), parts, today, SETTINGS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"peak_mb": peak, "digest": learned.training_digest}


def _write(path: Path, rows: int) -> None:
    import duckdb

    numbers = ", ".join(f"round(random() * 4 - 2, 4) AS {name}" for name in FEATURES)
    query = f"""SELECT 'e' || lpad(i::VARCHAR, 9, '0') AS event_id, 'm' || i AS match_id,
        strftime(TIMESTAMP '2024-01-01' + INTERVAL (i * {DAYS} // {rows}) DAY,
            '%Y-%m-%dT%H:%M:%S.%f+00:00') AS known_at, 'first' AS model_id, 'H' AS prediction,
        0.5 AS confidence, false AS is_error, {numbers},
        ['H', 'D', 'A'][1 + i % 3] AS {SETTINGS.data.target} FROM range({rows}) t(i)"""  # noqa: S608 - numbers and names of ours
    duckdb.sql(f"COPY ({query}) TO '{path}' (HEADER)")


if __name__ == "__main__":
    main()
