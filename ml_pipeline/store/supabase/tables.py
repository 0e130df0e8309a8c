"""Rows of Supabase: records to JSON objects with the columns' names, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from functools import partial
from typing import Any, Final

import pandas as pd

from ml_pipeline.errors import NotFound, StoreCorrupt
from ml_pipeline.store.alerts import (
    AnswerCount,
    DailyAccuracy,
    DecayAlert,
    LearningCycle,
    SystemEvent,
)
from ml_pipeline.store.inputs.labels import ANY_LABEL, Labels
from ml_pipeline.store.records import LookbackWindow
from ml_pipeline.store.rows import (
    OBJECT_COLUMNS,
    Record,
    Row,
    cycle_of,
    day_of,
    day_row,
    from_row,
    label_row,
    refuse_other_labels,
    require_key,
    require_whole,
    text_frame,
    time_text,
    to_row,
)
from ml_pipeline.store.supabase.transport import Project

_FLOATS: Final = ("confidence_threshold", "baseline", "recent", "threshold")


def to_json(record: Record) -> dict[str, object]:
    """The columns of a record's row. Raises StoreRefused for what JSON cannot hold."""
    row = to_row(record)
    return row | {name: json.loads(str(row[name])) for name in OBJECT_COLUMNS if name in row}


def from_json(kind: type[Record], row: object) -> Record:
    """The record in a row. Raises StoreCorrupt for a row that holds none."""
    if not isinstance(row, Mapping):
        message = f"Supabase answered {type(row).__name__} in place of a row."
        raise StoreCorrupt(message)
    plain: dict[str, Any] = {
        **row,
        **{name: json.dumps(row[name]) for name in OBJECT_COLUMNS if name in row},
    }
    # JSON writes a whole number without its point.
    for name in _FLOATS:
        if isinstance(plain.get(name), int):
            plain[name] = float(plain[name])
    return from_row(kind, plain)


def from_array(kind: type[Record], rows: object) -> list[Record]:
    """The records in an array of rows."""
    if not isinstance(rows, list):
        message = f"Supabase answered {type(rows).__name__} in place of an array of rows."
        raise StoreCorrupt(message)
    return [from_json(kind, row) for row in rows]


# Few enough that the ids of one call fit into an address.
ADDED_AT_ONCE: Final = 100
UUID_TEXT: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def within(window: LookbackWindow, model_name: str) -> dict[str, Any]:
    """The parameters by which functions choose events."""
    start, end = time_text(window.start), time_text(window.end)
    return {"p_model_name": model_name, "p_start": start, "p_end": end}


def chosen(
    window: LookbackWindow, model_name: str, model_ids: Sequence[str] | None
) -> dict[str, Any]:
    """The same with those of models; None chooses the events of every model."""
    models = None if model_ids is None else list(model_ids)
    return within(window, model_name) | {"p_model_ids": models}


