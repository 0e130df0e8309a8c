"""A summary of the inputs that a base was trained on, kept with the model to tell drift by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets import texts
from ml_pipeline.datasets.features import NUMBERS, Inputs, Kinds, parted

Floats = NDArray[np.float64]

BINS: Final = 10
POINTS: Final = 20
# Levels of a category that are counted one by one.
LEVELS: Final = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnSummary:
    """The distribution of `rows` finite values of a column.

    `edges` are their inner deciles, each once, and `shares` of the values lie in the bins that
    they part; `below` are the shares of the values up to each of the `points`.
    """

    rows: int
    edges: tuple[float, ...]
    shares: tuple[float, ...]
    points: tuple[float, ...]
    below: tuple[float, ...]

    @classmethod
    def of(cls, values: Floats) -> Self | None:
        """The summary of a column, missing values left out; None when nothing is left."""
        known = np.sort(values[np.isfinite(values)])
        if not len(known):
            return None
        edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))
        points = np.unique(np.quantile(known, np.linspace(0, 1, POINTS + 1)))
        return cls(
            rows=len(known),
            edges=tuple(edges.tolist()),
            shares=tuple(shares_between(edges, known).tolist()),
            points=tuple(points.tolist()),
            below=tuple((np.searchsorted(known, points, side="right") / len(known)).tolist()),
        )

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `asdict` made of one, after a way through JSON."""
        lists = {name: tuple(map(float, stored[name])) for name in _LISTS}
        return cls(rows=int(stored["rows"]), **lists)


_LISTS = ("edges", "shares", "points", "below")


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelSummary:
    """How often the levels of a category occurred in `rows` rows.

    `levels` are the numbers that stand for the most frequent ones (`store.inputs.cells`), `shares`
    theirs; then come the shares of `missing` cells and of all `others`, 0 where every level is
    listed.
    """

    rows: int
    levels: tuple[float, ...]
    shares: tuple[float, ...]
    missing: float
    others: float

    @classmethod
    def of(cls, values: Floats) -> Self | None:
        """The summary of a column; None for one without rows."""
        if not len(values):
            return None
        found, counts = np.unique(values[~np.isnan(values)], return_counts=True)
        common = np.argsort(-counts, kind="stable")[:LEVELS]
        return cls(
            rows=len(values),
            levels=tuple(found[common].tolist()),
            shares=tuple((counts[common] / len(values)).tolist()),
            missing=float(np.isnan(values).mean()),
            others=float((counts.sum() - counts[common].sum()) / len(values)),
        )

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `asdict` made of one, after a way through JSON."""
        return cls(
            rows=int(stored["rows"]),
            levels=tuple(map(float, stored["levels"])),
            shares=tuple(map(float, stored["shares"])),
            missing=float(stored["missing"]),
            others=float(stored["others"]),
        )

    def all_shares(self) -> Floats:
        """The shares of its levels, of missing cells and of all other levels, (levels + 2,)."""
        return np.asarray([*self.shares, self.missing, self.others])

    def shares_in(self, values: Floats) -> Floats:
        """The same of other values (n,)."""
        places = {level: place for place, level in enumerate(self.levels)}
        missing, others = len(places), len(places) + 1
        codes = [missing if v != v else places.get(v, others) for v in values.tolist()]  # noqa: PLR0124 - NaN
        return np.bincount(codes, minlength=len(places) + 2) / len(values)


def shares_between(edges: Floats, values: Floats) -> Floats:
    """The share of the values in each of the len(edges) + 1 bins."""
    places = np.searchsorted(edges, values, side="left")
    return np.bincount(places, minlength=len(edges) + 1) / len(values)


def input_columns(
    numbers: Floats, features: Sequence[str], written: Sequence[Any] | None, column: str | None
) -> dict[str, Floats]:
    """The columns to compare by name: each feature, and the statistics of a text.

    `numbers` are (n, d), `written` the texts; what is no text, or empty, is left out.
    """
    columns = dict(zip(features, numbers.T, strict=True))
    if written is None or column is None:
        return columns
    counted = [texts.statistics(text) for text in written if isinstance(text, str) and text]
    of_texts = np.asarray(counted, dtype=float).reshape(-1, len(texts.STATISTICS))
    names = [f"{column} {name}" for name in texts.STATISTICS]
    return columns | dict(zip(names, of_texts.T, strict=True))


def kinds_of(model: Any) -> dict[str, Kind]:  # noqa: ANN401 - AdaptiveClassifier
    """The kinds of a model's features by name, in their order."""
    return _kinds(list(model.feature_names_), model.reference_)


def _kinds(features: Sequence[str], reference: Mapping[str, Any] | None) -> dict[str, Kind]:
    named = (reference or {}).get("kinds", {})
    return {name: Kind(named.get(name, Kind.NUMBER)) for name in features}


def reference_of(
    rows: Inputs, features: Sequence[str], column: str | None, kinds: Kinds = NUMBERS
) -> dict[str, Any]:
    """The summary of a base's training rows, as plain JSON values.

    The kinds of features are among them where some are no numbers.
    """
    numbers, written = parted(rows)
    found: dict[str, ColumnSummary | LevelSummary | None] = {
        name: LevelSummary.of(values)
        if kinds.get(name) is Kind.CATEGORY
        else ColumnSummary.of(values)
        for name, values in input_columns(numbers, features, written, column).items()
        # Instants go on, whatever happens.
        if kinds.get(name) is not Kind.DATETIME
    }
    columns = {name: asdict(summary) for name, summary in found.items() if summary is not None}
    others = {name: str(kind) for name, kind in kinds.items() if kind is not Kind.NUMBER}
    return {
        "features": list(features),
        **({"kinds": others} if others else {}),
        "text_column": column,
        "columns": {
            name: {key: list(v) if isinstance(v, tuple) else v for key, v in summary.items()}
            for name, summary in columns.items()
        },
    }
