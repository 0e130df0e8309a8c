"""How far a column drifted from what a base was trained on, by its values or by its levels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ml_pipeline.datasets.levels.new_levels import NewLevels
from ml_pipeline.datasets.reference import ColumnSummary, Floats, LevelSummary, shares_between
from ml_pipeline.store.inputs.cells import level_code, level_name

SHOWN_LEVELS = 5
_FLOOR = 1e-4


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """How far one column drifted: population stability index, and for numbers Kolmogorov-Smirnov.

    Of a category also the share of values that are new levels, and the commonest of those.
    By custom an index under 0.1 is none, over 0.25 a large one. Rows that have not drifted exceed
    `noise` once in a hundred cases (chi-squared over the rows: Yurdakul 2018, "Statistical
    Properties of Population Stability Index").
    """

    column: str
    psi: float
    ks: float | None
    p_value: float | None
    rows: int
    reference_rows: int
    new_share: float = 0.0
    new_levels: tuple[str, ...] = ()
    noise: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """The drift as plain JSON values; of new levels only where there are some."""
        plain = asdict(self) | {"new_levels": list(self.new_levels)}
        return plain if self.new_share else {k: v for k, v in plain.items() if k not in _OF_LEVELS}


_OF_LEVELS = ("new_share", "new_levels")


def new_levels_sentence(drift: Drift, thing: str = "row") -> str:
    """Which levels of a category training had not, on how many rows, and what now.

    '' where that means nothing.
    """
    new = round(drift.new_share * drift.rows)
    found = NewLevels(feature=drift.column, rows=new, of=drift.rows, levels=drift.new_levels)
    return found.sentence(thing) if found.is_noted else ""


def level_drift(column: str, reference: LevelSummary, recent: Sequence[object]) -> Drift | None:
    """Compare how often levels occur; None without rows.

    Where the reference lists every level that the training rows had, `new_share` of the recent
    values are levels that they had not, `new_levels` the commonest of them.
    """
    if not recent:
        return None
    names = [level_name(value) for value in recent]
    codes = {name: level_code(name) for name in set(names)}
    values = np.asarray([codes[name] for name in names])
    shares = reference.shares_in(values)
    known = frozenset(reference.levels)
    is_whole = not reference.others
    new = Counter(name for name in names if name and codes[name] not in known and is_whole)
    return Drift(
        column=column,
        psi=_psi(reference.all_shares(), shares),
        ks=None,
        p_value=None,
        rows=len(values),
        reference_rows=reference.rows,
        noise=_noise(len(shares), len(values), reference.rows),
        new_share=sum(new.values()) / len(names),
        new_levels=tuple(name for name, _ in new.most_common(SHOWN_LEVELS)),
    )


def numeric_drift(column: str, reference: ColumnSummary, recent: Floats) -> Drift | None:
    """Compare recent values with a summary, missing ones left out; None when there are none.

    The Kolmogorov-Smirnov distance is the largest one at the summary's points, at most the whole
    one; its chance is the asymptotic one.
    """
    from scipy import stats

    recent = np.sort(recent[np.isfinite(recent)])
    if not len(recent):
        return None
    shares = shares_between(np.asarray(reference.edges), recent)
    points, below = np.asarray(reference.points), np.asarray(reference.below)
    found = np.searchsorted(recent, points, side="right") / len(recent)
    apart = [abs(below - found).max(), (np.searchsorted(recent, points[:1]) / len(recent))[0]]
    distance = float(max(apart))
    rows = reference.rows * len(recent) / (reference.rows + len(recent))
    return Drift(
        column=column,
        psi=_psi(np.asarray(reference.shares), shares),
        ks=distance,
        p_value=float(stats.kstwo.sf(distance, max(1, round(rows)))),
        rows=len(recent),
        reference_rows=reference.rows,
        noise=_noise(len(shares), len(recent), reference.rows),
    )


def label_drift(column: str, reference: Sequence[str], recent: Sequence[str]) -> Drift | None:
    """Compare how often labels occur; None when one sample is empty."""
    if not reference or not recent:
        return None
    before, after = Counter(reference), Counter(recent)
    labels = sorted({*before, *after})
    shares = [
        np.array([seen[label] / total for label in labels])
        for seen, total in ((before, len(reference)), (after, len(recent)))
    ]
    return Drift(
        column=column,
        psi=_psi(shares[0], shares[1]),
        ks=None,
        p_value=None,
        rows=len(recent),
        reference_rows=len(reference),
        noise=_noise(len(labels), len(recent), len(reference)),
    )


def _psi(reference: Floats, recent: Floats) -> float:
    """The sum of (q − p) ln(q / p); empty bins count as a ten-thousandth."""
    p, q = np.maximum(reference, _FLOOR), np.maximum(recent, _FLOOR)
    return float(((q - p) * np.log(q / p)).sum())


def _noise(bins: int, rows: int, reference_rows: int) -> float:
    """The index that rows of the same distribution exceed once in a hundred cases."""
    from scipy import stats

    if bins < 2:  # noqa: PLR2004 - one bin holds everything
        return 0.0
    return float(stats.chi2.ppf(0.99, bins - 1)) * (1 / rows + 1 / reference_rows)
