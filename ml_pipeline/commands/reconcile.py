"""Compare the CSV log with the store's table: `ml-pipeline reconcile`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from ml_pipeline.commands import common
from ml_pipeline.config.environment import chosen_store
from ml_pipeline.config.settings import load_settings
from ml_pipeline.errors import ConfigError
from ml_pipeline.evaluation_log import opening

COUNTS = (
    "csv_events", "table_events", "missing_in_table", "missing_in_csv",
    "outcome_missing_in_table", "outcome_missing_in_csv", "differing", "duplicates", "bad_lines",
    "pending",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `reconcile`."""
    common.add_common(parser)
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
    if sys.stderr.isatty():
        show(report)
    common.print_json(report)
    return 0


def show(report: Mapping[str, Any]) -> None:
    """The counts and the accuracy of each model as tables on stderr."""
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stderr, highlight=False)
    counts = Table(title="The CSV log and the table", title_justify="left")
    counts.add_column("")
    counts.add_column("events", justify="right")
    for name in COUNTS:
        counts.add_row(name.replace("_", " "), str(report[name]))
    console.print(counts)
    models = Table(title="Models", title_justify="left")
    for name in ("model", "events", "evaluated", "accuracy", "abstained"):
        models.add_column(name, justify="left" if name == "model" else "right")
    for name, numbers in report["models"].items():
        accuracy = numbers["accuracy"]
        shown = "" if accuracy is None else f"{accuracy:.4f}"
        models.add_row(
            name or "unknown",
            str(numbers["events"]),
            str(numbers["evaluated"]),
            shown,
            f"{numbers['abstention_rate']:.1%}",
        )
    console.print(models)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main("reconcile", __doc__, add_arguments, run, argv)
