"""What predictions and their log cost, each against a reference in the same run.

`python -m tests.benchmarks.bench_predict --only cold|warm|batch|log|reconcile` prints JSON with
the medians of paired measurements. `--rows` sets the size of batch and reconcile.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import numpy as np

from ml_pipeline.evaluation_log.opening import get_logger
from ml_pipeline.serving.engine import PredictionEngine
from ml_pipeline.store.event_row import new_event_id
from tests.support.shell import environment

FEATURES = (
    "home_team_form", "away_team_form", "home_team_strength", "away_team_strength",
    "home_advantage",
)  # fmt: skip
ROW = ("7.5", "6.2", "8.0", "7.5", "0.5")
QUESTION = "What is the capital of Norway?"
MODELS = ("LogisticRegression", "RandomForest")
CUSTOMER = (
    "plan=startup", "country=", "payment=card", "signed_up=2026-01-05", "autopay=true",
    "monthly_price=12.5", "support_calls=2", "satisfaction=", "discount=none",
)  # fmt: skip
BATCH = 1000


def make_stores(folder: Path) -> None:
    """An embedded store for each kind of model, made by the command."""
    for algorithm in MODELS:
        command = ["train", "--register", "--local", algorithm, "--algorithm", algorithm]
        subprocess.run(
            [sys.executable, "-m", "ml_pipeline", *command, "--model_id", "m", "--output_dir", "o"],
            cwd=folder, env=environment(), check=True, capture_output=True,
        )  # fmt: skip


def make_example(folder: Path, name: str) -> None:
    """A packaged example with its champion."""
    folder.mkdir()
    for command in (["init", "--example", name], ["train", "--register"]):
        subprocess.run(
            [sys.executable, "-m", "ml_pipeline", *command, "--local", "store"],
            cwd=folder, env=environment(), check=True, capture_output=True,
        )  # fmt: skip


def seconds(command: Sequence[str], folder: Path) -> float:
    """A command from start to end, with bytecode as an installation has it."""
    started = time.perf_counter()
    subprocess.run(
        command, cwd=folder, check=True, capture_output=True,
        env={k: v for k, v in environment().items() if k != "PYTHONDONTWRITEBYTECODE"},
    )  # fmt: skip
    return time.perf_counter() - started


def cold(folder: Path, repeats: int) -> dict[str, float]:
    """`predict` as a process, in multiples of `python -c pass`."""
    make_stores(folder)
    for name in ("router", "churn"):
        make_example(folder / name, name)
    asked = {name: (folder, ["--local", name, "--predict", *ROW]) for name in MODELS}
    asked["router"] = (folder / "router", ["--local", "store", "--text", QUESTION])
    # Categories, a truth, a time, a gap and a level that nobody has seen.
    asked["churn"] = (folder / "churn", ["--local", "store", "--predict", *CUSTOMER])
    ratios: dict[str, list[float]] = {}
    for _ in range(repeats + 1):
        empty = seconds([sys.executable, "-c", "pass"], folder)
        for model, (place, flags) in asked.items():
            for log in (True, False):
                command = [sys.executable, "-m", "ml_pipeline", "predict", *flags]
                name = f"{model}, {'logged' if log else 'not logged'}"
                command += [] if log else ["--no-log"]
                ratios.setdefault(name, []).append(seconds(command, place) / empty)
    # The first round makes the bytecode.
    return {name: statistics.median(values[1:]) for name, values in ratios.items()}


def _each(call: Callable[[], object], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times


def warm(folder: Path, repeats: int) -> dict[str, float]:
    """One row in a running process, as a share of scikit-learn's own `predict_proba`.

    That is the classifier's alone, of a row that is prepared already; `of the pipeline` divides by
    that of all steps, which impute, clip and scale as `predict` does.
    """
    from ml_pipeline.registry.models import load_model_version
    from ml_pipeline.store.embedded.store import LocalStore

    make_stores(folder)
    found: dict[str, float] = {}
    for algorithm in MODELS:
        store = LocalStore.open(folder / algorithm)
        champion = store.champion(model_name="default")
        assert champion is not None
        base = load_model_version(store, champion).base_
        with PredictionEngine(local_dir=str(folder / algorithm), log=False) as engine:
            score, predict, whole = _against(base, engine, repeats)
        found |= {
            f"{algorithm}, score": score,
            f"{algorithm}, predict": predict,
            f"{algorithm}, predict, of the pipeline": whole,
        }
    return found


def _against(base: Any, engine: PredictionEngine, repeats: int) -> tuple[float, float, float]:  # noqa: ANN401
    row = [float(value) for value in ROW]
    classifier, prepared, scorer = base.steps[-1][1], base[:-1].transform([row]), engine.scorer()
    score, predict, whole = [], [], []
    for _ in range(repeats):
        theirs = _each(lambda: classifier.predict_proba(prepared), 100)
        score.append(_each(lambda: scorer.probabilities(row), 300) / theirs)
        ours = _each(lambda: engine.predict(row), 300)
        predict.append(ours / theirs)
        whole.append(ours / _each(lambda: base.predict_proba([row]), 100))
    return statistics.median(score), statistics.median(predict), statistics.median(whole)


def log(folder: Path, repeats: int) -> dict[str, float]:
    """Rate of logged predictions, as a share of bare `write` + `fdatasync`.

    One by one the syncs decide. In batches it is the processor's time: see both in microseconds.
    """
    logger = get_logger(local_dir=str(folder / "store"))
    features: dict[str, object] = dict.fromkeys(FEATURES, 0.5)
    line, file = b"x" * 400 + b"\n", os.open(folder / "bare", os.O_CREAT | os.O_WRONLY)

    def bare() -> None:
        os.write(file, line)
        os.fdatasync(file)

    def one() -> None:
        logger.log_prediction("m", "match", "H", 0.731, features=features)

    given = [
        {"model_id": "m", "match_id": str(n), "prediction": "H", "confidence": 0.731,
         "features": features} for n in range(BATCH)
    ]  # fmt: skip
    _each(one, 200)
    single, batch, syncs, events = [], [], [], []
    for _ in range(repeats):
        syncs.append(_each(bare, 200))
        single.append(syncs[-1] / _each(one, 200))
        events.append(_each(lambda: logger.log_predictions(given), 5) / BATCH)
        batch.append(syncs[-1] / events[-1])
    logger.close()
    os.close(file)
    return {
        "one by one": statistics.median(single),
        "in batches": statistics.median(batch),
        "bare sync, us": statistics.median(syncs) * 1e6,
        "event in a batch, us": statistics.median(events) * 1e6,
    }


# ----------------------------------------------------------- in fresh processes, with memory


def _child(name: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.bench_predict", "--child", name]
    done = subprocess.run(
        [*command, "--folder", str(folder)], check=True, capture_output=True, text=True
    )
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _pairs(folder: Path, ours: str, theirs: str, repeats: int) -> dict[str, Any]:
    pairs = [(_child(ours, folder), _child(theirs, folder)) for _ in range(repeats)]
    return {
        "ratio": statistics.median(a["seconds"] / b["seconds"] for a, b in pairs),
        "ours_s": statistics.median(a["seconds"] for a, _ in pairs),
        "ours_mb": max(a["megabytes"] for a, _ in pairs),
        "theirs_mb": max(b["megabytes"] for _, b in pairs),
    }


def batch(folder: Path, repeats: int, rows: int) -> dict[str, Any]:
    """A CSV of rows to a CSV of predictions, against pandas and `predict_proba`."""
    import pandas as pd

    make_stores(folder)
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.uniform(0, 10, (rows, 5)).round(3), columns=list(FEATURES))
    frame.insert(0, "match_id", [f"match_{n}" for n in range(rows)])
    frame.to_csv(folder / "rows.csv", index=False)
    return _pairs(folder, "batch_ours", "batch_pandas", repeats)


def batch_ours(folder: Path) -> None:
    """The command's own function."""
    from ml_pipeline.serving.batch import predict_csv

    with PredictionEngine(local_dir=str(folder / MODELS[0]), log=False) as engine:
        predict_csv(
            engine, str(folder / "rows.csv"), str(folder / "ours.csv"), log=False,
            bars=lambda _name, _total: lambda: None,
        )  # fmt: skip


