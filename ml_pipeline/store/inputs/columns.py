"""The columns of a table that a person brings, found by name however they are written there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from ml_pipeline.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_NAMES_SHOWN: Final = 30


def column_place(name: str, names: Sequence[str], source: str) -> int | None:
    """The number of the column of that name, which may be written in another case or with space.

    Raises DataError where several are meant; what nobody asks for may stand there twice.
    """
    wanted = name.strip()
    same = [place for place, other in enumerate(names) if other.strip() == wanted]
    alike = [place for place, other in enumerate(names) if other.strip().lower() == wanted.lower()]
    found = same or alike
    if len(found) > 1:
        raise DataError(
            f"{source} has two columns called {names[found[0]].strip()!r}.",
            hint="Rename or drop one of them.",
        )
    return found[0] if found else None


def column_places(
    spellings: Mapping[str, Sequence[str]], names: Sequence[str], source: str
) -> dict[str, int]:
    """The numbers of the columns that are there, by our names; of several spellings the first.

    Raises DataError where several are meant.
    """
    found = dict[str, int]()
    for name, spelt in spellings.items():
        places = (column_place(spelling, names, source) for spelling in spelt)
        place = next((place for place in places if place is not None), None)
        if place is not None:
            found[name] = place
    return found


def named(frame: pd.DataFrame, wanted: Sequence[str | None], source: str) -> pd.DataFrame:
    """The frame with its columns called as they are asked for, however they are written there.

    Raises DataError where several are meant.
    """
    names = [str(name) for name in frame.columns]
    called = [name or f"Unnamed: {place}" for place, name in enumerate(names)]
    for name in wanted:
        place = None if name is None else column_place(name, names, source)
        if name is not None and place is not None:
            called[place] = name
    # Of columns that nobody asks for there may be several of a name.
    for place, name in enumerate(called):
        if name in called[:place]:
            called[place] = f"{name}.{called[:place].count(name)}"
    return frame if called == list(frame.columns) else frame.set_axis(called, axis=1)


def listed(names: Sequence[object]) -> str:
    """The names of a header, for a sentence."""
    shown = ", ".join(str(name) or "(unnamed)" for name in names[:_NAMES_SHOWN])
    return (shown or "no header") + (", …" if len(names) > _NAMES_SHOWN else "")
