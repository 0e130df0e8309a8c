"""The ledger of a line: what its nights gained, and what the gate needs of it."""

from __future__ import annotations

from collections.abc import Sequence

from ml_pipeline.arrays import Floats
from ml_pipeline.promotion import ChampionRecord, LineRecord, PairedGain

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


def line_record(
    ledger: Floats,
    champions: Sequence[str],
    *,
    champion_id: str,
    today: int,
    window_days: float,
) -> LineRecord:
    """What the gate needs of a ledger: since approval, over the window, and over the champion."""
    recent = ledger[ledger[:, COLUMN["night"]] > today - window_days]
    since = next((n for n in range(len(champions), 0, -1) if champions[n - 1] != champion_id), 0)
    return LineRecord(
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
    sums = counted[:, [COLUMN[f"{prefix}gain_sum"], COLUMN[f"{prefix}gain_squares"]]]
    return PairedGain.of_nights(counted[:, COLUMN[f"{prefix}rows"]], sums)
