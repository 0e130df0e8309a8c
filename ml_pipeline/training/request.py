"""What a training is asked for: by the flags of `train`, or by a test."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final, Literal

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.datasets.splits import Split
from ml_pipeline.evaluation.metrics import Floats
from ml_pipeline.registry.models import safe_name


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedModel:
    """A model file, and the digest that it must have; None takes the file as it is."""

    path: Path
    digest: str | None = None
    model_id: str = ""


_FOR_FINE_TUNING: Final = (
    "champion",
    "other_base",
    "compared_from",
    "new_base",
    "known",
    "restart_night",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRequest:
    """Train a base on the rows of `dataset`, or fine-tune a model on them.

    `dataset` is a path or `builtin`. With `fine_tune`: `parent` is the model to start from, else
    the champion of the store (in folder `local`, or the environment's); `champion` is the serving
    model where it is not the parent, and `other_base` says that it stands on another base, of which
    one serves since the day `compared_from`;
    `new_base` makes a base for the shadow, with fresh heads or those that serve; `known` holds
    every labelled row, for experts that are due; what was learned after `restart_night` is learned
    again. Rows up to and with the UTC day `today` are
    learned. `chosen` names the settings that the caller chose himself: those that the strategy
    has no use for are reported.
    """

    dataset: str
    settings: Settings
    output_dir: Path
    model_id: str
    now: datetime
    today: date
    fine_tune: bool = False
    parent: NamedModel | None = None
    champion: NamedModel | None = None
    other_base: bool = False
    compared_from: int | None = None
    new_base: Literal["fresh", "carried"] | None = None
    known: Path | None = None
    restart_night: int | None = None
    local: str | None = None
    chosen: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        safe_name(self.model_id)
        if not self.dataset:
            raise ValueError("a training needs rows: dataset is empty")
        if self.now.tzinfo is None:
            raise ValueError(f"{self.now} has no time zone")
        for name in _FOR_FINE_TUNING:
            if getattr(self, name) and not self.fine_tune:
                raise ValueError(f"{name} goes with fine_tune alone")

    @property
    def folder(self) -> Path:
        """Where model, evidence and result are written."""
        return self.output_dir / self.model_id

    @property
    def trains_incumbent(self) -> bool:
        """Whether a base is wanted that answers what the rows' incumbent answered."""
        return self.settings.training.is_incumbent and not self.fine_tune

    @property
    def strategy(self) -> str:
        """The strategy, `from_scratch` for a base of its own."""
        return self.settings.training.strategy if self.fine_tune else "from_scratch"


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedRows:
    """Rows of a base that were read and split before, and the `classes` it is to know.

    `answers` (held out, K) are what the champion answers for the rows to be judged on, None
    without one. `learned_until` is the time of the last row to learn, for the lineage.
    """

    data: Dataset
    parts: Split
    classes: list[str]
    answers: Floats | None
    learned_until: datetime | None
