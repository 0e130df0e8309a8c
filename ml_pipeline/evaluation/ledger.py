"""The ledger of an online model: what its nights gained, and what the gate needs of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.evaluation.metrics import Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedGain:
    """Sums of paired log-loss differences (old minus new, nats) over rows of whole nights.

    `right` are the shares of right predictions of the old and the new model, where they are known.
    """

    nights: int
    rows: int
    total: float
    squares: float
    right: tuple[float, float] | None = None

    @classmethod
    def of_nights(
        cls,
        rows: Sequence[float] | NDArray[np.float64],
        sums: NDArray[np.float64],
        right: tuple[float, float] | None = None,
    ) -> PairedGain:
        """From per-night row counts and a (nights, 2) array of Σ difference, Σ difference²."""
        counts = np.asarray(rows, dtype=np.float64)
        total, squares = sums.sum(axis=0) if len(counts) else (0.0, 0.0)
        return cls(
            nights=len(counts),
            rows=int(counts.sum()),
            total=float(total),
            squares=float(squares),
            right=right,
        )

    @classmethod
    def of_rows(
        cls,
        gains: NDArray[np.float64],
        nights: int,
        right: tuple[float, float] | None = None,
    ) -> PairedGain:
        """From the differences themselves."""
        return cls(
            nights=nights,
            rows=len(gains),
            total=float(gains.sum()),
            squares=float((gains**2).sum()),
            right=right,
        )

    @property
    def mean(self) -> float:
        """Nats gained per row; 0 without rows."""
        return self.total / self.rows if self.rows else 0.0

    @property
    def deviation(self) -> float:
        """Sample standard deviation per row; 0 under two rows."""
        if self.rows < 2:  # noqa: PLR2004 - a spread needs two
            return 0.0
        variance = (self.squares - self.rows * self.mean**2) / (self.rows - 1)
        return math.sqrt(max(variance, 0.0))

    @property
    def standard_error(self) -> float:
        """Of the mean; 0 without rows."""
        return self.deviation / math.sqrt(self.rows) if self.rows else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """An interval for the mean of a gain."""

    lower: float
    upper: float


@dataclass(frozen=True, kw_only=True, slots=True)
class OnlineRecord:
    """What the gate sees of an online model: its gain on the anchor and on the champion."""

    since_approval: PairedGain
    recent: PairedGain
    over_champion: PairedGain


@dataclass(frozen=True, kw_only=True, slots=True)
class ChampionRecord:
    """What the gate sees of a new base: its gain on whoever serves, on rows that neither learned.

    `recent` is that of the last days; `earlier` are the gains over former champions on the same
    rows, by their ids.
    """

    everything: PairedGain
    recent: PairedGain
    earlier: Mapping[str, PairedGain] = field(default_factory=dict)


LEDGER_COLUMNS = (
    "night",
    "rows",
    "live_loss",
    "live_correct",
    "anchor_loss",
    "anchor_correct",
    "gain_sum",
    "gain_squares",
    "champion_rows",
    "champion_gain_sum",
    "champion_gain_squares",
    "quarantined",
)
COLUMN = {name: index for index, name in enumerate(LEDGER_COLUMNS)}


def online_record(
    ledger: Floats,
    champions: Sequence[str],
    *,
    champion_id: str,
    today: int,
    window_days: float,
) -> OnlineRecord:
    """What the gate needs of a ledger: since approval, over the window, and over the champion."""
    recent = ledger[ledger[:, COLUMN["night"]] > today - window_days]
    since = next((n for n in range(len(champions), 0, -1) if champions[n - 1] != champion_id), 0)
    return OnlineRecord(
        since_approval=_gain(ledger, ""),
        recent=_gain(recent, ""),
        over_champion=_gain(ledger[since:], "champion_"),
    )


def champion_record(ledger: Floats, *, today: int, window_days: float) -> ChampionRecord:
    """Gains on whoever served, over everything and over the last days: for a base in the shadow."""
    recent = ledger[ledger[:, COLUMN["night"]] > today - window_days]
    return ChampionRecord(everything=_gain(ledger, "champion_"), recent=_gain(recent, "champion_"))


def _gain(ledger: Floats, prefix: str) -> PairedGain:
    counted = ledger[ledger[:, COLUMN[f"{prefix}rows"]] > 0]
    rows = counted[:, COLUMN[f"{prefix}rows"]]
    sums = counted[:, [COLUMN[f"{prefix}gain_sum"], COLUMN[f"{prefix}gain_squares"]]]
    right = None
    # Of the champion the ledger does not keep how often it was right.
    if not prefix and len(counted):
        hits = counted[:, [COLUMN["anchor_correct"], COLUMN["live_correct"]]].sum(axis=0)
        right = (float(hits[0] / rows.sum()), float(hits[1] / rows.sum()))
    return PairedGain.of_nights(rows, sums, right)
