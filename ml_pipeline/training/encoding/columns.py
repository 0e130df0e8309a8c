"""The steps of a pipeline that prepare features of every kind, and what heads see of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets.features import Inputs, parted
from ml_pipeline.store.inputs.incumbent_columns import classes_read, share_columns
from ml_pipeline.training.encoding.kind_features import (
    MOST_COLUMNS,
    LevelMeans,
    Levels,
    MomentParts,
    levels_in,
)
from ml_pipeline.training.preprocessing import preprocessing

Floats = NDArray[np.float64]

# The parts of a ColumnTransformer, in their order, and the step of each that heads see.
NUMBERS, MOMENTS, LEVELS, MEANS = "numbers", "moments", "levels", "means"
READ: Final = "read"
# A standard deviation of which whatever stands for a level or an instant is next to nothing.
_UNSEEN: Final = 1e300
_ENCODE: Final = "encode"


def are_numbers(kinds: Sequence[Kind]) -> bool:
    """Whether the columns are prepared as numbers: truths are 0 or 1."""
    return all(kind in {Kind.NUMBER, Kind.BOOLEAN} for kind in kinds)


def parts_of(rows: Inputs, kinds: Sequence[Kind]) -> list[tuple[str, Any, list[int]]]:
    """The parts of a ColumnTransformer that prepare rows of these kinds; without kinds numbers.

    Numbers and truths are filled in and standardised, so are the parts of an instant; a category
    is one-hot, or encoded by its classes where the rows have more than MOST_COLUMNS levels of it.
    """
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    numbers, _ = parted(rows)
    kinds = kinds or [Kind.NUMBER] * numbers.shape[1]
    places = _places(numbers, kinds)
    steps: dict[str, Any] = {
        NUMBERS: Pipeline(preprocessing()),
        MOMENTS: Pipeline([(_ENCODE, MomentParts()), *preprocessing()]),
        LEVELS: Levels(),
        MEANS: Pipeline([(_ENCODE, LevelMeans()), ("scale", StandardScaler())]),
    }
    return [(name, steps[name], found) for name, found in places.items() if found]


def _places(numbers: Floats, kinds: Sequence[Kind]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {NUMBERS: [], MOMENTS: [], LEVELS: [], MEANS: []}
    for place, kind in enumerate(kinds):
        if kind is Kind.DATETIME:
            name = MOMENTS
        elif kind is Kind.CATEGORY:
            name = LEVELS if levels_in(numbers[:, place]) <= MOST_COLUMNS else MEANS
        else:
            name = NUMBERS
        places[name].append(place)
    return places


def steps_for(rows: Inputs, kinds: Sequence[Kind]) -> list[tuple[str, Any]]:
    """Pipeline steps before the classifier, for rows without a text."""
    if are_numbers(kinds):
        return preprocessing()
    from sklearn.compose import ColumnTransformer

    return [(READ, ColumnTransformer(parts_of(rows, kinds)))]


def head_columns(base: Any, rows: Inputs) -> Floats:  # noqa: ANN401 - a fitted base
    """What heads see of rows: numbers (n, m), a missing one NaN.

    Numbers as they are and truths as 0 or 1, then hour, weekday and day of each instant, then the
    one-hot columns of levels, then what levels add to the log odds (`LevelMeans`). Of a base that
    takes numbers alone these are its rows (n, d). The scoring file has the same
    (`registry.inputs.kind_columns.head_columns`).
    """
    numbers, _ = parted(rows)
    # What an incumbent answered is seen as log odds.
    numbers = base.own_numbers(numbers) if hasattr(base, "own_numbers") else numbers
    steps = getattr(base, "named_steps", {})
    if READ not in steps:
        return numbers
    seen = [
        _seen(name, transformer, numbers[:, places])
        for name, transformer, places in steps[READ].transformers_
        if name in {NUMBERS, MOMENTS, LEVELS, MEANS}
    ]
    return np.hstack([np.empty((len(numbers), 0)), *seen])


def _seen(name: str, transformer: Any, columns: Floats) -> Floats:  # noqa: ANN401
    if name == NUMBERS:
        return columns
    step = transformer if name == LEVELS else transformer.named_steps[_ENCODE]
    return np.asarray(step.transform(columns), dtype=np.float64)


def takes_numbers(base: Any) -> bool:  # noqa: ANN401 - a fitted base
    """Whether heads see the rows of a base as they are: its features are all numbers."""
    read = getattr(base, "named_steps", {}).get(READ)
    others = {MOMENTS, LEVELS, MEANS}
    return read is None or not any(name in others for name, *_ in read.transformers_)


def call_nothing_far(model: Any, kinds: Mapping[str, Kind]) -> None:  # noqa: ANN401 - AdaptiveClassifier
    """No level and no instant is far from the training rows: what stands for it is no amount.

    Nor is an incumbent's answer. `kinds` are those of the features by name.
    """
    answers = set(share_columns(classes_read(kinds)))
    is_number = np.asarray(
        [
            kind in {Kind.NUMBER, Kind.BOOLEAN} and name not in answers
            for name, kind in kinds.items()
        ],
        dtype=bool,
    )
    if is_number.all() or len(is_number) != len(model.mean_):
        return
    is_answer = np.asarray([name in answers for name in kinds], dtype=bool)
    model.mean_ = np.where(is_number | is_answer, model.mean_, 0.0)
    model.scale_ = np.where(is_number, model.scale_, _UNSEEN)
