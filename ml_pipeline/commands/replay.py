"""Build a run's challenger again from its manifest: identical, or differs, and where first."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ml_pipeline.commands import common
from ml_pipeline.commands.runs import RUN_ID, run_of
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import load_settings
from ml_pipeline.runs.replay import replay

EXAMPLES = ("replay 1f0c7a52",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `replay`."""
    common.add_common(parser, *EXAMPLES)
    parser.add_argument("run_id", help=f"the run whose challenger is built again: {RUN_ID}")


def run(args: argparse.Namespace) -> int:
    """Replay and print JSON; exit code 1 when something differs."""
    from ml_pipeline.store.opening import open_store

    settings = load_settings(common.path_or_none(args.config))
    store = open_store(load_store_settings(args.local))
    try:
        found = run_of(store, settings.model_name, args.run_id)
        with tempfile.TemporaryDirectory() as folder:
            result = replay(store, found, Path(folder))
    finally:
        store.close()
    common.answer(args, result)
    return 0 if result["result"] == "identical" else 1


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main("replay", __doc__, add_arguments, run, argv)
