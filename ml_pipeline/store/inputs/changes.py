"""What happened to events after they were labelled: the part of the store's contract about it."""

from __future__ import annotations

from datetime import date
from typing import Protocol


class LogChanges(Protocol):
    """Corrected and erased events."""

    def count_changes(self, *, model_name: str) -> dict[date, int]:
        """How often labelled events were changed or erased, per first UTC day that it touched.

        Whoever did it, also by SQL. What learned such a day before learned something else.
        """
        ...
