"""Which rows of days that go on a model has learned, in a few kilobytes however many they are."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

KEPT: Final = 1024
_SIZE: Final = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenRows:
    """How many rows, and `marks`: checksums of their ids, of which the `KEPT` smallest are kept.

    The smallest checksums are an even sample: of up to `KEPT` rows all are known, and of more of
    them a part that is missing in a log tells how many of the others are.
    """

    rows: int
    marks: tuple[int, ...]

    @classmethod
    def of(cls, event_ids: Iterable[str]) -> Self:
        """The rows with those ids."""
        marks = sorted(set(map(_mark, event_ids)))
        return cls(rows=len(marks), marks=tuple(marks[:KEPT]))

    def unlearned(self, event_ids: Iterable[str]) -> int:
        """How many of those rows are not among these.

        Exact when these are at most `KEPT`, or all of them are among the others, as in a log that
        only grows; else an estimate. Never 0 when one of those of which it can be known is new.
        """
        found = set(map(_mark, event_ids))
        if not self.marks:
            return len(found)
        still_there = sum(mark in found for mark in self.marks)
        known = round(self.rows * still_there / len(self.marks))
        is_whole = self.rows <= KEPT
        marks = set(self.marks)
        new = sum(is_whole or mark <= self.marks[-1] for mark in found - marks)
        return max(len(found) - known, new)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `as_json` wrote. Raises ValueError or TypeError for something else."""
        packed = b64decode(stored["marks"], validate=True)
        parts = (packed[at : at + _SIZE] for at in range(0, len(packed), _SIZE))
        return cls(rows=int(stored["rows"]), marks=tuple(int.from_bytes(part) for part in parts))

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        packed = b"".join(mark.to_bytes(_SIZE) for mark in self.marks)
        return {"rows": self.rows, "marks": b64encode(packed).decode()}


def _mark(event_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=_SIZE).digest())
