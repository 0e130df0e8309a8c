"""All commands under one name: `ml-pipeline COMMAND` is `commands/COMMAND.py`."""

from __future__ import annotations

import sys
from importlib import import_module

from ml_pipeline import __version__

COMMANDS = {
    "run": "one run of the loop: train, judge, promote or reject",
    "train": "train a base model, or fine-tune one",
    "predict": "predict one row or a file of rows",
    "serve": "predictions, outcomes and labels over HTTP",
    "outcome": "record what really happened",
    "labels": "add labels that people gave, for training",
    "erase": "take a person's rows out of everything that is kept",
    "export": "labelled rows for what trains elsewhere",
    "reconcile": "compare the CSV log with the store's table",
    "report": "one run as an HTML page and as Markdown",
    "models": "list, show, compare, promote, roll back, prune",
    "replay": "rebuild a run's challenger and compare it",
    "status": "latest runs, request queue and champion",
    "requests": "submit, list and cancel requests for a run",
    "worker": "keep running: schedule, requests, watchdog, clean-up",
    "decay": "check the champion, act when it has decayed",
    "analyse": "streaks, transitions, tests of randomness",
    "backtest": "replay a labelled history day by day",
    "monitor": "serve the monitoring page",
    "backup": "save a store into a folder, while it is in use",
    "restore": "make a store of a backup",
    "init": "create a store, or update one",
    "doctor": "check everything a run needs",
}


def usage() -> str:
    """The list of commands."""
    lines = [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
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
    interrupts: list[int] = []
    try:
        interrupts = import_module("ml_pipeline.commands.common").remember_interrupts()
        return int(import_module(f"ml_pipeline.commands.{first}").main(arguments[1:]))
    except BaseException as error:
        # While libraries load, which make what they like of it, or in the middle of the last words.
        if isinstance(error, SystemExit) or not (
            interrupts or isinstance(error, KeyboardInterrupt)
        ):
            raise
        sys.stderr.write("Stopped by Ctrl-C.\n")
        return 130
