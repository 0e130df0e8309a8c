"""What two models predict for rows that neither has learned: what the gate decides on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.metrics import Codes, Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Rows that neither model has learned, and each one's probabilities (n, K) for them.

    `nights` (n,) are ordinals of UTC days, 0 for rows without a time. Without a `champion` there
    is nothing to compare the challenger with. `weights` (n,) say for how many rows each stands
    where only some get a label (by default 1), `entities` (n,) which belong to one match, customer
    or whatever has an id: rows of equal numbers do, those of 0 stand alone (by default all).
    """

    labels: tuple[str, ...]
    event_ids: tuple[str, ...]
    nights: NDArray[np.int64]
    actual: Codes
    challenger: Floats
    champion: Floats | None
    weights: Floats = field(default_factory=lambda: np.empty(0))
    entities: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, dtype=np.uint32))

    def __post_init__(self) -> None:
        for name, filling in (("weights", np.ones), ("entities", np.zeros)):
            values = getattr(self, name)
            if not len(values):
                values = filling(len(self.actual), dtype=values.dtype)
                object.__setattr__(self, name, values)
            if len(values) != len(self.actual):
                message = f"{len(values)} {name} do not go with {len(self.actual)} rows of evidence"
                raise DataError(message)

    def __len__(self) -> int:
        return len(self.actual)

    def save(self, path: Path) -> None:
        """Write plain arrays."""
        arrays: dict[str, Any] = {
            "labels": np.asarray(self.labels, dtype=str),
            "event_ids": np.asarray(self.event_ids, dtype=str),
            "nights": self.nights,
            "actual": self.actual,
            "challenger": self.challenger,
            "weights": self.weights,
            "entities": self.entities,
        }
        if self.champion is not None:
            arrays["champion"] = self.champion
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> Evidence:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(
                labels=tuple(arrays["labels"].tolist()),
                event_ids=tuple(arrays["event_ids"].tolist()),
                nights=arrays["nights"],
                actual=arrays["actual"],
                challenger=arrays["challenger"],
                champion=arrays.get("champion"),
                weights=arrays.get("weights", np.empty(0)),
                entities=arrays.get("entities", np.empty(0)),
            )

    def actual_labels(self) -> NDArray[np.str_]:
        """The labels themselves."""
        return np.asarray(self.labels)[self.actual]
