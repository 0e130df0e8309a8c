"""One run as a page to read: `ml-pipeline report`.

A self-contained HTML file, which needs neither network nor scripts, and the same as Markdown. Both
are made from the run's row alone, so they can be made again whenever somebody wants them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ml_pipeline.commands import common
from ml_pipeline.commands.runs import RUN_ID, run_of
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import load_settings
from ml_pipeline.errors import NotFound
from ml_pipeline.reports.report import PROMOTIONS_SEEN, write
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import RetrainingRun

# ---------------------------------------------------------------------------------- command

EXAMPLES = (
    "report",
    "report 1f0c7a52 --output-dir reports",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `report`."""
    common.add_common(parser, *EXAMPLES)
    parser.add_argument("run_id", nargs="?", help=f"which run: {RUN_ID} (default: the latest)")
    parser.add_argument(
        "--output-dir", default="./reports", help="where the two files go (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Write a run's report and print where; exit code 1 when there is no such run."""
    from ml_pipeline.store.opening import open_store

    settings = load_settings(common.path_or_none(args.config))
    store = open_store(load_store_settings(args.local))
    try:
        found = _find(store, settings.model_name, args.run_id)
        events = store.promotion_events(model_name=found.model_name, limit=PROMOTIONS_SEEN)
    finally:
        store.close()
    common.answer(args, write(found, events, Path(args.output_dir)))
    return 0


def _find(store: Store, model_name: str, run_id: str | None) -> RetrainingRun:
    if run_id is not None:
        return run_of(store, model_name, run_id)
    latest = store.latest_run(model_name=model_name)
    if latest is None:
        raise NotFound(
            f"There is no run of {model_name} yet.", hint="Start one with `ml-pipeline run`."
        )
    return latest


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main("report", __doc__, add_arguments, run, argv)
