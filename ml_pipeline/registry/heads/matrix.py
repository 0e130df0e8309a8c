"""The heads of a scoring file with numpy, where a process has loaded it anyway.

To load it takes longer than a whole cold prediction; once it is there, a row takes a sixth of the
time of `plain`. What both answer differs by rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

import numpy as np

from ml_pipeline.registry.heads.plain import MAX_STANDARDISED, MIN_PROBABILITY, WAVE, Heads
from ml_pipeline.registry.scoring_parts import Reader, Values

# Of e: far from what a float holds, so that the sum of a head's classes is held as well.
LARGEST_POWER = 500.0


class MatrixHeads(Heads):
    """All heads' weights as two matrices, whose rows are the scores of each head in turn."""

    def __init__(self, header: Mapping[str, object], reader: Reader) -> None:
        super().__init__(header, reader)
        counts = {"pairs": len(self._pairs), "waves": len(self._waves)}
        common, waving = list[list[float]](), list[list[float]]()
        for name, heads in self._families:
            for head in heads:
                for weights in head:
                    own = counts.get(name, 0)
                    end = self._width + own
                    further = {family: [0.0] * count for family, count in counts.items()}
                    further[name] = weights[self._width : end]
                    common.append([*weights[: self._width], *weights[end:], *further["pairs"]])
                    waving.append(further["waves"])
                if not self._is_former:
                    common.append([0.0] * len(common[-1]))
                    waving.append([0.0] * len(waving[-1]))
        self._common, self._waving = np.array(common), np.array(waving) * WAVE
        # Of the angles of all waves: their phases stand where the common inputs are 1.
        before, inputs = self._width - self._count, self._common.shape[1]
        self._angles = np.zeros((len(self._waves), inputs))
        for row, (frequencies, phase) in zip(self._angles, self._waves, strict=True):
            row[before : self._width], row[self._width] = frequencies, phase
        self._ones, self._votes = np.ones(self._classes), np.array(self.votes)
        self._stays_small = self._largest_score() <= LARGEST_POWER

    def _largest_score(self) -> float:
        """What no score is above: inputs are clipped, and a wave is between -1 and 1."""
        furthest = max(MAX_STANDARDISED, -log(MIN_PROBABILITY))
        weights = np.abs(self._common).sum(axis=1) * furthest + np.abs(self._waving).sum(axis=1)
        return float(weights.max(initial=0.0))

    def voted(
        self, values: Values, base: Sequence[float], experts: Sequence[Sequence[float]]
    ) -> list[float]:
        """As `Heads.voted`. What it changes is of this call: several threads ask one model."""
        numbers = self._numbers(values) if self._sees_numbers else []
        products = self._further("pairs", numbers)
        seen = np.array([*self._odds(base), *numbers, *self._last(experts), *products])
        scores = self._common.dot(seen)
        if self._waves:
            angles = self._angles.dot(seen)
            scores += self._waving.dot(np.cos(angles, angles))
        heads = scores.reshape(-1, self._classes)
        if not self._stays_small:
            heads -= heads.max(axis=1, keepdims=True)
        np.exp(heads, heads)
        voted: list[float] = (self._votes / heads.dot(self._ones)).dot(heads).tolist()
        return voted