class SupabaseTruth:
    """`GroundTruth` by plain table access: the app writes the same rows."""

    _project: Project

    def add_labels(self, rows: Sequence[Row]) -> int:
        """Add labels to `ml_data`; return how many were new.

        All of them are checked first, then written `ADDED_AT_ONCE` at a time.
        """
        written = [label_row(row) for row in rows]
        known = self.known_labels({row["id"] for row in written})
        refuse_other_labels(written, known)
        for at in range(0, len(written), ADDED_AT_ONCE):
            part = written[at : at + ADDED_AT_ONCE]
            self._project.upsert("ml_data", [_as_json(row) for row in part], key="id")
        waiting = {key for key, label in known.items() if label is None}
        filled = self._fill({r["id"]: r["label"] for r in written if r["id"] in waiting})
        return len({row["id"] for row in written} - set(known)) + filled

    def _fill(self, labels: Mapping[str, str | None]) -> int:
        """Give their label to rows that wait for one. Raises StoreRefused for another's."""
        labelled = {key: label for key, label in labels.items() if label is not None}
        for label in dict.fromkeys(labelled.values()):
            ids = [key for key, text in labelled.items() if text == label]
            for at in range(0, len(ids), ADDED_AT_ONCE):
                part = ids[at : at + ADDED_AT_ONCE]
                self._project.update("ml_data", {"label": label}, partial(_waiting, ids=part))
        # Somebody else may have been faster.
        rows = [{"id": key, "label": label} for key, label in labelled.items()]
        refuse_other_labels(rows, self.known_labels(labelled))
        return len(labelled)

    def known_labels(
        self, ids: Collection[str], *, model_name: str | None = None
    ) -> dict[str, str | None]:
        """The label of each id that is in `ml_data`, None for one that waits."""
        valid = sorted({text.lower() for text in ids if UUID_TEXT.fullmatch(text)})
        found: dict[str, str | None] = {}
        for at in range(0, len(valid), ADDED_AT_ONCE):
            part = valid[at : at + ADDED_AT_ONCE]
            rows = self._project.select("ml_data", partial(_with_ids, ids=part))
            found |= {
                str(row["id"]): row["label"]
                for row in rows
                if model_name in {None, row["model_name"]}
            }
        return found

    def read_table(self, table: str, *, key: str) -> Iterator[pd.DataFrame]:
        """Every row of a table in frames, ordered by its key; the count of rows is checked.

        Rows are read page by page, so the server's cap on rows cuts nothing.
        """
        total = self._project.count(table)
        after: object = None
        read = 0
        while page := self._page(table, key, after):
            last = page[-1].get(key)
            if key not in page[0]:
                raise NotFound(
                    f"{table} has no column {key}; it has {', '.join(page[0])}.",
                    hint="Correct ground_truth.id_column in the settings.",
                )
            require_key(table, key, last, after)
            yield text_frame(page)
            read, after = read + len(page), last
        require_whole(table, total, read)

    def _page(self, table: str, key: str, after: object) -> list[Row]:
        return self._project.select(
            table,
            lambda rows: (rows if after is None else rows.gt(key, after)).order(key),
            named=True,
        )


def _waiting(table: Any, *, ids: Sequence[str]) -> Any:  # noqa: ANN401 - the library's own
    return _with_ids(table, ids=ids).is_("label", "null")


def _with_ids(table: Any, *, ids: Sequence[str]) -> Any:  # noqa: ANN401 - the library's own
    return table.in_("id", ids)


def _as_json(row: Row) -> dict[str, Any]:
    objects = {
        name: json.loads(row[name]) for name in ("features", "metadata") if row[name] is not None
    }
    return dict(row) | objects


def _rows(answer: object, function: str) -> list[Row]:
    if not isinstance(answer, list) or not all(isinstance(row, Mapping) for row in answer):
        raise StoreCorrupt(f"{function} answered {type(answer).__name__}, not an array of rows.")
    return answer


class SupabaseWatch:
    """`WatchLedger` by database functions."""

    _project: Project

    def sum_days(
        self,
        window: LookbackWindow,
        *,
        model_name: str,
        confidence_threshold: float,
        labels: Labels = ANY_LABEL,
    ) -> list[DailyAccuracy]:
        """Labelled events of the window, summed by UTC day and model."""
        rows = self._project.call(
            "sum_evaluations_by_day",
            **within(window, model_name),
            p_confidence=float(confidence_threshold),
            p_labels=labels.tables(),
        )
        return [day_of(row, model_name) for row in _rows(rows, "sum_evaluations_by_day")]

    def count_answers(self, window: LookbackWindow, *, model_name: str) -> list[AnswerCount]:
        """Events by their prediction, whether labelled or not; by the time known, or given."""
        rows = self._project.call("count_answers", **within(window, model_name))
        return [AnswerCount(**row) for row in _rows(rows, "count_answers")]

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

    def learning_cycles(
        self, *, model_name: str, limit: int, model_ids: Sequence[str] | None = None
    ) -> list[LearningCycle]:
        """The latest learning cycles with a rate, newest first."""
        name, ids = "list_learning_cycles_of", None if model_ids is None else list(model_ids)
        rows = self._project.call(name, p_model_name=model_name, p_model_ids=ids, p_limit=limit)
        return [cycle_of(row) for row in _rows(rows, name)]

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
            raise StoreCorrupt(
                f"take_lease answered {type(taken).__name__} in place of true or false."
            )
        return taken

    def drop_lease(self, name: str, *, holder: str) -> None:
        """Give the lease back, if it is the holder's."""
        self._project.call("drop_lease", p_name=name, p_holder=holder)
