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
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline import algorithms, commands, config
from ml_pipeline.adaptive import AdaptiveClassifier, Floats, Memory, encode
from ml_pipeline.config import Settings
from ml_pipeline.datasets import read_csv
from ml_pipeline.domain import Outcome
from ml_pipeline.errors import ConfigError, DataError
from ml_pipeline.evaluation import row_losses
from ml_pipeline.features import Inputs, read_rows
from ml_pipeline.live_line import (
    LineState,
    Rival,
    Rows,
    by_day,
    champion_record,
    line_record,
    take_day,
    take_night,
)
from ml_pipeline.promotion import judge_line, judge_shadow
from ml_pipeline.strategies import new_model

BLOCKS = 20
INITIAL_SHARE = 0.2
REFIT_EVERY = 30
POLICIES = ("frozen", "seed", "refit", "adaptive")
# Beside them, on request: they fit bases again and again.
SLOW_POLICIES = ("challengers",)


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """Labelled rows in the order of their nights; the first `initial` train the base."""

    features: Inputs
    labels: NDArray[np.str_]
    nights: NDArray[np.int64]
    classes: list[str]
    names: list[str]
    initial: int

    def rows(self, model: AdaptiveClassifier) -> Rows:
        """The rows after the initial ones."""
        count = len(self.labels) - self.initial
        return Rows(
            features=self.features[self.initial :],
            base=model.base_proba(self.features[self.initial :]),
            actual=encode(self.labels[self.initial :], model.classes_),
            weights=np.ones(count),
            event_ids=tuple(f"{number:09d}" for number in range(count)),
        )


class Policy(Protocol):
    """Something that serves predictions and learns each night afterwards."""

    promotions: int

    def predict(self, rows: Rows) -> Floats:
        """Probabilities (n, K) served for the night's rows."""
        ...

    def learn(self, night: int, rows: Rows) -> None:
        """See the night's labels."""
        ...


@dataclass(kw_only=True, slots=True)
class Frozen:
    """The base, for ever."""

    promotions: int = 0

    def predict(self, rows: Rows) -> Floats:
        """What the base says."""
        return rows.base

    def learn(self, night: int, rows: Rows) -> None:
        """Nothing."""


@dataclass(kw_only=True, slots=True)
class Adaptive:
    """The loop's own line behind the loop's own gate."""

    model: AdaptiveClassifier
    settings: Settings
    state: LineState
    served: Memory
    served_id: str = "anchor"
    promotions: int = 0

    def predict(self, rows: Rows) -> Floats:
        """What the promoted state says."""
        inputs = self.model.head_inputs(rows.features, rows.base)
        return self.served.vote_on(self.served.experts(rows.base, inputs))

    def learn(self, night: int, rows: Rows) -> None:
        """Score, learn, judge; then serve what the gate says."""
        rival = Rival(model_id=self.served_id, memory=self.served)
        self.state, _ = take_night(
            self.model,
            take_day(self.state, night, rows),
            night,
            rival,
            quarantine=self.settings.training.adaptive.quarantine,
        )
        record = line_record(
            self.state.ledger,
            self.state.champions,
            champion_id=self.served_id,
            today=night,
            window_days=self.settings.promotion.evaluation_window_days,
        )
        decision = judge_line(record, None, self.settings.promotion)
        if decision.outcome is Outcome.PROMOTED:
            self.served, self.served_id = self.state.memory, f"night {night}"
            self.promotions += 1
        elif self.settings.promotion.policy == "guarded":
            self.served, self.served_id = LineState.fresh(self.model).memory, "anchor"


@dataclass(kw_only=True, slots=True)
class Shadow:
    """A new base with its own line, which learns unseen beside the champion's."""

    name: str
    model: AdaptiveClassifier
    state: LineState


