"""Outcomes that were replaced: what stood before is kept in the event's metadata.

`metadata.outcome_corrections` lists the former outcomes, the oldest first, each an object with
`actual_result`, `evaluated_at`, `replaced_at` and `replaced_by`. Of two rows of one event the one
with more of them is the newer one, wherever it comes from: a correction travels as any event does.
The triggers of both stores write the same list when somebody updates an outcome by SQL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ml_pipeline.config.defaults import CORRECTIONS

History = tuple[str | None, ...]


def history(row: Mapping[str, object]) -> History:
    """Every outcome that the event had, one after the other; the last one stands."""
    return (
        *(former["actual_result"] for former in former_outcomes(row)),
        _text(row["actual_result"]),
    )


def is_newer(row: Mapping[str, object], stored: Mapping[str, object]) -> bool:
    """Whether the row corrects what stands in the stored event."""
    mine, theirs = history(row), history(stored)
    return len(mine) > len(theirs) and mine[len(theirs) - 1] == theirs[-1]


def is_older(row: Mapping[str, object], stored: Mapping[str, object]) -> bool:
    """Whether the row holds what was corrected in the stored event since."""
    return is_newer(stored, row)


def former_outcomes(row: Mapping[str, object]) -> list[dict[str, Any]]:
    """The list in the metadata; somebody's own value of that name is none."""
    found = metadata_of(row).get(CORRECTIONS)
    if not isinstance(found, list):
        return []
    return [item for item in found if isinstance(item, dict) and "actual_result" in item]


def metadata_of(row: Mapping[str, object]) -> dict[str, Any]:
    """The metadata as an object; JSON that is none is kept beside the list."""
    cell = row["metadata"]
    if not isinstance(cell, str):
        return dict(cell) if isinstance(cell, Mapping) else {}
    try:
        found = json.loads(cell)
    except ValueError:
        found = cell
    if isinstance(found, dict):
        return found
    return {} if found is None else {"value": found}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
