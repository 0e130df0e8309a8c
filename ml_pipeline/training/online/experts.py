"""Classifiers of another kind beside base and heads, each fitted anew by a clock of its own.

What they are fitted on is a function of the labelled rows until then: so they come out the same
whether a model learned night by night, late, or again from its base.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.config.kind import Kind
from ml_pipeline.config.sections import AdaptiveSettings, ExpertSettings, TrainingSettings
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.datasets.features import Inputs
from ml_pipeline.evaluation.metrics import Codes, Floats, encode
from ml_pipeline.training import algorithms
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.heads.memory import Expert
from ml_pipeline.training.online.rows import Rows, nightly_rows
from ml_pipeline.training.online_model import OnlineState
from ml_pipeline.training.parallel import spread

log = logging.getLogger("train_model")

# More rows than that are sampled: what an expert costs does not grow with the log.
MAX_ROWS: Final = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownRows:
    """Every labelled row, in the order of learning: what experts may be fitted on.

    `nights` (n,) rise, `actual` (n,) are codes of `classes`, `weights` (n,); `kinds` are those of
    the columns, one each, and without them all are numbers.
    """

    nights: NDArray[np.int64]
    features: Inputs
    actual: Codes
    weights: Floats
    classes: NDArray[Any]
    kinds: Sequence[Kind] = ()

    @classmethod
    def of(
        cls, data: Dataset | None, model: AdaptiveClassifier, adaptive: AdaptiveSettings
    ) -> KnownRows:
        """The rows of a dataset, or none."""
        nights, rows = np.empty(0, dtype=np.int64), Rows.none(model)
        if data is not None:
            nights, rows = nightly_rows(data, model, adaptive)
        return cls(
            nights=nights,
            features=rows.features,
            actual=rows.actual,
            weights=rows.weights,
            classes=model.classes_,
            kinds=() if data is None else data.column_kinds,
        )

    def until(self, night: int) -> KnownRows:
        """The rows that were known when `night` was over."""
        return self.first(int(np.searchsorted(self.nights, night, side="right")))

    def first(self, count: int) -> KnownRows:
        """So many rows from the start."""
        return self._take(slice(count))

    def of_last(self, window: int | None, night: int) -> KnownRows:
        """Those of the last `window` days up to `night`; of all days when it is None."""
        if window is None:
            return self
        return self._take(slice(int(np.searchsorted(self.nights, night - window + 1)), None))

    def sample(self, seed: Sequence[int]) -> KnownRows:
        """At most MAX_ROWS of the rows, in their order."""
        if len(self.nights) <= MAX_ROWS:
            return self
        chosen = np.random.default_rng(seed).choice(len(self.nights), MAX_ROWS, replace=False)
        return self._take(np.sort(chosen))

    def is_enough(self, least: int) -> bool:
        """Whether there are so many rows, of two classes or more."""
        return len(self.nights) >= least and bool((self.actual != self.actual[0]).any())

    def _take(self, places: slice | NDArray[np.int64]) -> KnownRows:
        return replace(
            self,
            nights=self.nights[places],
            features=self.features[places],
            actual=self.actual[places],
            weights=self.weights[places],
        )


def refreshed(state: OnlineState, known: KnownRows, training: TrainingSettings) -> OnlineState:
    """The state with those experts fitted anew that are due after its last night.

    One with too few rows, or rows of one class alone, stays as it is and stays due. All do while
    rows wait to be scored, for what learns a row before may not be judged on it, and while a night
    is in quarantine.
    """
    present = {expert.name: expert for expert in state.memory.experts}
    wanted = training.experts_in_use
    if state.night is None or len(state.waiting) or len(state.held):
        return state
    days = {name: expert.night for name, expert in present.items()}
    due = {expert.name for expert in training.due_experts(days, state.night)}
    fitted = {
        expert.name: expert
        for expert in fit_experts(
            known.until(state.night), state.night, training, [e for e in wanted if e.name in due]
        )
    }
    found = present | fitted
    if not fitted and set(found) <= {expert.name for expert in wanted}:
        return state
    log.info("New experts from the rows up to %s", date.fromordinal(state.night))
    experts = tuple(found[expert.name] for expert in wanted if expert.name in found)
    return state.with_experts(experts, weight=training.adaptive.initial_head_weight)


def fit_experts(
    rows: KnownRows, night: int, training: TrainingSettings, wanted: Sequence[ExpertSettings]
) -> tuple[Expert, ...]:
    """Fit experts on their rows up to `night`, beside each other; those with enough of them.

    An expert with a half-life weighs a row by 0.5^(age/half-life); ages count back from `night`.
    """

    def fitted(task: tuple[ExpertSettings, KnownRows]) -> Expert:
        expert, some = task
        weights = some.weights
        if expert.half_life_days is not None:
            weights = weights * 0.5 ** ((night - some.nights) / expert.half_life_days)
        model = algorithms.fit(
            expert.algorithm,
            some.features,
            some.classes[some.actual],
            training,
            # Binning by weights takes boosting several times as long.
            weights=None if (weights == weights[0]).all() else weights,
            kinds=some.kinds,
            max_iter=expert.max_iter,
        )
        columns = encode(np.asarray(model.classes_), some.classes)
        return Expert(name=expert.name, model=model, columns=columns, night=night)

    seed = (training.random_seed, night)
    tasks = [(expert, rows.of_last(expert.window_nights, night).sample(seed)) for expert in wanted]
    enough = training.min_training_samples
    ready = [(expert, some) for expert, some in tasks if some.is_enough(enough)]
    return tuple(spread(fitted, ready))


def size_of(model: object) -> int:
    """Bytes of a fitted classifier, about."""
    import joblib

    content = BytesIO()
    joblib.dump(model, content)
    return content.tell()
