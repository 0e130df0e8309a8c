"""The ledger of an online model: what its nights gained, and what the gate needs of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.evaluation.betting import CLIP, Wealth
from ml_pipeline.evaluation.metrics import Codes, Floats, row_losses


@dataclass(frozen=True, kw_only=True, slots=True)
class Clusters:
    """How the rows of a gain hang together: rows of one entity on one night are one cluster.

    `units` counts the clusters, `weight` is the sum of their weights W (a row that stands for
    others weighs more), `squares` Σ W², `products` Σ W·S with S the sum of a cluster's gains.
    """

    units: int
    weight: float
    squares: float
    products: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedGain:
    """Sums of paired log-loss differences (old minus new, nats) over rows of whole nights.

    `total` is Σ S and `squares` Σ S² over clusters of rows; without `clusters` every row stands
    alone and weighs 1. `right` are the shares of right predictions of the old and the new model,
    where they are known. `wealth` is what a confidence sequence needs; without it, it is bounded
    by the sums. `night_error` is the standard error of the mean with whole nights as clusters,
    where there are ENOUGH_NIGHTS: results of one day have the day in common.
    """

    nights: int
    rows: int
    total: float
    squares: float
    right: tuple[float, float] | None = None
    clusters: Clusters | None = None
    wealth: Wealth | None = None
    night_error: float = 0.0

    @classmethod
    def of_rows(  # noqa: PLR0913 - rows have that many sides
        cls,
        gains: NDArray[np.float64],
        nights: int,
        right: tuple[float, float] | None = None,
        *,
        weights: NDArray[np.float64] | None = None,
        clusters: NDArray[np.int64] | None = None,
        full_weight: float | None = None,
    ) -> PairedGain:
        """From the differences themselves, (n,).

        `weights` (n,) say for how many rows each stands, `full_weight` for how many at most;
        rows with equal `clusters` (n,) belong together.
        """
        sums = GainSums.of(gains, weights=weights, clusters=clusters, full_weight=full_weight)
        return cls(
            nights=nights,
            rows=len(gains),
            total=sums.total,
            squares=sums.squares,
            right=right,
            clusters=sums.clusters,
            wealth=sums.wealth,
        )

    @property
    def units(self) -> int:
        """Independent results: clusters of rows, or rows."""
        return self.rows if self.clusters is None else self.clusters.units

    @property
    def weight(self) -> float:
        """For how many rows these stand."""
        return float(self.rows) if self.clusters is None else self.clusters.weight

    @property
    def mean(self) -> float:
        """Nats gained per row; 0 without rows."""
        return self.total / self.weight if self.weight else 0.0

    @property
    def deviation(self) -> float:
        """Sample standard deviation of a result's gain; 0 under two results."""
        return self.standard_error * math.sqrt(self.units)

    @property
    def standard_error(self) -> float:
        """Of the mean, as a ratio of cluster sums; 0 under two results.

        `sqrt(J/(J-1) Σ (S - mean·W)²) / Σ W` over J clusters (Cochran, Sampling Techniques, 1977,
        chapter 6); for rows alone it is the usual one.
        """
        if self.units < 2:  # noqa: PLR2004 - a spread needs two
            return 0.0
        products, squares = self.total, float(self.rows)
        if self.clusters is not None:
            products, squares = self.clusters.products, self.clusters.squares
        spread = self.squares - 2 * self.mean * products + self.mean**2 * squares
        return math.sqrt(max(spread, 0.0) * self.units / (self.units - 1)) / self.weight

    def proof(self) -> Wealth:
        """What a confidence sequence for the mean is made of."""
        if self.wealth is not None:
            return self.wealth
        return Wealth.of_sums(self.rows, self.total, self.squares)


