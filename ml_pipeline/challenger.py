"""What training brings about: a model that asks to serve, with its evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ml_pipeline.adaptive import AdaptiveClassifier
from ml_pipeline.arrays import Floats
from ml_pipeline.config import Settings
from ml_pipeline.evidence import Evidence
from ml_pipeline.features import Inputs
from ml_pipeline.live_line import LineState

OPEN_EVENTS = "open_event_ids"


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenger:
    """A model that asks to serve.

    `line` is the live line that it serves, None for a new base. `prior` are the class frequencies
    of a new base's training rows, the floor that a first champion has to clear.
    """

    model: AdaptiveClassifier
    evidence: Evidence
    rows_learned: int
    training_digest: str
    line: LineState | None = None
    prior: Floats | None = None
    cross_validation: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving:
    """The champion as the loop knows it."""

    model_id: str
    model: AdaptiveClassifier

    def learned_event_ids(self) -> frozenset[str]:
        """Rows of days that are not settled, which the champion has learned all the same."""
        return frozenset((self.model.line_ or {}).get(OPEN_EVENTS, ()))

    def settled_night(self) -> int | None:
        """The last day of which the champion has learned everything."""
        return (self.model.line_ or {}).get("night")


def new_model(
    base: Any,  # noqa: ANN401 - a fitted scikit-learn classifier
    features: Inputs,
    classes: list[str],
    settings: Settings,
    *,
    learned_until: int | None = None,
) -> AdaptiveClassifier:
    """Heads that equal the base, and a line that starts after day `learned_until`."""
    training = settings.training
    adaptive = training.adaptive
    rates = {
        "half_lives": list(adaptive.half_lives),
        "vote_rate": adaptive.vote_rate,
        "vote_share": adaptive.vote_share,
        "initial_head_weight": adaptive.initial_head_weight,
        "ridge": adaptive.ridge,
        "prior_rows": adaptive.prior_rows,
        "rows_per_night": adaptive.rows_per_night,
        "epochs": training.epochs,
    }
    model = AdaptiveClassifier(base, rates).adopt(base, features, classes)
    model.feature_names_ = list(settings.data.features)
    model.text_column_ = settings.data.text_column
    line = LineState.fresh(model).as_dict() | {"night": learned_until}
    model.line_ = line | {OPEN_EVENTS: []}
    return model
