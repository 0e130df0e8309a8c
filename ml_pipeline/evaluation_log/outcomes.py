"""Outcomes from a file or a flag: read, matched with their predictions, recorded."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation_log.logger import EvaluationLogger
from ml_pipeline.store.contract import EvaluationLog
from ml_pipeline.store.event_row import EVENT_COLUMNS, EventRow, utc_text, with_outcome
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.records import EVER, parse_utc

KEYS = ("event_id", "match_id")
COMPLETED, FAILED = "completed", "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedOutcome:
    """An outcome to record; `key` is `event_id` or `match_id`, and `value` the id."""

    key: str
    value: str
    actual: str
    known_at: datetime


@dataclass(kw_only=True, slots=True)
class OutcomeReport:
    """What became of the outcomes; `accuracy` is the mean over those recorded."""

    recorded: int = 0
    already_known: int = 0
    correct: int = 0
    refused: list[dict[str, str | None]] = field(default_factory=list)
    unknown: list[dict[str, str]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON values; `status` is failed when anything was not recorded."""
        return {
            "status": FAILED if self.refused or self.unknown else COMPLETED,
            "recorded": self.recorded,
            "already_known": self.already_known,
            "accuracy": self.correct / self.recorded if self.recorded else None,
            "refused": self.refused,
            "unknown": self.unknown,
        }


def read_outcomes(path: Path, settings: Settings, now: datetime) -> list[ParsedOutcome]:
    """Read a file of outcomes; the column `evaluated_at` may be missing or empty (now).

    Raises DataError naming what is missing or wrong, and in which line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = _columns(path, reader.fieldnames or (), settings)
            return [_line(path, number, row, columns, now) for number, row in enumerate(reader, 2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error


def _columns(path: Path, header: Sequence[str], settings: Settings) -> dict[str, str]:
    """Which column holds what."""
    names = (*KEYS, "actual_result", "evaluated_at")
    found = {
        name: next((s for s in settings.log.spellings(name) if s in header), "") for name in names
    }
    if not found["actual_result"] or not any(found[key] for key in KEYS):
        raise DataError(
            f"{path} needs the columns event_id or match_id, and actual_result.",
            hint=f"It has: {', '.join(header) or 'no header'}.",
        )
    return found


def _line(
    path: Path,
    number: int,
    row: Mapping[str, str | None],
    columns: Mapping[str, str],
    now: datetime,
) -> ParsedOutcome:
    cells = {name: (row.get(column) or "").strip() for name, column in columns.items()}
    key = next((key for key in KEYS if cells[key]), "")
    if not key or not cells["actual_result"]:
        raise DataError(f"{path}, line {number}: no id or no outcome.")
    try:
        known_at = parse_utc(cells["evaluated_at"]) if cells["evaluated_at"] else now
    except ValueError as error:
        raise DataError(f"{path}, line {number}: {error}.") from error
    return ParsedOutcome(
        key=key, value=cells[key], actual=cells["actual_result"], known_at=known_at
    )


def record(
    logger: EvaluationLogger,
    store: EvaluationLog | None,
    outcomes: Sequence[ParsedOutcome],
    settings: Settings,
) -> OutcomeReport:
    """Write the outcomes to the CSV and to the store; unknown and contradicting ones are listed."""
    report = OutcomeReport()
    labels = Labels.of(settings.data)
    ids = {key: {outcome.value for outcome in outcomes if outcome.key == key} for key in KEYS}
    events = _find(logger, store, ids, settings.model_name)
    by_match: dict[object, list[EventRow]] = {}
    for row in events.values():
        by_match.setdefault(row["match_id"], []).append(row)
    fresh: dict[str, EventRow] = {}
    for outcome in outcomes:
        actual = labels.find(outcome.actual)
        if outcome.key == "event_id":
            rows = [events[outcome.value]] if outcome.value in events else []
        else:
            rows = by_match.get(outcome.value, [])
        if not rows:
            report.unknown.append({outcome.key: outcome.value, "actual_result": outcome.actual})
        for row in rows:
            _settle(report, fresh, row, (labels, actual), outcome)
    refused = set(logger.write_outcomes(list(fresh.values())))
    for event_id, row in fresh.items():
        if event_id in refused:
            report.refused.append(_refusal(row, None, str(row["actual_result"])))
        else:
            report.recorded += 1
            report.correct += row["accuracy"] == 1.0
    return report


def _settle(
    report: OutcomeReport,
    fresh: dict[str, EventRow],
    row: EventRow,
    label: tuple[Labels, str | None],
    outcome: ParsedOutcome,
) -> None:
    event_id = str(row["event_id"])
    recorded = fresh.get(event_id, row)["actual_result"]
    labels, actual = label
    if actual is None:
        refusal = _refusal(row, "a label of data.classes", outcome.actual)
        report.refused.append({**refusal, "hint": labels.hint()})
    elif recorded is None:
        is_right = labels.agree(row["prediction"], actual)
        fresh[event_id] = with_outcome(row, actual, outcome.known_at, is_right=is_right)
    elif labels.find(recorded) == actual:
        report.already_known += 1
    else:
        report.refused.append(_refusal(row, str(recorded), actual))


def _refusal(row: EventRow, recorded: str | None, refused: str) -> dict[str, str | None]:
    match_id = None if row["match_id"] is None else str(row["match_id"])
    return {
        "event_id": str(row["event_id"]),
        "match_id": match_id,
        "stands": recorded,
        "given": refused,
    }


def _find(
    logger: EvaluationLogger,
    store: EvaluationLog | None,
    ids: Mapping[str, set[str]],
    model_name: str,
) -> dict[str, EventRow]:
    """Events of the CSV, and of the store what the CSV lacks."""
    events = logger.csv.find(ids["event_id"], ids["match_id"])
    matches = {row["match_id"] for row in events.values()}
    missing = {
        "event_id": ids["event_id"] - events.keys(),
        "match_id": {match for match in ids["match_id"] if match not in matches},
    }
    if store is not None and any(missing.values()):
        for row in _stored(store, missing, model_name):
            events.setdefault(str(row["event_id"]), row)
    return events


def _stored(
    store: EvaluationLog, ids: Mapping[str, set[str]], model_name: str
) -> Iterable[EventRow]:
    for frame in store.read_events(EVER, model_name=model_name, labelled_only=False):
        chosen = frame["event_id"].isin(ids["event_id"]) | frame["match_id"].isin(ids["match_id"])
        yield from map(_row_of_record, frame[chosen].to_dict("records"))


def _row_of_record(record: Mapping[Any, Any]) -> EventRow:
    """A record of a frame of events as a row."""
    row: EventRow = {}
    for name in EVENT_COLUMNS:
        value = record[name]
        # NaN and NaT differ from themselves.
        missing = value is None or value != value  # noqa: PLR0124
        if not missing and name in {"timestamp", "evaluated_at"}:
            value = utc_text(value.to_pydatetime())
        row[name] = None if missing else value
    return row
