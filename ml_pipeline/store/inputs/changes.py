"""What happened to events after they were labelled: the part of the store's contract about it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from datetime import date
from typing import Any, Protocol


class LogChanges(Protocol):
    """Corrected and erased events."""

    def count_changes(self, *, model_name: str) -> dict[date, int]:
        """How often labelled events were changed or erased, per first UTC day that it touched.

        Whoever did it, also by SQL. What learned such a day before learned something else.
        """
        ...

    def erase_events(
        self,
        *,
        model_name: str,
        event_ids: Collection[str],
        match_ids: Collection[str],
        dry_run: bool = False,
    ) -> dict[str, int]:
        """Erase events by their ids and of those matches, and the labels that people gave them.

        Returns how many rows of which table went, or would go. Ids stay as hashes, also of events
        that are not there: adding one of them again is no error and adds nothing.
        """
        ...

    def erased_events(self) -> frozenset[str]:
        """The hashes of all erased ids, see `id_hash`."""
        ...

    def runs_that_name(self, *, model_name: str, ids: Collection[str]) -> list[str]:
        """The runs in whose rows one of the ids stands somewhere."""
        ...

    def redact_run(
        self,
        run_id: str,
        *,
        details: Mapping[str, Any],
        error_message: str | None,
        outcome_reason: str | None,
    ) -> None:
        """Write what a run's row says anew, also that of a finished one."""
        ...


def id_hash(event_id: str) -> str:
    """What is kept of an erased event's id: SHA-256 of it in lower case, as hex digits."""
    return hashlib.sha256(event_id.lower().encode()).hexdigest()
