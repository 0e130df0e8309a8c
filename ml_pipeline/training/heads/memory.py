"""What has been learned: the heads of each family, the experts, and the vote over all of them.

Learning one night is one penalised maximum-likelihood step around each head's last weights; the
penalty is the discounted curvature of all earlier nights, so no old rows are needed (online
Laplace approximation: Ritter, Botev, Barber 2018; discounting as in West & Harrison's dynamic
models). Base, heads and experts vote with exponential weights and a fixed share (Herbster &
Warmuth 1998).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.evaluation.metrics import Codes, Floats
from ml_pipeline.training.heads.curvature import unit_precision
from ml_pipeline.training.heads.inputs import MIN_PROBABILITY, log_odds
from ml_pipeline.training.heads.large import LargeLesson
from ml_pipeline.training.heads.newton import Lesson, answers
from ml_pipeline.training.heads.rates import EXPERTS_SHARE, Rates


@dataclass(frozen=True, kw_only=True, slots=True)
class Expert:
    """A further voter: a classifier of its own, fitted on the rows up to `night`.

    `columns` are the places of its classes among the model's.
    """

    name: str
    model: Any
    columns: Codes
    night: int

    def as_dict(self) -> dict[str, Any]:
        """Plain parts, which an artifact may hold."""
        return {
            "name": self.name,
            "model": self.model,
            "columns": self.columns,
            "night": self.night,
        }

    def proba(self, X: Any, n_classes: int) -> Floats:  # noqa: ANN401, N803
        """Probabilities (n, K) in the order of the model's classes."""
        return in_order(self.model.predict_proba(X), self.columns, n_classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """Rows (n,), the base's probabilities (n, K), and what heads see of them without experts.

    `asked` keeps what experts said of them: champion and challenger mostly have the same.
    """

    rows: Any
    base: Floats
    inputs: tuple[Floats, ...]
    asked: dict[int, tuple[Expert, Floats]] = field(default_factory=dict)

    def answer_of(self, expert: Expert) -> Floats:
        """The expert's probabilities (n, K)."""
        known = self.asked.get(id(expert.model))
        if known is None:
            known = expert, expert.proba(self.rows, self.base.shape[1])
            self.asked[id(expert.model)] = known
        return known[1]

    def take(self, positions: NDArray[np.int64]) -> Seen:
        """Some of the rows, in that order."""
        return Seen(
            rows=self.rows[positions],
            base=self.base[positions],
            inputs=tuple(inputs[positions] for inputs in self.inputs),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Opinions:
    """Probabilities (V, n, K) of everything that votes, and the heads' inputs (n, p) by family."""

    inputs: tuple[Floats, ...]
    shares: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """The heads of F families with H half-lives each, and the experts, if any.

    `heads` has (H, p, C) for each family, `precisions` the curvatures behind them or None before
    the first night, `vote` (V,) the base first, then the heads, then the experts; `last_night` is
    the number of the night learned last. `heard` names the experts whose log odds the heads see
    beside what `HeadInputs` gives them; they are 0 as long as there is no expert of the name.
    """

    heads: tuple[Floats, ...]
    precisions: tuple[Floats, ...] | None
    vote: Floats
    last_night: int | None
    experts: tuple[Expert, ...] = ()
    heard: tuple[str, ...] = ()

    @classmethod
    def fresh(
        cls, widths: Sequence[int], columns: int, rates: Rates, heard: Sequence[str] = ()
    ) -> Memory:
        """Every head equals the base; `widths` are the inputs of each family without experts."""
        count, room = len(rates.half_lives), columns * len(heard)
        starts = [np.eye(width + room, columns) for width in widths]
        return cls(
            heads=tuple(np.repeat(start[None], count, axis=0) for start in starts),
            heard=tuple(heard),
            precisions=None,
            vote=rates.initial_vote,
            last_night=None,
        )

    @property
    def n_heads(self) -> int:
        """Of all families."""
        return sum(map(len, self.heads))

    def opinions(self, seen: Seen) -> Opinions:
        """What the base, each head and each expert say of the rows."""
        base, n_classes = seen.base, seen.base.shape[1]
        experts = [seen.answer_of(expert) for expert in self.experts]
        odds = self._odds(experts, seen.base)
        inputs = tuple(np.hstack([one, *odds]) if odds else one for one in seen.inputs)
        families = [
            answers(one, heads, n_classes) for one, heads in zip(inputs, self.heads, strict=True)
        ]
        shares = np.concatenate([base[None], *families, *(answer[None] for answer in experts)])
        return Opinions(inputs=inputs, shares=shares)

    def _odds(self, experts: Sequence[Floats], base: Floats) -> list[Floats]:
        """What the heads hear, (n, C) for each of `heard`."""
        found = {e.name: log_odds(answer) for e, answer in zip(self.experts, experts, strict=True)}
        silent = np.zeros((len(base), base.shape[1] - 1))
        return [found.get(name, silent) for name in self.heard]

    def vote_on(self, opinions: Opinions) -> Floats:
        """The voted probabilities (n, K)."""
        return np.asarray(np.tensordot(self.vote, opinions.shares, axes=1), dtype=np.float64)

    def with_experts(self, experts: tuple[Expert, ...], *, weight: float) -> Memory:
        """These experts in place of the present ones.

        One of a name that has voted before keeps its vote; `weight`, in (0, 1), is what all heads
        start with, of which the new ones share a part. The votes of those that are gone are dealt
        out to the others as they stand.
        """
        weight *= EXPERTS_SHARE if len(self.heads) > 1 else 1
        first = 1 + self.n_heads
        votes = {e.name: v for e, v in zip(self.experts, self.vote[first:], strict=True)}
        is_new = np.asarray([*([False] * first), *(e.name not in votes for e in experts)])
        vote = np.asarray([*self.vote[:first], *(votes.get(e.name, 0.0) for e in experts)])
        vote /= vote.sum()
        if is_new.any():
            vote *= 1 - weight
            vote[is_new] = weight / is_new.sum()
        return replace(self, vote=vote, experts=experts)

    def learn(self, lesson: Lesson | LargeLesson, night: int, rates: Rates) -> Memory:
        """The memory after one night."""
        passed = 1 if self.last_night is None else max(1, night - self.last_night)
        kept = rates.decays**passed
        units = [_unit_of(heads, lesson.n_classes) for heads in self.heads]
        past = self.precisions or _first_precisions(units, lesson, rates)
        faded = [kept.reshape(-1, *([1] * u.ndim)) * p for u, p in zip(units, past, strict=True)]
        penalties = tuple(f + rates.ridge * u for f, u in zip(faded, units, strict=True))
        fitted = lesson.fitted(self.heads, penalties, rates.epochs)
        return Memory(
            heads=tuple(np.stack([head for head, _ in family]) for family in fitted),
            precisions=tuple(
                past + np.stack([curvature for _, curvature in family])
                for past, family in zip(faded, fitted, strict=True)
            ),
            vote=self._next_vote(lesson.voters_losses(), rates),
            last_night=night,
            experts=self.experts,
            heard=self.heard,
        )

    def _next_vote(self, losses: Floats | None, rates: Rates) -> Floats:
        if losses is None:
            return self.vote
        scores = np.log(self.vote) - rates.vote_rate * losses
        vote = np.exp(scores - scores.max())
        vote /= vote.sum()
        return np.asarray((1 - rates.vote_share) * vote + rates.vote_share / len(vote))


def _unit_of(heads: Floats, n_classes: int) -> Floats:
    _, width, columns = heads.shape
    return unit_precision(width, columns, n_classes)


def _first_precisions(
    units: Sequence[Floats], lesson: Lesson | LargeLesson, rates: Rates
) -> tuple[Floats, ...]:
    """How firmly each head starts at the base, (H, …) for each family."""
    expected = rates.rows_per_night or float(len(lesson))
    firm = np.asarray(rates.prior_rows * expected / (1 - rates.decays))
    return tuple(np.multiply.outer(firm, unit) for unit in units)


def in_order(known: Any, columns: Codes, n_classes: int) -> Floats:  # noqa: ANN401
    """A classifier's probabilities (n, k) in the order of the K >= k classes of a model.

    A class that the classifier has never seen is improbable, not impossible: the heads may learn
    it.
    """
    shares = np.asarray(known, dtype=np.float64)
    wide = np.full((len(shares), n_classes), MIN_PROBABILITY)
    wide[:, columns] = shares
    if len(columns) == n_classes:
        return wide
    return np.asarray(wide / wide.sum(axis=1, keepdims=True), dtype=np.float64)
