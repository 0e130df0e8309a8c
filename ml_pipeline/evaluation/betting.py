"""A confidence sequence for the mean of bounded gains: what betting against a mean would have won.

Whoever bets at fair odds that the mean gain is above m multiplies his capital by
`(1 + s·x/c) / (1 + s·m/c)` with each gain x in [-c, c], where s is his stake. If the mean is m, the
capital is a martingale that starts at 1, so that it ever reaches 1/α with a probability of α at
most (Ville 1939). Every m whose capital has reached 1/α is therefore ruled out, at every sample
size and however often it is looked at (Waudby-Smith & Ramdas, "Estimating means of bounded random
variables by betting", JRSS B 86, 2023; here with a mixture of fixed stakes in place of predicted
ones, which makes the capital a function of sums over whole nights).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.evaluation.metrics import Floats

# Gains beyond so many nats count as so many: the new model gave what happened a chance that was
# 148 times smaller, or greater, than the old one's.
CLIP: Final = 5.0
# Shares of the capital that are staked; which one is best depends on the unknown gains.
STAKES: Final = 0.96 * 0.5 ** np.arange(8.0)
_BOTH: Final = np.concatenate([STAKES, -STAKES])
# The spread of a row's gain for which the weights of the stakes are tuned to a number of rows.
_USUAL_DEVIATION: Final = 0.3
_LEAST_WEIGHT: Final = 0.02
_HALVINGS: Final = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Wealth:
    """What bets on gains have come to: all that a confidence sequence needs of them.

    `logs` (2S,) are the logarithms of the capitals of S stakes on a gain and S on a loss, before
    the mean that is bet against is taken off; `units` counts independent results, `weight` is the
    sum of their weights, each in (0, 1].
    """

    logs: tuple[float, ...] = (0.0,) * (2 * len(STAKES))
    units: int = 0
    weight: float = 0.0

    def __post_init__(self) -> None:
        if len(self.logs) != len(_BOTH) or self.units < 0:
            message = f"{len(self.logs)} capitals of {self.units} results are no wealth"
            raise ValueError(message)

    @classmethod
    def of(cls, gains: Floats, *, weight: float | None = None) -> Self:
        """From weighted gains (n,) in nats, one a unit, clipped to ±CLIP.

        A unit is a row, or the mean over the rows of an entity. `weight` is the sum of the units'
        weights; by default each weighs 1.
        """
        bets = np.clip(gains, -CLIP, CLIP) / CLIP
        logs = tuple(float(np.log1p(stake * bets).sum()) for stake in _BOTH)
        total = float(len(bets)) if weight is None else weight
        return cls(logs=logs, units=len(bets), weight=total)

    @classmethod
    def of_sums(cls, rows: int, total: float, squares: float) -> Self:
        """From the sums of gains and squared gains alone, which earlier versions kept.

        By Fan's inequality, `ln(1 + s·y) >= s·y + (ln(1 - s) + s)·y²` for y >= -1: less than was
        won, so the bounds are wider and still hold, unless gains went beyond the clip.
        """
        size = np.abs(_BOTH)
        logs = _BOTH * total / CLIP + (np.log1p(-size) + size) * squares / CLIP**2
        return cls(logs=tuple(logs.tolist()), units=rows, weight=float(rows))

    def plus(self, other: Wealth) -> Wealth:
        """The wealth after further results."""
        return Wealth(
            logs=tuple(mine + theirs for mine, theirs in zip(self.logs, other.logs, strict=True)),
            units=self.units + other.units,
            weight=self.weight + other.weight,
        )

    def as_list(self) -> list[float]:
        """Plain numbers: the logs, the units, the weight."""
        return [*self.logs, float(self.units), self.weight]

    @classmethod
    def from_list(cls, numbers: Sequence[float] | NDArray[np.float64]) -> Self:
        """The inverse of `as_list`."""
        *logs, units, weight = (float(number) for number in numbers)
        return cls(logs=tuple(logs), units=int(units), weight=weight)

    def lower_bound(self, *, alpha: float, horizon_rows: int) -> float:
        """The greatest mean gain that is ruled out from below, in nats a row; -CLIP for none.

        It is over the true mean at any time with a probability of `alpha` at most, if the mean of
        each gain, given those before it, is the same. `horizon_rows` weighs the stakes: where
        verdicts are hoped for after fewer rows, the greater ones weigh more.
        """
        logs = np.asarray(self.logs[: len(STAKES)]) + np.log(stake_weights(alpha, horizon_rows))
        return self._in_nats(_ruled_out(logs, self.units, math.log(1 / alpha)))

    def upper_bound(self, *, alpha: float, horizon_rows: int) -> float:
        """The mirror of `lower_bound`."""
        logs = np.asarray(self.logs[len(STAKES) :]) + np.log(stake_weights(alpha, horizon_rows))
        return -self._in_nats(_ruled_out(logs, self.units, math.log(1 / alpha)))

    def _in_nats(self, share: float) -> float:
        """A share of the clip, of weighted gains, as nats of a gain of weight 1."""
        mean_weight = self.weight / self.units if self.units else 1.0
        return max(-CLIP, min(CLIP, share * CLIP / mean_weight))


def stake_weights(alpha: float, horizon_rows: int) -> Floats:
    """How the capital is spread over the stakes, (S,), at the start.

    Log-normally around the stake that is best for a gain that would just be seen after so many
    rows of the usual spread.
    """
    best = CLIP * math.sqrt(2 * math.log(1 / alpha) / horizon_rows) / _USUAL_DEVIATION
    distance = np.log(STAKES / min(best, STAKES[0]))
    weights = np.exp(-(distance**2) / 2) + _LEAST_WEIGHT
    return np.asarray(weights / weights.sum())


def _ruled_out(logs: Floats, units: int, needed: float) -> float:
    """The greatest m in [-1, 1] such that the capital of bets above m is 1/α; -1 for none.

    The capital falls as m grows, so the place is found by halving.
    """

    def is_reached(mean: float) -> bool:
        capitals = logs - units * np.log1p(STAKES * mean)
        top = float(capitals.max())
        return top + math.log(float(np.exp(capitals - top).sum())) >= needed

    low, high = -1.0, 1.0
    if not is_reached(low):
        return low
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_reached(middle) else (low, middle)
    return low
