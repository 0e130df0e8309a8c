"""Build a run's challenger again from its manifest: identical, or differs, and where first."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ml_pipeline.commands import common
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.runs.replay import replay

EXAMPLES = ("replay 1f0c7a52-0f0e-4c5b-9d42-8a54c2f8a0b1",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `replay`."""
    common.add_common(parser, *EXAMPLES)
    parser.add_argument("run_id", help="the run whose challenger is built again")


def run(args: argparse.Namespace) -> int:
    """Replay and print JSON; exit code 1 when something differs."""
    from ml_pipeline.store.opening import open_store

    store = open_store(load_store_settings(args.local))
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = replay(store, store.get_run(args.run_id), Path(folder))
    finally:
        store.close()
    common.answer(args, result)
    return 0 if result["result"] == "identical" else 1


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main("replay", __doc__, add_arguments, run, argv)