def batch_pandas(folder: Path) -> None:
    """read_csv, predict_proba, to_csv."""
    import pandas as pd

    from ml_pipeline.registry.models import load_model_version
    from ml_pipeline.store.embedded.store import LocalStore

    store = LocalStore.open(folder / MODELS[0])
    champion = store.champion(model_name="default")
    assert champion is not None
    model = load_model_version(store, champion)
    frame = pd.read_csv(folder / "rows.csv")
    shares = model.predict_proba(frame[list(FEATURES)].to_numpy())
    frame["prediction"] = model.classes_[shares.argmax(axis=1)]
    frame["confidence"] = shares.max(axis=1)
    for place, label in enumerate(model.classes_):
        frame[f"probability_{label}"] = shares[:, place]
    frame.to_csv(folder / "pandas.csv", index=False)


def reconcile(folder: Path, repeats: int, rows: int) -> dict[str, Any]:
    """The CSV log against the table, and a pandas outer merge of the same two logs.

    With random ids, and with ours: pandas merges keys that come in order twice as fast.
    """
    found = {}
    for name, new_id in (("random ids", lambda: str(uuid4())), ("ids by time", new_event_id)):
        _fill_both(folder / name, rows, new_id)
        found[name] = _pairs(folder / name, "reconcile_ours", "reconcile_pandas", repeats)
    return found


