"""A store with something that happens at one of a run's calls: an outage, a kill, somebody else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from ml_pipeline.errors import PipelineError, StoreUnavailable
from ml_pipeline.store.contract import Store
from ml_pipeline.store.serving_view import ServingView


class Killed(BaseException):
    """The end of a process; nothing may catch it."""


class Fault(StrEnum):
    """What happens at a call."""

    AWAY = "the store does not answer"
    AWAY_FOR_GOOD = "the store does not answer from here on"
    ANSWER_LOST = "the store does it, and its answer is lost"
    KILLED_BEFORE = "the process is killed before the call"
    KILLED_AFTER = "the process is killed when the store has done it"
    SOMEBODY_ELSE = "somebody else writes before the call"
    TAKEN_OVER = "the machine sleeps for hours before the call, and another one runs"
    TRAINER_KILLED = "the trainer is killed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """A fault at the `at`-th call."""

    fault: Fault
    at: int


class Door:
    """The store, but for the trouble: `met` at a call, which has `failed` unless it went well."""

    def __init__(
        self,
        store: Store | ServingView,
        trouble: Trouble | None,
        meanwhile: Callable[[], None] = lambda: None,
        die: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._trouble = trouble
        self._meanwhile = meanwhile
        self._die = die
        self._calls = 0
        self._is_dead = False
        self.met: str | None = None
        self.failed: str | None = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the store has
        found = getattr(self._store, name)
        if name == "close" or not callable(found):
            return found
        method = cast("Callable[..., Any]", found)

        def called(*args: object, **kwargs: object) -> object:
            if self._is_dead:
                raise Killed
            self._calls += 1
            trouble = self._trouble
            if trouble is None or not self._is_now(trouble):
                return method(*args, **kwargs)
            self.met = self.met or name
            return self._meet(name, trouble.fault, lambda: method(*args, **kwargs))

        return called

    def _is_now(self, trouble: Trouble) -> bool:
        if trouble.fault is Fault.AWAY_FOR_GOOD:
            return self._calls >= trouble.at
        return self._calls == trouble.at

    def _meet(self, name: str, fault: Fault, call: Callable[[], object]) -> object:
        if fault in {Fault.SOMEBODY_ELSE, Fault.TAKEN_OVER}:
            self._meanwhile()
            return call()
        self.failed = self.failed or name
        if fault in {Fault.ANSWER_LOST, Fault.KILLED_AFTER}:
            # A refusal is an answer, too.
            with suppress(PipelineError):
                call()
        if fault in {Fault.KILLED_BEFORE, Fault.KILLED_AFTER}:
            self._is_dead = True
            self._die()
            raise Killed
        raise StoreUnavailable("The connection is gone.")


def behind(door: Door) -> Store:
    """The door as a store."""
    return cast("Store", door)
