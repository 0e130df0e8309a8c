"""What Python callers hand over, as what an event holds: text, number, truth, list, object.

NumPy, pandas and polars are known by what their values can do, so that none of them is loaded.
What has no meaning here is refused with its type and the one that is wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isinf

from ml_pipeline.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any, NoReturn

# What a sum of 32-bit shares may be over 1, or under 0.
ROUNDING = 1e-6
_MISSING = frozenset({"NAType", "NaTType", "NoneType"})
# What is asked of every logged event; types of their own are looked at more closely.
_NEVER_MISSING = frozenset({str, int, bool, dict, list})
_FRACTIONS = frozenset({"Decimal", "Fraction"})
_TEXTS = frozenset({"datetime64", "UUID"})
_VALUE = "a number, a text, a boolean or a time"
_ROW = "a list of numbers in the model's order, a mapping from name to value, or a text"


def is_missing(value: object) -> bool:
    """Whether a value is one of Python's, NumPy's or pandas' for nothing."""
    if value is None or type(value) in _NEVER_MISSING:
        return value is None
    if type(value) is float:
        return value != value  # noqa: PLR0124 - NaN
    # NaN and NaT differ from themselves; pd.NA answers no comparison.
    kind = type(value).__name__
    is_nan = _is_number(value) and bool(value != value)  # noqa: PLR0124
    return is_nan or kind in _MISSING or (kind == "datetime64" and str(value) == "NaT")


def scalar(value: object, name: str) -> str | float | bool | None:
    """One value as Python's own, None for a missing one.

    Raises InputError for an infinite number and for what is no value.
    """
    if is_missing(value):
        return None
    if isinstance(value, float) and isinf(value):
        raise InputError(f"{name} = {value} is not a finite number.")
    if isinstance(value, (str, bool, int, float)):
        return str.__str__(value) if isinstance(value, str) else value
    own = _own(value)
    return refuse(value, name, _VALUE) if type(own) is type(value) else scalar(own, name)


def _own(value: object) -> object:
    """A value as the next simpler type; itself when there is none."""
    kind = type(value).__name__
    if kind in _FRACTIONS:
        return float(value)  # type: ignore[arg-type]
    if kind in _TEXTS:
        return str(value)
    for method in ("isoformat", "item"):
        if callable(take := getattr(value, method, None)) and not _has_axis(value):
            return take()
    return value


def plain(value: object, name: str) -> Any:  # noqa: ANN401 - a JSON value
    """A value of any depth as JSON has it. Raises InputError naming what is none."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner, f"{name}.{key}") for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner, name) for inner in value]
    if _has_axis(value) and hasattr(value, "tolist"):
        return plain(value.tolist(), name)
    return scalar(value, name)


def mapping(value: object, name: str) -> Mapping[str, object]:
    """An object by name: a mapping, or a Series with names. Raises InputError for another type."""
    if type(value) is dict or isinstance(value, Mapping):
        return value
    if _is_series(value):
        return dict(value.to_dict())  # type: ignore[attr-defined]
    return refuse(value, name, "a mapping from name to value")


def share(value: object, name: str) -> float:
    """A number from 0 to 1, rounding forgiven. Raises InputError for another."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(f"A {name} is a number from 0 to 1, not {value!r}.") from None
    if -ROUNDING <= number <= 1 + ROUNDING:
        return min(max(number, 0.0), 1.0)
    raise InputError(f"A {name} is a number from 0 to 1, not {number}.")


def id_text(value: object, name: str) -> str | None:
    """An id as text; a whole number without the point that a column with gaps gives it."""
    if is_missing(value):
        return None
    if isinstance(value, str):
        return str.__str__(value)
    taken = scalar(value, name)
    if isinstance(taken, float) and taken.is_integer():
        return str(int(taken))
    return None if taken is None else str(taken)


def moment(value: object, name: str) -> datetime:
    """A time with its zone: a datetime, a Timestamp, or ISO 8601. Raises InputError for another."""
    from datetime import datetime

    if isinstance(value, datetime) and not is_missing(value):
        return value
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            raise InputError(f"{name} = {value!r} is not an ISO 8601 time.") from None
    return refuse(value, name, "a datetime with a time zone")


def one_row(row: object) -> Any:  # noqa: ANN401 - a RowInput
    """The input of one row: an array, a Series or a frame of one row becomes a list or a mapping.

    Raises InputError for what is no row, and for several.
    """
    if row is None or isinstance(row, (str, list, tuple, Mapping)):
        return row
    if _is_frame(row):
        rows = _records(row)
        if len(rows) != 1:
            _several(len(rows), row)
        return rows[0]
    if _is_series(row):
        named = all(isinstance(name, str) for name in row.index)  # type: ignore[attr-defined]
        return row.to_dict() if named else row.tolist()  # type: ignore[attr-defined]
    axes = getattr(row, "ndim", None)
    if axes == 2:  # noqa: PLR2004 - a matrix
        if len(row) != 1:  # type: ignore[arg-type]
            _several(len(row), row)  # type: ignore[arg-type]
        row, axes = row[0], 1  # type: ignore[index]
    if axes == 1 or (axes is None and hasattr(row, "tolist")):
        return row.tolist()  # type: ignore[attr-defined]
    return refuse(row, "A row", _ROW)


def many_rows(rows: object) -> Iterable[Any]:
    """The rows of a list, of a frame or of an array with two axes.

    Raises InputError for one row alone and for what is no collection of rows.
    """
    if type(rows) is list:
        return rows
    if _is_frame(rows):
        return _records(rows)
    is_one = isinstance(rows, (str, bytes, Mapping)) or not hasattr(rows, "__iter__")
    axes = getattr(rows, "ndim", None)
    if axes is not None and not is_one:
        listed = rows.tolist()  # type: ignore[attr-defined]
        is_one = axes != 2 and not all(isinstance(row, (str, list, Mapping)) for row in listed)  # noqa: PLR2004
        rows = listed
    if is_one:
        refuse(rows, "Many rows", "a list of rows, a frame or a matrix (one row goes to predict)")
    return rows  # type: ignore[return-value]


def refuse(value: object, name: str, wanted: str) -> NoReturn:
    """Raise InputError naming the type that came and the one that is wanted."""
    shown = repr(value)
    if len(shown) > 60:  # noqa: PLR2004 - enough to know it again
        shown = shown[:60] + "…"
    verb = "are" if name.endswith("s") and name[0].isupper() else "is"
    raise InputError(f"{name} {verb} {wanted}, not {type(value).__name__}: {shown}.")


def _several(count: int, value: object) -> NoReturn:
    raise InputError(
        f"A row is wanted, and a {type(value).__name__} of {count} came.",
        hint="batch_predict takes many rows.",
    )


def _records(frame: object) -> list[Any]:
    if hasattr(frame, "to_dicts"):  # polars
        return list(frame.to_dicts())
    if all(isinstance(name, str) for name in frame.columns):  # type: ignore[attr-defined]
        return list(frame.to_dict("records"))  # type: ignore[attr-defined]
    return list(frame.to_numpy().tolist())  # type: ignore[attr-defined]


def _is_frame(value: object) -> bool:
    return hasattr(value, "columns") and (hasattr(value, "to_dict") or hasattr(value, "to_dicts"))


def _is_series(value: object) -> bool:
    return hasattr(value, "index") and hasattr(value, "to_dict") and not hasattr(value, "columns")


def _is_number(value: object) -> bool:
    return hasattr(value, "__float__") and not _has_axis(value)


def _has_axis(value: object) -> bool:
    axes: int = getattr(value, "ndim", 0)
    return axes > 0
