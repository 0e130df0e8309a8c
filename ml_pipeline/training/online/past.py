"""Heads as they were: what a line would have answered when a row was predicted.

An outcome that comes a week late is learned by heads that know a week more than those that
answered. Judged by what they would answer now, a vote trusts heads that are quick, and a record
promises what nobody was served.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.evaluation.metrics import Floats
from ml_pipeline.training.heads.memory import Memory, Opinions, Seen

# Days back; outcomes that come later are judged by the oldest heads that are kept.
LONGEST: Final = 45
NEVER: Final = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """Heads and votes before each of the last nights, the oldest first.

    `nights` (m,) are the days that each had learned last, 0 for none; `heads` has (m, H, p, C) for
    each family, `votes` (m, V). `reach` is how many days outcomes took at most so far: those that
    no such outcome would ask for are not kept.
    """

    nights: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    heads: tuple[NDArray[np.float32], ...] = ()
    votes: Floats = field(default_factory=lambda: np.empty((0, 0)))
    reach: int = 0

    def after(self, memory: Memory, night: int, predicted: NDArray[np.int64]) -> Past:
        """The past once the memory has learned a night's outcomes, `predicted` on those days."""
        delays = night - predicted[predicted < night]
        reach = min(LONGEST, max(self.reach, int(delays.max(initial=0))))
        if not reach:
            return self
        before = NEVER if memory.last_night is None else memory.last_night
        nights = np.append(self.nights, before)
        # A row of the next day was predicted at most so long ago, by heads of before that day.
        first = int(np.searchsorted(nights, night + 1 - reach, side="left")) - 1
        kept = slice(max(first, 0), None)
        now = [np.asarray(heads[None], dtype=np.float32) for heads in memory.heads]
        votes = memory.vote[None]
        if self.heads:
            now = [np.concatenate(pair) for pair in zip(self.heads, now, strict=True)]
            votes = np.vstack([self.votes, votes])
        return Past(
            nights=nights[kept],
            heads=tuple(one[kept] for one in now),
            votes=votes[kept],
            reach=reach,
        )

    def answers(
        self, memory: Memory, seen: Seen, predicted: NDArray[np.int64]
    ) -> tuple[Opinions, Floats]:
        """What everything that votes answered of the rows when they were predicted, and the vote.

        By `memory` where it had learned nothing since; the vote is (n, K).
        """
        opinions = memory.opinions(seen)
        shares, voted = opinions.shares, memory.vote_on(opinions)
        if not len(self.nights):
            return opinions, voted
        learned = np.append(self.nights, NEVER if memory.last_night is None else memory.last_night)
        places = np.searchsorted(learned, predicted, side="left") - 1
        for place in np.unique(places[places < len(self.nights)]):
            rows = np.flatnonzero(places == place)
            then = self._memory(memory, max(int(place), 0))
            answered = then.opinions(seen.take(rows))
            shares[:, rows], voted[rows] = answered.shares, then.vote_on(answered)
        return opinions, voted

    def _memory(self, memory: Memory, place: int) -> Memory:
        heads = tuple(family[place].astype(np.float64) for family in self.heads)
        return replace(memory, heads=heads, vote=self.votes[place])

    def with_votes(self, votes: Floats) -> Past:
        """The same heads, with other votes (m, V)."""
        return replace(self, votes=votes)

    def as_dict(self) -> dict[str, Any]:
        """Plain arrays and values, for the artifact."""
        return {
            "past_nights": self.nights,
            "past_heads": list(self.heads),
            "past_votes": self.votes,
            "past_reach": self.reach,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Past:
        """The inverse of `as_dict`; nothing for what earlier versions wrote."""
        if "past_reach" not in plain or not plain["past_reach"]:
            return cls()
        return cls(
            nights=plain["past_nights"],
            heads=tuple(plain["past_heads"]),
            votes=plain["past_votes"],
            reach=plain["past_reach"],
        )
