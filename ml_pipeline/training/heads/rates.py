"""The settings by which heads start, learn and vote, as a model carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from ml_pipeline.config.sections import FAMILIES, TrainingSettings
from ml_pipeline.evaluation.metrics import Floats

PLAIN: Final = FAMILIES[0]
# What was usual before there were families; models of then carry no families, and end with these.
_FORMER: Final[Mapping[str, Any]] = {"families": [PLAIN], "vote_rate": 0.1}
# Of the weight that heads start with, what those of new families and what experts get.
NEW_FAMILIES_SHARE: Final = 0.2
EXPERTS_SHARE: Final = 0.04


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Settings of the heads: half-lives in nights, the rest without unit.

    `families` say what the heads see, see `inputs`; of each there is one for every half-life.
    `rows_per_night` sets the weight of the starting point; None takes the first night's count.
    `experts` are those that the heads hear, by name, each with the nights between two fits.
    """

    families: tuple[str, ...] = FAMILIES
    half_lives: tuple[float, ...] = (5.0, 15.0, 60.0, 200.0)
    vote_rate: float = 0.05
    vote_share: float = 0.02
    initial_head_weight: float = 0.1
    ridge: float = 5.0
    prior_rows: float = 0.02
    rows_per_night: float | None = None
    epochs: int = 5
    experts: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.half_lives or min(self.half_lives) <= 0:
            message = "half_lives must be positive"
            raise ValueError(message)
        if not self.families or not set(self.families) <= set(FAMILIES):
            message = f"families must be some of {', '.join(FAMILIES)}"
            raise ValueError(message)

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Rates:
        """What a model carries, also one of before there were families."""
        values = dict(kept)
        if "families" not in values:
            values = {**_FORMER, **values}
        values["families"] = tuple(values["families"])
        if "half_lives" in values:
            values["half_lives"] = tuple(values["half_lives"])
        values["experts"] = tuple((name, nights) for name, nights in values.get("experts", ()))
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as a model carries them."""
        plain = asdict(self)
        plain |= {name: list(plain[name]) for name in ("families", "half_lives")}
        return plain | {"experts": [list(expert) for expert in self.experts]}

    @property
    def decays(self) -> Floats:
        """What one night leaves of each head's memory, in (0, 1)."""
        return np.asarray(0.5 ** (1 / np.asarray(self.half_lives)), dtype=np.float64)

    @property
    def initial_vote(self) -> Floats:
        """Shares of the base and of the heads, family by family, (1 + families · half-lives,)."""
        others = len(self.families) - 1
        first = 1.0 if not others else 1 - NEW_FAMILIES_SHARE
        shares = [first, *([NEW_FAMILIES_SHARE / max(others, 1)] * others)]
        count = len(self.half_lives)
        heads = np.repeat(np.asarray(shares) * self.initial_head_weight / count, count)
        return np.asarray([1 - self.initial_head_weight, *heads])


def rates_of(training: TrainingSettings) -> dict[str, Any]:
    """The settings by which new heads start, learn and vote, as a model carries them."""
    adaptive = training.adaptive
    return {
        "families": list(adaptive.families),
        "half_lives": list(adaptive.half_lives),
        "vote_rate": adaptive.vote_rate,
        "vote_share": adaptive.vote_share,
        "initial_head_weight": adaptive.initial_head_weight,
        "ridge": adaptive.ridge,
        "prior_rows": adaptive.prior_rows,
        "rows_per_night": adaptive.rows_per_night,
        "epochs": training.epochs,
        "experts": sorted(
            [expert.name, training.nights_between(expert)] for expert in training.experts_in_use
        ),
    }


def rates_for(kept: Mapping[str, Any], training: TrainingSettings) -> dict[str, Any]:
    """The settings of now for a model that carries `kept`.

    One of before there were families goes on with the heads that it has, which hear no experts,
    and with the usual rate of then where the settings name that of now.
    """
    wanted = rates_of(training)
    if "families" in kept:
        return wanted
    del wanted["families"], wanted["experts"]
    if wanted["vote_rate"] == Rates().vote_rate:
        wanted["vote_rate"] = _FORMER["vote_rate"]
    return wanted


def changed_rates(kept: Mapping[str, Any], training: TrainingSettings) -> tuple[str, ...]:
    """The settings, by their dotted names, by which a model that carries `kept` did not learn."""
    wanted = rates_for(kept, training)
    plain = Rates.of(kept).as_dict()
    return tuple(
        f"training.{name}" if name in {"epochs", "experts"} else f"training.adaptive.{name}"
        for name, value in wanted.items()
        if plain[name] != value
    )