@dataclass(kw_only=True, slots=True)
class Challengers(Adaptive):
    """The loop with new bases: refitted every so many nights and judged in the shadow."""

    history: list[tuple[Floats, NDArray[np.str_]]] = field(default_factory=list)
    shadows: list[Shadow] = field(default_factory=list)
    since_refit: int = 0
    bases: int = 0

    def predict(self, rows: Rows) -> Floats:
        """What the promoted state says."""
        return Adaptive.predict(self, rows.on_base(self.model))

    def learn(self, night: int, rows: Rows) -> None:
        """The line's night; then the shadows', which are judged against what was served."""
        served = copy(self.model).set_memory(self.served)
        Adaptive.learn(self, night, rows.on_base(self.model))
        self.history.append((rows.features, self.model.classes_[rows.actual]))
        self.shadows = [
            shadow for shadow in self.shadows if self._goes_on(shadow, night, rows, served)
        ]
        self.since_refit += 1
        if self.since_refit >= (self.settings.training.refit_every_days or REFIT_EVERY):
            self._refit(night)

    def _goes_on(self, shadow: Shadow, night: int, rows: Rows, served: AdaptiveClassifier) -> bool:
        rival = Rival(model_id=self.served_id, memory=self.served, model=served)
        shadow.state, _ = take_night(
            shadow.model,
            take_day(shadow.state, night, rows.on_base(shadow.model)),
            night,
            rival,
            quarantine=False,
        )
        record = champion_record(
            shadow.state.ledger,
            today=night,
            window_days=self.settings.promotion.evaluation_window_days,
        )
        decision = judge_shadow(record, self.settings.promotion)
        if decision is None:
            return True
        if decision.outcome is Outcome.PROMOTED:
            self.model, self.state = shadow.model, shadow.state
            self.served, self.served_id = shadow.state.memory, shadow.name
            self.promotions += 1
            self.bases += 1
        return False

    def _refit(self, night: int) -> None:
        """A new base twice: with fresh heads, and with the heads of the line."""
        self.since_refit = 0
        features = np.vstack([features for features, _ in self.history])
        labels = np.concatenate([labels for _, labels in self.history])
        training = self.settings.training
        base = algorithms.fit(training.algorithm, features, labels, training)
        model = _as_model(base, features, list(self.model.classes_), self.settings)
        fresh = LineState.fresh(model)
        carried = replace(fresh, memory=self.state.memory)
        for name, state in (("fresh", fresh), ("carried", carried)):
            self.shadows.append(Shadow(name=f"{name} {night}", model=model, state=state))


@dataclass(kw_only=True, slots=True)
class Refit:
    """A new base every night, from everything seen so far."""

    model: AdaptiveClassifier
    settings: Settings
    algorithm: str
    features: list[Inputs]
    labels: list[NDArray[np.str_]]
    promotions: int = 0

    def predict(self, rows: Rows) -> Floats:
        """What the latest base says."""
        return self.model.base_proba(rows.features)

    def learn(self, night: int, rows: Rows) -> None:  # noqa: ARG002 - the protocol's
        """Fit again on all rows."""
        self.features.append(rows.features)
        self.labels.append(self.model.classes_[rows.actual])
        features, labels = np.vstack(self.features), np.concatenate(self.labels)
        base = algorithms.fit(self.algorithm, features, labels, self.settings.training)
        self.model = _as_model(base, features, list(self.model.classes_), self.settings)
        self.promotions += 1


@dataclass(kw_only=True, slots=True)
class Seed:
    """The original documents' recipe: a fresh model from the last week's confident errors."""

    model: AdaptiveClassifier
    settings: Settings
    errors: list[tuple[int, Rows]] = field(default_factory=list)
    promotions: int = 0

    def predict(self, rows: Rows) -> Floats:
        """What the latest model says."""
        return self.model.base_proba(rows.features)

    def learn(self, night: int, rows: Rows) -> None:
        """Collect the night's confident errors; with enough of them, train on nothing else."""
        said = self.predict(rows)
        run = self.settings.run
        wrong = (said.argmax(axis=1) != rows.actual) & (said.max(axis=1) > run.confidence_threshold)
        self.errors = [e for e in self.errors if e[0] > night - run.lookback_days]
        self.errors.append((night, rows.take(np.flatnonzero(wrong))))
        features = np.vstack([e.features for _, e in self.errors])
        labels = self.model.classes_[np.concatenate([e.actual for _, e in self.errors])]
        if len(labels) < max(1, run.min_error_samples) or len(set(labels)) < 2:  # noqa: PLR2004
            return
        base = algorithms.fit_seed_literal(features, labels)
        self.model = _as_model(base, features, list(self.model.classes_), self.settings)
        self.errors = []
        self.promotions += 1


