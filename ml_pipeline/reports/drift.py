"""How far the inputs of a run have moved from what the model's base was trained on, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ml_pipeline.reports.pages import number, percent

# By custom: a population stability index under 0.1 is no shift, one over 0.25 a large one.
SOME: Final = 0.1
MUCH: Final = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class InputShift:
    """An input, its population stability index, what that means, and a note on new levels."""

    name: str
    index: float
    word: str
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class InputShifts:
    """What is shown of all inputs that were compared, the most shifted first."""

    sentence: str
    shifts: Sequence[InputShift]


def drift_view(kept: Sequence[Mapping[str, Any]] | None) -> InputShifts | None:
    """What the report and the page show of a run's `drift`; None where nothing was compared."""
    if not kept:
        return None
    shifts = [
        InputShift(name=it["column"], index=it["psi"], word=_word(it["psi"]), note=_note(it))
        for it in kept
    ]
    return InputShifts(sentence=_sentence(kept, shifts), shifts=shifts)


def _word(index: float) -> str:
    return "large" if index > MUCH else "some" if index > SOME else "none"


def _note(it: Mapping[str, Any]) -> str:
    if not it.get("new_share"):
        return ""
    levels = ", ".join(str(level)[:40] for level in it["new_levels"])
    return f"{percent(it['new_share'])} are new: {levels}"


def _sentence(kept: Sequence[Mapping[str, Any]], shifts: Sequence[InputShift]) -> str:
    worst, first = shifts[0], kept[0]
    rows = (
        f"on the newest {number(first['rows'])} results that were read, against "
        f"{number(first['reference_rows'])} training rows"
    )
    large = sum(shift.word == "large" for shift in shifts)
    if large:
        what = f"{worst.name} has" if large == 1 else f"{large} inputs have"
        most = "" if large == 1 else f", {worst.name} most"
        return (
            f"{what} shifted much from what the model was trained on{most} ({rows}). Right answers "
            "by day say whether the answers suffer from it."
        )
    if worst.word == "some":
        return f"No input has shifted much; {worst.name} has the most ({rows})."
    return f"No input has shifted from what the model was trained on ({rows})."
