"""What a watchdog keeps on Supabase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from typing import Any

from ml_pipeline.alerts import DailyAccuracy, DecayAlert, LearningCycle, SystemEvent
from ml_pipeline.domain import LookbackWindow
from ml_pipeline.errors import StoreCorrupt
from ml_pipeline.local_tables import time_text
from ml_pipeline.local_watch import cycle_of, day_of, day_row
from ml_pipeline.supabase_tables import from_array, from_json, to_json
from ml_pipeline.supabase_transport import Project

Row = Mapping[str, Any]


def _rows(answer: object, function: str) -> list[Row]:
    if not isinstance(answer, list) or not all(isinstance(row, Mapping) for row in answer):
        raise StoreCorrupt(f"{function} answered {type(answer).__name__}, not an array of rows.")
    return answer


class SupabaseWatch:
    """`WatchLedger` by database functions."""

    _project: Project

    def sum_days(
        self, window: LookbackWindow, *, model_name: str, confidence_threshold: float
    ) -> list[DailyAccuracy]:
        """Labelled events of the window, summed by UTC day and model."""
        rows = self._project.call(
            "sum_evaluations_by_day",
            p_model_name=model_name,
            p_start=time_text(window.start),
            p_end=time_text(window.end),
            p_confidence=float(confidence_threshold),
        )
        return [day_of(row, model_name) for row in _rows(rows, "sum_evaluations_by_day")]

    def keep_days(self, days: Sequence[DailyAccuracy], *, now: datetime) -> None:
        """Write rows of `prediction_accuracy_daily`; later sums replace earlier ones."""
        self._project.call(
            "keep_daily_accuracy", p_days=[day_row(day) for day in days], p_now=time_text(now)
        )

    def list_days(self, *, model_name: str, since: date) -> list[DailyAccuracy]:
        """The rows from that day on, by day and model."""
        rows = self._project.call(
            "list_daily_accuracy", p_model_name=model_name, p_since=since.isoformat()
        )
        return [
            day_of({**row, **(row.get("details") or {})}, model_name)
            for row in _rows(rows, "list_daily_accuracy")
        ]

    def open_alert(self, alert: DecayAlert) -> DecayAlert:
        """Add an open alert, unless one of its cause is open; return the one that is."""
        row = self._project.call("open_decay_alert", p_alert=to_json(alert))
        return from_json(DecayAlert, row)

    def change_alert(self, alert: DecayAlert, *, seen: datetime) -> None:
        """Write an alert anew if it was last changed at `seen`."""
        self._project.call(
            "change_decay_alert", by_id=True, p_alert=to_json(alert), p_seen=time_text(seen)
        )

    def list_alerts(
        self, *, model_name: str, open_only: bool = False, limit: int = 100
    ) -> list[DecayAlert]:
        """Alerts, newest first."""
        rows = self._project.call(
            "list_decay_alerts", p_model_name=model_name, p_open_only=open_only, p_limit=limit
        )
        return from_array(DecayAlert, rows)

    def record_event(self, event: SystemEvent) -> str:
        """Keep what happened; return the table: `system_events`, else `learning_events`."""
        facts = asdict(event) | {"at": time_text(event.at), "metadata": dict(event.metadata)}
        answer = self._project.call("record_system_event", p_event=facts)
        (row,) = _rows(answer, "record_system_event")
        return str(row["table"])

    def learning_cycles(self, *, model_name: str, limit: int) -> list[LearningCycle]:
        """The latest learning cycles with a rate, newest first."""
        rows = self._project.call("list_learning_cycles", p_model_name=model_name, p_limit=limit)
        return [cycle_of(row) for row in _rows(rows, "list_learning_cycles")]

    def take_lease(self, name: str, *, holder: str, now: datetime, until: datetime) -> bool:
        """Take or renew a lease; False when another holder's has not run out."""
        taken = self._project.call(
            "take_lease",
            p_name=name,
            p_holder=holder,
            p_now=time_text(now),
            p_until=time_text(until),
        )
        if not isinstance(taken, bool):
            raise StoreCorrupt(f"take_lease answered {type(taken).__name__}.")
        return taken

    def drop_lease(self, name: str, *, holder: str) -> None:
        """Give the lease back, if it is the holder's."""
        self._project.call("drop_lease", p_name=name, p_holder=holder)
