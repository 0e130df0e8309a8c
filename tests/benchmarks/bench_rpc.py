"""What a prediction by Supabase itself takes: `python -m tests.benchmarks.bench_rpc`.

Calls of PostgREST by one client, in turn with a function that returns a constant: the quickest of
each, which other load on the machine changes least. Of a batch the processor time of the server's
process.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
from pydantic import SecretStr

from ml_pipeline.config.sections import TrainingSettings
from ml_pipeline.config.settings import Settings
from ml_pipeline.store.supabase.store import SupabaseStore
from ml_pipeline.training import algorithms
from ml_pipeline.training.adaptive import AdaptiveClassifier
from tests.contract.supabase.callers import migrate
from tests.support.scored import Registry
from tests.support.supabase.project import SupabaseProject, open_project

NAME, CLASSES, WIDTH = "default", ["H", "D", "A"], 10
FEATURES = [f"feature_{number}" for number in range(WIDTH)]
CONSTANT = """
    create function constant(features jsonb) returns jsonb language sql as
        $$ select '{"prediction": "H"}'::jsonb $$;
    grant execute on function constant(jsonb) to service_role
"""


def model_of(algorithm: str) -> AdaptiveClassifier:
    """A base of ten features and three classes, whose heads have learned a night."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(4000, WIDTH))
    scores = rows @ random.normal(size=(WIDTH, 3)) + random.gumbel(size=(4000, 3))
    labels = np.asarray(CLASSES)[scores.argmax(axis=1)]
    base = algorithms.fit(algorithm, rows, labels, TrainingSettings())
    model = AdaptiveClassifier(base).adopt(base, rows, CLASSES)
    model.feature_names_ = FEATURES
    return model.partial_fit(rows[:200], labels[:200])


def ratio(http: httpx.Client, body: Mapping[str, Any], pairs: int) -> tuple[float, float]:
    """Milliseconds of the quickest prediction, and how many times the quickest constant's."""
    features = {"features": body["features"]}

    def once(function: str, sent: Mapping[str, Any]) -> float:
        began = time.perf_counter()
        http.post(f"/rpc/{function}", json=sent).raise_for_status()
        return time.perf_counter() - began

    for _ in range(20):
        once("predict", body)
    found = [(once("predict", body), once("constant", features)) for _ in range(pairs)]
    first, second = map(min, zip(*found, strict=True))
    return 1000 * first, first / second


def processor_ms(project: SupabaseProject, rows: int, *, log: bool) -> float:
    """Milliseconds of the server's processor for each row of one batch."""
    first, sent = ([dict.fromkeys(FEATURES, 0.3)] * count for count in (1, rows))
    with psycopg.connect(project.dsn, autocommit=True) as database:
        place = Path(f"/proc/{database.info.backend_pid}/schedstat")

        def spent() -> float:
            return int(place.read_text(encoding="utf-8").split()[0]) / 1e6

        ask = "select predict_batch(%s, %s, %s)"
        database.execute(ask, [NAME, json.dumps(first), False])
        began = spent()
        database.execute(ask, [NAME, json.dumps(sent), log])
        return (spent() - began) / rows


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--rows", type=int, default=10_000)
    args = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    body = {"model_name": NAME, "features": dict.fromkeys(FEATURES, 0.3)}
    with open_project() as project:
        migrate(project)
        project.sql(CONSTANT)
        project.keep()
        store = SupabaseStore.open(project.url, SecretStr(project.service_key))
        registry = Registry(store=store, settings=Settings())
        transport = httpx.HTTPTransport(uds=str(project.rests[project.max_rows].socket_path))
        identity = {"Authorization": f"Bearer {project.service_key}"}
        print("| model | logged | ms a call | × a constant | processor ms a row of a batch |")
        print("|---|---|---|---|---|")
        with httpx.Client(base_url="http://x", transport=transport, headers=identity) as http:
            for number, algorithm in enumerate(("LogisticRegression", "RandomForest")):
                registry.promote(registry.register(f"m-{number}", model_of(algorithm)), number + 1)
                for log in (False, True):
                    took, times = ratio(http, {**body, "log": log}, args.pairs)
                    each = processor_ms(project, args.rows, log=log)
                    print(f"| {algorithm} | {log} | {took:.2f} | {times:.2f} | {each:.3f} |")
        store.close()


if __name__ == "__main__":
    main()
