"""How far the inputs of a run have moved from what the model's base was trained on, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ml_pipeline.reports.pages import number, percent

# Where a run's row keeps it.
DRIFT: Final = "drift"
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


def drift_view(kept: Mapping[str, Any] | None) -> InputShifts | None:
    """What the report and the page show of a run's drift; None where nothing was compared."""
    if not kept or not kept["inputs"]:
        return None
    shifts = [
        InputShift(name=it["column"], index=it["psi"], word=_word(it), note=_note(it))
        for it in kept["inputs"]
    ]
    first = kept["inputs"][0]
    rows = (
        f"on {number(first['rows'])} results that were read on {kept['at'][:10]}, against "
        f"{number(first['reference_rows'])} training rows"
    )
    return InputShifts(sentence=_sentence(shifts, rows), shifts=shifts)


def _word(it: Mapping[str, Any]) -> str:
    """What an index means: one that chance may bring about is none."""
    index, noise = it["psi"], it["noise"]
    return "large" if index > max(MUCH, noise) else "some" if index > max(SOME, noise) else "none"


def _note(it: Mapping[str, Any]) -> str:
    if not it.get("new_share"):
        return ""
    levels = ", ".join(str(level)[:40] for level in it["new_levels"])
    return f"{percent(it['new_share'])} are new: {levels}"


def _sentence(shifts: Sequence[InputShift], rows: str) -> str:
    large = [shift.name for shift in shifts if shift.word == "large"]
    some = [shift.name for shift in shifts if shift.word == "some"]
    if large:
        what = f"{large[0]} has" if len(large) == 1 else f"{len(large)} inputs have"
        most = "" if len(large) == 1 else f", {large[0]} most"
        return (
            f"{what} shifted much from what the model was trained on{most} ({rows}). Right answers "
            "by day say whether the answers suffer from it."
        )
    if some:
        return f"No input has shifted much; {some[0]} has the most ({rows})."
    return f"No input has shifted from what the model was trained on ({rows})."
