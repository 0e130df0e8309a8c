"""The inputs by which a model reads the answer of an incumbent, a classifier that is not ours.

It reads the incumbent's probability of each class as a number, `incumbent:H`, after the features.
"""

from __future__ import annotations

from collections.abc import Iterable

PREFIX = "incumbent:"
# The key of an event's metadata, and the column of a file, under which the answer stands: of a
# file as JSON, or as a label beside its confidence.
ANSWER = "incumbent"
ANSWER_CONFIDENCE = "incumbent_confidence"
# The column of a file that a run writes from the log, by a name that hardly a feature has.
LOGGED_ANSWER = "incumbent's answer"


def share_columns(classes: Iterable[str]) -> list[str]:
    """The names of the inputs that hold the incumbent's probabilities."""
    return [PREFIX + label for label in classes]


def classes_read(features: Iterable[str]) -> tuple[str, ...]:
    """The classes of which the features hold the incumbent's probabilities; none for most."""
    return tuple(name.removeprefix(PREFIX) for name in features if name.startswith(PREFIX))


def own_features(features: Iterable[str]) -> list[str]:
    """The features without those."""
    return [name for name in features if not name.startswith(PREFIX)]


def is_answer_column(name: str) -> bool:
    """Whether a column of a file tells the incumbent's answer, and is no feature."""
    return name in {ANSWER, ANSWER_CONFIDENCE} or name.startswith(PREFIX)
