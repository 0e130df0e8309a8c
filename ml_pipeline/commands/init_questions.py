"""What `init --from` asks a person on a terminal; in a pipe it decides and says so."""

from __future__ import annotations

import logging
import sys

from ml_pipeline.commands import common, progress
from ml_pipeline.datasets.inspection.inspecting import NONE, Ask, Question
from ml_pipeline.errors import Stopped
from ml_pipeline.printable import printable

log = logging.getLogger("init")

_OPTIONS_SHOWN = 40


def asker(decided: list[str]) -> Ask:
    """How questions are answered: by the person at the terminal, else by their defaults.

    What was decided for a person is said, and added to `decided`.
    """
    if sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty():
        return _asked

    def decide(question: Question) -> str:
        if question.default == NONE:
            return NONE
        sentence = f"{printable(question.text)} Taken: {printable(question.default)}."
        decided.append(sentence)
        log.info("%s", sentence)
        return question.default

    return decide


def _asked(question: Question) -> str:
    """A person's answer; Enter takes the default. Raises Stopped where the input ends."""
    with progress.held():
        return _answer(question)


def _answer(question: Question) -> str:
    shown = ", ".join(map(printable, question.options[:_OPTIONS_SHOWN]))
    common.say(f"\n{question.text}")
    while True:
        sys.stderr.write(f"  {shown} [{printable(question.default)}] > ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise Stopped("The answers ended.", hint="Nothing was written.")
        answer = line.strip() or question.default
        option = _option(answer, question.options)
        if option is not None:
            return option
        common.say(f"  {answer!r} is none of them.")


def _option(answer: str, options: tuple[str, ...]) -> str | None:
    """The option that is meant: as it is written, else in any case, else by its beginning."""
    if answer in options:
        return answer
    folded = answer.lower()
    same = [option for option in options if option.lower() == folded]
    begun = [option for option in options if option.lower().startswith(folded)]
    found = same or begun
    return found[0] if len(found) == 1 else None
