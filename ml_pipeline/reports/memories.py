"""Which of a model's memories is winning, in words: by how long each remembers and what it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from ml_pipeline.evaluation.sentences import percent

# What heads of a family see of the features, in words.
SEEN: Final[Mapping[str, str]] = {"plain": "lines", "pairs": "products", "waves": "waves"}
ANEW: Final = "classifiers fitted anew"
NOTHING_LEARNED: Final = (
    "It has learned from no results yet: its base answers, and its memories say the same."
)
_FORMER: Final = ("plain",)
_MOST: Final = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Voters:
    """Who votes beside the base, in the order of the weights.

    `half_lives` are in days; of each of the `families` there is one memory for every half-life.
    `experts` are named.
    """

    half_lives: tuple[float, ...]
    families: tuple[str, ...]
    experts: tuple[str, ...]

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        """Those of an online model's record; one of before there were families names none."""
        return cls(
            half_lives=tuple(float(life) for life in kept.get("half_lives", ())),
            families=tuple(kept.get("families", _FORMER)),
            experts=tuple(kept.get("experts", ())),
        )

    def as_json(self) -> dict[str, list[Any]]:
        """What a run keeps, as its row gives it back; `of` reads it."""
        return {
            "half_lives": list(self.half_lives),
            "families": list(self.families),
            "experts": list(self.experts),
        }

    def __len__(self) -> int:
        """The base is one of them."""
        return 1 + len(self.half_lives) * len(self.families) + len(self.experts)

    @property
    def kinds(self) -> list[str]:
        """What each sees of a row."""
        seen = [SEEN.get(family, family) for family in self.families for _ in self.half_lives]
        return ["base", *seen, *([ANEW] * len(self.experts))]

    @property
    def memories(self) -> list[str]:
        """How long each remembers."""
        lives = [f"half-life {life:g} days" for life in self.half_lives]
        return ["base", *(lives * len(self.families)), *self.experts]


@dataclass(frozen=True, kw_only=True, slots=True)
class Say:
    """Shares of the say, 0..1 in all: of the base, by half-life in days, by family, of experts."""

    base: float
    by_half_life: Mapping[float, float]
    by_family: Mapping[str, float]
    experts: Mapping[str, float]

    @classmethod
    def of(cls, voters: Voters, vote: Sequence[float]) -> Self:
        """Add up a vote. Raises ValueError when it is one of other voters."""
        if len(vote) != len(voters):
            message = f"{len(vote)} weights are none of {len(voters)} voters"
            raise ValueError(message)
        count = len(voters.half_lives)
        heads = vote[1 : 1 + count * len(voters.families)]
        return cls(
            base=vote[0],
            by_half_life={
                life: sum(heads[place::count]) for place, life in enumerate(voters.half_lives)
            },
            by_family={
                family: sum(heads[place * count : (place + 1) * count])
                for place, family in enumerate(voters.families)
            },
            experts=dict(zip(voters.experts, vote[1 + len(heads) :], strict=True)),
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values, with the sentence."""
        return {
            "sentence": self.sentence(),
            "base": self.base,
            "by_half_life_days": {f"{life:g}": share for life, share in self.by_half_life.items()},
            "by_family": dict(self.by_family),
            "experts": dict(self.experts),
        }

    def sentence(self) -> str:
        """Who wins and what that says of the world, in plain words."""
        anew = sum(self.experts.values())
        life = max(self.by_half_life, key=lambda days: self.by_half_life[days], default=None)
        best = 0.0 if life is None else self.by_half_life[life]
        base = f"the base alone, as it was trained, has {percent(self.base)}"
        if life is None or self.base >= max(best, anew):
            text = f"The base, as it was trained, has {_how_much(self.base)}"
            if life is not None:
                text += f"; of its memories, the one of about {_days(life)} has {percent(best)}"
            return f"{text}: what was learned since changes its answers little.{self._kinds()}"
        if anew > best:
            names = ", ".join(f"{name} {percent(share)}" for name, share in self.experts.items())
            text = f"The classifiers that are fitted anew have {_how_much(anew)} ({names}); {base}."
            return text + self._kinds()
        return (
            f"Of its memories, the one of about {_days(life)} has {_how_much(best)}; {base}."
            f"{self._meaning(life)}{self._kinds()}"
        )

    def _meaning(self, life: float) -> str:
        if len(self.by_half_life) == 1:
            return ""
        if life == min(self.by_half_life):
            return " The newest results tell most: the world seems to change quickly."
        if life == max(self.by_half_life):
            return " What was learned long ago still holds."
        return ""

    def _kinds(self) -> str:
        """The same by what the voters see, where they see different things."""
        if len(self.by_family) < 2 and not self.experts:  # noqa: PLR2004 - nothing to compare
            return ""
        parts = [f"{SEEN.get(name, name)} {percent(s)}" for name, s in self.by_family.items()]
        if self.experts:
            parts.append(f"{ANEW} {percent(sum(self.experts.values()))}")
        return f" By what its memories see: {', '.join(parts)}."


def _how_much(share: float) -> str:
    most = "most of the say" if share > _MOST else "the most say"
    return f"{most} ({percent(share)})"


def _days(life: float) -> str:
    return f"{life:g} day{'' if life == 1 else 's'}"
