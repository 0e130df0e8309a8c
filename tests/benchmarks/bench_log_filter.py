"""Filter a large evaluation log: this package against DuckDB's own COPY, and the embedded table.

`python -m tests.benchmarks.bench_log_filter --rows 10000000` writes a CSV log of a year into a
temporary folder, lets both filter it in turn, each time in a fresh process, and prints JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pandas as pd

from ml_pipeline.config.defaults import ERROR_CONFIDENCE_THRESHOLD
from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation_log.loading import load_log
from ml_pipeline.evaluation_log.rules import LogRequest
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import EVENT_COLUMNS, LookbackWindow

NOW = datetime(2026, 7, 1, tzinfo=UTC)
WEEK = LookbackWindow.ending(NOW, days=7)
ERRORS = 1000
CHUNK = 50_000

# A year in order, one row in a hundred still pending, every other value drawn from the hash.
LOG = """
SELECT strftime(moment, '%Y-%m-%dT%H:%M:%S+00:00') AS timestamp, uuid_of AS event_id,
    'prediction' AS event_type, 'model-' || luck % 5 AS model_id, 'match-' || i AS match_id,
    ['H', 'D', 'A'][1 + luck // 8 % 3] AS prediction,
    CASE WHEN waiting THEN '' ELSE ['H', 'D', 'A'][1 + luck // 64 % 3] END AS actual_result,
    round(0.34 + luck // 512 % 66 / 100, 2) AS confidence,
    CASE WHEN waiting THEN '' WHEN luck // 8 % 3 = luck // 64 % 3 THEN '1.0' ELSE '0.0' END
    AS accuracy,
    '{{"league": "L' || luck % 20 || '"}}' AS metadata,
    CASE WHEN waiting THEN 'pending' ELSE 'evaluated' END AS status, 'default' AS model_name,
    '{{"home_team_form": ' || luck % 100 / 10 || ', "away_team_form": ' || luck // 100 % 100 / 10
    || ', "home_team_strength": ' || luck // 10000 % 100 / 10 || ', "away_team_strength": '
    || luck // 1000000 % 100 / 10 || ', "home_advantage": 0.5}}' AS features,
    CASE WHEN waiting THEN ''
    ELSE strftime(moment + INTERVAL 2 HOUR, '%Y-%m-%dT%H:%M:%S+00:00') END AS evaluated_at
FROM (SELECT i, (hash(i) >> 2)::BIGINT AS luck, hash(i + 1000000007) % 100 = 0 AS waiting,
    substr(m, 1, 8) || '-' || substr(m, 9, 4) || '-4'
    || substr(m, 14, 3) || '-a' || substr(m, 18, 3)
    || '-' || substr(m, 21, 12) AS uuid_of,
    TIMESTAMP '2025-06-30 22:00:00' + to_seconds(({when})::BIGINT) AS moment
    FROM (SELECT i, md5(i::VARCHAR) AS m FROM range({rows}) t(i)))
"""


def write_csv(path: Path, rows: int, *, shuffled: bool) -> None:
    """Write the log in the order of its times, or in none."""
    when = "hash(i + 7) % 31536000" if shuffled else f"i * 31536000 // {rows}"
    with duckdb.connect() as connection:
        connection.execute("SET memory_limit = '2GB'")
        connection.execute(
            f"COPY ({LOG.format(rows=rows, when=when)}) TO '{path}' (HEADER, DELIMITER ',')"
        )


def filter_ours(path: Path, folder: Path) -> dict[str, float]:
    """Load the last week the way a night does."""
    settings = Settings().changed({"log.source": str(path)})
    request = LogRequest(now=NOW, window=WEEK, learn_from=WEEK.start, model_ids=None)
    started = time.perf_counter()
    with TemporaryDirectory(dir=folder) as work:
        # A file is read without the store.
        loaded = load_log(None, settings, request, Path(work))  # type: ignore[arg-type]
    return {"seconds": time.perf_counter() - started, "errors": loaded.report.errors}


def filter_duckdb(path: Path, folder: Path) -> dict[str, float]:
    """Copy the same errors with DuckDB, without a single check."""
    target = folder / "peer.csv"
    started = time.perf_counter()
    with duckdb.connect() as connection:
        (count,) = connection.execute(
            f"COPY (SELECT * FROM read_csv('{path}') WHERE prediction <> actual_result "  # noqa: S608
            f"AND confidence > {ERROR_CONFIDENCE_THRESHOLD} "
            f"AND evaluated_at >= TIMESTAMPTZ '{WEEK.start}' "
            f"AND evaluated_at < TIMESTAMPTZ '{WEEK.end}') TO '{target}' (HEADER)"
        ).fetchall()[0]
    return {"seconds": time.perf_counter() - started, "errors": count}


FILTERS: dict[str, Callable[[Path, Path], dict[str, float]]] = {
    "ours": filter_ours,
    "duckdb": filter_duckdb,
}


def run_child(name: str, path: Path) -> dict[str, float]:
    """Filter once in a fresh process."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_log_filter"]
    command += ["--child", name, "--path", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def compare_filters(
    rows: int, repeats: int, parent: str | None, *, shuffled: bool
) -> dict[str, Any]:
    """Alternate both, so that whatever else the machine does meets both."""
    with TemporaryDirectory(dir=parent) as folder:
        path = Path(folder) / "log.csv"
        write_csv(path, rows, shuffled=shuffled)
        pairs = [{name: run_child(name, path) for name in FILTERS} for _ in range(repeats)]
        size = path.stat().st_size
    found = {measured["errors"] for pair in pairs for measured in pair.values()}
    if len(found) != 1:
        raise AssertionError(f"the two found different numbers of errors: {found}")
    ratios = [pair["ours"]["seconds"] / pair["duckdb"]["seconds"] for pair in pairs]
    cpu = [pair["ours"]["cpu_s"] / pair["duckdb"]["cpu_s"] for pair in pairs]
    return {
        "rows": rows,
        "order": "none" if shuffled else "time",
        "megabytes": round(size / 1e6),
        "errors": int(found.pop()),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "cpu_ratio": round(statistics.median(cpu), 3),
        "peak_rss_mb": round(max(pair["ours"]["rss_mb"] for pair in pairs)),
        "seconds": {name: [round(pair[name]["seconds"], 2) for pair in pairs] for name in FILTERS},
    }


def _events(first: int, last: int) -> pd.DataFrame:
    """Labelled events of a year back from NOW; the first ERRORS are errors of the last week."""
    numbers = pd.Series(range(first, last))
    is_error = numbers < ERRORS
    step = (numbers * 577 % 600_000).where(is_error, numbers * 31 % 31_000_000)
    known = pd.Timestamp(NOW) - pd.to_timedelta(step + 1, unit="s")
    frame = pd.DataFrame(
        {
            "event_id": numbers.map("00000000-0000-4000-8000-{:012d}".format),
            "timestamp": known - pd.Timedelta(hours=2),
            "event_type": "prediction",
            "model_name": "default",
            "model_id": "model-1",
            "prediction": "H",
            "confidence": 0.9,
            "features": '{"home_team_form": 1.0}',
            "actual_result": is_error.map({True: "A", False: "H"}),
            "evaluated_at": known,
        }
    )
    frame = frame.reindex(columns=list(EVENT_COLUMNS))
    return frame.astype({"metadata": object})


def time_table(folder: Path, rows: int) -> list[float]:
    """Seconds of each of several reads of the error samples."""
    store = LocalStore.open(folder / str(rows))
    for first in range(0, rows, CHUNK):
        store.append_events(_events(first, min(first + CHUNK, rows)))
    seconds = []
    for _ in range(9):
        started = time.perf_counter()
        errors = store.read_error_samples(
            WEEK, model_name="default", confidence_threshold=0.7, model_ids=["model-1"]
        )
        seconds.append(time.perf_counter() - started)
        if len(errors) != ERRORS:
            raise AssertionError(f"{len(errors)} errors, {ERRORS} were written")
    store.close()
    return seconds


def compare_tables(parent: str | None, small: int, large: int) -> dict[str, Any]:
    """Read the same number of errors from a small and from a large table."""
    with TemporaryDirectory(dir=parent) as folder:
        few, many = (time_table(Path(folder), rows) for rows in (small, large))
    ratio = statistics.median(many) / statistics.median(few)
    return {
        "rows": [small, large],
        "errors": ERRORS,
        "ms": [round(statistics.median(times) * 1000, 2) for times in (few, many)],
        "ratio": round(ratio, 3),
    }


def _child(name: str, path: Path) -> None:
    measured = FILTERS[name](path, path.parent)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    measured["rss_mb"] = usage.ru_maxrss / 1024
    measured["cpu_s"] = usage.ru_utime + usage.ru_stime
    print(json.dumps(measured))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--table_rows", type=int, default=1_000_000)
    parser.add_argument("--only", choices=["csv", "table"], help="measure one of the two")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shuffled", action="store_true", help="a log in no order")
    parser.add_argument("--folder", help="where the temporary files stand")
    parser.add_argument("--child", choices=sorted(FILTERS), help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        _child(args.child, args.path)
        return
    result = {}
    if args.only != "table":
        result["csv"] = compare_filters(
            args.rows, args.repeats, args.folder, shuffled=args.shuffled
        )
    if args.only != "csv":
        result["table"] = compare_tables(args.folder, 10_000, args.table_rows)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
