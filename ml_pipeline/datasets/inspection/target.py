"""The classes of a column that is to be predicted, or why it cannot be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ml_pipeline.errors import DataError
from ml_pipeline.store.event_row import UNCERTAIN
from ml_pipeline.store.inputs.labels import fold, is_blank

# More classes than these, and a column is an id, a free text or a quantity.
MOST_CLASSES: Final = 100
MOST_NUMBERS: Final = 30
_FEW_DECIMALS: Final = 10
# Classes with fewer rows can hardly be learned.
RARE_ROWS: Final = 20
# A class with less than this share of the rows hides behind a high accuracy.
IMBALANCED: Final = 0.1
_TRUTH: Final = {"1": "true", "0": "false"}
_SHOWN: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Classes:
    """The labels with their numbers of rows, the most frequent spelling of each.

    `counts` are in the order of the settings: numbers by size, texts by the alphabet.
    `unlabelled` rows have no result.
    """

    counts: dict[str, int]
    unlabelled: int

    @property
    def rows(self) -> int:
        """Rows with a result."""
        return sum(self.counts.values())

    @property
    def majority(self) -> str:
        """The most frequent label."""
        return max(self.counts, key=lambda label: self.counts[label])

    def rare(self) -> dict[str, int]:
        """Classes of which there are hardly enough rows to learn them."""
        return {label: count for label, count in self.counts.items() if count < RARE_ROWS}

    def share(self, label: str) -> float:
        """Its share of the rows with a result, 0..1."""
        return self.counts[label] / self.rows

    @property
    def rarest(self) -> str:
        """The least frequent label."""
        return min(self.counts, key=lambda label: self.counts[label])

    @property
    def is_imbalanced(self) -> bool:
        """Whether a class is so small that accuracy says little about it."""
        return self.share(self.rarest) < IMBALANCED / max(1, len(self.counts) - 1)


def find_classes(texts: Mapping[str, int], name: str, source: str) -> Classes:
    """The classes among the texts of a column, each with its number of rows.

    Raises DataError for a column without two classes, for a quantity, and for too many classes.
    """
    unlabelled = sum(count for text, count in texts.items() if is_blank(text))
    written = {text: count for text, count in texts.items() if not is_blank(text)}
    meant: dict[str, Counter[str]] = {}
    for text, count in written.items():
        meant.setdefault(fold(text), Counter())[text.strip()] += count
    if len(meant) > len(_TRUTH) and set(meant) <= {*_TRUTH, *_TRUTH.values()}:
        # Of two classes, either spelling of a truth is read.
        for digit, truth in _TRUTH.items():
            meant[truth] = meant.get(truth, Counter()) + meant.pop(digit, Counter())
    _check(meant, name, source)
    counts = {found.most_common(1)[0][0]: found.total() for found in meant.values()}
    if UNCERTAIN in counts:
        raise DataError(
            f"{source}: {name} is {UNCERTAIN} in {counts[UNCERTAIN]:,} rows, and no class may be "
            "called so: a model that is not sure answers so.",
            hint="Call it otherwise in the file.",
        )
    ordered = sorted(counts, key=lambda label: (_number(label) or 0.0, label))
    return Classes(counts={label: counts[label] for label in ordered}, unlabelled=unlabelled)


def _check(meant: Mapping[str, Counter[str]], name: str, source: str) -> None:
    if not meant:
        raise DataError(
            f"{source}: {name} is empty in every row: there is nothing to learn.",
            hint="Name the column of what really happened with --target.",
        )
    shown = ", ".join(repr(text) for text in list(meant)[:_SHOWN])
    if len(meant) == 1:
        raise DataError(
            f"{source}: {name} is {shown} in every row that has a result: a classifier needs at "
            "least two classes.",
            hint="Name the column of what really happened with --target.",
        )
    numbers = [_number(text) for text in meant]
    known = [number for number in numbers if number is not None]
    are_numbers = len(known) == len(numbers)
    has_decimals = any(number % 1 for number in known)
    most = _FEW_DECIMALS if has_decimals else MOST_NUMBERS
    if are_numbers and len(meant) > most:
        raise DataError(
            f"{source}: {name} holds {len(meant):,} different numbers ({shown}, …): a quantity, "
            "which a regression predicts. Only classes can be predicted here.",
            hint="Add a column of classes to the file, such as low, medium and high, and name it "
            "with --target.",
        )
    if len(meant) > MOST_CLASSES:
        raise DataError(
            f"{source}: {name} holds {len(meant):,} different values ({shown}, …): at most "
            f"{MOST_CLASSES} classes can be told apart.",
            hint="If it is an id or a text, name another column with --target; else join rare "
            "classes into one in the file.",
        )


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number - number == 0 else None
