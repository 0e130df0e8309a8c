"""An outcome as somebody told it, and what became of many."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ml_pipeline.store.event_row import EventRow
from ml_pipeline.store.records import parse_utc

KEYS = ("event_id", "match_id")
COMPLETED, FAILED = "completed", "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedOutcome:
    """An outcome to record; `key` is `event_id` or `match_id`, and `value` the id.

    It became known at `known_at` or less than `span` later: a day names no hour. `is_dated` says
    that somebody gave the time; `line` is where it stands in a file.
    """

    key: str
    value: str
    actual: str
    known_at: datetime
    span: timedelta = timedelta(0)
    is_dated: bool = False
    line: int | None = None

    def known_for(self, row: EventRow) -> datetime | None:
        """When it was known, for the prediction in that row; None when that was made later."""
        made = moment_of(row["timestamp"])
        if made is None or made <= self.known_at:
            return self.known_at
        return made if made < self.known_at + self.span else None


@dataclass(kw_only=True, slots=True)
class OutcomeReport:
    """What became of the outcomes.

    `accuracy` is the share of right answers among those recorded or corrected, as everywhere
    without the `uncertain` ones, in which the model answered UNCERTAIN.
    `away` is why the store could not be asked for predictions that the CSV does not have.
    """

    recorded: int = 0
    corrected: int = 0
    already_known: int = 0
    correct: int = 0
    uncertain: int = 0
    refused: list[dict[str, str | None]] = field(default_factory=list)
    unknown: list[dict[str, str]] = field(default_factory=list)
    away: str = ""

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON values; `status` is failed when anything was not recorded."""
        answered = self.recorded + self.corrected - self.uncertain
        return {
            "status": FAILED if self.refused or self.unknown else COMPLETED,
            "recorded": self.recorded,
            "corrected": self.corrected,
            "already_known": self.already_known,
            "accuracy": self.correct / answered if answered else None,
            "uncertain": self.uncertain,
            "refused": self.refused,
            "unknown": self.unknown,
        }


def moment_of(text: object) -> datetime | None:
    """The time in a cell; None where there is none."""
    try:
        return parse_utc(str(text))
    except ValueError:
        return None
