"""Levels of a category that training had not: which, in how many rows, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.config.kind import Kind
from ml_pipeline.store.inputs.cells import level_code, level_name

SHOWN: Final = 5
NAME_SHOWN: Final = 40
NOTED_SHARE: Final = 0.01
# New levels that are counted one by one; memory is bounded.
COUNTED: Final = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class NewLevels:
    """A category's new `levels`, the commonest first, which `rows` of `of` rows have."""

    feature: str
    rows: int
    of: int
    levels: tuple[str, ...]

    @property
    def is_noted(self) -> bool:
        """Whether so many rows have them that it means anything: a rare level is always new."""
        return self.rows >= NOTED_SHARE * self.of

    def sentence(self, thing: str = "row") -> str:
        """Which levels, in how many rows, and what now."""
        named = ", ".join(repr(level[:NAME_SHOWN]) for level in self.levels)
        things = thing if self.rows == 1 else f"{thing}s"
        return (
            f"{self.feature} has levels that training had not ({named}) in {self.rows:,} {things} "
            f"of {self.of:,}: each is answered as a rare one. A base that knows them: "
            "`ml-pipeline train --register --from-log`, once there are results enough."
        )

    def as_json(self, thing: str = "row") -> dict[str, Any]:
        """Plain JSON values, the sentence among them."""
        return asdict(self) | {"levels": list(self.levels), "said": self.sentence(thing)}


def known_levels(reference: Mapping[str, Any] | None) -> dict[str, NDArray[np.float64]]:
    """By name the categories of which a base's summary lists every level, as sorted numbers.

    Of one with more than `reference.LEVELS` levels nobody can tell what is new.
    """
    summaries = (reference or {}).get("columns", {})
    return {
        name: np.sort(np.asarray(summaries[name]["levels"], dtype=np.float64))
        for name, kind in (reference or {}).get("kinds", {}).items()
        if kind == Kind.CATEGORY and name in summaries and not summaries[name]["others"]
    }


class LevelCounter:
    """Counts the new levels of one category, rows by rows."""

    def __init__(self, feature: str, known: NDArray[np.float64]) -> None:
        self._feature = feature
        self._known = frozenset(known.tolist())
        self._rows = self._new_rows = 0
        self._names: Counter[str] = Counter()

    def add(self, cells: Sequence[object]) -> None:
        """Count cells as a log or a file has them."""
        for name, count in Counter(level_name(cell) for cell in cells).items():
            self._rows += count
            if not name or level_code(name) in self._known:
                continue
            self._new_rows += count
            if name in self._names or len(self._names) < COUNTED:
                self._names[name] += count

    def found(self) -> NewLevels | None:
        """What was counted; None where every level was known."""
        if not self._new_rows:
            return None
        levels = tuple(name for name, _ in self._names.most_common(SHOWN))
        return NewLevels(feature=self._feature, rows=self._new_rows, of=self._rows, levels=levels)


def found_by(counters: Iterable[LevelCounter]) -> list[NewLevels]:
    """What they found, of those that found any."""
    return [found for counter in counters if (found := counter.found()) is not None]
