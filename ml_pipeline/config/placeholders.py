"""What may stand in braces in `decay.command`: `{dataset}` and `{run_id}`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Final

DATASET: Final = "dataset"
RUN_ID: Final = "run_id"
KNOWN: Final = (DATASET, RUN_ID)
# A name in two braces stands for itself in one; other braces are no placeholders (awk, JSON).
_PLACE: Final = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}")
_SHELLS: Final = frozenset(
    ("sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "cmd", "cmd.exe", "powershell", "pwsh")
)


def named(argument: str) -> list[str]:
    """The placeholders in an argument, known or not."""
    return [name for _, name in _PLACE.findall(argument) if name]


def fault(command: Sequence[str]) -> str:
    """What is wrong with the placeholders of a command, as a sentence; '' if nothing is."""
    found = [name for argument in command for name in named(argument)]
    unknown = sorted(set(found) - set(KNOWN))
    if unknown:
        names = ", ".join(f"{{{name}}}" for name in unknown)
        return (
            f"command names {names}: known are {{{DATASET}}} and {{{RUN_ID}}}; "
            f"in two braces, {{{{{unknown[0]}}}}}, a name stands for itself"
        )
    if command and named(command[0]):
        return "command begins with a placeholder: the program itself has to be named"
    if found and is_shell_text(command):
        return (
            "a placeholder stands in the text of a shell, which would read a path as commands: "
            'hand it over behind the text, as in ["sh", "-c", "train \\"$1\\"", "sh", "{dataset}"]'
        )
    return ""


def is_shell_text(command: Sequence[str]) -> bool:
    """Whether a placeholder stands in what a shell reads as commands."""
    for place, argument in enumerate(command):
        if PurePath(argument).name.lower() not in _SHELLS:
            continue
        for flag, text in zip(command[place + 1 :], command[place + 2 :], strict=False):
            if flag.startswith(("-", "/")) and flag.lower().endswith("c") and named(text):
                return True
    return False


def filled(command: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """The command with the placeholders' values. Every one of them must be given."""
    return [
        _PLACE.sub(lambda found: f"{{{found[1]}}}" if found[1] else values[found[2]], argument)
        for argument in command
    ]
