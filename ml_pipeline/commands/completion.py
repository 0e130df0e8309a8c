"""What completes commands, actions and flags in a shell: `ml-pipeline completion`."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import Final

from ml_pipeline.commands import common
from ml_pipeline.commands.listed import COMMANDS
from ml_pipeline.commands.usage import Parser
from ml_pipeline.config.defaults import install_extra
from ml_pipeline.errors import ConfigError

SHELLS: Final = ("bash", "zsh")

EXAMPLES = (
    "completion bash >> ~/.bash_completion",
    "completion zsh > ~/.zfunc/_ml-pipeline",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `completion`."""
    common.add_common(parser, *EXAMPLES)
    parser.add_argument("shell", choices=SHELLS, help="whose script is printed")


def run(args: argparse.Namespace) -> int:
    """Print the script. Raises ConfigError where shtab, which writes it, is missing."""
    try:
        import shtab
    except ImportError as missing:
        raise ConfigError(
            "The script is written by shtab, which is not installed.",
            hint=f"Install it with `{install_extra('completion')}`.",
        ) from missing
    parser = whole()
    for action in actions_of(parser):
        if action.metavar in {"FILE", "PATH"} or action.dest == "csv":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar == "DIR":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    sys.stdout.write(shtab.complete(parser, shell=args.shell))
    return 0


def whole() -> argparse.ArgumentParser:
    """The whole program as one parser: a command is an action of it."""
    parser = Parser(prog="ml-pipeline", description="The loop that keeps a classifier good.")
    parser.add_argument("--version", action="store_true", help="which version this is")
    commands = parser.add_subparsers(dest="command")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        import_module(f"ml_pipeline.commands.{name}").add_arguments(command)
    shown = commands.add_parser("help", help="a command's flags and examples")
    shown.add_argument("of", nargs="?", choices=list(COMMANDS), help="which command")
    return parser


def actions_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Every flag and argument, those of commands and their actions as well."""
    found = []
    for action in parser._actions:  # noqa: SLF001 - argparse tells it in no other way
        found.append(action)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - the same
            for inner in action.choices.values():
                found += actions_of(inner)
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main("completion", __doc__, add_arguments, run, argv)
