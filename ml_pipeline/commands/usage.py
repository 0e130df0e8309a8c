"""Flags, help and wrong usage: what a person types, and what is said of what cannot be."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence

from ml_pipeline.config.alike import meant
from ml_pipeline.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

HELP_WIDTH = 80
ENVIRONMENT = """environment:
  SUPABASE_URL, SUPABASE_SERVICE_KEY   the Supabase project
                                       (alias SUPABASE_SERVICE_ROLE_KEY)
  ML_PIPELINE_LOCAL                    folder of an embedded store, like --local
  LOG_LEVEL, LOG_FORMAT, DEBUG         INFO, text or json, false
  LOG_FILE                             log messages go there as well; rotated
  ML_PIPELINE__SECTION__KEY            any setting of model_config.yaml"""


class Help(argparse.RawDescriptionHelpFormatter):
    """Flags as they are written, at a fixed width."""

    def __init__(self, prog: str) -> None:
        # Asking for the terminal's width loads compression libraries.
        super().__init__(prog, width=HELP_WIDTH)

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        _groups: Iterable[Any],
        prefix: str | None = None,
    ) -> None:
        """Flags that exclude each other would stand on one line, however long."""
        super().add_usage(usage, actions, [], prefix)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """A sentence is broken between words, a table stays."""
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return super(argparse.RawDescriptionHelpFormatter, self)._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """Says what was meant, of a flag that it does not know its name, never what stood behind it."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        start, found, rest = message.partition("unrecognized arguments: ")
        if found:
            flags = [word.partition("=")[0] for word in rest.split(" ") if word.startswith("-")]
            more = len(rest.split(" ")) - len(flags)
            message = start + found + ", ".join([*flags, *([f"and {more} more"] if more else [])])
            message += meant(flags[0], flags_of(self)) if flags else ""
        super().error(printable(without_credentials(message)))

    def _check_value(self, action: argparse.Action, value: Any) -> None:  # noqa: ANN401
        """Refuse what is no choice, with all that are, and the one that is nearest."""
        if action.choices is None or value in action.choices:
            return
        names = [str(choice) for choice in action.choices]
        listed = f"invalid choice: {value!r} (choose from {', '.join(names)})."
        raise argparse.ArgumentError(action, listed + meant(str(value), names))


def flags_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Every flag that is shown, of a command and of its actions."""
    for action in parser._actions:  # noqa: SLF001 - argparse tells it in no other way
        if action.help is not argparse.SUPPRESS:
            yield from (flag for flag in action.option_strings if flag.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - the same
            for inner in dict.fromkeys(action.choices.values()):
                yield from flags_of(inner)


def without_credentials(text: str) -> str:
    """The text without passwords of addresses and connection strings."""
    import re

    text = re.sub(r"(://)[^\s/]*@", r"\1***@", text)
    return re.sub(r"(?i)(password|pwd|key|token|secret)(\s*=\s*)[^\s&]+", r"\1\2***", text)


def choices_of(literal: Any) -> str:  # noqa: ANN401 - a Literal
    """What a setting may be; the settings refuse the rest."""
    *names, last = literal.__args__
    return f"{', '.join(names)} or {last}"


def with_dashes(argv: Sequence[str]) -> list[str]:
    """Accept `--some_flag` for `--some-flag`."""
    tokens = []
    for token in argv:
        name, equals, value = token.partition("=")
        if name.startswith("--"):
            name = name.replace("_", "-")
        tokens.append(name + equals + value)
    return tokens


def parser_for(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser whose help shows the environment as well."""
    return Parser(
        prog=f"ml-pipeline {name}",
        description=(description or "").strip().splitlines()[0],
        epilog=ENVIRONMENT,
        formatter_class=Help,
    )


def parsed(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """What was typed; flags may have dashes or underscores."""
    return parser.parse_args(with_dashes(sys.argv[1:] if argv is None else argv))


def add_examples(parser: argparse.ArgumentParser, examples: Sequence[str]) -> None:
    """Show commands to copy at the end of the help, in front of the environment."""
    if examples:
        shown = "".join(f"  ml-pipeline {example}\n" for example in examples)
        parser.epilog = f"examples:\n{shown}\n{parser.epilog or ''}".rstrip()


def add_common(parser: argparse.ArgumentParser, *examples: str) -> None:
    """Flags that every command takes, and examples of it without the program's name."""
    _add_common(parser, default=None, is_on=False)
    add_examples(parser, examples)


def add_actions(parser: argparse.ArgumentParser) -> Any:  # noqa: ANN401 - no public name
    """Where a command's actions are added."""
    return parser.add_subparsers(dest="action", required=True, metavar="ACTION", title="actions")


def add_action(
    actions: Any,  # noqa: ANN401 - argparse has no public name
    name: str,
    text: str,
    *examples: str,
) -> argparse.ArgumentParser:
    """A command's action, which takes the common flags as well: before it or behind it."""
    action: argparse.ArgumentParser = actions.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", formatter_class=Help
    )
    _add_common(action, default=argparse.SUPPRESS, is_on=argparse.SUPPRESS)
    add_examples(action, examples)
    return action


def _add_common(parser: argparse.ArgumentParser, *, default: str | None, is_on: str | bool) -> None:
    add = parser.add_argument
    add(
        "--config",
        metavar="FILE",
        default=default,
        help="settings file (default: ./model_config.yaml, else built-in defaults)",
    )
    add(
        "--local",
        metavar="DIR",
        default=default,
        help="embedded store in this folder (or ML_PIPELINE_LOCAL)",
    )
    add(
        "--json",
        action="store_true",
        default=is_on,
        help="the result as JSON on a terminal too (default: tables there, JSON in a pipe)",
    )
    add(
        "--quiet",
        action="store_true",
        default=is_on,
        help="the result and what went wrong alone: no messages, no progress",
    )


def boolean(text: str) -> bool:
    """Read true or false from a flag."""
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.strip().lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return values[text.strip().lower()]
