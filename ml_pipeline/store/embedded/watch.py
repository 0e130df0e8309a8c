"""What a watchdog keeps in the embedded store."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import date, datetime
from typing import Final

from ml_pipeline.errors import StoreRefused
from ml_pipeline.store.alerts import (
    AnswerCount,
    DailyAccuracy,
    DecayAlert,
    LearningCycle,
    SystemEvent,
)
from ml_pipeline.store.embedded.database import Database
from ml_pipeline.store.embedded.tables import (
    IN_WINDOW,
    find,
    get,
    insert,
    select,
    update,
    within,
)
from ml_pipeline.store.inputs.labels import ANY_LABEL, Labels
from ml_pipeline.store.records import UNCERTAIN, LookbackWindow
from ml_pipeline.store.rows import cycle_of, day_of, day_row, json_text, time_text, to_row

_OPEN: Final = "status IN ('pending', 'acknowledged', 'auto_retrain_triggered')"
# As on PostgreSQL: the loss of the confidence as the chance of being right, clipped.
_SUM_DAYS: Final = f"""
    WITH judged AS MATERIALIZED (
        SELECT substr(known_at, 1, 10) AS day, coalesce(model_id, 'unknown') AS model_id,
               confidence, prediction = '{UNCERTAIN}' AS is_uncertain,
               CASE WHEN accuracy = 1 THEN 1 ELSE agree(prediction, actual_result) END AS is_hit
        FROM evaluation_log
        WHERE actual_result IS NOT NULL AND {IN_WINDOW}
    ), answers AS MATERIALIZED (
        SELECT day, model_id, confidence, is_uncertain,
               NOT is_uncertain AND is_hit AS is_right,
               NOT is_uncertain AND confidence IS NOT NULL AS is_scored,
               CASE WHEN confidence IS NULL THEN NULL
                    ELSE loss_of(CASE WHEN is_hit THEN confidence ELSE 1 - confidence END)
               END AS loss
        FROM judged
    )
    SELECT day, model_id, count(*) AS evaluated, sum(is_right) AS correct,
           sum(is_uncertain) AS uncertain, sum(is_scored) AS scored,
           sum(is_scored AND is_right) AS scored_correct,
           sum(is_scored AND confidence > :threshold) AS confident,
           sum(is_scored AND confidence > :threshold AND NOT is_right) AS confident_errors,
           total(CASE WHEN is_scored THEN confidence END) AS confidence_sum,
           total(CASE WHEN is_scored THEN loss END) AS loss_sum,
           total(CASE WHEN is_scored THEN loss * loss END) AS loss_square_sum
    FROM answers GROUP BY day, model_id ORDER BY day, model_id
"""  # noqa: S608 - constants
# Two halves, each of which an index serves.
_COUNT_ANSWERS: Final = f"""
    SELECT prediction, count(*) AS answers, count(actual_result) AS labelled,
           count(confidence) AS scored, total(confidence) AS confidence_sum
    FROM (
        SELECT prediction, actual_result, confidence FROM evaluation_log
        WHERE actual_result IS NOT NULL AND {IN_WINDOW}
        UNION ALL
        SELECT prediction, actual_result, confidence FROM evaluation_log
        WHERE actual_result IS NULL AND {IN_WINDOW}
    )
    GROUP BY prediction ORDER BY prediction
"""  # noqa: S608 - constants
_KEEP_DAY: Final = """
    INSERT INTO prediction_accuracy_daily
        (model_name, day, model_id, evaluated, correct, uncertain, log_loss, details, updated_at)
    VALUES (:model_name, :day, :model_id, :evaluated, :correct, :uncertain, :log_loss, :details,
            :updated_at)
    ON CONFLICT (model_name, day, model_id) DO UPDATE
    SET evaluated = excluded.evaluated, correct = excluded.correct,
        uncertain = excluded.uncertain, log_loss = excluded.log_loss, details = excluded.details,
        updated_at = excluded.updated_at
"""
_CYCLES: Final = """
    SELECT * FROM (
        SELECT timestamp AS at, accept_rate, total,
               coalesce(model_id, json_extract(metadata, '$.model_id')) AS model_id
        FROM learning_stats WHERE model_name = :model_name AND accept_rate IS NOT NULL
    )
    WHERE :model_ids IS NULL OR model_id IS NULL
       OR model_id IN (SELECT value FROM json_each(:model_ids))
    ORDER BY at DESC LIMIT :limit
"""
_TAKE_LEASE: Final = """
    INSERT INTO leases (name, holder, taken_at, until) VALUES (:name, :holder, :now, :until)
    ON CONFLICT (name) DO UPDATE
    SET holder = excluded.holder, until = excluded.until,
        taken_at = iif(holder = excluded.holder, taken_at, excluded.taken_at)
    WHERE holder = excluded.holder OR until <= :now
