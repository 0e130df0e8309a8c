"""What a feature's values are."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """How a feature is read and prepared.

    A `number` is filled in and standardised, a `boolean` is 0 or 1, a `category` a name of which
    a missing one is a level of its own, a `datetime` an instant (its hour, weekday and day).
    """

    NUMBER = "number"
    CATEGORY = "category"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
