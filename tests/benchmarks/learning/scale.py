"""Single nights that are large or odd: what the loop takes to learn them, and what it saves.

Each in a process of its own, under the memory and time limits that the settings give a training.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.registry.archive import save_model
from ml_pipeline.training import algorithms
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.learned_rows import Champion
from ml_pipeline.training.online_training import adapt
from ml_pipeline.training.strategies import new_model
from ml_pipeline.training.trainer import limit_memory
from tests.support.shell import ROOT, environment

LIMITS = Settings().training
BASE_ROWS = 5000
TODAY = date(2026, 1, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How many rows a day, features and classes; `days` are learned one by one."""

    rows: int = 1000
    features: int = 8
    classes: int = 3
    days: int = 1

    def __str__(self) -> str:
        days = f", {self.days} days" if self.days > 1 else ""
        return f"{self.rows:,} rows a day{days}, {self.features} features, {self.classes} classes"


NIGHTS = {
    "usual": Size(),
    "rows": Size(rows=1_000_000),
    "classes": Size(classes=100),
    "features": Size(features=110),
    "few": Size(rows=5, days=60),
}
HEADER = "| what is learned | CPU s a day | × a refit | peak MB | before, MB | artifact, kB |"


def measured(name: str) -> str:
    """One line of JSON: a day's time (s), the process's memory (MB) and the artifact's size (kB).

    `before_mb` is the peak before learning began: libraries, the rows and the base. `refit_cpu_s`
    is what fitting the base anew takes, on its own rows and all of these days.
    """
    limit_memory(LIMITS.memory_limit_mb)
    _learned(Size(rows=100), *_prepared(Size(rows=100)))  # brings the libraries in
    size = NIGHTS[name]
    model, data, settings = _prepared(size)
    before, began, worked = _peak_mb(), time.perf_counter(), time.process_time()
    learned = _learned(size, model, data, settings)
    seconds, cpu, peak = time.perf_counter() - began, time.process_time() - worked, _peak_mb()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.skops"
        save_model(learned, path)
        weight = path.stat().st_size / 1000
    figures = {
        "refit_cpu_s": _refit_s(size), "seconds": seconds / size.days, "cpu_s": cpu / size.days,
        "peak_mb": peak, "before_mb": before, "artifact_kb": weight,
    }  # fmt: skip
    return json.dumps({"night": name} | {key: round(value, 4) for key, value in figures.items()})


def measured_apart() -> Iterator[dict[str, Any]]:
    """Every night in a process of its own; `failed` says why one was not learned."""
    for name in NIGHTS:
        command = [sys.executable, "-m", "tests.benchmarks.bench_learning", "--night", name]
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False,
                timeout=LIMITS.time_limit_s,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            found = {"night": name, "failed": f"not ended after {LIMITS.time_limit_s:.0f} s"}
        else:
            last = (done.stderr.strip().splitlines() or ["killed"])[-1]
            failed = {"night": name, "failed": f"not learned: {last.partition(': ')[2] or last}"}
            found = json.loads(done.stdout) if done.returncode == 0 else failed
        print(json.dumps(found), flush=True)
        yield found


def table(lines: Iterable[dict[str, Any]]) -> str:
    """The lines in Markdown."""
    rows = [HEADER, "|" + "---|" * HEADER.count(" |")]
    for one in lines:
        if "failed" in one:
            rows.append(f"| {NIGHTS[one['night']]} | {one['failed']} | | | | |")
            continue
        rows.append(
            f"| {NIGHTS[one['night']]} | {one['cpu_s']:.3f} "
            f"| {one['cpu_s'] / one['refit_cpu_s']:.2f} "
            f"| {one['peak_mb']:.0f} | {one['before_mb']:.0f} | {one['artifact_kb']:.0f} |"
        )
    return "\n".join(rows)


def _drawn(size: Size) -> tuple[Settings, Any, Any]:
    """Settings, features (n, d) and labels (n,): the base's rows first, then those of the days."""
    random = np.random.default_rng(0)
    truth = random.normal(size=(size.features, size.classes))
    labels = np.asarray([f"c{number:03d}" for number in range(size.classes)])
    settings = Settings().changed(
        {
            "data.features": [f"x{number}" for number in range(size.features)],
            "data.classes": labels.tolist(),
        }
    )
    count = BASE_ROWS + size.rows * size.days
    features = random.normal(size=(count, size.features))
    actual = labels[(features @ truth + random.gumbel(size=(count, size.classes))).argmax(axis=1)]
    return settings, features, actual


def _prepared(size: Size) -> tuple[AdaptiveClassifier, Dataset, Settings]:
    """A model whose base has learned some rows, and the days to learn."""
    settings, features, actual = _drawn(size)
    first = features[:BASE_ROWS], actual[:BASE_ROWS]
    base = algorithms.fit("LogisticRegression", *first, settings.training)
    model = new_model(base, first[0], list(settings.data.classes or ()), settings)
    return model, _days(size, features[BASE_ROWS:], actual[BASE_ROWS:]), settings


def _refit_s(size: Size) -> float:
    """The processor's time of a base on all rows."""
    settings, features, labels = _drawn(size)
    began = time.process_time()
    algorithms.fit("LogisticRegression", features, labels, settings.training)
    return time.process_time() - began


def _days(size: Size, features: Any, labels: Any) -> Dataset:  # noqa: ANN401 - arrays
    days = [datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC)]
    days = [days[0] - timedelta(days=size.days - number) for number in range(size.days)]
    return Dataset(
        features=features,
        labels=labels,
        times=pd.Series(pd.to_datetime(days).repeat(size.rows)),
        groups=None,
        frame=pd.DataFrame({"event_id": [f"e{number:09d}" for number in range(len(labels))]}),
        source="the benchmark",
    )


def _learned(
    size: Size, model: AdaptiveClassifier, data: Dataset, settings: Settings
) -> AdaptiveClassifier:
    champion = Champion(model_id="base", model=model)
    challenger = adapt(model, champion, [data], TODAY, settings)
    assert challenger.rows_learned == size.rows * size.days
    return challenger.model


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