def _fill_both(folder: Path, rows: int, new_id: Callable[[], str]) -> None:
    random = np.random.default_rng(0)
    with get_logger(local_dir=str(folder / "store")) as logger:
        for start in range(0, rows, 10_000):
            size = min(rows - start, 10_000)
            values = random.uniform(0, 10, (size, len(FEATURES))).round(3).tolist()
            logger.log_predictions(
                {"event_id": new_id(), "model_id": "m", "match_id": f"match_{start + n}",
                 "prediction": "H", "confidence": sure,
                 "features": dict(zip(FEATURES, values[n], strict=True))}
                for n, sure in enumerate(random.uniform(0, 1, size).tolist())
            )  # fmt: skip


def reconcile_ours(folder: Path) -> None:
    """The logger's own comparison."""
    with get_logger(local_dir=str(folder / "store")) as logger:
        assert logger.reconcile_logs()["consistent"]


def reconcile_pandas(folder: Path) -> None:
    """Both logs as frames, merged by event id, compared column by column."""
    import sqlite3

    import pandas as pd

    left = pd.read_csv(folder / "store" / "logs" / "evaluation_log.csv")
    with sqlite3.connect(folder / "store" / "store.db") as db:
        right = pd.read_sql("SELECT * FROM evaluation_log", db)
    both = left.merge(right, on="event_id", how="outer", indicator=True, suffixes=("", "_table"))
    assert (both["_merge"] == "both").all()
    for name in ("model_id", "match_id", "prediction", "features"):
        assert (both[name] == both[f"{name}_table"]).all()
    assert np.allclose(both["confidence"], both["confidence_table"], rtol=1e-12)


CHILDREN: dict[str, Callable[[Path], None]] = {
    name: globals()[name]
    for name in ("batch_ours", "batch_pandas", "reconcile_ours", "reconcile_pandas")
}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["cold", "warm", "log", "batch", "reconcile"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parent", help="folder for the scratch files")
    parser.add_argument("--child", choices=sorted(CHILDREN), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        started = time.perf_counter()
        CHILDREN[args.child](Path(args.folder))
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": time.perf_counter() - started, "megabytes": used}))
        return
    small = {"cold": cold, "warm": warm, "log": log}
    large = {"batch": batch, "reconcile": reconcile}
    for name in [args.only] if args.only else [*small, *large]:
        with TemporaryDirectory(dir=args.parent) as folder:
            if name in small:
                result: object = small[name](Path(folder), args.repeats)
            else:
                result = large[name](Path(folder), args.repeats, args.rows)
        print(json.dumps({name: result}))


if __name__ == "__main__":
    main()
