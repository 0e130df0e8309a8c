"""Is a sequence random? Streaks, transitions, chi-square, the runs test, strange days.

Pure functions over plain sequences in the order of time; the distributions are scipy's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from itertools import groupby, pairwise
from typing import Any, Literal

LAPLACE = 1
FEW, MANY = 30, 100
LEVEL = 0.01

Confidence = Literal["low", "medium", "high"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Streak:
    """The same value `length` times in a row, from place `start` (counted from 0) on."""

    value: str
    length: int
    start: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Transitions:
    """How often a state followed another, as `[from][to]` in the order of `states`.

    `probabilities` are Laplace's, `(count + 1) / (rows + K)` with K states, so nothing is
    impossible because it was not seen yet. `confidence` judges each row by its sample: `low` under
    30 transitions out of the state, `medium` under 100; `weight` is rows / (rows + K), the part of
    the estimate that the data have.
    """

    states: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    probabilities: tuple[tuple[float, ...], ...]
    confidence: tuple[Confidence, ...]
    weight: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """The matrix by the names of its states."""
        return {
            state: {
                "counts": dict(zip(self.states, self.counts[place], strict=True)),
                "probabilities": dict(zip(self.states, self.probabilities[place], strict=True)),
                "confidence": self.confidence[place],
                "weight": self.weight[place],
            }
            for place, state in enumerate(self.states)
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Tested:
    """A test's result; `sentence` says what it means, `p_value` None that it cannot be made."""

    name: str
    statistic: float | None
    p_value: float | None
    rows: int
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunsTest(Tested):
    """The runs test of a sequence of two values; `clustered` says too few runs to be chance."""

    runs: int
    expected_runs: float | None
    clustered: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class StrangeDay:
    """A day whose share of right predictions is not chance; `p_value` is adjusted for all days."""

    day: date
    rows: int
    share: float
    expected: float
    p_value: float

    def as_json(self) -> dict[str, Any]:
        """The day as plain JSON values."""
        return asdict(self) | {"day": self.day.isoformat()}


def streaks(values: Sequence[str]) -> list[Streak]:
    """Maximal stretches of one value, in their order."""
    found, start = [], 0
    for value, group in groupby(values):
        length = sum(1 for _ in group)
        found.append(Streak(value=value, length=length, start=start))
        start += length
    return found


def streak_summary(values: Sequence[str]) -> dict[str, Any]:
    """The stretch that goes on at the end, and the longest of each value."""
    found = streaks(values)
    longest: dict[str, int] = {}
    for streak in found:
        longest[streak.value] = max(streak.length, longest.get(streak.value, 0))
    current = {"value": found[-1].value, "length": found[-1].length} if found else None
    return {"current": current, "longest": dict(sorted(longest.items()))}


def transitions(values: Sequence[str], states: Sequence[str]) -> Transitions:
    """How often each of the states followed each; values that are no state break the chain.

    With the three outcomes of a match K is 3, as in the original documents.
    """
    known = set(states)
    seen = Counter(pair for pair in pairwise(values) if known.issuperset(pair))
    counts = tuple(tuple(seen[a, b] for b in states) for a in states)
    rows = [sum(row) for row in counts]
    k = len(states)
    return Transitions(
        states=tuple(states),
        counts=counts,
        probabilities=tuple(
            tuple((count + LAPLACE) / (total + LAPLACE * k) for count in row)
            for row, total in zip(counts, rows, strict=True)
        ),
        confidence=tuple(_confidence(total) for total in rows),
        weight=tuple(total / (total + LAPLACE * k) for total in rows),
    )


def _confidence(rows: int) -> Confidence:
    if rows < FEW:
        return "low"
    return "medium" if rows < MANY else "high"


