"""Replay a labelled history day by day: what would the loop have done? `ml-pipeline backtest`.

The live line, its ledger and the gate are the loop's own code; only the clock is simulated.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline import algorithms, backtest_page, commands, config
from ml_pipeline.adaptive import AdaptiveClassifier
from ml_pipeline.arrays import Floats
from ml_pipeline.backtest_page import Course
from ml_pipeline.config import Settings
from ml_pipeline.datasets import read_csv
from ml_pipeline.errors import ConfigError, DataError
from ml_pipeline.evaluation import row_losses
from ml_pipeline.features import read_rows
from ml_pipeline.live_line import Rows, by_day
from ml_pipeline.parallel import on_cluster, spread
from ml_pipeline.policies import POLICIES, SLOW_POLICIES, History, as_model, build_policy

BLOCKS = 20
INITIAL_SHARE = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """What a policy served: per scored row its loss (nats) and whether it was right.

    `confident_errors` counts, by night, the errors with more confidence than the threshold.
    """

    losses: Floats
    hits: NDArray[np.bool_]
    train_cpu_s: float
    promotions: int
    per_night: list[tuple[int, int, float, float]]
    confident_errors: list[int] = field(default_factory=list)

    def figures(self, frozen: Replay) -> dict[str, float | int]:
        """What `backtest` prints of a policy: accuracy in 0..1, losses in nats."""
        blocks = [b for b in np.array_split(np.arange(len(self.hits)), BLOCKS) if len(b)]
        points = [100 * (frozen.hits[b].mean() - self.hits[b].mean()) for b in blocks]
        nats = [self.losses[b].mean() - frozen.losses[b].mean() for b in blocks]
        return {
            "accuracy": float(self.hits.mean()),
            "log_loss": float(self.losses.mean()),
            "worst_block_points": float(max(points)),
            "worst_block_nats": float(max(nats)),
            "train_cpu_s": round(self.train_cpu_s, 3),
            "promotions": self.promotions,
            "nights": len(self.per_night),
            "rows": len(self.hits),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A policy to replay, all from the same base and over the same nights."""

    name: str
    model: AdaptiveClassifier
    history: History
    settings: Settings
    nights: Sequence[tuple[int, Rows]]


def replay_policy(task: Task) -> Replay:
    """Predict each night from earlier nights only, then let the policy learn it."""
    policy = build_policy(task.name, task.model, task.history, task.settings)
    threshold = task.settings.run.confidence_threshold
    losses, hits, per_night, errors = [], [], [], []
    spent = 0.0
    for night, rows in task.nights:
        said = policy.predict(rows)
        losses.append(row_losses(rows.actual, said))
        hits.append(said.argmax(axis=1) == rows.actual)
        per_night.append((night, len(rows), float(losses[-1].mean()), float(hits[-1].mean())))
        errors.append(int((~hits[-1] & (said.max(axis=1) > threshold)).sum()))
        started = time.thread_time()
        policy.learn(night, rows)
        spent += time.thread_time() - started
    return Replay(
        losses=np.concatenate(losses),
        hits=np.concatenate(hits),
        train_cpu_s=spent,
        promotions=policy.promotions,
        per_night=per_night,
        confident_errors=errors,
    )


def grouped(days: Iterator[tuple[int, Rows]], min_night_rows: int) -> list[tuple[int, Rows]]:
    """Days joined until a night has enough rows; what is left over at the end is no night."""
    nights: list[tuple[int, Rows]] = []
    waiting: Rows | None = None
    for night, rows in days:
        waiting = rows if waiting is None else waiting.followed_by(rows)
        if len(waiting) >= min_night_rows:
            nights.append((night, waiting))
            waiting = None
    return nights


def backtest(
    history: History,
    settings: Settings,
    policies: Sequence[str],
    progress: Callable[[str, int], Callable[[], None]],
) -> dict[str, Replay]:
    """Replay every policy over the same nights. `frozen` is always among them."""
    settings = settings.changed(
        {"data.features": history.names, "data.classes": history.classes, "data.labels": None}
    )
    start = slice(0, history.initial)
    algorithm = settings.training.algorithm
    base = algorithms.fit(
        algorithm, history.features[start], history.labels[start], settings.training
    )
    model = as_model(base, history.features[start], history.classes, settings)
    rows = history.rows(model)
    min_rows = settings.training.adaptive.min_night_rows
    nights = grouped(by_day(history.nights[history.initial :], rows), min_rows)
    if not nights:
        raise DataError(
            f"After the first {history.initial} rows no night has {min_rows} rows: "
            "nothing to replay."
        )
    wanted = list(dict.fromkeys(["frozen", *policies]))
    tasks = [
        Task(name=name, model=model, history=history, settings=settings, nights=nights)
        for name in wanted
    ]
    advance, replays = progress("policies", len(tasks)), {}
    for name, replayed in zip(wanted, spread(replay_policy, tasks), strict=True):
        replays[name] = replayed
        advance()
    return replays


# ---------------------------------------------------------------------------------- reading


def read_history(args: argparse.Namespace, settings: Settings) -> History:
    """The labelled history of a CSV, or of the store's own log."""
    if args.csv is None:
        return _history_of_store(args, settings)
    frame, target = read_csv(Path(args.csv)), args.target or settings.data.target
    if (args.night is None) == (args.time is None):
        raise ConfigError(
            "Give either --night COLUMN (whole numbers) or --time COLUMN (ISO 8601 times)."
        )
    _require(frame, [target, args.night or args.time, *_listed(args.drop)], args.csv)
    nights = _nights(frame, args.night, args.time)
    order = np.argsort(nights, kind="stable")
    dropped = {target, settings.data.text_column, args.night, args.time, *_listed(args.drop)}
    names = _listed(args.features) or [name for name in frame.columns if name not in dropped]
    return _history(frame.iloc[order], names, nights[order], args, settings)


