"""What a large or odd night may take: bounds for `bench_learning --only scale`.

Processor time is held against a logistic regression fitted anew on the same rows in the same
process, so that the machine does not matter. `unit/training/test_large_nights.py` has the
mechanism, in seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.benchmarks.learning.scale import NIGHTS
from tests.support.shell import ROOT, environment

# Of a refit on the base's 5,000 rows and these days; MB above what rows and base took; kB.
BOUNDS = {
    "usual": (4.0, 50, 500),
    "rows": (4.0, 600, 500),
    "classes": (4.0, 100, 4000),
    "features": (2.0, 50, 1500),
    "few": (0.5, 50, 1000),
}


@pytest.mark.long
@pytest.mark.parametrize("name", NIGHTS)
def test_a_night_stays_within_its_bounds(name: str) -> None:
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.bench_learning", "--night", name],
        cwd=ROOT, env=environment() | one_thread, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    refits, megabytes, kilobytes = BOUNDS[name]
    assert found["cpu_s"] < refits * found["refit_cpu_s"]
    assert found["peak_mb"] - found["before_mb"] < megabytes
    assert found["artifact_kb"] < kilobytes
