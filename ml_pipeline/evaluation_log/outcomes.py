"""Outcomes from a file or a flag: read, matched with their predictions, recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.csv_file import CsvFile, listed
from ml_pipeline.errors import DataError, StoreUnavailable
from ml_pipeline.evaluation_log.logger import EvaluationLogger
from ml_pipeline.store.contract import EvaluationLog
from ml_pipeline.store.event_row import EVENT_COLUMNS, EventRow, utc_text, with_outcome
from ml_pipeline.store.inputs.labels import Labels, is_blank
from ml_pipeline.store.inputs.times import NO_ZONE, read_time, time_hint
from ml_pipeline.store.records import parse_utc

KEYS = ("event_id", "match_id")
COMPLETED, FAILED = "completed", "failed"
_DAY_WIDTH = len("2026-03-14")


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedOutcome:
    """An outcome to record; `key` is `event_id` or `match_id`, and `value` the id.

    It became known at `known_at` or less than `span` later: a day names no hour.
    """

    key: str
    value: str
    actual: str
    known_at: datetime
    span: timedelta = timedelta(0)

    def known_for(self, row: EventRow) -> datetime | None:
        """When it was known, for the prediction in that row; None when that was made later."""
        made = _moment(row["timestamp"])
        if made is None or made <= self.known_at:
            return self.known_at
        return made if made < self.known_at + self.span else None


@dataclass(kw_only=True, slots=True)
class OutcomeReport:
    """What became of the outcomes; `accuracy` is the mean over those recorded.

    `away` is why the store could not be asked for predictions that the CSV does not have.
    """

    recorded: int = 0
    already_known: int = 0
    correct: int = 0
    refused: list[dict[str, str | None]] = field(default_factory=list)
    unknown: list[dict[str, str]] = field(default_factory=list)
    away: str = ""

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


def read_outcomes(path: Path, settings: Settings, now: datetime) -> tuple[list[ParsedOutcome], int]:
    """Read a file of outcomes; the column `evaluated_at` may be missing or empty (now).

    Also returns how many rows have no outcome yet. Raises DataError naming what is missing or
    wrong, and in which line.
    """
    tolerance = timedelta(minutes=settings.log.future_tolerance_minutes)
    labels = Labels.of(settings.data)
    file = CsvFile.opened(path)
    places = _columns(file, settings)
    outcomes, blank = list[ParsedOutcome](), list[int]()
    for number, row in file.records():
        cells = {name: row[place].strip() for name, place in places.items()}
        if is_blank(cells["actual_result"]) and labels.find(cells["actual_result"]) is None:
            blank.append(number)
        else:
            outcomes.append(_line(f"{path}, line {number}", cells, now, tolerance))
    if blank and not outcomes:
        raise DataError(
            f"{path}, line {blank[0]}: no id or no outcome, and so in all {len(blank)} rows.",
            hint="Nothing was recorded. Rows without an outcome may stand beside others.",
        )
    return outcomes, len(blank)


def _columns(file: CsvFile, settings: Settings) -> dict[str, int]:
    """Which column holds what."""
    found = dict[str, int]()
    for name in (*KEYS, "actual_result", "evaluated_at"):
        spelt = map(file.place, settings.log.spellings(name))
        place = next((place for place in spelt if place is not None), None)
        if place is not None:
            found[name] = place
    if "actual_result" not in found or not any(key in found for key in KEYS):
        raise DataError(
            f"{file.path} needs the columns event_id or match_id, and actual_result.",
            hint=f"It has: {listed(file.names)}.",
        )
    return found


def _line(
    where: str, cells: Mapping[str, str], now: datetime, tolerance: timedelta
) -> ParsedOutcome:
    key = next((key for key in KEYS if cells.get(key)), "")
    if not key:
        raise DataError(f"{where}: no id or no outcome.")
    outcome = ParsedOutcome(
        key=key, value=cells[key], actual=cells["actual_result"], known_at=now, span=tolerance
    )
    if not cells.get("evaluated_at"):
        return outcome
    try:
        known_at = read_time(cells["evaluated_at"])
    except ValueError as error:
        raise DataError(
            f"{where}: evaluated_at: {error}.", hint=time_hint(cells["evaluated_at"])
        ) from error
    if known_at > now + tolerance:
        raise DataError(
            f"{where}: evaluated_at {cells['evaluated_at']} is in the future; "
            f"it is {utc_text(now)[:19]} UTC.",
            hint=f"Nothing was recorded. Correct the line; {NO_ZONE}.",
        )
    return replace(outcome, known_at=known_at, span=_span(cells["evaluated_at"], known_at))


def _span(text: str, moment: datetime) -> timedelta:
    """How long the day, minute or second is that the text names."""
    if len(text) <= _DAY_WIDTH:
        return timedelta(days=1)
    if moment.microsecond:
        return timedelta(0)
    return timedelta(seconds=1) if moment.second else timedelta(minutes=1)


def _moment(text: object) -> datetime | None:
    try:
        return parse_utc(str(text))
    except ValueError:
        return None


def record(
    logger: EvaluationLogger,
    store: EvaluationLog | None,
    outcomes: Sequence[ParsedOutcome],
    settings: Settings,
) -> OutcomeReport:
    """Write the outcomes to the CSV and to the store; unknown and contradicting ones are listed.

    An outcome by match is that of every prediction of it that was made before it was known.
    """
    report = OutcomeReport()
    labels = Labels.of(settings.data)
    ids = {key: {outcome.value for outcome in outcomes if outcome.key == key} for key in KEYS}
    events, behind = _find(logger, store, ids, settings.model_name, report)
    by_match: dict[object, list[EventRow]] = {}
    for row in events.values():
        if row["model_name"] in {None, settings.model_name}:
            by_match.setdefault(row["match_id"], []).append(row)
    fresh: dict[str, EventRow] = {}
    # An earlier outcome first, whatever the order of the lines: it is that of earlier predictions.
    for outcome in sorted(outcomes, key=attrgetter("known_at")):
        if outcome.key == "event_id":
            rows = [events[outcome.value]] if outcome.value in events else []
        else:
            rows = by_match.get(outcome.value, [])
        if not rows:
            report.unknown.append({outcome.key: outcome.value, "actual_result": outcome.actual})
        _settle(report, fresh, rows, labels, outcome)
    refused = set(logger.write_outcomes([*fresh.values(), *behind.values()]))
    for event_id, row in fresh.items():
        if event_id in refused:
            actual = str(row["actual_result"])
            report.refused.append(_refusal(row, None, actual, "The store has another outcome."))
        else:
            report.recorded += 1
            report.correct += row["accuracy"] == 1.0
    return report


def _settle(
    report: OutcomeReport,
    fresh: dict[str, EventRow],
    rows: Sequence[EventRow],
    labels: Labels,
    outcome: ParsedOutcome,
) -> None:
    """Give the outcome to the rows that it is the outcome of, and note what became of it."""
    actual = labels.find(outcome.actual)
    if actual is None:
        for row in rows:
            reason = f"{outcome.actual!r} is no label."
            refusal = _refusal(row, "a label of data.classes", outcome.actual, reason)
            report.refused.append({**refusal, "hint": labels.hint()})
        return
    due = [(row, moment) for row in rows if (moment := outcome.known_for(row)) is not None]
    if not due:
        for row in rows:
            reason = (
                f"The prediction was made at {row['timestamp']}, after this outcome was known "
                f"({utc_text(outcome.known_at)}): it is not its outcome."
            )
            report.refused.append(_refusal(row, None, actual, reason))
    mine, others = list[EventRow](), list[EventRow]()
    for row, moment in due:
        latest = fresh.get(str(row["event_id"]), row)
        recorded = latest["actual_result"]
        if recorded is None:
            is_right = labels.agree(row["prediction"], actual)
            fresh[str(row["event_id"])] = with_outcome(row, actual, moment, is_right=is_right)
        is_known = recorded is not None and labels.find(recorded) == actual
        report.already_known += is_known
        (mine if is_known or recorded is None else others).append(latest)
    _contradict(report, mine, others, actual)


def _contradict(
    report: OutcomeReport, mine: Sequence[EventRow], others: Sequence[EventRow], actual: str
) -> None:
    """Refuse the outcome for the others, which have another one.

    Not where it is that of a prediction made since: somebody who is predicted again and again has
    an outcome each time, and an earlier prediction keeps its own.
    """
    latest = max((moment for row in mine if (moment := _moment(row["timestamp"]))), default=None)
    for row in others:
        settled = _moment(row["evaluated_at"])
        if latest is None or settled is None or latest <= settled:
            stands = str(row["actual_result"])
            report.refused.append(_refusal(row, stands, actual, f"The outcome {stands} stands."))


def _refusal(
    row: EventRow, recorded: str | None, refused: str, reason: str
) -> dict[str, str | None]:
    match_id = None if row["match_id"] is None else str(row["match_id"])
    return {
        "event_id": str(row["event_id"]),
        "match_id": match_id,
        "stands": recorded,
        "given": refused,
        "reason": reason,
    }


def _find(
    logger: EvaluationLogger,
    store: EvaluationLog | None,
    ids: Mapping[str, set[str]],
    model_name: str,
    report: OutcomeReport,
) -> tuple[dict[str, EventRow], dict[str, EventRow]]:
    """Events of the CSV and of the store, and those whose outcome the CSV lacks.

    Several machines may have predicted one match, each with a CSV of its own, so the store is asked
    for the predictions of every match. While it is away the CSV does where it knows every id.
    """
    events = logger.csv.find(ids["event_id"], ids["match_id"])
    missing = ids["event_id"] - events.keys()
    if store is None or not (missing or ids["match_id"]):
        return events, {}
    try:
        stored = store.find_events(
            model_name=model_name, event_ids=missing, match_ids=ids["match_id"]
        )
    except StoreUnavailable as error:
        if missing or ids["match_id"] - {row["match_id"] for row in events.values()}:
            raise
        report.away = error.message
        return events, {}
    behind: dict[str, EventRow] = {}
    for row in map(_row_of_record, stored.to_dict("records")):
        event_id = str(row["event_id"])
        mine = events.get(event_id)
        if mine is None:
            events[event_id] = row
        elif mine["actual_result"] is None and row["actual_result"] is not None:
            events[event_id] = behind[event_id] = row
    return events, behind


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
