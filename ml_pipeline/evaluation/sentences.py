"""What the gate says to people: what happened, on how many results, how sure, and what now.

The figures of the statistics stand in the sentences of the checks; these are for readers who know
the product, not the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ml_pipeline.evaluation.ledger import Bounds, PairedGain

APPROVE: Final = "Approve it with `models promote ID`."
STAYS: Final = "The model that serves stays."
STEPS_BACK: Final = "The approved model serves meanwhile; learning goes on."
NONE_SERVES: Final = "No model serves until one passes."


@dataclass(frozen=True, kw_only=True, slots=True)
class Sides:
    """What the two models of a comparison, and one of the results they share, are called."""

    new: str
    old: str
    result: str


UPDATE: Final = Sides(new="the updated model", old="the approved one", result="new result")
NEW_BASE: Final = Sides(new="the new model", old="the model that serves", result="unseen result")
FIRST: Final = Sides(new="the first model", old="", result="held-out result")


def counted(count: int, thing: str) -> str:
    """`1 day`, `1,200 days`."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def percent(share: float) -> str:
    """A share as people write it."""
    return f"{100 * share:.1f} %"


def compared(gain: PairedGain, bounds: Bounds, sides: Sides, *, least: float = 0.0) -> str:
    """How the new model did beside the old one, and whether that may be chance.

    A loss of `least` nats or less does not count.
    """
    verb, sure = "did as well as", "the difference is within noise"
    if bounds.lower > 0:
        verb, sure = "did better than", "more than noise explains"
    elif bounds.upper < -least:
        verb, sure = "did worse than", "more than noise explains"
    elif bounds.upper < 0:
        sure = "the difference is too small to count"
    return f"{_place(gain, sides)} {sides.new} {verb} {sides.old} ({_shares(gain, bounds)}{sure})"


def not_better(gain: PairedGain, bounds: Bounds, sides: Sides) -> str:
    """How a model fell short that had to be better."""
    if bounds.upper < 0:
        return compared(gain, bounds, sides)
    return (
        f"{_place(gain, sides)} {sides.new} has not shown that it is better than {sides.old} "
        f"({_shares(gain, bounds)}the difference is within noise)"
    )


def _place(gain: PairedGain, sides: Sides) -> str:
    return f"on {_results(gain, sides)}"


def _results(gain: PairedGain, sides: Sides) -> str:
    """The results, and how many entities they belong to where one has several."""
    of = "" if gain.units == gain.rows else f" of {counted_entities(gain.units)}"
    return counted(gain.rows, sides.result) + of


def counted_entities(count: int) -> str:
    """`1 entity`, `30 entities`: a match, a customer, whatever has one id and several rows."""
    return "1 entity" if count == 1 else f"{count:,} entities"


def _shares(gain: PairedGain, bounds: Bounds) -> str:
    """Both shares of right predictions, where they are known.

    What is judged are the probabilities: they may have become better while fewer labels were
    right, and a reader who sees the shares alone would not understand the verdict.
    """
    if gain.right is None:
        return ""
    old, new = gain.right
    text = f"{percent(new)} against {percent(old)} right"
    if bounds.lower > 0 and new < old:
        text += ", yet its probabilities fit better"
    elif bounds.upper < 0 and new > old:
        text += ", yet its probabilities fit worse"
    return text + "; "


def too_few(gain: PairedGain, sides: Sides) -> str:
    """That the results do not carry a comparison."""
    return (
        f"{_results(gain, sides)} on {counted(gain.nights, 'day')} "
        f"{'is' if gain.rows == 1 else 'are'} too few to compare {sides.new} with {sides.old}"
    )


def missing(gain: PairedGain, *, rows: int, days: int) -> str:
    """How much more is needed to judge; results of one entity count once."""
    lacking = [
        counted(count, thing)
        for count, thing in (
            (rows - gain.units, "more result"),
            (days - gain.nights, "more day"),
        )
        if count > 0
    ]
    is_one = len(lacking) == 1 and lacking[0].startswith("1 ")
    return f"{' and '.join(lacking)} {'is' if is_one else 'are'} needed"


def headline(start: str, clause: str, then: str = "") -> str:
    """Return `Promoted: on 511 new results …. Then this.`."""
    return f"{start}: {clause}." + (f" {then}" if then else "")


def joined(clauses: Sequence[str], sides: Sides) -> str:
    """Clauses on one model: it is named in the first and `it` in the others.

    Each holds `{it}` where the model stands.
    """
    first, *rest = clauses
    return "; ".join([first.format(it=sides.new), *(clause.format(it="it") for clause in rest)])


def capital(clause: str) -> str:
    """The clause as a sentence of its own."""
    return clause[0].upper() + clause[1:] + "."
