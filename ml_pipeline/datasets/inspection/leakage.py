"""Columns that know the result: found by how well each of them alone tells it.

What is written down after something happened (when it was closed, the amount paid back) is not
known when a prediction is asked for. A model that learns it looks perfect and is worth nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# The share of errors of always answering the most frequent class that a column alone spares.
DETERMINES: Final = 0.98
NEARLY: Final = 0.93
# Where several classes are, one of them may be known all the same: a rare one, of whose errors
# those that are spared are few, or one beside which the others are mixed up.
CLASSES_TRIED: Final = 10
# Fewer rows of the other classes make a chance hit too likely.
_LEAST_ROWS: Final = 20
_LEAST_SEEN: Final = 4
_HALVES: Final = 2
# Who tells one of two classes tells both.
_TWO: Final = 2


class Relation(StrEnum):
    """What a column says of the result."""

    EQUALS = "equals"
    DETERMINES = "determines"
    NEARLY = "nearly determines"


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """A column that may know the result; `spared` is its share of spared errors, 0..1.

    One that knows of one class alone whether it is that has it as `label`.
    """

    name: str
    relation: Relation
    spared: float
    label: str = ""

    def sentence(self, target: str) -> str:
        """What was found, for people."""
        if self.label:
            return (
                f"{self.name} alone tells in practically every row whether {target} is {self.label}"
            )
        if self.relation is Relation.EQUALS:
            return f"{self.name} says the same as {target}, row for row"
        if self.relation is Relation.DETERMINES:
            return f"{self.name} alone tells {target} in practically every row"
        return f"{self.name} alone spares {self.spared:.0%} of the errors in {target}"


def suspect_of(column: pd.Series, labels: NDArray[np.str_], name: str) -> Suspect | None:
    """Whether a column of texts (n,) tells the labels (n,) alone, and how well."""
    classes, codes = np.unique(labels, return_inverse=True)
    usual = np.bincount(codes).argmax()
    if int((codes != usual).sum()) < _LEAST_ROWS:
        return None
    halves = _halves_of(column)
    spared = _spared_errors(halves, codes)
    if spared < NEARLY:
        return None if len(classes) == _TWO else _suspect_of_a_class(halves, classes, codes, name)
    if _is_renamed(column, labels):
        return Suspect(name=name, relation=Relation.EQUALS, spared=1.0)
    relation = Relation.DETERMINES if spared >= DETERMINES else Relation.NEARLY
    return Suspect(name=name, relation=relation, spared=spared)


def _suspect_of_a_class(
    halves: Sequence[_Half], classes: NDArray[np.str_], codes: NDArray[np.int64], name: str
) -> Suspect | None:
    """Whether a column tells one of several classes from all others."""
    counts = np.bincount(codes)
    for code in np.argsort(-counts, kind="stable")[:CLASSES_TRIED].tolist():
        if not _LEAST_ROWS <= counts[code] <= len(codes) - _LEAST_ROWS:
            continue
        spared = _spared_errors(halves, (codes == code).astype(np.int64))
        if spared >= DETERMINES:
            label = str(classes[code])
            return Suspect(name=name, relation=Relation.NEARLY, spared=spared, label=label)
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Half:
    """Half of a column's rows (m,), to be answered from the `seen` (n - m,) others.

    `places` (n - m,) number the values of those, `nearest` (m,) says which of them answers, where
    `is_known`; the most frequent class of all does elsewhere.
    """

    is_held: NDArray[np.bool_]
    places: NDArray[np.int64]
    nearest: NDArray[np.int64]
    is_known: NDArray[np.bool_]

    def answers(self, seen: NDArray[np.int64], usual: int) -> NDArray[np.int64]:
        """By the codes `seen` (n - m,): the most frequent one of the value of each row, (m,)."""
        classes = int(seen.max()) + 1
        counts = np.bincount(
            self.places * classes + seen, minlength=(int(self.places.max()) + 1) * classes
        )
        of_values = counts.reshape(-1, classes).argmax(axis=1)
        return np.where(self.is_known, of_values[self.nearest], usual)


def _halves_of(column: pd.Series) -> list[_Half]:
    """Either half of a column of texts. Of numbers the nearest one answers."""
    values, are_numbers = _values(column)
    found = []
    for half in range(_HALVES):
        is_held = np.arange(len(values)) % _HALVES == half
        held = values[is_held]
        known, places = np.unique(values[~is_held], return_inverse=True)
        nearest = np.searchsorted(known, held).clip(0, len(known) - 1)
        if are_numbers:
            before = (nearest - 1).clip(0)
            nearest = np.where(held - known[before] < known[nearest] - held, before, nearest)
        is_known = np.full(len(held), fill_value=True) if are_numbers else known[nearest] == held
        found.append(_Half(is_held=is_held, places=places, nearest=nearest, is_known=is_known))
    return found


def _spared_errors(halves: Sequence[_Half], codes: NDArray[np.int64]) -> float:
    """The share of errors that a column spares, on rows that were not counted; 0..1.

    Goodman and Kruskal's lambda ("Measures of association for cross classifications", JASA 49,
    1954), with each half of the rows predicted from the other, so that a value of its own for each
    row says nothing.
    """
    wrong = usual_wrong = 0
    for half in halves:
        seen, held = codes[~half.is_held], codes[half.is_held]
        usual = int(np.bincount(seen).argmax())
        wrong += int((half.answers(seen, usual) != held).sum())
        usual_wrong += int((held != usual).sum())
    return max(0.0, 1 - wrong / usual_wrong) if usual_wrong else 0.0


def _values(column: pd.Series) -> tuple[NDArray[np.float64], bool]:
    """Numbers (n,) that stand for the cells, and whether they are numbers in their own right.

    A missing one is far from all others. Of texts, those that hardly any row has are one.
    """
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.isfinite(numbers)
    if known.any() and known.sum() == (column.str.strip() != "").sum():
        low, high = float(numbers[known].min()), float(numbers[known].max())
        return np.where(known, numbers, low - 2 * (high - low) - 1), True
    counts = column.map(column.value_counts())
    # What nearly every row has of its own tells only that it is there.
    levels = pd.factorize(column.where(counts >= _LEAST_SEEN, "\0rare"))[0]
    return levels.astype(np.float64), False


def _is_renamed(column: pd.Series, labels: NDArray[np.str_]) -> bool:
    """Whether each label goes with one text of the column, and each text with one label."""
    pairs = set(zip(column.tolist(), labels.tolist(), strict=True))
    return len(pairs) == column.nunique() == len(set(labels.tolist()))
