"""Replay a labelled history day by day: what would the loop have done? `ml-pipeline backtest`.

The online model, its ledger and the gate are the loop's own code; only the clock is simulated.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.commands import common
from ml_pipeline.commands.progress import progress_bars
from ml_pipeline.commands.usage import choices_of
from ml_pipeline.config.alike import meant
from ml_pipeline.config.data import DataSettings
from ml_pipeline.config.defaults import DEFAULT_CLASSES
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.kind import Kind
from ml_pipeline.config.sections import BaseAlgorithm
from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.datasets.dataset import Dataset, class_order, groups_of, read_csv, read_labels
from ml_pipeline.datasets.entities import entities_of
from ml_pipeline.datasets.features import read_rows
from ml_pipeline.datasets.kinds import infer_kinds
from ml_pipeline.datasets.labelled_file import timed
from ml_pipeline.datasets.served.answers import ordinals, predicted_days
from ml_pipeline.datasets.served.incumbents import with_shares
from ml_pipeline.datasets.times import parsed_times
from ml_pipeline.datasets.weights import label_weights
from ml_pipeline.errors import ConfigError, DataError
from ml_pipeline.reports import backtest_page, terminal
from ml_pipeline.reports.backtest_page import Course
from ml_pipeline.reports.terminal import Part
from ml_pipeline.store.inputs.columns import named
from ml_pipeline.store.inputs.incumbent_columns import is_answer_column, share_columns
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.inputs.times import time_hint
from ml_pipeline.training.backtest import Replay, backtest
from ml_pipeline.training.parallel import on_cluster
from ml_pipeline.training.policies import POLICIES, SLOW_POLICIES, History

INITIAL_SHARE = 0.2
# What pandas calls a column without a name, and the index that it writes into a Parquet file.
_NO_NAME = re.compile(r"\s*|Unnamed: \d+|__index_level_\d+__")


# ---------------------------------------------------------------------------------- reading


def read_history(args: argparse.Namespace, settings: Settings) -> History:
    """The labelled history of a CSV, or of the store's own log."""
    if args.csv is None:
        return _history_of_store(args, settings)
    target = args.target or settings.data.target
    wanted = (target, settings.data.text_column, args.night, args.time)
    lists = [*_listed(args.drop), *_listed(args.features)]
    frame = named(read_csv(Path(args.csv)), [*wanted, *lists], args.csv)
    if (args.night is None) == (args.time is None):
        raise ConfigError(
            "Give either --night COLUMN (whole numbers) or --time COLUMN (ISO 8601 times)."
        )
    _require(frame, [target, args.night or args.time, *_listed(args.drop)], args.csv)
    nights = _nights(frame, args.night, args.time)
    order = np.argsort(nights, kind="stable")
    group = timed(settings.data, frame.columns).group_column
    dropped = {target, settings.data.text_column, group, args.night, args.time}
    dropped.update(_listed(args.drop))
    names = _listed(args.features) or [
        name for name in frame.columns if name not in dropped and not _NO_NAME.fullmatch(name)
    ]
    return _history(frame.iloc[order], names, Days.of(nights[order], args), args, settings)


@dataclass(frozen=True, kw_only=True, slots=True)
class Days:
    """When rows were predicted, and when their labels became known, (n,) each."""

    predicted: NDArray[np.int64]
    known: NDArray[np.int64]

    @classmethod
    def of(cls, predicted: NDArray[np.int64], args: argparse.Namespace) -> Days:
        """As the flags have it."""
        return cls(predicted=predicted, known=predicted + (args.label_delay_days or 0))


