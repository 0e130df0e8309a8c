"""All commands under one name: `ml-pipeline COMMAND`. Each lives in its own module."""

from __future__ import annotations

import sys
from importlib import import_module

from ml_pipeline import __version__

COMMANDS = {
    "run": ("ml_pipeline.auto_reinforcement", "one pass of the loop"),
    "train": ("ml_pipeline.train_model", "train a base or fine-tune a model"),
    "predict": ("ml_pipeline.prediction_engine", "predict one row or a file of rows"),
    "outcome": ("ml_pipeline.outcome", "record what really happened"),
    "reconcile": ("ml_pipeline.reconcile", "compare the CSV log with the store's table"),
    "report": ("ml_pipeline.report", "one run as a page and as Markdown"),
    "models": (
        "ml_pipeline.model_registry",
        "list, show, compare, promote, roll back, prune",
    ),
    "replay": ("ml_pipeline.replay", "build a run's challenger again and compare"),
    "status": ("ml_pipeline.status", "latest runs, queue and champion"),
    "requests": ("ml_pipeline.request_queue", "ask for a run, see the queue, take one back"),
    "worker": ("ml_pipeline.worker", "stay: requests at once, nights, watchdog, clean-up"),
    "decay": ("ml_pipeline.decay_monitor", "watch the champion, act when it has decayed"),
    "analyse": ("ml_pipeline.analytics", "streaks, transitions, randomness of errors"),
    "backtest": ("ml_pipeline.backtest", "replay a labelled history day by day"),
    "monitor": ("ml_pipeline.monitor", "the monitoring page"),
    "init": ("ml_pipeline.init", "make a store, or bring one up to date"),
    "doctor": ("ml_pipeline.doctor", "check everything a nightly run needs"),
}


def usage() -> str:
    """The list of commands."""
    lines = [f"  {name:<10} {text}" for name, (_, text) in COMMANDS.items()]
    return (
        "usage: ml-pipeline COMMAND [flags]\n\nThe loop that keeps a deployed classifier good.\n\n"
        "commands:\n" + "\n".join(lines) + "\n\n`ml-pipeline COMMAND --help` shows a command's "
        "flags.\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Hand over to the command's own `main`; wrong usage is exit code 2."""
    arguments = sys.argv[1:] if argv is None else argv
    first = arguments[0] if arguments else ""
    if first in {"-h", "--help"}:
        sys.stdout.write(usage())
        return 0
    if first == "--version":
        sys.stdout.write(f"ml-pipeline {__version__}\n")
        return 0
    if first not in COMMANDS:
        sys.stderr.write(f"There is no command {first!r}.\n\n{usage()}" if first else usage())
        return 2
    return int(import_module(COMMANDS[first][0]).main(arguments[1:]))