def chi_square(
    values: Sequence[str], states: Sequence[str], shares: Mapping[str, float] | None = None
) -> Tested:
    """Whether the states come in the given shares; without any, equally often.

    Raises ValueError for shares that are none or leave a state out.
    """
    from scipy import stats

    expected = dict.fromkeys(states, 1 / len(states)) if shares is None else dict(shares)
    if set(expected) != set(states) or min(expected.values()) <= 0:
        message = f"shares must give each of {', '.join(states)} more than 0: {expected}"
        raise ValueError(message)
    total = sum(expected.values())
    seen = Counter(values)
    counts = [seen[state] for state in states]
    rows = sum(counts)
    name = "chi_square"
    if rows * min(expected.values()) / total < 5:  # noqa: PLR2004 - Cochran's rule
        sentence = f"{rows} rows are too few for a chi-square test."
        return Tested(name=name, statistic=None, p_value=None, rows=rows, sentence=sentence)
    result = stats.chisquare(counts, [rows * expected[state] / total for state in states])
    p = float(result.pvalue)
    finding = "as often as expected" if p >= LEVEL else "not as often as expected"
    return Tested(
        name=name,
        statistic=float(result.statistic),
        p_value=p,
        rows=rows,
        sentence=f"The outcomes come {finding} (chi-square, p = {p:.3g}, {rows} rows).",
    )


def independence(matrix: Transitions) -> Tested:
    """Whether the next state depends on the one before (chi-square on the transitions)."""
    import numpy as np
    from scipy import stats

    counts = np.array(matrix.counts)
    counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    rows = int(counts.sum())
    name = "independence"
    if min(counts.shape, default=0) < 2 or stats.contingency.expected_freq(counts).min() < 5:  # noqa: PLR2004
        sentence = f"{rows} transitions are too few to say whether they depend on each other."
        return Tested(name=name, statistic=None, p_value=None, rows=rows, sentence=sentence)
    result = stats.chi2_contingency(counts)
    p = float(result.pvalue)
    finding = "does not depend" if p >= LEVEL else "depends"
    return Tested(
        name=name,
        statistic=float(result.statistic),
        p_value=p,
        rows=rows,
        sentence=f"The next outcome {finding} on the one before (p = {p:.3g}, {rows} transitions).",
    )


def runs_test(right: Sequence[bool]) -> RunsTest:
    """Whether errors are scattered by chance or clustered (Wald and Wolfowitz, one-sided).

    With m right and n wrong the number of runs has mean 2mn/(m+n) + 1 and variance
    2mn(2mn − m − n) / ((m+n)² (m+n−1)); the normal approximation needs 10 of each.
    """
    from scipy import stats

    m = sum(map(bool, right))
    n = len(right) - m
    runs = len(streaks([str(bool(value)) for value in right]))
    if min(m, n) < 10:  # noqa: PLR2004 - below it the approximation is bad
        sentence = f"{n} errors among {m + n} predictions are too few for a runs test."
        return RunsTest(
            name="runs", statistic=None, p_value=None, rows=m + n, sentence=sentence,
            runs=runs, expected_runs=None, clustered=False,
        )  # fmt: skip
    expected = 2 * m * n / (m + n) + 1
    variance = 2 * m * n * (2 * m * n - m - n) / ((m + n) ** 2 * (m + n - 1))
    z = (runs - expected) / math.sqrt(variance)
    p = float(stats.norm.cdf(z))
    clustered = p < LEVEL
    finding = "cluster" if clustered else "are scattered as chance would"
    return RunsTest(
        name="runs",
        statistic=z,
        p_value=p,
        rows=m + n,
        sentence=f"The errors {finding}: {runs} runs of right and wrong where {expected:.1f} are "
        f"expected (p = {p:.3g}, {n} errors in {m + n} predictions).",
        runs=runs,
        expected_runs=expected,
        clustered=clustered,
    )


def strange_days(
    days: Sequence[tuple[date, int, int]], *, level: float = LEVEL
) -> list[StrangeDay]:
    """Days (day, rows, right) whose share of right predictions differs from the other days'.

    An exact binomial test a day, adjusted by Benjamini and Hochberg, so that among the days that
    are reported a share of `level` is chance.
    """
    from scipy import stats

    counted = [(day, rows, right) for day, rows, right in days if rows > 0]
    total, hits = sum(rows for _, rows, _ in counted), sum(right for *_, right in counted)
    judged = [
        (day, rows, right / rows, (hits - right) / (total - rows),
         stats.binomtest(right, rows, (hits - right) / (total - rows)).pvalue)
        for day, rows, right in counted
        if total > rows
    ]  # fmt: skip
    if not judged:
        return []
    adjusted = stats.false_discovery_control([p for *_, p in judged])
    return [
        StrangeDay(day=day, rows=rows, share=share, expected=expected, p_value=float(p))
        for (day, rows, share, expected, _), p in zip(judged, adjusted, strict=True)
        if p < level
    ]
