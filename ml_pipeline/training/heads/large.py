"""Nights of very many rows: heads fitted on a sample, then moved by the gradient of every row.

What a curvature is known to within a few hundredths from tens of thousands of rows. So it is taken
from a sample, while the gradient, which decides where a head ends, counts every row (subsampled
Newton: Roosta-Khorasani & Mahoney 2019). Inputs are made anew for a part of the rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.evaluation.metrics import Codes, Floats
from ml_pipeline.training.heads.curvature import solved, times
from ml_pipeline.training.heads.newton import Fitted, Lesson

# Rows of which heads are fitted, and answers held, at once.
ROWS_AT_ONCE: Final = 1 << 15
# And answers to how many of its classes.
_ANSWERS_AT_ONCE: Final = 1 << 17
# Of a row's loss: the record does not tell smaller ones apart.
STOP_AT_NATS_A_ROW: Final = 1e-5

Places = slice | NDArray[np.int64]


def parts_of(count: int, n_classes: int) -> Iterator[slice]:
    """So many rows in pieces, of which everything that votes can be asked at once."""
    rows = min(ROWS_AT_ONCE, max(_ANSWERS_AT_ONCE // n_classes, 1))
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))


@dataclass(frozen=True, kw_only=True, slots=True)
class LargeLesson:
    """One night to learn: n rows that were scored first, whose inputs need not be held at once.

    `inputs` gives those (m, p) of some of the rows for each family of heads; `actual` (n,) codes,
    `weights` (n,). `losses` (V,) are those of everything that votes on the rows on which it may be
    judged, None where there are none.
    """

    inputs: Callable[[Places], tuple[Floats, ...]]
    actual: Codes
    weights: Floats
    n_classes: int
    losses: Floats | None

    def __len__(self) -> int:
        return len(self.actual)

    def voters_losses(self) -> Floats | None:
        """Of everything that votes, (V,)."""
        return self.losses

    def fitted(
        self, starts: tuple[Floats, ...], penalties: tuple[Floats, ...], epochs: int
    ) -> tuple[list[Fitted], ...]:
        """As `Lesson.fitted`, for each family; curvatures are those of a sample, scaled up."""
        sample = self._sample()
        found = sample.fitted(starts, penalties, epochs)
        if len(sample) == len(self):
            return found
        return self._moved(starts, penalties, found, epochs)

    def _sample(self) -> Lesson:
        places: Places = slice(None)
        if len(self) > ROWS_AT_ONCE:
            chosen = np.random.default_rng(len(self)).choice(len(self), ROWS_AT_ONCE, replace=False)
            places = np.sort(chosen)
        weights = self.weights[places]
        return Lesson(
            inputs=self.inputs(places),
            actual=self.actual[places],
            weights=weights * (self.weights.sum() / weights.sum()),
            opinions=np.empty((0, len(weights), self.n_classes)),
        )

    def _moved(
        self,
        starts: tuple[Floats, ...],
        penalties: tuple[Floats, ...],
        found: tuple[list[Fitted], ...],
        epochs: int,
    ) -> tuple[list[Fitted], ...]:
        """From the sample's solutions towards those of all rows, by steps with its curvatures."""
        first = [np.stack([head for head, _ in family]) for family in found]
        families = [
            _Family(
                start=start,
                penalty=penalty,
                curvatures=tuple(curvature for _, curvature in solutions),
                heads=heads,
                losses=losses,
                gradients=gradients,
                sizes=np.ones(len(heads)),
            )
            for start, penalty, solutions, heads, (losses, gradients) in zip(
                starts, penalties, found, first, self._sums(first), strict=True
            )
        ]
        least = STOP_AT_NATS_A_ROW * float(self.weights.sum())
        for _ in range(epochs + 1):
            moved = [family.heads - family.steps(least) for family in families]
            if all(np.array_equal(f.heads, m) for f, m in zip(families, moved, strict=True)):
                break
            families = [
                family.at(heads, *sums)
                for family, heads, sums in zip(families, moved, self._sums(moved), strict=True)
            ]
        return tuple(list(zip(family.heads, family.curvatures, strict=True)) for family in families)

    def _sums(self, families: Sequence[Floats]) -> list[tuple[Floats, Floats]]:
        """Losses (H,) and their gradients (H, Cp) over all rows, for the heads of each family."""
        sums = [(np.zeros(len(heads)), np.zeros((len(heads), heads[0].size))) for heads in families]
        for part in parts_of(len(self), self.n_classes):
            actual, weights = self.actual[part], self.weights[part]
            for heads, inputs, total in zip(families, self.inputs(part), sums, strict=True):
                found = _loss_and_gradient(heads, inputs, actual, weights, self.n_classes)
                for so_far, further in zip(total, found, strict=True):
                    np.add(so_far, further, out=so_far)
        return sums