def _history(
    frame: pd.DataFrame,
    names: list[str],
    nights: NDArray[np.int64],
    args: argparse.Namespace,
    settings: Settings,
) -> History:
    target = (args.csv and args.target) or settings.data.target
    labels = frame[target].astype(str).str.strip()
    if (labels == "").any():
        raise DataError(f"{target} is empty in {int((labels == '').sum())} rows.")
    count = round(len(frame) * INITIAL_SHARE) if args.init is None else args.init
    if not 0 < count < len(frame):
        raise DataError(f"--init {count} leaves nothing to replay of {len(frame)} rows.")
    return History(
        features=read_rows(frame, names, settings.data.text_column),
        labels=np.asarray(labels.to_numpy(dtype=str)),
        nights=nights,
        classes=sorted(set(labels)),
        names=names,
        initial=count,
    )


def _history_of_store(args: argparse.Namespace, settings: Settings) -> History:
    from tempfile import TemporaryDirectory

    from ml_pipeline.data_loader import read_labelled
    from ml_pipeline.wiring import open_store

    store = open_store(config.load_store_settings(args.local))
    try:
        with TemporaryDirectory() as folder:
            frame = read_labelled(store, settings, Path(folder), now=datetime.now(UTC))
    finally:
        store.close()
    if not len(frame):
        raise DataError("The store's log holds no labelled row with features.")
    nights = _nights(frame, None, "known_at")
    return _history(frame, settings.data.features, nights, args, settings)


def _require(frame: pd.DataFrame, columns: list[str], source: str) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise DataError(
            f"{source} has no column {', '.join(missing)}.",
            hint=f"It has: {', '.join(map(str, frame.columns[:20]))}.",
        )


def _nights(frame: pd.DataFrame, night: str | None, moment: str | None) -> NDArray[np.int64]:
    if night is not None:
        numbers = pd.to_numeric(frame[night], errors="coerce")
        if numbers.isna().any() or (numbers % 1 != 0).any():
            raise DataError(f"{night} must hold whole numbers.")
        return numbers.to_numpy(dtype=np.int64)
    times = pd.to_datetime(frame[str(moment)], utc=True, errors="coerce", format="ISO8601")
    if times.isna().any():
        raise DataError(f"{moment} holds {int(times.isna().sum())} values that are not times.")
    return times.map(lambda value: value.toordinal()).to_numpy(dtype=np.int64)


def _listed(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


# ---------------------------------------------------------------------------------- command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `backtest`."""
    commands.add_common(parser)
    add = parser.add_argument
    add("--csv", help="labelled history (default: the store's own labelled log)")
    add("--target", help="label column (default: data.target)")
    add("--night", metavar="COL", help="column that numbers the nights")
    add("--time", metavar="COL", help="column of times; a night is a UTC day")
    add("--features", metavar="A,B", help="feature columns (default: every other column)")
    add("--drop", metavar="A,B", help="columns that are no features")
    add("--init", type=int, help="rows that train the base (default: the first fifth)")
    add("--base", help="base algorithm (default: LogisticRegression)")
    add("--policies", default=",".join(POLICIES), help="(default: %(default)s)")
    add("--output_dir", help="write figures, the nights and a page that compares them there")
    add("--cluster", metavar="tcp://HOST:PORT", help="replay on this Dask cluster instead of here")


def run(args: argparse.Namespace) -> int:
    """Replay and print the figures as JSON."""
    settings = config.load_settings(
        commands.path_or_none(args.config), flags={"training.algorithm": args.base}
    )
    policies = _listed(args.policies)
    known = (*POLICIES, *SLOW_POLICIES)
    unknown = [name for name in policies if name not in known]
    if unknown or not policies:
        raise ConfigError(
            f"--policies {args.policies!r}: unknown {', '.join(unknown)}.",
            hint=f"Known are {', '.join(known)}.",
        )
    history = read_history(args, settings)
    with commands.progress_bars() as bars, on_cluster(args.cluster):
        replays = backtest(history, settings, policies, bars)
    figures = {name: replays[name].figures(replays["frozen"]) for name in policies}
    result: dict[str, Any] = {"policies": figures}
    if args.output_dir:
        result["page"] = str(_write(Path(args.output_dir), replays, figures, settings))
    commands.print_json(result)
    return 0


def _write(
    folder: Path, replays: dict[str, Replay], figures: dict[str, Any], settings: Settings
) -> Path:
    """Figures, nights, and the page that compares them; return the page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures.json").write_text(json.dumps(figures, indent=2), encoding="utf-8")
    with (folder / "nights.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["policy", "night", "rows", "log_loss", "accuracy"])
        for name, replayed in replays.items():
            writer.writerows([name, *night] for night in replayed.per_night)
    courses = [
        Course(
            name=name,
            nights=replayed.per_night,
            losses=replayed.losses,
            confident_errors=replayed.confident_errors,
            figures=replayed.figures(replays["frozen"]),
        )
        for name, replayed in replays.items()
    ]
    return backtest_page.write(folder, courses, settings)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return commands.main("backtest", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
