"""Time and memory of `init --from` on a large CSV.

`python -m tests.benchmarks.bench_init --megabytes 300` prints JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support import mixed
from tests.support.shell import environment

START = datetime(2024, 1, 1, tzinfo=UTC)


def write(path: Path, size: int) -> int:
    """Write a CSV of so many bytes; return how many rows it has."""
    frame = mixed.frame(50_000).drop(columns="known")
    lines = [",".join(row) for row in frame.itertuples(index=False)]
    rows = written = 0
    with path.open("w", encoding="utf-8") as file:
        file.write(f"known,{','.join(frame.columns)}\n")
        while written < size:
            known = (START + timedelta(seconds=10 * rows)).isoformat()
            written += file.write(f"{known},{lines[rows % len(lines)]}\n")
            rows += 1
    return rows


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=300)
    megabytes = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory() as folder:
        rows = write(Path(folder) / "rows.csv", megabytes * 1_000_000)
        started = time.perf_counter()
        command = [sys.executable, "-m", "ml_pipeline", "init", "--from", "rows.csv"]
        done = subprocess.run(
            [*command, "--target", "y"],
            cwd=folder, env=environment(), check=True, capture_output=True, text=True,
        )  # fmt: skip
        seconds = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    trial = json.loads(done.stdout.splitlines()[-1])["backtest"]["seconds"]
    found = {"rows": rows, "seconds": seconds, "memory_mb": memory, "trial_seconds": trial}
    print(json.dumps({name: round(value, 1) for name, value in found.items()}))


if __name__ == "__main__":
    main()
