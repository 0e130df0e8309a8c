"""Where confident errors are frequent: a run's labelled rows by third, level or truth of a feature.

Who looks at many groups finds some that are bad by chance, so the intervals widen with their
number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.config.data import DataSettings
from ml_pipeline.config.kind import Kind
from ml_pipeline.evaluation.intervals import wilson_interval
from ml_pipeline.store.inputs.cells import level_name, truth

SHOWN: Final = 6
# Levels with fewer rows say little each; they are counted together.
RARE_ROWS: Final = 20
LEVEL: Final = 0.95
NAME_KEPT: Final = 100
MISSING: Final = "missing"
_THIRDS: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Rows that a feature groups. `share` of them are confident errors, within `low` to `high`."""

    feature: str
    values: str
    rows: int
    errors: int
    share: float
    low: float
    high: float


def segments(frame: pd.DataFrame, data: DataSettings) -> dict[str, Any]:
    """The groups with the most certain excess of errors first, and how many were looked at.

    `frame` has the labelled rows with their features as texts, and `is_error`. A group's interval
    is Wilson's at 1 - .05 / groups (Bonferroni), so all of them hold together in 95 of 100 runs.
    """
    wrong = (frame["is_error"] == "true").to_numpy()
    groups = [
        (name, text, int(inside.sum()), int(wrong[inside].sum()))
        for name in data.features
        if name in frame.columns
        for text, inside in _groups(frame[name], data.kind(name))
    ]
    found = [_segment(*group, groups=len(groups)) for group in groups if group[2]]
    found.sort(key=lambda segment: (-segment.low, -segment.share, segment.feature))
    shown = [asdict(segment) for segment in found if segment.errors][:SHOWN]
    return {"by_segment": shown, "segments": len(groups)}


def _segment(name: str, text: str, rows: int, errors: int, *, groups: int) -> Segment:
    interval = wilson_interval(errors, rows, 1 - (1 - LEVEL) / groups)
    return Segment(
        feature=name, values=text, rows=rows, errors=errors, share=errors / rows,
        low=interval.low, high=interval.high,
    )  # fmt: skip


def _groups(cells: pd.Series, kind: Kind) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """The groups of a feature: their name and which rows (n,) are in them."""
    if kind is Kind.NUMBER:
        yield from _thirds(pd.to_numeric(cells, errors="coerce").to_numpy(dtype=float))
    elif kind in {Kind.CATEGORY, Kind.BOOLEAN}:
        read = level_name if kind is Kind.CATEGORY else _truth_name
        codes, texts = pd.factorize(cells)
        names = np.asarray([read(text) for text in texts], dtype=object)
        yield from _levels(names[codes])


def _thirds(values: NDArray[np.float64]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    known = values[np.isfinite(values)]
    if len(np.unique(known)) >= _THIRDS:
        low, high = np.quantile(known, [1 / 3, 2 / 3])
        yield f"at most {low:.4g}", values <= low
        yield f"{low:.4g} to {high:.4g}", (values > low) & (values <= high)
        yield f"over {high:.4g}", values > high
    is_missing = ~np.isfinite(values)
    if is_missing.any() and len(known):
        yield MISSING, is_missing


def _levels(names: NDArray[np.object_]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    counts = pd.Series(names).value_counts()
    if len(counts) < 2:  # noqa: PLR2004 - one group says nothing
        return
    for name in counts[counts >= RARE_ROWS].index:
        yield _shown(name), names == name
    rare = set(counts[counts < RARE_ROWS].index)
    if rare:
        text = f"{len(rare)} rare values" if len(rare) > 1 else _shown(next(iter(rare)))
        yield text, np.fromiter((name in rare for name in names), dtype=bool, count=len(names))


def _shown(name: str) -> str:
    return name[:NAME_KEPT] or MISSING


def _truth_name(text: str) -> str:
    number = truth(text)
    return "" if np.isnan(number) else str(bool(number)).lower()
