"""A program of flat numbers that PL/pgSQL runs inside of the database.

A program is a memory of so many numbers, a list of instructions (`places`) and the constants that
these name (`numbers`). The first places of the memory are the row. `docs/scoring-format.md` lists
the instructions; `ml_pipeline_score` in `sql/supabase/0042_scoring.sql` runs them. All places count
from 1, as arrays do there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite

PROGRAM_FORMAT = 1
# Dot products run in steps of so many.
STEP = 8
# A vote below it moves no probability by a billionth.
SILENT = 1e-12
# PostgreSQL refuses products that underflow: no two numbers that are multiplied may be smaller.
_TINY_WEIGHT, _LARGEST_WEIGHT = 1e-100, 1e50
_SCALES = 1e-50, 1e150
_LARGEST = 1.7e308
# What the arrays of a row may hold in all: more takes too long to read for one answer.
LARGEST_BYTES = 20_000_000
# Of the program's own facts, which stand before the first instruction.
FACTS = 4

(
    DOT, SHARE, SELECT, FLUSH, IMPUTE, SCALE, CLIP, LINK, ORDER, ADD, ODDS, NUMBERS, BOUND, PAIRS,
    COSINES, SET, TREES, VOTE, ONE_HOT, MEANS, MOMENTS,
) = range(1, 22)  # fmt: skip
LINKS = {"none": 0, "softmax": 1, "sigmoid": 2, "one_versus_rest": 3}


class Inexpressible(Exception):
    """What no program says; the text names it."""


@dataclass(kw_only=True, slots=True)
class Program:
    """What the database runs.

    `answer` is where the `answers` numbers stand that the caller gets: the probability of each of
    `classes`, then of each of an ensemble's `members` its weight (NaN without an answer) and its
    probability of each of `base_classes`.
    """

    features: list[str]
    kinds: list[str]
    classes: list[str]
    base_classes: list[str]
    code: list[int] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
    size: int = 0
    answer: int = 0
    answers: int = 0

    @property
    def places(self) -> list[int]:
        """The program's facts (features, memory, answer) and its instructions."""
        return [len(self.features), self.size, self.answer, self.answers, *self.code]

    @property
    def bytes(self) -> int:
        """How large the arrays are."""
        return 8 * len(self.numbers) + 4 * len(self.code)

    def room(self, count: int) -> int:
        """The first of so many new places of the memory."""
        start = self.size + 1
        self.size += count
        return start

    def keep(self, values: Sequence[float]) -> int:
        """Keep constants; returns where the first stands. Raises Inexpressible."""
        start = len(self.numbers) + 1
        if not all(map(isfinite, values)):
            raise Inexpressible("numbers that are not finite")
        self.numbers += map(float, values)
        return start

    def keep_weights(self, values: Sequence[float]) -> int:
        """Keep what is multiplied with values. Raises Inexpressible."""
        if any(abs(value) > _LARGEST_WEIGHT for value in values):
            raise Inexpressible("weights of more than 50 digits")
        return self.keep([0.0 if abs(value) < _TINY_WEIGHT else value for value in values])

    def keep_bounds(self, values: Sequence[float]) -> int:
        """Keep what values are compared with, which may be infinite."""
        return self.keep([min(max(value, -_LARGEST), _LARGEST) for value in values])

    def emit(self, *code: int) -> None:
        """Add an instruction."""
        self.code += code

    def dot(
        self, source: int, width: int, rows: Sequence[Sequence[float]], starts: Sequence[float]
    ) -> int:
        """Sums of `width` values from `source` on, weighed by each row, added to its start.

        Returns where they stand. The steps of eight read past the values, where the weights are 0.
        """
        wide = padded(width)
        out = self.room(len(rows))
        flat = [value for row in rows for value in [*row, *[0.0] * (wide - width)]]
        first = self.keep_weights(flat)
        self.keep(starts)
        self.emit(DOT, source, wide, len(rows), out, first)
        return out


def padded(width: int) -> int:
    """The next whole number of steps."""
    return -(-width // STEP) * STEP


def many(value: object, count: int) -> list[float]:
    """So many numbers of a header. Raises Inexpressible."""
    numbers = [float(number) for number in value] if isinstance(value, list) else []
    if len(numbers) != count:
        raise Inexpressible("parts that do not fit one another")
    return numbers


def scales(values: Sequence[float]) -> Sequence[float]:
    """Values as divisors. Raises Inexpressible for those by which nothing can be divided."""
    low, high = _SCALES
    if not all(low <= value <= high for value in values):
        raise Inexpressible("features of which one hardly varies at all, or without end")
    return values
