"""What heads of a scoring file see of a row with a text; loaded only where there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ml_pipeline.datasets.texts import STATISTICS, statistics
from ml_pipeline.registry.scoring_parts import Reader, Score, Values, listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def text_columns(
    base: Mapping[str, object],
    seen: Mapping[str, object],
    numbers: Score | None,
    width: int,
    reader: Reader,
) -> tuple[Score, int]:
    """The function of a row whose text stands last, and how many values it makes.

    As `training.adaptive` has it: components of the terms, statistics of the text, then what is
    seen of the features: the `width` values of `numbers`, without it the features themselves.
    `reader` has read the header's `base`.
    """
    step = next(step for step in listed(base["steps"]) if step["kind"] == "read")
    reading, count = reader.readings[id(step)], len(listed(step["terms"]))
    flat = reader.array(seen["loadings"])
    rows, each = _rows([int(place) for place in listed(seen["terms"])], len(flat), count)

    def columns(values: Values) -> list[float]:
        text = str(values[-1])
        found = _weighed(reading.weighed(text), rows, flat, each)
        others = values[:-1] if numbers is None else numbers(values[:-1])
        return [*found, *statistics(text), *others]

    return columns, each + len(STATISTICS) + width


def _rows(places: Sequence[int], size: int, count: int) -> tuple[dict[int, int], int]:
    """Where the loadings of each of the terms begin, and how many each has.

    Of a thousand terms a text has a few: what they load on is read when it is asked.
    """
    each, rest = divmod(size, max(len(places), 1))
    if rest or not each or not all(0 <= place < count for place in places):
        raise ValueError("the components of its terms have another shape")
    return dict(zip(places, range(0, size, each), strict=True)), each


def text_parts(
    base: Any,  # noqa: ANN401 - a fitted pipeline
    inputs: Any,  # noqa: ANN401 - HeadInputs
    add: Callable[[Any, str], list[object]],
) -> dict[str, Any]:
    """What a scoring file says of them: the places of the terms in the base, (t, c) loadings."""
    if inputs.loadings is None:
        return {}
    known = base.named_steps["read"].named_transformers_["terms"].vocabulary_
    found = [(known[t], row) for row, t in enumerate(inputs.terms.split("\n")) if t in known]
    rows = [row for _, row in found]
    return {"terms": [place for place, _ in found], "loadings": add(inputs.loadings[rows], "d")}


def _weighed(
    weights: Sequence[tuple[int, float]], rows: Mapping[int, int], flat: memoryview, count: int
) -> list[float]:
    found = [0.0] * count
    for place, weight in weights:
        if place in rows:
            start = rows[place]
            loads = flat[start : start + count]
            found = [so_far + weight * load for so_far, load in zip(found, loads, strict=True)]
    return found
