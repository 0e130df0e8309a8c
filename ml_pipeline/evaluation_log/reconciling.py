"""Compare the CSV log with the store's table event by event, report, and repair what is missing."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice, product
from math import isclose
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from ml_pipeline.errors import DataError, StoreDenied, StoreRefused
from ml_pipeline.evaluation_log import comparison
from ml_pipeline.evaluation_log.comparison import CSV, TABLE
from ml_pipeline.evaluation_log.logger import EvaluationLogger
from ml_pipeline.store.contract import EvaluationLog
from ml_pipeline.store.event_row import EventRow, merge_rows, utc_text
from ml_pipeline.store.inputs.changes import id_hash
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.inputs.outcome_history import history
from ml_pipeline.store.records import parse_utc

log = logging.getLogger("ml_logging")

SHOWN = 100
SENT_AT_ONCE = 1000
FACTS = (
    "timestamp", "model_name", "model_id", "match_id", "prediction", "confidence", "features",
    "probabilities", "metadata",
)  # fmt: skip
# What the table may not have yet, which is no contradiction.
_COMES_LATER = {"actual_result", "evaluated_at", "probabilities"}
COMPARED = sorted((*FACTS, "actual_result", "evaluated_at"))
# Where an event of that kind can be read.
_MISSING = {
    "not_in_csv": TABLE, "not_in_table": CSV, "outcome_not_in_csv": TABLE,
    "outcome_not_in_table": CSV, "answer_not_in_csv": TABLE, "answer_not_in_table": CSV,
}  # fmt: skip


def reconcile(
    logger: EvaluationLogger, store: EvaluationLog | None, *, repair: bool
) -> dict[str, Any]:
    """Compare, repair if asked, and report as plain JSON values.

    Repairing adds what is missing on either side; what differs is listed and never overwritten.
    Lines of events that were erased are counted, and taken out of the CSV when it is repaired.
    Raises DataError for a CSV that cannot be read, and where no memory is enough.
    """
    erased = frozenset[str]() if store is None else store.erased_events()
    lines = _erased_lines(logger, erased)
    if repair and lines:
        logger.erase(lambda row: id_hash(str(row["event_id"])) in erased)
    for memory_mb in comparison.MEMORY_STEPS_MB:
        with (
            TemporaryDirectory(prefix="ml_pipeline_") as folder,
            comparison.open_comparison(folder, memory_mb) as db,
        ):
            try:
                comparison.forget_erased(db, erased)
                _load(db, logger, store, Path(folder))
                report = _report(db, logger, store)
            except duckdb.OutOfMemoryException:
                continue
            report["erased_lines"] = lines
            report["consistent"] = report["consistent"] and (repair or not lines)
            if repair and store is not None:
                report["repaired"] = {
                    "sent_to_table": _fill_table(db, store),
                    "appended_to_csv": _fill_csv(db, logger),
                }
            return report
    raise DataError(
        f"Comparing {logger.csv.path} with the table needs more than {memory_mb} MB.",
        hint="Its lines must be very long, or very many; nothing was changed.",
    )


def _erased_lines(logger: EvaluationLogger, erased: Collection[str]) -> int:
    """How many lines of the CSV are of events that were erased."""
    if not erased or not logger.csv.size():
        return 0
    rows = (row for found, _ in logger.csv.rows_from(0) for row in found)
    return sum(id_hash(str(row["event_id"])) in erased for row in rows)


def _load(
    db: duckdb.DuckDBPyConnection,
    logger: EvaluationLogger,
    store: EvaluationLog | None,
    folder: Path,
) -> None:
    name = logger.model_name
    comparison.read_labels(db, logger.labels)
    parts = () if store is None else store.export_events(folder, model_name=name)
    with ThreadPoolExecutor(max_workers=1) as reader:
        # DuckDB reads what is there while the store writes the next part.
        reading = [reader.submit(comparison.read_csv, db, Path(logger.csv.path), name, folder)]
        reading += [reader.submit(comparison.read_export, db, part) for part in parts]
        for read in reading:
            read.result()
    comparison.join(db)


def _report(
    db: duckdb.DuckDBPyConnection, logger: EvaluationLogger, store: EvaluationLog | None
) -> dict[str, Any]:
    counts = comparison.counts(db)
    if store is None:
        counts["not_in_table"] = counts["outcome_not_in_table"] = 0
    bad = comparison.bad_lines(db)
    differences = _differences(db, logger.labels) if counts["may_differ"] else Differences()
    return {
        "status": "completed",
        "consistent": not (differences.events or bad or any(counts[name] for name in _MISSING)),
        "csv": logger.csv.path,
        "csv_events": comparison.count(db, "NOT not_in_csv"),
        "table_events": None if store is None else comparison.count(db, "NOT not_in_table"),
        "missing_in_table": counts["not_in_table"],
        "missing_in_csv": counts["not_in_csv"],
        "outcome_missing_in_table": counts["outcome_not_in_table"],
        "outcome_missing_in_csv": counts["outcome_not_in_csv"],
        "probabilities_missing_in_table": counts["answer_not_in_table"],
        "probabilities_missing_in_csv": counts["answer_not_in_csv"],
        "differing": differences.events,
        "differing_fields": dict(differences.fields),
        "differences": differences.shown,
        "duplicates": counts["is_double"],
        "bad_lines": bad,
        "pending": counts["is_pending"],
        "models": comparison.models(db),
        "ids": {
            name: comparison.event_ids(db, side, name, SHOWN)
            for name, side in _MISSING.items()
            if counts[name]
        },
    }


@dataclass(kw_only=True, slots=True)
class Differences:
    """What differs: how many events and fields, and the first of them."""

    events: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    shown: list[dict[str, Any]] = field(default_factory=list)

    def add(self, found: Sequence[dict[str, Any]]) -> None:
        """The fields of one event."""
        self.events += 1
        self.fields.update(difference["field"] for difference in found)
        self.shown += found[: SHOWN - len(self.shown)]


def _differences(db: duckdb.DuckDBPyConnection, labels: Labels) -> Differences:
    """What differs, field by field, between the table and each line, or between two lines.

    An event does not differ when JSON, times, numbers or labels are only spelt in another way; the
    others' ids go to the table `different`.
    """
    differences = Differences()
    candidates = comparison.events(db, (TABLE, CSV), "may_differ")
    for events in _batches(candidates):
        ids = list[str]()
        for rows in events:
            if found := _compared(rows, labels):
                differences.add(found)
                ids.append(str(rows[0]["event_id"]))
        comparison.mark_different(db, ids)
    return differences


def _batches(events: Iterator[list[EventRow]]) -> Iterator[list[list[EventRow]]]:
    while batch := list(islice(events, SENT_AT_ONCE)):
        yield batch


def _compared(rows: Sequence[EventRow], labels: Labels) -> list[dict[str, Any]]:
    # What was corrected since says nothing about what stands.
    newest = max(len(history(row)) for row in rows)
    first, *others = (row for row in rows if len(history(row)) == newest)
    found: dict[str, dict[str, Any]] = {}
    for name, row in product(COMPARED, others):
        if _differs(name, row[name], first[name], labels):
            found.setdefault(
                name,
                {"event_id": row["event_id"], "field": name, "csv": row[name],
                 "table": first[name]},
            )  # fmt: skip
    return list(found.values())


def _differs(name: str, line: object, other: object, labels: Labels) -> bool:
    """Whether two values of a field contradict each other; one that is missing does not."""
    if line is None or (other is None and name in _COMES_LATER):
        return False
    if other is None or line == other:
        return other is None
    if name in {"prediction", "actual_result"}:
        return labels.find_answer(line) is None or labels.find_answer(line) != labels.find_answer(
            other
        )
    try:
        return not _SAME.get(name, _never)(str(line), str(other))
    except ValueError:
        return True


def _never(_line: str, _other: str) -> bool:
    return False


def _same_json(line: str, other: str) -> bool:
    return bool(json.loads(line) == json.loads(other))


def _same_time(line: str, other: str) -> bool:
    return parse_utc(line) == parse_utc(other)


def _same_number(line: str, other: str) -> bool:
    return isclose(float(line), float(other), rel_tol=1e-14)


# Fields with several spellings of one value.
_SAME = {
    "features": _same_json, "probabilities": _same_json, "metadata": _same_json,
    "timestamp": _same_time, "evaluated_at": _same_time, "confidence": _same_number,
}  # fmt: skip


def _fill_table(db: duckdb.DuckDBPyConnection, store: EvaluationLog) -> int:
    """Send events and outcomes that only the CSV has; return how many events were taken."""
    missing = comparison.events(
        db, (CSV,), "not_in_table OR outcome_not_in_table OR answer_not_in_table"
    )
    return sum(
        _send(store, [_uniform(row) for rows in events for row in merge_rows(rows).values()])
        for events in _batches(missing)
    )


def _uniform(row: EventRow) -> EventRow:
    times = {name: _time(row[name]) for name in ("timestamp", "evaluated_at")}
    return {**row, **times, "event_type": row["event_type"] or "prediction"}


def _time(cell: object) -> object:
    """A time as the table holds it; what is none stays as it is, and the table refuses it."""
    try:
        return cell and utc_text(parse_utc(str(cell)))
    except ValueError:
        return cell


def _send(store: EvaluationLog, rows: Sequence[EventRow]) -> int:
    """Append what the store does not refuse, and say what it does."""
    if not rows:
        return 0
    try:
        store.append_rows(rows)
    except StoreDenied:
        raise  # no row is at fault
    except StoreRefused as error:
        if len(rows) == 1:
            log.warning("Event %s was not sent: %s", rows[0]["event_id"], error.message)
            return 0
        middle = len(rows) // 2
        return _send(store, rows[:middle]) + _send(store, rows[middle:])
    return len(rows)


def _fill_csv(db: duckdb.DuckDBPyConnection, logger: EvaluationLogger) -> int:
    """Append events and outcomes that only the table has; return how many lines."""
    appended = 0
    missing = comparison.events(
        db, (TABLE,), "not_in_csv OR outcome_not_in_csv OR answer_not_in_csv"
    )
    for events in _batches(missing):
        lines = [row for rows in events for row in rows]
        logger.csv.append(lines)
        appended += len(lines)
    return appended
