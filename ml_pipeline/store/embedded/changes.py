"""Corrected and erased events in the embedded store."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import date
from typing import Any

from ml_pipeline.store.embedded.database import Connection, Database
from ml_pipeline.store.inputs.changes import id_hash
from ml_pipeline.store.rows import json_text

_CHANGES_PER_DAY = (
    "SELECT day, count(*) AS changes FROM evaluation_log_changes WHERE model_name = ? GROUP BY 1"
)
_EVENTS = (
    "model_name = :model_name AND (event_id IN (SELECT value FROM json_each(:event_ids)) "
    "OR match_id IN (SELECT value FROM json_each(:match_ids)))"
)
_LABELS = (
    "model_name = :model_name AND (id IN (SELECT value FROM json_each(:event_ids)) "
    "OR id IN (SELECT value FROM json_each(:match_ids)) "
    "OR json_extract(metadata, '$.event_id') IN (SELECT value FROM json_each(:event_ids)) "
    "OR json_extract(metadata, '$.match_id') IN (SELECT value FROM json_each(:match_ids)) "
    "OR json_extract(metadata, '$.id') IN (SELECT value FROM json_each(:event_ids) "
    "UNION ALL SELECT value FROM json_each(:match_ids)))"
)
_NOTE_DAYS = (
    "INSERT INTO evaluation_log_changes (model_name, day, kind) "  # noqa: S608 - constants
    "SELECT model_name, substr(known_at, 1, 10), 'erased' FROM evaluation_log "
    f"WHERE {_EVENTS} AND actual_result IS NOT NULL"
)
_KEEP_HASH = (
    "INSERT INTO evaluation_log_erased (event_hash, model_name) VALUES (?, ?) "
    "ON CONFLICT DO NOTHING"
)
_NAMING = (
    "SELECT id FROM model_retraining_runs WHERE model_name = :model_name AND EXISTS ("
    "SELECT 1 FROM json_each(:ids) AS name WHERE instr(details, name.value) > 0 "
    "OR instr(coalesce(error_message, ''), name.value) > 0 "
    "OR instr(coalesce(outcome_reason, ''), name.value) > 0) ORDER BY id"
)


class LocalChanges:
    """`LogChanges` on SQLite."""

    _database: Database

    def count_changes(self, *, model_name: str) -> dict[date, int]:
        """How often labelled events were changed, per first UTC day that it touched."""
        with self._database.reading() as db:
            rows = db.execute(_CHANGES_PER_DAY, (model_name,)).fetchall()
        return {date.fromisoformat(row["day"]): row["changes"] for row in rows}

    def erase_events(
        self,
        *,
        model_name: str,
        event_ids: Collection[str],
        match_ids: Collection[str],
        dry_run: bool = False,
    ) -> dict[str, int]:
        """Erase events and labels; return how many rows of which table."""
        values = {
            "model_name": model_name,
            "event_ids": json.dumps(sorted(event_ids)),
            "match_ids": json.dumps(sorted(match_ids)),
        }
        with self._database.writing() as db:
            found = [
                row["event_id"]
                for row in db.execute(
                    f"SELECT event_id FROM evaluation_log WHERE {_EVENTS}",  # noqa: S608
                    values,
                )
            ]
            labels = db.execute(f"SELECT count(*) FROM ml_data WHERE {_LABELS}", values)  # noqa: S608
            counts = {"evaluation_log": len(found), "ml_data": int(labels.fetchone()[0])}
            if not dry_run:
                _erase(db, values, {*event_ids, *found}, model_name)
        return counts

    def erased_events(self) -> frozenset[str]:
        """The hashes of all erased ids."""
        with self._database.reading() as db:
            rows = db.execute("SELECT event_hash FROM evaluation_log_erased").fetchall()
        return frozenset(row["event_hash"] for row in rows)

    def runs_that_name(self, *, model_name: str, ids: Collection[str]) -> list[str]:
        """The runs in whose rows one of the ids stands somewhere."""
        values = {"model_name": model_name, "ids": json.dumps(sorted(ids))}
        with self._database.reading() as db:
            return [row["id"] for row in db.execute(_NAMING, values)]

    def redact_run(
        self,
        run_id: str,
        *,
        details: Mapping[str, Any],
        error_message: str | None,
        outcome_reason: str | None,
    ) -> None:
        """Write what a run's row says anew."""
        with self._database.writing() as db:
            db.execute(
                "UPDATE model_retraining_runs SET details = ?, error_message = ?, "
                "outcome_reason = ? WHERE id = ?",
                (json_text(details, "details"), error_message, outcome_reason, run_id),
            )


def _erase(db: Connection, values: Mapping[str, str], ids: set[str], model_name: str) -> None:
    db.executemany(_KEEP_HASH, [(id_hash(event_id), model_name) for event_id in sorted(ids)])
    db.execute(_NOTE_DAYS, values)
    db.execute(f"DELETE FROM evaluation_log WHERE {_EVENTS}", values)  # noqa: S608 - constants
    db.execute(f"DELETE FROM ml_data WHERE {_LABELS}", values)  # noqa: S608 - constants
