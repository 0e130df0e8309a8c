"""Outcomes from a file or a flag: read, matched with their predictions, recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.csv_file import CsvFile
from ml_pipeline.errors import DataError, StoreDenied, StoreUnavailable
from ml_pipeline.evaluation_log.logger import EvaluationLogger
from ml_pipeline.evaluation_log.recording.parsed import (
    KEYS,
    OutcomeReport,
    ParsedOutcome,
)
from ml_pipeline.evaluation_log.recording.settling import (
    CORRECT_HINT,
    Correction,
    Work,
    clash_of,
    refusal_of,
    refusal_of_another,
    settle,
)
from ml_pipeline.store.contract import EvaluationLog
from ml_pipeline.store.event_row import (
    EVENT_COLUMNS,
    UNCERTAIN,
    EventRow,
    brings_outcome,
    is_of_model,
    utc_text,
)
from ml_pipeline.store.inputs.columns import listed
from ml_pipeline.store.inputs.labels import Labels, id_cell, is_blank
from ml_pipeline.store.inputs.times import NO_ZONE, is_no_time, read_time, time_hint

ASKED_AT_MOST = 1000
_DAY_WIDTH = len("2026-03-14")


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
        cells = {
            name: id_cell(row[place]) if name in KEYS else row[place].strip()
            for name, place in places.items()
        }
        if is_blank(cells["actual_result"]) and labels.find(cells["actual_result"]) is None:
            blank.append(number)
        else:
            outcome = read_outcome(f"{path}, line {number}", cells, now, tolerance)
            outcomes.append(replace(outcome, line=number))
    if blank and not outcomes:
        raise DataError(
            f"{path}, line {blank[0]}: no id or no outcome, and so in all {len(blank)} rows.",
            hint="Nothing was recorded. Rows without an outcome may stand beside others.",
        )
    return outcomes, len(blank)


def _columns(file: CsvFile, settings: Settings) -> dict[str, int]:
    """Which column holds what."""
    names = (*KEYS, "actual_result", "evaluated_at")
    spellings = {name: settings.spellings(name) for name in names}
    spellings["actual_result"].append(settings.data.target)
    found = file.places(spellings)
    if "actual_result" not in found or not any(key in found for key in KEYS):
        raise DataError(
            f"{file.path} needs the columns event_id or {settings.data.id_column}, and "
            f"actual_result or {settings.data.target}.",
            hint=f"It has: {listed(file.names)}.",
        )
    return found


def read_outcome(
    where: str, cells: Mapping[str, str], now: datetime, tolerance: timedelta
) -> ParsedOutcome:
    """An outcome in cells called as `KEYS`, actual_result and evaluated_at (missing or empty: now).

    Raises DataError naming where it stands.
    """
    key = next((key for key in KEYS if cells.get(key)), "")
    if not key:
        raise DataError(f"{where}: no id or no outcome.")
    outcome = ParsedOutcome(
        key=key, value=cells[key], actual=cells["actual_result"], known_at=now, span=tolerance
    )
    if is_no_time(cells.get("evaluated_at", "")):
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
    span = _span(cells["evaluated_at"], known_at)
    return replace(outcome, known_at=known_at, span=span, is_dated=True)


def _span(text: str, moment: datetime) -> timedelta:
    """How long the day, minute or second is that the text names."""
    if len(text) <= _DAY_WIDTH:
        return timedelta(days=1)
    if moment.microsecond:
        return timedelta(0)
    return timedelta(seconds=1) if moment.second else timedelta(minutes=1)


def record(  # noqa: PLR0913 - two places, and what is looked for
    logger: EvaluationLogger,
    store: EvaluationLog | None,
    outcomes: Sequence[ParsedOutcome],
    settings: Settings,
    *,
    correction: Correction | None = None,
    since: int = 0,
) -> OutcomeReport:
    """Write the outcomes to the CSV and to the store; unknown and contradicting ones are listed.

    An outcome by match is that of every prediction of it that was made before it was known. One
    that contradicts what stands replaces it with a `correction`, else it is refused. Of the CSV
    what stands from the byte `since` on is searched: the store has what is before it. All of it
    is while the store is away.
    """
    report = OutcomeReport()
    work = Work(labels=Labels.of(settings.data), report=report, correction=correction)
    ids = _ids(outcomes)
    search = partial(logger.csv.find, ids["event_ids"], ids["match_ids"])
    events, behind = _find(search, since, store, outcomes, settings.model_name, work)
    found: dict[tuple[str, object], list[EventRow]] = {}
    for row in events.values():
        for key in KEYS:
            found.setdefault((key, row[key]), []).append(row)
    # An earlier outcome first, whatever the order of the lines: it is that of earlier predictions.
    for outcome in sorted(outcomes, key=attrgetter("known_at")):
        rows = found.get((outcome.key, outcome.value), [])
        own = [row for row in rows if is_of_model(row, settings.model_name)]
        if not rows:
            report.unknown.append({outcome.key: outcome.value, "actual_result": outcome.actual})
        elif not own:
            name = settings.model_name
            report.refused += [refusal_of_another(row, outcome.actual, name) for row in rows]
        settle(work, own, outcome)
    for event_id, clashing in work.clashing.items():
        del work.fresh[event_id]
        report.refused.append(clash_of(events[event_id], clashing))
    _write(logger, work, events, behind)
    return report


def _write(
    logger: EvaluationLogger,
    work: Work,
    events: Mapping[str, EventRow],
    behind: Mapping[str, EventRow],
) -> None:
    newer = [row for event_id, row in behind.items() if event_id not in work.fresh]
    refused = set(logger.write_outcomes([*work.fresh.values(), *newer]))
    for event_id, row in work.fresh.items():
        if event_id in refused:
            actual = str(row["actual_result"])
            refusal = refusal_of(row, None, actual, "The store has another outcome.")
            work.report.refused.append({**refusal, "hint": CORRECT_HINT})
            continue
        if events[event_id]["actual_result"] is None:
            work.report.recorded += 1
        else:
            work.report.corrected += 1
        work.report.correct += row["accuracy"] == 1.0
        work.report.uncertain += row["prediction"] == UNCERTAIN


def _ids(outcomes: Sequence[ParsedOutcome]) -> dict[str, set[str]]:
    """What outcomes are of, by the names of `find`."""
    return {
        f"{key}s": {outcome.value for outcome in outcomes if outcome.key == key} for key in KEYS
    }


def _find(  # noqa: PLR0913, PLR0917 - two places, and what is looked for
    search: Callable[..., dict[str, EventRow]],
    since: int,
    store: EvaluationLog | None,
    outcomes: Sequence[ParsedOutcome],
    model_name: str,
    work: Work,
) -> tuple[dict[str, EventRow], dict[str, EventRow]]:
    """Events of the CSV and of the store, and those whose outcome the CSV lacks.

    Several machines may have predicted one match, each with a CSV of its own, so the store is asked
    for the predictions of every match; and for events, since somebody may have settled or corrected
    them there: of very many only for those whose outcome would change. While it is away the CSV
    does where it knows every id.
    """
    events, ids = search(since=since), _ids(outcomes)
    missing = ids["event_ids"] - events.keys()
    unsure = ids["event_ids"]
    if len(unsure) > ASKED_AT_MOST:
        unsure = missing | {
            outcome.value
            for outcome in outcomes
            if outcome.value in events
            and (recorded := events[outcome.value]["actual_result"]) is not None
            and (work.correction is not None or work.labels.find(outcome.actual) != recorded)
        }
    if store is None or not (unsure or ids["match_ids"]):
        return events, {}
    try:
        stored = store.find_events(
            model_name=model_name, event_ids=unsure, match_ids=ids["match_ids"]
        )
    except (StoreUnavailable, StoreDenied) as error:
        if since:
            events = search()
            missing = ids["event_ids"] - events.keys()
        if missing or ids["match_ids"] - {
            row["match_id"] for row in events.values() if is_of_model(row, model_name)
        }:
            raise
        work.report.away = error.message
        return events, {}
    behind: dict[str, EventRow] = {}
    for row in map(_row_of_record, stored.to_dict("records")):
        event_id = str(row["event_id"])
        mine = events.get(event_id)
        if mine is None:
            events[event_id] = row
        elif brings_outcome(row, mine):
            events[event_id] = behind[event_id] = row
    # Whose the others are is said; of very many unknown ids, of the first ones.
    unknown = sorted(ids["event_ids"] - events.keys())[:ASKED_AT_MOST]
    for event_id, name in (store.models_of_events(unknown) if unknown else {}).items():
        row = dict.fromkeys(EVENT_COLUMNS)
        events[event_id] = {**row, "event_id": event_id, "model_name": name}
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
