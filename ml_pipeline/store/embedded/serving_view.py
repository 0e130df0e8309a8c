"""The embedded store as a prediction needs it: which model serves, its file, and the log.

The whole store is `embedded.store`; this view of it loads in a fraction of the time and keeps one
connection open.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from operator import itemgetter

from ml_pipeline.errors import NotFound, StoreCorrupt
from ml_pipeline.store.embedded.database import Connection, HeldConnection
from ml_pipeline.store.event_row import (
    WRITTEN_EVENT_COLUMNS,
    brings_outcome,
    brings_probabilities,
    contradicts,
    refuse_early_outcomes,
    was_corrected,
)
from ml_pipeline.store.serving_view import ServedModel, ServingView

_MODEL = (
    "SELECT model_id, algorithm, state, created_at, confidence_threshold, metrics, lineage "
    "FROM model_metadata WHERE model_name = ?"
)


class LocalServingView(ServingView):
    """One folder. Not for two threads at once."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)
        self._held = HeldConnection(os.path.join(self.directory, "store.db"))

    def champion(self, model_name: str) -> ServedModel | None:
        """The model that serves; None when there is none."""
        return self._model(f"{_MODEL} AND state = 'champion'", model_name)

    def model(self, model_name: str, model_id: str) -> ServedModel:
        """A registered model. Raises NotFound."""
        found = self._model(f"{_MODEL} AND model_id = ?", model_name, model_id)
        if found is None:
            message = f"There is no model {model_id} of {model_name} in {self.directory}."
            raise NotFound(message, hint="`ml-pipeline models list` shows them.")
        return found

    def _model(self, query: str, *values: str) -> ServedModel | None:
        with self._held.use() as db:
            row = db.execute(query, values).fetchone()
        if row is None:
            return None
        try:
            lineage = json.loads(row["lineage"])
            return ServedModel(
                model_id=row["model_id"],
                algorithm=row["algorithm"],
                state=row["state"],
                created_at=row["created_at"],
                threshold=row["confidence_threshold"],
                metrics=json.loads(row["metrics"]),
                scoring=lineage.get("scoring"),
                calibration=lineage.get("calibration"),
            )
        except (ValueError, AttributeError) as error:
            raise StoreCorrupt(f"The row of a model cannot be read: {error}.") from error

    def scoring_path(self, model: ServedModel) -> str:
        """The path of a model's scoring file; its digest is the reader's to check."""
        if model.scoring is None:
            raise NotFound(f"{model.model_id} has no scoring file.")
        bucket, path = str(model.scoring["bucket"]), str(model.scoring["path"])
        return os.path.join(self.directory, "artifacts", bucket, *path.split("/"))

    def append_rows(self, rows: Sequence[Mapping[str, object]], *, durable: bool = True) -> int:
        """Add events; return how many were new. Raises StoreRefused and writes none.

        What is not `durable` survives a kill, but a power cut only once a later durable call
        returned: that one brings the whole write-ahead log to the disk.
        """
        from ml_pipeline.store.event_row import refuse_other_content

        refuse_early_outcomes(rows)
        with self._held.writing(durable=durable) as db:
            added, refused = insert_rows(db, rows)
            refuse_other_content(refused)
        return added

    def close(self) -> None:
        """Close the connection."""
        self._held.close()


_written = itemgetter(*WRITTEN_EVENT_COLUMNS)
KNOWN_EVENTS = "SELECT * FROM evaluation_log WHERE event_id IN (SELECT value FROM json_each(:ids))"
SET_OUTCOME = (
    "UPDATE evaluation_log SET actual_result = :actual_result, evaluated_at = :evaluated_at "
    "WHERE event_id = :event_id"
)
_CORRECT = (
    "UPDATE evaluation_log SET actual_result = :actual_result, evaluated_at = :evaluated_at, "
    "metadata = :metadata WHERE event_id = :event_id"
)
_SET_PROBABILITIES = (
    "UPDATE evaluation_log SET probabilities = :probabilities WHERE event_id = :event_id"
)
_SETTLED = ("actual_result", "evaluated_at", "event_id")
_CORRECTED = (*_SETTLED, "metadata")


def _insert(names: Sequence[str]) -> str:
    return (
        f"INSERT INTO evaluation_log ({', '.join(names)}) "  # noqa: S608 - constants
        f"VALUES ({', '.join('?' * len(names))}) ON CONFLICT (event_id) DO NOTHING"
    )


_INSERT_EVENT = _insert(WRITTEN_EVENT_COLUMNS)


def insert_rows(db: Connection, rows: Sequence[Mapping[str, object]]) -> tuple[int, list[str]]:
    """Add rows, and take the outcomes that they bring for known events.

    Returns how many were new, and the ids of known events that came with other content.
    """
    if _has_erased(db):
        rows = _without_erased(db, rows)
    before = db.total_changes
    try:
        db.executemany(_INSERT_EVENT, map(_written, rows))
    except sqlite3.OperationalError as error:
        if "no column named probabilities" not in str(error):
            raise
        _insert_without_probabilities(db, rows)
    new = db.total_changes - before
    return new, _settle_known(db, rows) if new < len(rows) else []


def _insert_without_probabilities(db: Connection, rows: Sequence[Mapping[str, object]]) -> None:
    """Into a store that no command of this version has opened yet: `reconcile` brings the rest."""
    names = [name for name in WRITTEN_EVENT_COLUMNS if name != "probabilities"]
    db.executemany(_insert(names), map(itemgetter(*names), rows))


def _has_erased(db: Connection) -> bool:
    try:
        return db.execute("SELECT 1 FROM evaluation_log_erased LIMIT 1").fetchone() is not None
    except sqlite3.OperationalError as error:
        # A store that no command of this version has opened yet: a prediction updates none.
        if "no such table" in str(error):
            return False
        raise


def _without_erased(
    db: Connection, rows: Sequence[Mapping[str, object]]
) -> Sequence[Mapping[str, object]]:
    from ml_pipeline.store.inputs.changes import id_hash

    hashes = [id_hash(str(row["event_id"])) for row in rows]
    query = (
        "SELECT event_hash FROM evaluation_log_erased "
        "WHERE event_hash IN (SELECT value FROM json_each(?))"
    )
    erased = {row["event_hash"] for row in db.execute(query, (json.dumps(hashes),))}
    return [row for row, digest in zip(rows, hashes, strict=True) if digest not in erased]


def _settle_known(db: Connection, rows: Sequence[Mapping[str, object]]) -> list[str]:
    ids = json.dumps([row["event_id"] for row in rows])
    stored = {row["event_id"]: dict(row) for row in db.execute(KNOWN_EVENTS, {"ids": ids})}
    refused = list[str]()
    outcomes, corrections = list[Mapping[str, object]](), list[Mapping[str, object]]()
    answers = list[Mapping[str, object]]()
    for row in rows:
        known = stored[row["event_id"]]
        # A store without that column takes none.
        known.setdefault("probabilities", row["probabilities"])
        if contradicts(row, known):
            refused.append(str(row["event_id"]))
            continue
        if brings_probabilities(row, known):
            known["probabilities"] = row["probabilities"]
            answers.append(row)
        if brings_outcome(row, known):
            taken, names = (corrections, _CORRECTED) if was_corrected(row) else (outcomes, _SETTLED)
            values = {name: row[name] for name in names}
            known |= values
            taken.append(values)
    if answers:
        db.executemany(_SET_PROBABILITIES, answers)
    db.executemany(SET_OUTCOME, outcomes)
    db.executemany(_CORRECT, corrections)
    return refused