def _as_model(
    base: Any,  # noqa: ANN401
    features: Inputs,
    classes: list[Any],
    settings: Settings,
) -> AdaptiveClassifier:
    return new_model(base, features, [str(label) for label in classes], settings)


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """What a policy served: per scored row its loss (nats) and whether it was right."""

    losses: Floats
    hits: NDArray[np.bool_]
    train_cpu_s: float
    promotions: int
    per_night: list[tuple[int, int, float, float]]

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


def replay_policy(
    policy: Policy, nights: Sequence[tuple[int, Rows]], advance: Callable[[], None]
) -> Replay:
    """Predict each night from earlier nights only, then let the policy learn it."""
    losses, hits, per_night = [], [], []
    spent = 0.0
    for night, rows in nights:
        said = policy.predict(rows)
        losses.append(row_losses(rows.actual, said))
        hits.append(said.argmax(axis=1) == rows.actual)
        per_night.append((night, len(rows), float(losses[-1].mean()), float(hits[-1].mean())))
        started = time.process_time()
        policy.learn(night, rows)
        spent += time.process_time() - started
        advance()
    return Replay(
        losses=np.concatenate(losses),
        hits=np.concatenate(hits),
        train_cpu_s=spent,
        promotions=policy.promotions,
        per_night=per_night,
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


def build_policy(
    name: str, model: AdaptiveClassifier, history: History, settings: Settings
) -> Policy:
    """A policy by name, all starting from the same base."""
    if name == "frozen":
        return Frozen()
    if name == "seed":
        return Seed(model=model, settings=settings)
    if name == "refit":
        return Refit(
            model=model,
            settings=settings,
            algorithm=settings.training.algorithm,
            features=[history.features[: history.initial]],
            labels=[history.labels[: history.initial]],
        )
    fresh = LineState.fresh(model)
    if name == "challengers":
        start = (history.features[: history.initial], history.labels[: history.initial])
        return Challengers(
            model=model, settings=settings, state=fresh, served=fresh.memory, history=[start]
        )
    return Adaptive(model=model, settings=settings, state=fresh, served=fresh.memory)


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
    model = _as_model(base, history.features[start], history.classes, settings)
    rows = history.rows(model)
    min_rows = settings.training.adaptive.min_night_rows
    nights = grouped(by_day(history.nights[history.initial :], rows), min_rows)
    if not nights:
        raise DataError(
            f"After the first {history.initial} rows no night has {min_rows} rows: "
            "nothing to replay."
        )
    wanted = list(dict.fromkeys(["frozen", *policies]))
    return {
        name: replay_policy(
            build_policy(name, model, history, settings), nights, progress(name, len(nights))
        )
        for name in wanted
    }


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
    add("--output_dir", help="write figures and the nights there")


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
    with commands.progress_bars() as bars:
        replays = backtest(history, settings, policies, bars)
    figures = {name: replays[name].figures(replays["frozen"]) for name in policies}
    if args.output_dir:
        _write(Path(args.output_dir), replays, figures)
    commands.print_json({"policies": figures})
    return 0


def _write(folder: Path, replays: dict[str, Replay], figures: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures.json").write_text(json.dumps(figures, indent=2), encoding="utf-8")
    with (folder / "nights.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["policy", "night", "rows", "log_loss", "accuracy"])
        for name, replayed in replays.items():
            writer.writerows([name, *night] for night in replayed.per_night)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return commands.main("backtest", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