"""


def loss_of(chance: float) -> float:
    """Nats lost by giving what happened that chance, clipped to 0.001..0.999."""
    return -math.log(min(max(chance, 0.001), 0.999))


class LocalWatch:
    """`WatchLedger` on the embedded store."""

    _database: Database

    def sum_days(
        self,
        window: LookbackWindow,
        *,
        model_name: str,
        confidence_threshold: float,
        labels: Labels = ANY_LABEL,
    ) -> list[DailyAccuracy]:
        """Labelled events of the window, summed by UTC day and model."""
        values = within(window, model_name) | {"threshold": float(confidence_threshold)}
        with self._database.reading() as db:
            db.create_function("loss_of", 1, loss_of, deterministic=True)
            db.create_function("agree", 2, labels.agree, deterministic=True)
            return [day_of(row, model_name) for row in db.execute(_SUM_DAYS, values)]

    def count_answers(self, window: LookbackWindow, *, model_name: str) -> list[AnswerCount]:
        """Events by their prediction, whether labelled or not; by the time known, or given."""
        with self._database.reading() as db:
            rows = db.execute(_COUNT_ANSWERS, within(window, model_name))
            return [AnswerCount(**dict(row)) for row in rows]

    def keep_days(self, days: Sequence[DailyAccuracy], *, now: datetime) -> None:
        """Write rows of `prediction_accuracy_daily`; later sums replace earlier ones."""
        rows = [day_row(day) | {"updated_at": time_text(now)} for day in days]
        for row in rows:
            row["details"] = json_text(row["details"], "details")
        with self._database.writing() as db:
            db.executemany(_KEEP_DAY, rows)

    def list_days(self, *, model_name: str, since: date) -> list[DailyAccuracy]:
        """The rows from that day on, by day and model."""
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT * FROM prediction_accuracy_daily WHERE model_name = ? AND day >= ? "
                "ORDER BY day, model_id",
                (model_name, since.isoformat()),
            ).fetchall()
        return [day_of(dict(row) | json.loads(row["details"]), model_name) for row in rows]

    def open_alert(self, alert: DecayAlert) -> DecayAlert:
        """Add an open alert, unless one of its cause is open; return the one that is."""
        if not alert.status.is_open:
            message = (
                f"Alert {alert.alert_id} cannot start as {alert.status}; an alert starts open."
            )
            raise StoreRefused(message)
        with self._database.writing() as db:
            known = find(db, DecayAlert, alert.alert_id)
            if known is not None:
                return known
            cause = alert.cause.value
            for found in select(
                db, DecayAlert, f"AND {_OPEN}", model_name=alert.model_name, cause=cause
            ):
                return found
            insert(db, alert)
            return alert

    def change_alert(self, alert: DecayAlert, *, seen: datetime) -> None:
        """Write an alert anew if it was last changed at `seen`."""
        with self._database.writing() as db:
            known = get(db, DecayAlert, alert.alert_id)
            if known.updated_at == seen:
                update(db, alert)
            elif to_row(known) != to_row(alert):
                raise StoreRefused(
                    f"Alert {alert.alert_id} was changed meanwhile and is {known.status} now."
                )

    def list_alerts(
        self, *, model_name: str, open_only: bool = False, limit: int = 100
    ) -> list[DecayAlert]:
        """Alerts, newest first."""
        rest = f"ORDER BY detected_at DESC, id DESC LIMIT {int(limit)}"
        if open_only:
            rest = f"AND {_OPEN} {rest}"
        with self._database.reading() as db:
            return select(db, DecayAlert, rest, model_name=model_name)

    def record_event(self, event: SystemEvent) -> str:
        """Keep what happened; return the table: `system_events`, else `learning_events`."""
        with self._database.writing() as db:
            query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'system_events'"
            is_there = db.execute(query).fetchone() is not None
            table, at = (
                ("system_events", "timestamp") if is_there else ("learning_events", "created_at")
            )
            db.execute(
                f"INSERT INTO {table} (id, event_type, {at}, model_name, message, metadata) "  # noqa: S608
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (event.event_id, event.event_type, time_text(event.at), event.model_name,
                 event.message, json_text(event.metadata, "metadata")),
            )  # fmt: skip
        return table

    def learning_cycles(
        self, *, model_name: str, limit: int, model_ids: Sequence[str] | None = None
    ) -> list[LearningCycle]:
        """The latest learning cycles with a rate, newest first."""
        chosen_ids = None if model_ids is None else json.dumps(list(model_ids))
        values = {"model_name": model_name, "model_ids": chosen_ids, "limit": int(limit)}
        with self._database.reading() as db:
            rows = db.execute(_CYCLES, values).fetchall()
        return [cycle_of(row) for row in rows]

    def take_lease(self, name: str, *, holder: str, now: datetime, until: datetime) -> bool:
        """Take or renew a lease; False when another holder's has not run out."""
        values = {"name": name, "holder": holder, "now": time_text(now), "until": time_text(until)}
        with self._database.writing() as db:
            return db.execute(_TAKE_LEASE, values).rowcount > 0

    def drop_lease(self, name: str, *, holder: str) -> None:
        """Give the lease back, if it is the holder's."""
        with self._database.writing() as db:
            db.execute("DELETE FROM leases WHERE name = ? AND holder = ?", (name, holder))
