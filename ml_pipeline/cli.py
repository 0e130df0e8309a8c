"""All commands under one name: `ml-pipeline COMMAND` is `commands/COMMAND.py`."""

from __future__ import annotations

import sys
from importlib import import_module

from ml_pipeline import __version__
from ml_pipeline.commands.listed import COMMANDS

__all__ = ["COMMANDS", "main", "usage"]


def usage() -> str:
    """The list of commands."""
    lines = [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    return (
        "usage: ml-pipeline COMMAND [flags]\n\nThe loop that keeps a deployed classifier good.\n\n"
        "commands:\n" + "\n".join(lines) + "\n\n`ml-pipeline help COMMAND` shows a command's flags "
        "and examples.\n"
    )


def _unknown(word: str) -> str:
    from ml_pipeline.config.alike import meant

    near = meant(word, [*COMMANDS, "help"])
    return f"There is no command {word!r}.{near}\n`ml-pipeline help` lists the commands.\n"


def main(argv: list[str] | None = None) -> int:
    """Hand over to the command's own `main`; wrong usage is exit code 2."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    first = arguments[0] if arguments else ""
    if first in {"-h", "--help"}:
        sys.stdout.write(usage())
        return 0
    if first == "--version":
        sys.stdout.write(f"ml-pipeline {__version__}\n")
        return 0
    if first not in COMMANDS:
        sys.stderr.write(_unknown(first) if first else usage())
        return 2
    interrupts: list[int] = []
    try:
        interrupts = import_module("ml_pipeline.commands.common").remember_interrupts()
        interrupts.clear()  # Of a command before this one in the same process, if anything.
        command = import_module(f"ml_pipeline.commands.{first}")
        if not interrupts:  # Else a library that was loading has kept it to itself.
            return int(command.main(arguments[1:]))
    except BaseException as error:
        # While libraries load, which make what they like of it, or in the middle of the last words.
        if isinstance(error, SystemExit) or not (
            interrupts or isinstance(error, KeyboardInterrupt)
        ):
            raise
    sys.stderr.write("Stopped by Ctrl-C.\n")
    return 130
