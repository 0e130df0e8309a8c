"""Outcomes of runs and states of models as people say them, with the colour of each."""

from __future__ import annotations

from typing import Final

from ml_pipeline.store.records import ModelState, Outcome, RetrainingRun, RunStatus

_OUTCOMES: Final = {
    Outcome.PROMOTED: ("promoted", "green"),
    Outcome.REJECTED: ("rejected", "yellow"),
    Outcome.AWAITING_APPROVAL: ("awaiting approval", "yellow"),
    Outcome.SKIPPED_INSUFFICIENT_ERRORS: ("skipped, few errors", "default"),
    Outcome.SKIPPED_NO_NEW_DATA: ("skipped, nothing new", "default"),
    Outcome.FAILED: ("failed", "red"),
}
_STATES: Final = {ModelState.CHAMPION: "green", ModelState.AWAITING: "yellow"}


def outcome_of(run: RetrainingRun) -> tuple[str, str]:
    """How a run ended, or its status while it has not, and a colour."""
    if run.outcome is None:
        return str(run.status), "red" if run.status is RunStatus.FAILED else "cyan"
    return _OUTCOMES[run.outcome]


def state_of(state: str) -> tuple[str, str]:
    """The state of a model, and a colour."""
    return state.replace("_", " "), _STATES.get(ModelState(state), "default")