def _history(
    frame: pd.DataFrame,
    names: list[str],
    days: Days,
    args: argparse.Namespace,
    settings: Settings,
) -> History:
    target = (args.csv and args.target) or settings.data.target
    empty = int((frame[target].astype(str).str.strip() == "").sum())
    if empty:
        raise DataError(f"{target} is empty in {empty} rows.")
    data = _labels_of(target, settings)
    source = args.csv or "The store's log"
    labels = read_labels(frame[target], data, source)
    count = round(len(frame) * INITIAL_SHARE) if args.init is None else args.init
    if not 0 < count < len(frame):
        raise DataError(f"--init {count} leaves nothing to replay of {len(frame)} rows.")
    classes = class_order(labels.tolist(), data)
    if settings.training.is_incumbent:
        frame = with_shares(frame, classes, Labels.of(data), source)
        own = [name for name in names if not is_answer_column(name)]
        names = [*own, *share_columns(classes)]
    kinds = _kinds(frame, names, settings.data)
    rows = Dataset(
        features=read_rows(frame, names, settings.data.text_column, kinds),
        labels=labels,
        times=None,
        groups=groups_of(frame, timed(settings.data, frame.columns).group_column),
        frame=frame,
        source=source,
    )
    return History(
        features=rows.features,
        labels=labels,
        nights=days.known,
        predicted=days.predicted,
        classes=classes,
        names=names,
        kinds=kinds,
        initial=count,
        entities=entities_of(rows),
        weights=label_weights(rows, settings.training.adaptive) if args.csv is None else None,
    )


def _kinds(frame: pd.DataFrame, names: Sequence[str], data: DataSettings) -> dict[str, Kind]:
    """The kind of each feature: as the settings say, else as its values say."""
    unsaid = [name for name in names if name not in data.kinds and name in frame.columns]
    return {name: data.kind(name) for name in names} | infer_kinds(frame, unsaid)


def _labels_of(target: str, settings: Settings) -> DataSettings:
    """How the labels of a column are read: by the settings, where they speak of that column.

    The classes that hold without any settings are those of `data.target`; of another column they
    know nothing.
    """
    data = settings.data
    is_default = data.labels is None and data.classes == list(DEFAULT_CLASSES)
    if target != data.target and is_default:
        return settings.changed({"data.classes": None}).data
    return data


def _history_of_store(args: argparse.Namespace, settings: Settings) -> History:
    from tempfile import TemporaryDirectory

    from ml_pipeline.evaluation_log.loading import read_labelled
    from ml_pipeline.store.opening import open_store

    store = open_store(load_store_settings(args.local))
    try:
        with TemporaryDirectory() as folder:
            is_incumbent = settings.training.is_incumbent
            frame = read_labelled(
                store, settings, Path(folder), now=datetime.now(UTC), of_incumbent=is_incumbent
            )
    finally:
        store.close()
    if not len(frame):
        raise DataError("The store's log holds no labelled row with features.")
    days = days_of_log(frame)
    if args.label_delay_days is not None:
        order = np.argsort(days.predicted, kind="stable")
        frame, days = frame.iloc[order], Days.of(days.predicted[order], args)
    return _history(frame, settings.data.features, days, args, settings)


def days_of_log(frame: pd.DataFrame) -> Days:
    """Of logged rows; those of which it is not known were predicted when the outcome was known."""
    known = parsed_times(frame["known_at"].reset_index(drop=True))
    predicted = predicted_days(frame, known, "The store's log")
    return Days(
        predicted=ordinals(known) if predicted is None else predicted, known=ordinals(known)
    )


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
    column = frame[str(moment)].reset_index(drop=True)
    times = parsed_times(column)
    if times.isna().any():
        first = int(np.flatnonzero(times.isna())[0])
        raise DataError(
            f"{moment} holds {int(times.isna().sum())} values that are not times.",
            hint=f"The first: {column[first]!r} (row {first + 1}). {time_hint(column[first])}",
        )
    return times.map(lambda value: value.toordinal()).to_numpy(dtype=np.int64)


