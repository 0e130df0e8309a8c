"""What nights were predicted before they were learned, and the evidence that they are."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.datasets.entities import Entities
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.metrics import Codes, Floats
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.online_model import NightScores


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredNight:
    """What of a night's scores the evidence needs; the rows themselves may be many."""

    night: int
    event_ids: tuple[str, ...]
    actual: Codes
    weights: Floats
    entities: Entities
    live: Floats
    champion: Floats
    fresh: NDArray[np.bool_]
    unseen: NDArray[np.bool_]

    @classmethod
    def of(cls, scores: NightScores) -> ScoredNight:
        """What of these scores is needed."""
        return cls(
            night=scores.night,
            event_ids=scores.rows.event_ids,
            actual=scores.actual,
            weights=scores.weights,
            entities=scores.entities,
            live=scores.live,
            champion=scores.champion,
            fresh=scores.fresh,
            unseen=scores.unseen,
        )


def evidence_of(model: AdaptiveClassifier, scored: tuple[ScoredNight, ...]) -> Evidence:
    """The rows that the champion has not learned, or all of them without it if there are none.

    Rows of entities that were learned before are no evidence.
    """
    parts = [(s, s.unseen) for s in scored]
    is_paired = any(rows.any() for _, rows in parts)
    if not is_paired:
        parts = [(s, s.fresh) for s in scored]

    def stacked(name: str) -> Floats:
        arrays = [getattr(s, name)[rows] for s, rows in parts]
        return np.vstack(arrays) if arrays else np.empty((0, len(model.classes_)))

    def joined(name: str, kind: Any) -> NDArray[Any]:  # noqa: ANN401 - a type of numpy's
        none = [np.empty(0, dtype=kind)]
        return np.concatenate(none + [getattr(s, name)[rows] for s, rows in parts])

    nights = [np.full(int(rows.sum()), s.night) for s, rows in parts]
    return Evidence(
        labels=tuple(str(label) for label in model.classes_),
        event_ids=tuple(chain.from_iterable(compress(s.event_ids, rows) for s, rows in parts)),
        nights=np.concatenate([np.empty(0, dtype=np.int64), *nights]),
        actual=joined("actual", np.int64),
        challenger=stacked("live"),
        champion=stacked("champion") if is_paired else None,
        weights=joined("weights", np.float64),
        entities=joined("entities", np.uint32),
    )
