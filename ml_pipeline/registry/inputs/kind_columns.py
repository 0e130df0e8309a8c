"""The step of a scoring file that prepares features of every kind; loaded only where there is one.

It answers what `training.encoding` answers, see there. A part that does not fit is refused by
ValueError, KeyError or TypeError when it is built.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from math import floor, isfinite

Values = Sequence[float]
Score = Callable[[Values], list[float]]
# From the steps of a part and how many values they get to their function and how many they make.
Prepared = Callable[[Mapping[str, object], int], "tuple[Score, int]"]
Array = Callable[[object], Sequence[float]]

_DAY = 86_400.0
_HOUR = 3_600.0
_FIRST_WEEKDAY = 3.0


def listed(value: object) -> list:  # type: ignore[type-arg]
    """A list, as JSON gives it."""
    if not isinstance(value, list):
        raise TypeError(value)
    return value


def columns(
    step: Mapping[str, object], width: int, array: Array, prepared: Prepared | None
) -> tuple[Score, int]:
    """The function of the step, and how many values it makes of `width`.

    Without `prepared` it makes what heads see: the same before numbers are filled in and
    standardised.
    """
    parts: list[Score] = []
    total = 0
    for part in listed(step["parts"]):
        made, count = _part(part, width, array)
        if prepared is not None:
            last, count = prepared({"steps": part.get("steps", [])}, count)
            made = _then(made, last)
        parts.append(made)
        total += count
    return lambda values: [number for part in parts for number in part(values)], total


def head_columns(base: Mapping[str, object], width: int, array: Array) -> tuple[Score, int]:
    """What heads see of a row, from the header's `base`, and how many values that are.

    As `training.encoding.columns.head_columns` has it: a missing number is NaN, and of a base that
    takes numbers alone it is the row itself, without its text. `width` is how many features the
    model has.
    """
    for step in _steps(base):
        if step["kind"] == "read":
            inner = [one for one in listed(step["numbers"]) if one["kind"] == "columns"]
            return columns(inner[0], width, array, None) if inner else _numbers(width)
        if step["kind"] == "columns":
            return columns(step, width, array, None)
    return _numbers(width)


def _steps(base: Mapping[str, object]) -> list[dict[str, object]]:
    return listed(base["steps"]) if base["kind"] in {"pipeline", "incumbent"} else []


def _numbers(width: int) -> tuple[Score, int]:
    return lambda values: list(values[:width]), width


def _then(first: Score, second: Score) -> Score:
    return lambda values: second(first(values))


def _part(part: Mapping[str, object], width: int, array: Array) -> tuple[Score, int]:
    places = [int(place) for place in listed(part["places"])]
    if not all(0 <= place < width for place in places):
        raise ValueError("a column is none of the row's")
    kind = part["kind"]
    if kind == "numbers":
        return lambda values: [values[place] for place in places], len(places)
    if kind == "moments":
        return lambda values: [n for place in places for n in _moment(values[place])], 3 * len(
            places
        )
    known = [array(place) for place in listed(part["levels"])]
    if len(known) != len(places):
        raise ValueError("the levels of a category are missing")
    if kind == "levels":
        also = [(bool(missing), bool(others)) for missing, others in listed(part["also"])]
        encoders = [_one_hot(*one) for one in zip(places, known, also, strict=True)]
        count = sum(len(levels) + sum(more) for levels, more in zip(known, also, strict=True))
    elif kind == "means":
        encoders, count = _means(part, places, known, array)
    else:
        raise KeyError(kind)
    return lambda values: [number for encode in encoders for number in encode(values)], count


def _moment(seconds: float) -> tuple[float, float, float]:
    """Hour, weekday and day."""
    if not isfinite(seconds):
        return seconds, seconds, seconds
    days = seconds / _DAY
    return (seconds % _DAY) / _HOUR, (floor(days) + _FIRST_WEEKDAY) % 7, days


def _place(value: float, known: Sequence[float]) -> int:
    """Where a level stands, -1 for one that is not known."""
    place = bisect_left(known, value)
    return place if place < len(known) and known[place] == value else -1


def is_new(value: float, known: Sequence[float]) -> bool:
    """Whether a level is none of those known, which are sorted; a missing one is not new."""
    return value == value and _place(value, known) < 0  # noqa: PLR0124 - NaN differs from itself


def _one_hot(place: int, known: Sequence[float], also: tuple[bool, bool]) -> Score:
    has_missing, has_others = also
    count = len(known)
    width = count + has_missing + has_others

    def encode(values: Values) -> list[float]:
        wide = [0.0] * width
        value = values[place]
        is_missing = value != value  # noqa: PLR0124 - NaN differs from itself
        found = -1 if is_missing else _place(value, known)
        if found >= 0:
            wide[found] = 1.0
        elif is_missing and has_missing:
            wide[count] = 1.0
        elif has_others:
            wide[-1] = 1.0
        return wide

    return encode


def _means(
    part: Mapping[str, object],
    places: Sequence[int],
    known: Sequence[Sequence[float]],
    array: Array,
) -> tuple[list[Score], int]:
    width = int(part["width"])  # type: ignore[call-overload]
    values = [array(place) for place in listed(part["values"])]
    missing = [[float(number) for number in row] for row in listed(part["missing"])]
    fits = (
        len(added) == len(levels) * width and len(row) == width and all(map(isfinite, row))
        for levels, added, row in zip(known, values, missing, strict=True)
    )
    if width < 1 or not all(fits):
        raise ValueError("the levels of a category and their values differ in number")
    one = zip(places, known, values, missing, strict=True)
    return [_mean(*each, width) for each in one], width * len(places)


def _mean(
    place: int,
    known: Sequence[float],
    added: Sequence[float],
    missing: list[float],
    width: int,
) -> Score:
    nothing = [0.0] * width

    def encode(values: Values) -> list[float]:
        value = values[place]
        if value != value:  # noqa: PLR0124 - NaN differs from itself
            return missing
        found = _place(value, known)
        return nothing if found < 0 else list(added[found * width : (found + 1) * width])

    return encode
