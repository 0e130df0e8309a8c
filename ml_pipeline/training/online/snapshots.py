"""States of an online model after its last few nights, from which it can learn on again.

A row that comes late changes every state since its day. Most late rows are of yesterday or the
day before: the states before those stand in the model beside the last one, so that not everything
since the base is learned again. Which one is gone on from changes nothing: each state is what the
rows until then make of the base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ml_pipeline.datasets.fitted_rows import FittedRows
from ml_pipeline.errors import DataError
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.heads.memory import Expert
from ml_pipeline.training.online.experts import size_of
from ml_pipeline.training.online_model import OnlineState

SNAPSHOTS: Final = "snapshots"
# Rows that come later than that are few.
KEPT_NIGHTS: Final = 3
# Bytes; a state of a model with many features is a megabyte, and then the last one alone is kept.
LARGEST: Final = 1 << 20
_RECORD: Final = ("ledger", "votes", "champions")


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A settled state, and the rows of its base that were still to be recognised then."""

    state: OnlineState
    fitted: FittedRows

    @property
    def night(self) -> int:
        """The last day taken in."""
        if self.state.night is None:
            raise ValueError("a state before the first day is the base's")
        return self.state.night


def with_newest(
    kept: Sequence[Snapshot], newest: Snapshot, settled: OnlineState
) -> tuple[Snapshot, ...]:
    """The snapshots to keep beside the `settled` state, which has come after the newest.

    Those with other voters are of no use: the record of the votes is one for all.
    """
    if newest.state.night is None:
        return ()
    same = [one for one in (*kept, newest) if _voters(one.state) == _voters(settled)]
    most = LARGEST // _size(newest.state)
    return tuple(same[-max(1, min(KEPT_NIGHTS, most)) :])


def _size(state: OnlineState) -> int:
    """Bytes of what grows with the features, and with the entities."""
    memory = state.memory
    heads = sum(part.nbytes for part in (*memory.heads, *(memory.precisions or ())))
    heads += sum(part.nbytes for part in state.past.heads)
    return heads + state.entities.nbytes


def _voters(state: OnlineState) -> list[str]:
    return [expert.name for expert in state.memory.experts]


def as_dicts(snapshots: Sequence[Snapshot], settled: OnlineState) -> list[dict[str, Any]]:
    """Plain arrays and values. Of the record of nights only the length: it goes on in the model.

    A snapshot has experts of its own: those of the model have learned the rows that would be
    learned again. The newest ones stay whose experts are small.
    """
    found = []
    for one in _with_small_experts(snapshots, settled):
        plain = one.state.as_dict() | one.fitted.as_dict()
        record = {name: value for name, value in plain.items() if name not in _RECORD}
        experts = [expert.as_dict() for expert in one.state.memory.experts]
        found.append(record | {"nights": len(one.state.ledger), "experts": experts})
    return found


def _with_small_experts(snapshots: Sequence[Snapshot], settled: OnlineState) -> Sequence[Snapshot]:
    known = {id(expert.model) for expert in settled.memory.experts}
    room = LARGEST
    for place in reversed(range(len(snapshots))):
        for expert in snapshots[place].state.memory.experts:
            if id(expert.model) not in known:
                known.add(id(expert.model))
                room -= size_of(expert.model)
        if room < 0:
            return snapshots[place + 1 :]
    return snapshots


def snapshots_of(model: AdaptiveClassifier) -> tuple[Snapshot, ...]:
    """The snapshots that a model carries, the oldest first."""
    line = model.line_ or {}
    return tuple(_snapshot(model, line, plain) for plain in line.get(SNAPSHOTS, ()))


def _snapshot(
    model: AdaptiveClassifier, line: Mapping[str, Any], plain: Mapping[str, Any]
) -> Snapshot:
    nights = int(plain["nights"])
    state = OnlineState.from_dict({**plain, **{name: line[name][:nights] for name in _RECORD}})
    state = state.with_experts_of(model)
    # Before snapshots had experts of their own, they had those of the model.
    experts = plain.get("experts", model.experts_)
    memory = replace(state.memory, experts=tuple(Expert(**expert) for expert in experts))
    return Snapshot(state=replace(state, memory=memory), fitted=FittedRows.from_dict(plain))


def snapshot_after(model: AdaptiveClassifier, night: int) -> Snapshot:
    """The one after that night. Raises DataError when the model carries none."""
    for one in snapshots_of(model):
        if one.night == night:
            return one
    raise DataError(f"The model to fine-tune carries no state as it was after day {night}.")
