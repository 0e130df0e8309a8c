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

PROGRAM_FORMAT = 2
# Dot products run in steps of so many.
STEP = 12
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
# Of every instruction: what it is, how long, and the operands that most have.
_HEAD = 6

(
    DOT, SHARES, STANDARDISE, ADD, ODDS, PAIRS, COSINES, SELECT, FLUSH, IMPUTE, SCALE, CLIP, BOUND,
    LINK, ORDER, TREES, VOTE, ONE_HOT, MEANS, MOMENTS,
) = range(1, 21)  # fmt: skip
LINKS = {"sigmoid": 1, "one_versus_rest": 2}


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

    def emit(
        self,
        instruction: int,
        *further: int,
        source: int = 0,
        count: int = 0,
        out: int = 0,
        first: int = 0,
    ) -> None:
        """Add an instruction."""
        head = [instruction, _HEAD + len(further), source, count, out, first]
        self.code += [*head, *further]

    def dot(
        self, source: int, width: int, rows: Sequence[Sequence[float]], starts: Sequence[float]
    ) -> int:
        """Sums of `width` values from `source` on, weighed by each row, added to its start.

        Returns where they stand. The steps read past the values, where the weights are 0.
        """
        wide = padded(width)
        out = self.room(len(rows))
        full = [[*row, *[0.0] * (wide - width)] for row in rows]
        first = self.keep(starts)
        for step in range(0, wide, STEP):
            self.keep_weights([value for row in full for value in row[step : step + STEP]])
        self.emit(DOT, len(rows), source=source, count=wide, out=out, first=first)
        return out

    def select(self, places: Sequence[int], *, room: int = 0) -> int:
        """Copy values to new places, of which there is `room`; returns where they stand."""
        out = self.room(max(room, len(places)))
        self.emit(SELECT, *places, count=len(places), out=out)
        return out

    def standardise(  # noqa: PLR0913 - the numbers of a feature
        self,
        source: int,
        out: int,
        *,
        fills: Sequence[float],
        mean: Sequence[float],
        scale: Sequence[float],
        farthest: float,
    ) -> None:
        """Standard deviations from the mean, `farthest` at most; `fills` of missing values."""
        first = self.keep([*fills, *mean, *scales(scale), farthest])
        self.emit(STANDARDISE, source=source, count=len(fills), out=out, first=first)

    def shares(
        self, source: int, scores: int, out: int, weights: Sequence[float], *, rest: int = 0
    ) -> None:
        """Add to `out` the softmax of scores, and of as many after these for each weight.

        With `rest` one class more has the score 0.
        """
        first = self.keep(weights)
        self.emit(SHARES, len(weights), rest, source=source, count=scores, out=out, first=first)


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
