"""Are two rates the same? A test on two different samples that may be looked at all the time.

Whoever bets against a rate p with the mixture over Beta(1/2, 1/2) (Krichevsky and Trofimov, IEEE
Trans. Inf. Theory 27, 1981) has after k hits in n rows the capital

    B(k + 1/2, n - k + 1/2) / B(1/2, 1/2) / (p^k (1 - p)^(n - k)).

If p is the rate, that is a martingale that starts at 1, and so is the product of the capitals of
two samples that know nothing of each other. Under equal rates the product is at least its minimum
over their common p, which is the share of both samples together: this minimum ever reaches 1/alpha
with a probability of alpha at most (Ville 1939), in whatever order rows come in and however often
it is looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """So many hits in so many rows."""

    hits: int
    rows: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.rows:
            message = f"{self.hits} hits in {self.rows} rows cannot be"
            raise ValueError(message)

    @property
    def share(self) -> float:
        """Hits a row; NaN without rows."""
        return self.hits / self.rows if self.rows else math.nan


def chance_of_equal(first: Rate, second: Rate) -> float:
    """At most how probable it is that equal rates ever differ as much, in (0, 1].

    A p-value at every sample size: where it has been at most alpha, the rates differ, and this is
    false with a probability of alpha at most.
    """
    hits, rows = first.hits + second.hits, first.rows + second.rows
    log_capital = _log_mixture(first) + _log_mixture(second) - _log_chance(hits, rows)
    return math.exp(-max(0.0, log_capital))


def _log_mixture(rate: Rate) -> float:
    misses = rate.rows - rate.hits
    return _log_beta(rate.hits + 0.5, misses + 0.5) - _log_beta(0.5, 0.5)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_chance(hits: int, rows: int) -> float:
    """Of the rows, if the rate is their share."""
    return sum(count * math.log(count / rows) for count in (hits, rows - hits) if count)