def _listed(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


# ---------------------------------------------------------------------------------- command

EXAMPLES = (
    "backtest",
    "backtest --csv history.csv --target churned --time seen_on",
    "backtest --policies frozen,adaptive --output-dir out",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `backtest`."""
    common.add_common(parser, *EXAMPLES)
    add = parser.add_argument
    add("--csv", help="labelled history (default: the store's own labelled log)")
    add("--target", help="label column (default: data.target)")
    add("--night", metavar="COL", help="column that numbers the nights")
    add("--time", metavar="COL", help="column of times; a night is a UTC day")
    add("--features", metavar="A,B", help="feature columns (default: every other column)")
    add("--drop", metavar="A,B", help="columns that are no features")
    add("--init", type=int, help="rows that train the base (default: the first fifth)")
    add("--base", metavar="NAME", help=f"base algorithm: {choices_of(BaseAlgorithm)} "
        "(default: LogisticRegression)")  # fmt: skip
    add(
        "--policies",
        metavar="A,B",
        default=",".join(POLICIES),
        help=f"of {', '.join((*POLICIES, *SLOW_POLICIES))} (default: %(default)s)",
    )
    add(
        "--label-delay-days",
        type=int,
        metavar="N",
        help="labels become known N days after the predictions (default: as in the store's log; "
        "on the same day for a CSV)",
    )
    add("--output-dir", help="write figures, the nights and a page that compares them there")
    add("--cluster", metavar="tcp://HOST:PORT", help="replay on this Dask cluster instead of here")


def run(args: argparse.Namespace) -> int:
    """Replay, and show the figures of each policy."""
    settings = load_settings(
        common.path_or_none(args.config), flags={"training.algorithm": args.base}
    )
    policies = _listed(args.policies)
    known = (*POLICIES, *SLOW_POLICIES)
    unknown = [name for name in policies if name not in known]
    if unknown or not policies:
        raise ConfigError(
            f"--policies {args.policies!r}: unknown {', '.join(unknown)}."
            + "".join(meant(name, known) for name in unknown),
            hint=f"Known are {', '.join(known)}.",
        )
    if args.label_delay_days is not None and args.label_delay_days < 0:
        raise ConfigError(f"--label-delay-days {args.label_delay_days}: no label comes before.")
    history = read_history(args, settings)
    with progress_bars() as bars, on_cluster(args.cluster):
        replays = backtest(history, settings, policies, bars)
    figures = {name: replays[name].figures(replays["frozen"]) for name in policies}
    result: dict[str, Any] = {
        "classes": history.classes,
        "features": history.names,
        "kinds": {name: str(kind) for name, kind in history.kinds.items()},
        "policies": figures,
    }
    if args.output_dir:
        result["page"] = str(_write(Path(args.output_dir), replays, figures, settings))
    common.answer(args, result, lambda: view(result))
    return 0


def view(result: Mapping[str, Any]) -> Iterator[Part]:
    """A line for each policy, and how far its worst part lay behind the frozen model."""
    rows = [
        (name, f"{100 * it['accuracy']:.2f}", f"{it['log_loss']:.4f}",
         f"{it['worst_block_points']:.1f}", it["promotions"], f"{it['train_cpu_s']:.1f}")
        for name, it in result["policies"].items()
    ]  # fmt: skip
    some = next(iter(result["policies"].values()))
    columns = ("policy", "right, %", "log loss", "worst part", "promoted", "CPU, s")
    title = f"{some['rows']:,} rows, predicted day by day on {some['nights']:,} days"
    yield terminal.table(title, columns, rows, right=columns[1:])
    yield "Worst part: of 20 equal parts, how many points it was behind the frozen model at most."
    if "page" in result:
        yield f"The page that compares them: {result['page']}"


def _write(
    folder: Path, replays: dict[str, Replay], figures: dict[str, Any], settings: Settings
) -> Path:
    """Write figures, nights, and the page that compares them; return the page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures.json").write_text(json.dumps(figures, indent=2), encoding="utf-8")
    with (folder / "nights.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["policy", "night", "rows", "log_loss", "accuracy"])
        for name, replayed in replays.items():
            writer.writerows([name, *night] for night in replayed.per_night)
    return write_page(folder, replays, settings)


def write_page(folder: Path, replays: dict[str, Replay], settings: Settings) -> Path:
    """Write the page that compares the policies, `frozen` among them; return it."""
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
    return common.main("backtest", __doc__, add_arguments, run, argv)