@dataclass(frozen=True, kw_only=True, slots=True)
class GainSums:
    """The sums over some rows that a ledger keeps."""

    total: float
    squares: float
    clusters: Clusters
    wealth: Wealth

    @classmethod
    def of(
        cls,
        gains: NDArray[np.float64],
        *,
        weights: NDArray[np.float64] | None,
        clusters: NDArray[np.int64] | None,
        full_weight: float | None,
    ) -> GainSums:
        """See `PairedGain.of_rows`."""
        row_weights = np.ones(len(gains)) if weights is None else weights
        full = full_weight or float(row_weights.max(initial=0.0)) or 1.0
        codes, count = np.arange(len(gains)), len(gains)
        if clusters is not None:
            found, codes = np.unique(clusters, return_inverse=True)
            count = len(found)

        def summed(values: NDArray[np.float64]) -> Floats:
            return np.asarray(np.bincount(codes, weights=values, minlength=count), dtype=np.float64)

        sums, sizes = summed(row_weights * gains), summed(row_weights)
        rows = summed(np.ones(len(gains)))
        # A bet is settled by the mean over the cluster, which is bounded however large it is.
        clipped = np.clip(gains, -CLIP, CLIP) * row_weights / full
        means = summed(clipped) / np.maximum(rows, 1)
        return cls(
            total=float(sums.sum()),
            squares=float((sums**2).sum()),
            clusters=Clusters(
                units=count,
                weight=float(sizes.sum()),
                squares=float((sizes**2).sum()),
                products=float((sizes * sums).sum()),
            ),
            wealth=Wealth.of(means, weight=float((sizes / full / np.maximum(rows, 1)).sum())),
        )


def cluster_codes(entities: NDArray[np.uint32]) -> NDArray[np.int64]:
    """One number for the rows of an entity, (n,); rows of entity 0 stand alone."""
    codes = entities.astype(np.int64)
    return np.asarray(np.where(codes == 0, -1 - np.arange(len(codes)), codes))


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


# Of fewer clusters the spread says little (Cameron & Miller, J. of Human Resources 50, 2015).
ENOUGH_NIGHTS: Final = 20
# The names of one gain's sums: over the approved base, and with a prefix over the champion.
_SUMS = ("rows", "gain_sum", "gain_squares", "units", "weight", "weight_squares", "gain_weight")
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
    "units",
    "weight",
    "weight_squares",
    "gain_weight",
    "champion_units",
    "champion_weight",
    "champion_weight_squares",
    "champion_gain_weight",
    "served_rows",
)
COLUMN = {name: index for index, name in enumerate(LEDGER_COLUMNS)}
# What earlier versions kept of a night, of which every row stood alone and weighed 1.
FORMER_COLUMNS = LEDGER_COLUMNS[:12]


def with_all_columns(ledger: Floats) -> Floats:
    """A ledger as earlier versions wrote it, (nights, 12 or 20), with the columns of this one."""
    if ledger.shape[1] == len(LEDGER_COLUMNS):
        return ledger
    full = np.zeros((len(ledger), len(LEDGER_COLUMNS)))
    full[:, : ledger.shape[1]] = ledger
    if ledger.shape[1] > len(FORMER_COLUMNS):
        return full
    for prefix in ("", "champion_"):
        rows, gains = ledger[:, COLUMN[f"{prefix}rows"]], ledger[:, COLUMN[f"{prefix}gain_sum"]]
        for name in ("units", "weight", "weight_squares"):
            full[:, COLUMN[prefix + name]] = rows
        full[:, COLUMN[f"{prefix}gain_weight"]] = gains
    return full


def former_wealth(ledger: Floats) -> Wealth:
    """What the nights of an earlier version's ledger prove on the champion."""
    gain = _gain(with_all_columns(ledger), "champion_")
    return Wealth.of_sums(gain.rows, gain.total, gain.squares)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredRows:
    """A night's n rows and what was predicted for them before they were learned, (n, K) each.

    `fresh` marks the rows of entities that were not learned before: only those count. `unseen`
    marks those of them that the champion has not learned either: only those are compared. `served`
    marks those of which `live` is what people were answered, not what they would have been.
    """

    night: int
    actual: Codes
    weights: Floats
    entities: NDArray[np.uint32]
    live: Floats
    anchor: Floats
    champion: Floats
    fresh: NDArray[np.bool_]
    unseen: NDArray[np.bool_]
    served: NDArray[np.bool_]
    quarantined: bool


