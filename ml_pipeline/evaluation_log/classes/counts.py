"""Results by day and class: how many there were, and how many were answered right."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassCount:
    """Results that became known on a UTC day, of one class.

    `results` were of the class, `answered` of these without UNCERTAIN, `right` of these with the
    class itself. `named` counts the answers that named the class, whatever happened.
    """

    day: date
    label: str
    results: int
    answered: int
    named: int
    right: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= min(self.answered, self.named) or self.answered > self.results:
            message = f"{self.right} right, {self.named} named, {self.answered} of {self.results}"
            raise ValueError(message)
