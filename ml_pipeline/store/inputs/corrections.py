"""Replace an outcome: the one that stood before is kept in the event's metadata."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from datetime import datetime

from ml_pipeline.config.defaults import CORRECTIONS
from ml_pipeline.store.event_row import (
    CLOCKS_DIFFER,
    EventRow,
    json_cell,
    known_after,
    utc_text,
    with_outcome,
)
from ml_pipeline.store.inputs.outcome_history import former_outcomes, metadata_of
from ml_pipeline.store.records import parse_utc


def corrected(  # noqa: PLR0913 - what stands then, and who says so when
    row: Mapping[str, object],
    actual_result: str,
    evaluated_at: datetime,
    *,
    is_right: bool,
    now: datetime,
    by: str,
) -> EventRow:
    """The whole event again with another outcome; the one that stood goes into its metadata."""
    metadata = metadata_of(row)
    former = {
        "actual_result": row["actual_result"],
        "evaluated_at": row["evaluated_at"],
        "replaced_at": utc_text(now),
        "replaced_by": by,
    }
    metadata[CORRECTIONS] = [*former_outcomes(row), former]
    changed = with_outcome(row, actual_result, evaluated_at, is_right=is_right)
    return {**changed, "metadata": json_cell(metadata, "metadata")}


def kept_time(row: Mapping[str, object], now: datetime) -> datetime:
    """When an outcome became known that corrects the row's: then, as the one that stood.

    Unless that cannot be: before the prediction, or in the future. Then it is `now`. Raises
    InputError for a prediction of the future.
    """
    latest = known_after(row, now)
    try:
        made, known = (parse_utc(str(row[name])) for name in ("timestamp", "evaluated_at"))
    except ValueError:
        return latest
    return known if made <= known <= latest + CLOCKS_DIFFER else latest


def caller() -> str:
    """Who runs this, as `user@host`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = f"uid {os.getuid()}"  # a container's user that has no name
    return f"{user}@{socket.gethostname()}"