def entry_of(scored: ScoredRows, full_weight: float) -> tuple[Floats, Wealth]:
    """A night's cells of the ledger, and what it proves against the champion.

    A row weighs `full_weight` at most.
    """
    actual, fresh, unseen = scored.actual, scored.fresh, scored.unseen
    live, anchor = row_losses(actual, scored.live), row_losses(actual, scored.anchor)
    champion, clusters = row_losses(actual, scored.champion), cluster_codes(scored.entities)

    def gain(losses: Floats, counted: NDArray[np.bool_]) -> GainSums:
        return GainSums.of(
            (losses - live)[counted],
            weights=scored.weights[counted],
            clusters=clusters[counted],
            full_weight=full_weight,
        )

    over_champion, weights = gain(champion, unseen), scored.weights * fresh
    entry = {
        "night": scored.night,
        "live_loss": live @ weights,
        "live_correct": (scored.live.argmax(axis=1) == actual) @ weights,
        "anchor_loss": anchor @ weights,
        "anchor_correct": (scored.anchor.argmax(axis=1) == actual) @ weights,
        "quarantined": scored.quarantined,
        "served_rows": int((fresh & scored.served).sum()),
        **sums_of_night("", int(fresh.sum()), gain(anchor, fresh)),
        **sums_of_night("champion_", int(unseen.sum()), over_champion),
    }
    row = np.asarray([entry[name] for name in LEDGER_COLUMNS], dtype=np.float64)
    return row, over_champion.wealth


def sums_of_night(prefix: str, rows: int, sums: GainSums) -> dict[str, float]:
    """A night's cells of one gain."""
    clusters = sums.clusters
    values = (
        rows, sums.total, sums.squares, clusters.units, clusters.weight, clusters.squares,
        clusters.products,
    )  # fmt: skip
    return {prefix + name: float(value) for name, value in zip(_SUMS, values, strict=True)}


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


def champion_record(
    ledger: Floats,
    wealth: Wealth,
    *,
    today: int,
    window_days: float,
    compared_from: int | None = None,
) -> ChampionRecord:
    """Gains on whoever served, over everything and over the last days: for a base in the shadow.

    Nights before `compared_from` say nothing of the base that serves and are left out; `wealth` is
    what the others prove.
    """
    if compared_from is not None:
        ledger = ledger[ledger[:, COLUMN["night"]] >= compared_from]
        wealth = wealth if len(ledger) else Wealth()
    recent = ledger[ledger[:, COLUMN["night"]] > today - window_days]
    return ChampionRecord(
        everything=replace(_gain(ledger, "champion_"), wealth=wealth),
        recent=_gain(recent, "champion_"),
    )


def _gain(ledger: Floats, prefix: str) -> PairedGain:
    counted = ledger[ledger[:, COLUMN[f"{prefix}rows"]] > 0]
    columns = [COLUMN[prefix + name] for name in _SUMS]
    rows, total, squares, units, weight, weights, products = counted[:, columns].sum(axis=0)
    right = None
    # Of the champion the ledger does not keep how often it was right.
    if not prefix and len(counted):
        hits = counted[:, [COLUMN["anchor_correct"], COLUMN["live_correct"]]].sum(axis=0)
        right = (float(hits[0] / weight), float(hits[1] / weight))
    sums, sizes = counted[:, COLUMN[prefix + "gain_sum"]], counted[:, COLUMN[prefix + "weight"]]
    night_error = 0.0
    if len(counted) >= ENOUGH_NIGHTS:
        spread = ((sums - total / weight * sizes) ** 2).sum() * len(counted) / (len(counted) - 1)
        night_error = float(math.sqrt(spread) / weight)
    return PairedGain(
        nights=len(counted),
        night_error=night_error,
        rows=int(rows),
        total=float(total),
        squares=float(squares),
        right=right,
        clusters=Clusters(
            units=int(units),
            weight=float(weight),
            squares=float(weights),
            products=float(products),
        ),
    )
