"""Which rows a model has learned: the days behind it, those of open days, those of its base."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.datasets.entities import Entities, are_known, entities_of
from ml_pipeline.datasets.fitted_rows import FittedRows, fitted_among
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.online_model import Incumbent

OPEN_EVENTS = "open_event_ids"
# Those of them that stand in the base already, with their days: no head may learn them again.
BASE_EVENTS = "base_event_ids"
# The entities of the open rows.
OPEN_ENTITIES = "open_entities"
# How rows of a new base are known when the log brings them: as whole days that it has taken in, by
# their event ids, or by what stands in them as well.
KnownBy = Literal["day", "event", "content"]


def learned_by_base(model: AdaptiveClassifier) -> frozenset[str]:
    """Rows of days that are not settled on which the model's base was fitted."""
    return frozenset((model.line_ or {}).get(BASE_EVENTS, {}))


@dataclass(frozen=True, kw_only=True, slots=True)
class Champion:
    """The champion as the loop knows it."""

    model_id: str
    model: AdaptiveClassifier

    def learned_event_ids(self) -> frozenset[str]:
        """Rows of days that are not settled, which the champion has learned all the same."""
        return frozenset((self.model.line_ or {}).get(OPEN_EVENTS, ()))

    def settled_night(self) -> int | None:
        """The last day of which the champion has learned everything."""
        return (self.model.line_ or {}).get("night")

    def fitted_rows(self) -> FittedRows:
        """Rows of its base that none of its settled days has brought."""
        return FittedRows.from_dict(self.model.line_ or {})

    def entities(self) -> Entities:
        """The entities of the rows that it has learned, as far as they are remembered."""
        line, none = self.model.line_ or {}, np.empty(0, dtype=np.uint32)
        return np.concatenate([line.get("entities", none), line.get(OPEN_ENTITIES, none)])

    def as_incumbent(self, *, other_base: bool, compared_from: int | None = None) -> Incumbent:
        """What an online model on the same base, or on another one, is held against."""
        return Incumbent(
            model_id=self.model_id,
            memory=self.model.memory(),
            model=self.model if other_base else None,
            learned=self.learned_event_ids(),
            settled_night=self.settled_night(),
            entities=self.entities(),
            compared_from=compared_from,
        )


def unseen_rows(data: Dataset, champion: Champion) -> NDArray[np.bool_]:
    """Rows that the champion has not learned, nor others of their entity."""
    strangers = ~are_known(entities_of(data), champion.entities())
    if data.times is None or "event_id" not in data.frame.columns:
        return strangers
    night = champion.settled_night()
    learned = data.frame["event_id"].astype(str).isin(champion.learned_event_ids())
    if night is not None:
        learned |= data.times < pd.Timestamp(date.fromordinal(night + 1), tz="UTC")
    is_new = ~learned.to_numpy() & ~fitted_among(champion.fitted_rows(), data)
    return np.asarray(is_new & strangers)


def fitted_on(
    data: Dataset | None, settings: Settings, today: date | None, *, by_content: bool = True
) -> FittedRows:
    """Rows to recognise when the log brings them; without a day nobody goes on from the base."""
    if data is None or today is None:
        return FittedRows.none()
    until = today.toordinal() if by_content else 0
    return FittedRows.of(data, until=until, id_column=settings.ground_truth.id_column)
