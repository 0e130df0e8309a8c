"""The results of a store's log as a table, for `init --from-log`."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

import pandas as pd

from ml_pipeline.datasets.inspection.table import MOST_ROWS, Table, most_rows, thinned
from ml_pipeline.errors import DataError
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import EVER

# Names that no feature has: the log's own.
ACTUAL: Final = "actual_result"
KNOWN_AT: Final = "known_at"
MATCH_ID: Final = "match_id"
_FEATURES: Final = "features"
_READ: Final = ("evaluated_at", "timestamp", MATCH_ID, _FEATURES, ACTUAL)


def read_log(store: Store, model_name: str) -> Table:
    """The results of a model's log: a column for each feature, and the log's own beside them.

    Of a long log rows are read that are spread evenly over it. Raises DataError for a log without
    results, or without features.
    """
    frame, counts = _sample(store, model_name)
    source = f"the log of {model_name}"
    if not counts:
        raise DataError(
            f"There is no result in {source}.",
            hint="Record some with `ml-pipeline outcome`, or set model_name "
            "(ML_PIPELINE__MODEL_NAME) to the one that is logged.",
        )
    features = [_texts(cell) for cell in frame[_FEATURES]]
    names = list(dict.fromkeys(name for row in features for name in row))
    if not names:
        raise DataError(
            f"No event in {source} has features: there is nothing to learn from.",
            hint="Log predictions with their features.",
        )
    columns = pd.DataFrame(features, columns=names, index=frame.index).fillna("")
    taken = {ACTUAL, KNOWN_AT, MATCH_ID}
    own = {
        KNOWN_AT: frame["evaluated_at"]
        .fillna(frame["timestamp"])
        .map(lambda time: time.isoformat()),
        MATCH_ID: frame[MATCH_ID].fillna("").astype(str),
        ACTUAL: frame[ACTUAL].astype(str),
    }
    unusable = {name: "is called like a column of the log" for name in names if name in taken}
    table = pd.DataFrame({**columns.drop(columns=list(unusable)), **own})
    return Table(
        source=source, frame=thinned(table, most_rows(table.shape[1])), rows=counts.total(),
        unusable=unusable, known_counts={ACTUAL: counts},
    )  # fmt: skip


def _sample(store: Store, model_name: str) -> tuple[pd.DataFrame, Counter[str]]:
    """At most twice MOST_ROWS results, spread evenly, and how many have each outcome."""
    counts, kept, step, place = Counter[str](), list[pd.DataFrame](), 1, 0
    for page in store.read_events(EVER, model_name=model_name):
        counts.update(page[ACTUAL].astype(str))
        numbers = pd.RangeIndex(place, place + len(page))
        place += len(page)
        read = page[list(_READ)].set_axis(numbers, axis=0)
        kept.append(read[numbers % step == 0])
        while sum(map(len, kept)) > 2 * MOST_ROWS:
            step *= 2
            kept = [part[part.index % step == 0] for part in kept]
    return (pd.concat(kept) if kept else pd.DataFrame(columns=list(_READ))), counts


def _texts(cell: object) -> dict[str, str]:
    """The features of an event as texts; none where they cannot be read."""
    try:
        found = json.loads(cell) if isinstance(cell, str) else cell
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(name): _text(value) for name, value in found.items()}


def _text(value: Any) -> str:  # noqa: ANN401 - a JSON value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)
