"""Commands and settings of the manual, made anew by `python -m tests.support.build_reference`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from importlib import import_module

from ml_pipeline.cli import COMMANDS, usage
from ml_pipeline.commands.usage import parser_for
from tests.support.shell import ROOT

DOCS = ROOT / "docs"
END = "<!-- end -->"


def commands_page(text: str) -> str:
    """The page of the commands, with the program's own list and helps."""
    listed = usage().partition("commands:\n")[2]
    text = re.sub(
        r"(<!-- commands -->\n```text\n).*?```",
        lambda found: f"{found[1]}{listed}```",
        text,
        flags=re.DOTALL,
    )
    return _generated(text, "commands", "\n".join(map(_help, COMMANDS)))


def settings_page(text: str) -> str:
    """The page of the settings, with the lines of `model_config.yaml`, section by section."""
    written = (ROOT / "model_config.yaml").read_text(encoding="utf-8").strip()
    return _generated(text, "settings", f"```yaml\n{written}\n```\n")


PAGES = {"cli.md": commands_page, "configuration.md": settings_page}


def _generated(text: str, name: str, made: str) -> str:
    begin = f"<!-- generated: {name} -->\n"
    head, found, rest = text.partition(begin)
    assert found, f"no place for {name}"
    return f"{head}{begin}{made}{END}{rest.partition(END)[2]}"


def _help(command: str) -> str:
    """What a command says of itself, then each of its actions."""
    parser = parser_of(command)
    shown = [
        # What every command says of the environment stands in the settings' page.
        f"```text\n{_without_environment(one)}\n```\n"
        for one in every(parser)
    ]
    return f"## {command}\n\n" + "\n".join(shown)


def _without_environment(parser: argparse.ArgumentParser) -> str:
    return parser.format_help().partition("\nenvironment:\n")[0].rstrip()


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser of a command."""
    module = import_module(f"ml_pipeline.commands.{command}")
    parser = parser_for(command, module.__doc__)
    module.add_arguments(parser)
    return parser


def every(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its actions."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from every(inner)


def main() -> None:
    """Write both pages."""
    for name, made in PAGES.items():
        path = DOCS / name
        path.write_text(made(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