@dataclass(frozen=True, kw_only=True, slots=True)
class _Family:
    """H heads on their way from `start`: where they are, and what the rows say there."""

    start: Floats
    penalty: Floats
    curvatures: tuple[Floats, ...]
    heads: Floats
    losses: Floats
    gradients: Floats
    sizes: Floats

    def steps(self, least: float) -> Floats:
        """What to take off each head; nothing where that promises no more than `least`."""
        steps, columns = np.zeros_like(self.heads), self.heads.shape[2]
        for head, delta in enumerate(_flat(self.heads - self.start)):
            slope = self.gradients[head] + times(self.penalty[head], delta, columns)
            step = solved(self.curvatures[head] + self.penalty[head], slope, columns)
            if step @ slope > 2 * least:
                steps[head] = self.sizes[head] * step.reshape(self.heads.shape[:0:-1]).T
        return steps

    def at(self, heads: Floats, losses: Floats, gradients: Floats) -> _Family:
        """There, where that is better, with half the step to try where it is not."""
        is_better = self._goals(heads, losses) <= self._goals(self.heads, self.losses)
        return replace(
            self,
            heads=np.where(is_better[:, None, None], heads, self.heads),
            losses=np.where(is_better, losses, self.losses),
            gradients=np.where(is_better[:, None], gradients, self.gradients),
            sizes=np.where(is_better, 1.0, self.sizes / 2),
        )

    def _goals(self, heads: Floats, losses: Floats) -> Floats:
        deltas, columns = _flat(heads - self.start), heads.shape[2]
        penalties = [d @ times(p, d, columns) for p, d in zip(self.penalty, deltas, strict=True)]
        return np.asarray(losses + 0.5 * np.asarray(penalties))


def _flat(heads: Floats) -> Floats:
    """Weights (H, p, C) column by column, (H, Cp)."""
    return heads.transpose(0, 2, 1).reshape(len(heads), -1)


def _loss_and_gradient(
    heads: Floats, inputs: Floats, actual: Codes, weights: Floats, n_classes: int
) -> tuple[Floats, Floats]:
    """Of heads (H, p, C) on rows (n, p): (H,) and (H, Cp). Classes go first: so numpy is quick."""
    count, width, columns = heads.shape
    scores = (_flat(heads).reshape(-1, width) @ inputs.T).reshape(count, columns, -1)
    top = scores.max(axis=1)
    if columns < n_classes:
        np.maximum(top, 0, out=top)
    powers = np.exp(scores - top[:, None])
    total = powers.sum(axis=1)
    if columns < n_classes:
        total += np.exp(-top)
    has_column = np.flatnonzero(actual < columns)
    chosen = np.zeros_like(top)
    chosen[:, has_column] = scores[:, actual[has_column], has_column]
    losses = (np.log(total) + top - chosen) @ weights
    residuals = powers / total[:, None]
    residuals[:, actual[has_column], has_column] -= 1
    residuals *= weights
    return losses, (residuals.reshape(-1, len(actual)) @ inputs).reshape(count, -1)
