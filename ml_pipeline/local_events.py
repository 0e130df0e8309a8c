"""Rows into the embedded store's table `evaluation_log`; quick to load."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from operator import itemgetter

from ml_pipeline.errors import StoreRefused
from ml_pipeline.local_database import Connection

WRITTEN_EVENT_COLUMNS = (
    "event_id",
    "timestamp",
    "event_type",
    "model_name",
    "model_id",
    "match_id",
    "prediction",
    "confidence",
    "features",
    "metadata",
    "actual_result",
    "evaluated_at",
)
_written = itemgetter(*WRITTEN_EVENT_COLUMNS)
KNOWN_EVENTS = "SELECT * FROM evaluation_log WHERE event_id IN (SELECT value FROM json_each(:ids))"
SET_OUTCOME = (
    "UPDATE evaluation_log SET actual_result = :actual_result, evaluated_at = :evaluated_at "
    "WHERE event_id = :event_id"
)
_INSERT_EVENT = (
    f"INSERT INTO evaluation_log ({', '.join(WRITTEN_EVENT_COLUMNS)}) "  # noqa: S608 - constants
    f"VALUES ({', '.join('?' * len(WRITTEN_EVENT_COLUMNS))}) ON CONFLICT (event_id) DO NOTHING"
)
_EVENT_FACTS = ("timestamp", "model_name", "model_id", "match_id", "prediction", "confidence")

Row = Mapping[str, object]


def insert_rows(db: Connection, rows: Sequence[Row]) -> tuple[int, list[str]]:
    """Add rows, and take the outcomes that they bring for known events.

    Returns how many were new, and the ids of known events that came with other content.
    """
    before = db.total_changes
    db.executemany(_INSERT_EVENT, map(_written, rows))
    new = db.total_changes - before
    return new, _settle_known(db, rows) if new < len(rows) else []


def refuse_other_content(refused: Sequence[str]) -> None:
    """Raise StoreRefused when there are ids of known events that came with other content."""
    if refused:
        message = f"Known events came with other content: {some(refused)}."
        raise StoreRefused(message, hint="Nothing was written.")


def some(ids: Sequence[str]) -> str:
    """A few of the ids, and how many more there are."""
    more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""  # noqa: PLR2004
    return ", ".join(sorted(ids)[:5]) + more


def contradicts(row: Row, stored: Row) -> bool:
    """Whether an event says something else than the stored one. What is missing says nothing."""
    if any(_differs(row[name], stored[name]) for name in _EVENT_FACTS):
        return True
    if stored["actual_result"] is not None and _differs(
        row["actual_result"], stored["actual_result"]
    ):
        return True
    given, known = row["features"], stored["features"]
    return _differs(given, known) and (
        known is None or json.loads(str(given)) != json.loads(str(known))
    )


def _differs(given: object, known: object) -> bool:
    return given is not None and given != known


def _settle_known(db: Connection, rows: Sequence[Row]) -> list[str]:
    ids = json.dumps([row["event_id"] for row in rows])
    stored = {row["event_id"]: dict(row) for row in db.execute(KNOWN_EVENTS, {"ids": ids})}
    refused, outcomes = list[str](), list[Row]()
    for row in rows:
        known = stored[row["event_id"]]
        if contradicts(row, known):
            refused.append(str(row["event_id"]))
        elif known["actual_result"] is None and row["actual_result"] is not None:
            known["actual_result"] = row["actual_result"]
            outcomes.append(row)
    db.executemany(
        SET_OUTCOME,
        [{name: row[name] for name in ("actual_result", "evaluated_at", "event_id")}
         for row in outcomes],
    )  # fmt: skip
    return refused
