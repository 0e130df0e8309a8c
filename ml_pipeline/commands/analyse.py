"""Streaks, transitions and randomness tests over the evaluation log: `ml-pipeline analyse`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd

from ml_pipeline.commands import common
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import Settings, load_settings, work_dir
from ml_pipeline.errors import ConfigError
from ml_pipeline.evaluation import sequences
from ml_pipeline.evaluation.sequences import (
    chi_square,
    independence,
    runs_test,
    strange_days,
    transitions,
)
from ml_pipeline.evaluation_log.frames import labelled_events, since
from ml_pipeline.runs.incumbent.answering import counted_ids
from ml_pipeline.store.records import UNCERTAIN

DEFAULT_DAYS = 90.0
LONGEST_DAYS = 36_500.0
SHOWN_DAYS = 30


def analyse(events: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """Streaks and tests of outcomes and errors, in the order of their predictions.

    `events` has `timestamp`, `event_id`, `known_at`, `prediction` and `actual_result`. UNCERTAIN
    answers are outcomes like others, but neither right nor wrong.
    """
    events = events.sort_values(["timestamp", "event_id"], kind="stable")
    outcomes = events["actual_result"].astype(str).tolist()
    states = settings.data.classes or sorted(set(outcomes))
    answered = events[events["prediction"] != UNCERTAIN]
    right = (answered["prediction"] == answered["actual_result"]).tolist()
    matrix = transitions(outcomes, states) if len(states) > 1 else None
    return {
        "rows": len(events),
        "uncertain": len(events) - len(answered),
        "accuracy": sum(right) / len(right) if right else None,
        "outcomes": {
            "streaks": sequences.streak_summary(outcomes),
            "transitions": {} if matrix is None else matrix.as_json(),
            "chi_square": None if matrix is None else chi_square(outcomes, states).as_json(),
            "independence": None if matrix is None else independence(matrix).as_json(),
        },
        "errors": {
            "streaks": sequences.streak_summary(["right" if hit else "wrong" for hit in right]),
            "runs_test": runs_test(right).as_json(),
        },
        "strange_days": [found.as_json() for found in strange_days(_by_day(answered))],
    }


def _by_day(events: pd.DataFrame) -> list[tuple[date, int, int]]:
    right = events["prediction"] == events["actual_result"]
    days = right.groupby(events["known_at"].dt.date).agg(["size", "sum"])
    return [(day, int(size), int(hits)) for day, size, hits in days.itertuples()]


EXAMPLES = (
    "analyse",
    "analyse --days 30 --all-models",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `analyse`."""
    common.add_common(parser, *EXAMPLES)
    parser.add_argument(
        "--days", type=float, default=DEFAULT_DAYS,
        help=f"days of outcomes to analyse (default: {DEFAULT_DAYS:g})",
    )  # fmt: skip
    parser.add_argument(
        "--all-models", action="store_true", help="predictions of every model, not the champion's"
    )


def run(args: argparse.Namespace, *, now: datetime) -> int:
    """Analyse the log."""
    from ml_pipeline.store.opening import open_store

    settings = load_settings(common.path_or_none(args.config))
    if not 0 < args.days <= LONGEST_DAYS:
        raise ConfigError(f"--days {args.days:g} is no number of days from 0 to {LONGEST_DAYS:g}.")
    store_settings = load_store_settings(args.local)
    window = since(now, args.days)
    work = work_dir(settings, store_settings.local_dir)
    store = open_store(store_settings)
    try:
        counting = None
        if not args.all_models:
            counting = counted_ids(store, settings, now=now, work_dir=work, days=args.days)
        events = labelled_events(
            store,
            settings,
            window,
            model_ids=counting,
            work_dir=work,
        )
    finally:
        store.close()
    found = {"status": "completed", "window": str(window), **analyse(events, settings)}
    common.answer(args, found, lambda: view(found))
    return 0


def view(found: dict[str, Any]) -> Iterator[str]:
    """What the tests say, and the days that stand out, in sentences."""
    right = "" if found["accuracy"] is None else f", {found['accuracy']:.1%} of the answers right"
    yield f"{found['rows']:,} results{right}, {found['uncertain']:,} answered UNCERTAIN."
    tests = [found["errors"]["runs_test"], found["outcomes"]["chi_square"],
             found["outcomes"]["independence"]]  # fmt: skip
    for test in tests:
        if test is not None:
            yield test["sentence"]
    for day in found["strange_days"][:SHOWN_DAYS]:
        yield (
            f"{day['day']}: {day['share']:.0%} of {day['rows']} answers were right, "
            f"{day['expected']:.0%} were expected."
        )


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main(
        "analyse", __doc__, add_arguments, lambda args: run(args, now=datetime.now(UTC)), argv
    )
