"""Compare the CSV log with the store's table: `ml-pipeline reconcile`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from ml_pipeline.commands import common
from ml_pipeline.config.environment import chosen_store
from ml_pipeline.config.settings import load_settings
from ml_pipeline.errors import ConfigError
from ml_pipeline.evaluation_log import opening
from ml_pipeline.reports import terminal
from ml_pipeline.reports.terminal import Part

COUNTS = (
    "csv_events", "table_events", "missing_in_table", "missing_in_csv",
    "outcome_missing_in_table", "outcome_missing_in_csv", "differing", "duplicates", "bad_lines",
    "pending", "erased_lines",
)  # fmt: skip

EXAMPLES = (
    "reconcile",
    "reconcile --repair",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `reconcile`."""
    common.add_common(parser, *EXAMPLES)
    parser.add_argument(
        "--repair",
        action="store_true",
        help="add what is missing on either side; what differs is never overwritten",
    )


def run(args: argparse.Namespace) -> int:
    """Compare and print the report."""
    settings = load_settings(common.path_or_none(args.config))
    chosen = chosen_store(args.local)
    if args.repair and chosen is None:
        raise ConfigError("There is no store to repair.", hint="Give --local DIR, or credentials.")
    with opening.open_logger(settings, chosen) as logger:
        report = logger.reconcile_logs(repair=args.repair)
    common.answer(args, report, lambda: view(report))
    return 0


def view(report: Mapping[str, Any]) -> Iterator[Part]:
    """The counts and the accuracy of each model as tables."""
    counts = [(name.replace("_", " "), report[name]) for name in COUNTS]
    models = [
        (
            name or "unknown",
            numbers["events"],
            numbers["evaluated"],
            "" if numbers["accuracy"] is None else f"{numbers['accuracy']:.4f}",
            f"{numbers['abstention_rate']:.1%}",
        )
        for name, numbers in report["models"].items()
    ]
    names = ("model", "events", "evaluated", "accuracy", "abstained")
    yield terminal.table("The CSV log and the table", ("", "events"), counts, right={"events"})
    yield terminal.table("Models", names, models, right=names[1:], fold=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main("reconcile", __doc__, add_arguments, run, argv)
