"""Labels that people gave, on their way into `ml_data`: read, matched with what is known, added."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import isfinite
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import NAMESPACE_URL, UUID, uuid5

import pandas as pd

from ml_pipeline.config.kind import Kind
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets import texts
from ml_pipeline.datasets.csv_file import CsvFile, number_hint
from ml_pipeline.datasets.features import LARGEST
from ml_pipeline.errors import DataError, InputError
from ml_pipeline.store.contract import GroundTruth
from ml_pipeline.store.event_row import json_cell, plain_text
from ml_pipeline.store.inputs.cells import read_cell
from ml_pipeline.store.inputs.columns import listed
from ml_pipeline.store.inputs.labels import Labels, id_cell, is_blank
from ml_pipeline.store.inputs.times import NO_ZONE, is_no_time, read_time, time_hint

_NOTHING: Final = "Nothing was added."
# Not all that Python takes for a UUID: it strips braces and `urn:uuid:`, too.
_UUID: Final = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


class LabelStore(GroundTruth, Protocol):
    """Where labels are kept, and the predictions that they may be of."""

    def find_events(
        self, *, model_name: str, event_ids: Collection[str], match_ids: Collection[str]
    ) -> pd.DataFrame:
        """See `EvaluationLog`."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelEntry:
    """One label as a person wrote it; `line` is 0 where it came by flags.

    Without `inputs` (features and text by name) they are those of the logged prediction of `id`.
    """

    id: str
    label: str
    created_at: datetime
    source: str
    inputs: Mapping[str, object] = field(default_factory=dict)
    line: int = 0

    def key(self, model_name: str) -> str:
        """The id of its row: a UUID, made of its own id, else of what is labelled.

        As `rpc('add_label', …)` makes it: see `ml_pipeline_label_id` in SQL.
        """
        if _UUID.fullmatch(self.id):
            return str(UUID(self.id))
        content = self.id or json.dumps(dict(self.inputs), sort_keys=True, ensure_ascii=False)
        return str(uuid5(NAMESPACE_URL, f"ml_pipeline:{model_name}:{content}"))


@dataclass(kw_only=True, slots=True)
class LabelReport:
    """What became of the labels; `filled` rows waited in the table for theirs."""

    added: int = 0
    filled: int = 0
    already_known: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, entry: LabelEntry, reason: str, hint: str) -> None:
        """List a label that is not added."""
        shown = {"line": entry.line or None, "id": entry.id or None, "label": entry.label}
        self.refused.append({**shown, "reason": reason, "hint": hint})

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON values; `status` is failed when anything was refused."""
        return {
            "status": "failed" if self.refused else "completed",
            "added": self.added,
            "filled": self.filled,
            "already_known": self.already_known,
            "refused": self.refused,
        }


def read_label_file(
    path: Path, settings: Settings, *, now: datetime, source: str
) -> tuple[list[LabelEntry], int]:
    """Read a CSV of labels; also returns how many rows have no label yet.

    Its columns are a label, and an id or what is labelled: features by name or as JSON, or the
    text. Raises DataError naming the line of what cannot be read.
    """
    file = CsvFile.opened(path)
    places = _columns(file, settings)
    points = set(file.point_places([places[n] for n in settings.data.features if n in places]))
    labels, blank, entries = Labels.of(settings.data), 0, list[LabelEntry]()
    for line, row in file.records():
        where = f"{path}, line {line}"
        cells = {
            name: row[place].strip().replace(",", ".") if place in points else row[place].strip()
            for name, place in places.items()
        }
        if is_blank(cells["label"]) and labels.find(cells["label"]) is None:
            blank += 1
            continue
        entries.append(_entry(cells, line, where, settings, now=now, source=source))
    if blank and not entries:
        message = f"{path} has no label in any of its {blank} rows."
        raise DataError(message, hint="Rows without a label may stand beside others.")
    return entries, blank


def _entry(  # noqa: PLR0913 - what a line says, and what holds where it says nothing
    cells: Mapping[str, str],
    line: int,
    where: str,
    settings: Settings,
    *,
    now: datetime,
    source: str,
) -> LabelEntry:
    return LabelEntry(
        id=id_cell(cells.get("id", "")),
        label=cells["label"],
        created_at=_moment(cells.get("created_at", ""), where, settings, now),
        source=cells.get("source") or source,
        inputs=_inputs(cells, settings, where),
        line=line,
    )


def _columns(file: CsvFile, settings: Settings) -> dict[str, int]:
    truth, log = settings.ground_truth, settings.log
    spellings = {
        "id": (truth.id_column, "id", *log.spellings("event_id"), *settings.spellings("match_id")),
        "label": (truth.target, "label", settings.data.target, *log.spellings("actual_result")),
        "created_at": ("created_at", truth.time_column or "created_at"),
        "source": ("source",),
        "features": ("features",),
        **{name: (name,) for name in settings.data.inputs},
    }
    found = file.places(spellings)
    has_key = any(name in found for name in ("id", "features", *settings.data.inputs))
    if "label" not in found or not has_key:
        raise DataError(
            f"{file.path} needs a column label, and one called id or the columns of the features.",
            hint=f"It has: {listed(file.names)}.",
        )
    return found


def _inputs(cells: Mapping[str, str], settings: Settings, where: str) -> dict[str, object]:
    """What is labelled: the columns of that name, else what `features` holds."""
    found: dict[str, object] = {}
    if cells.get("features"):
        try:
            value = json.loads(cells["features"])
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise DataError(f"{where}: features is no JSON object.", hint=_NOTHING)
        found.update(value)
    found.update({n: cells[n] for n in settings.data.inputs if not is_blank(cells.get(n, ""))})
    return found


def _moment(text: str, where: str, settings: Settings, now: datetime) -> datetime:
    if is_no_time(text):
        return now
    try:
        moment = read_time(text)
    except ValueError as error:
        hint = f"{_NOTHING} {time_hint(text)}"
        raise DataError(f"{where}: created_at: {error}.", hint=hint) from error
    if moment > now + timedelta(minutes=settings.log.future_tolerance_minutes):
        message = f"{where}: created_at {text} is in the future."
        raise DataError(message, hint=f"{_NOTHING} Correct the line; {NO_ZONE}.")
    return moment


def add_labels(
    store: LabelStore, entries: Sequence[LabelEntry], settings: Settings, *, dry_run: bool
) -> LabelReport:
    """Add the labels that are new; the others are counted, or refused with their reason."""
    report, labels = LabelReport(), Labels.of(settings.data)
    entries = _storable(entries, report)
    keys, known = _row_ids(store, entries, settings)
    meant: dict[str, set[str]] = {}
    for key, entry in zip(keys, entries, strict=True):
        meant.setdefault(key, set()).add(labels.find(entry.label) or "")
    fresh: dict[str, tuple[LabelEntry, str]] = {}
    for key, entry in zip(keys, entries, strict=True):
        label, stands = labels.find(entry.label), known.get(key)
        if label is None:
            report.refuse(entry, f"{entry.label!r} is no label.", labels.hint())
        elif stands is not None and (labels.find(stands) or stands) != label:
            hint = (
                f"Whoever is right: correct the row {key} of ml_data (column label), or leave "
                "this one out."
            )
            report.refuse(entry, f"The label {stands} stands.", hint)
        elif len(meant[key] - {""}) > 1:
            others = ", ".join(sorted(meant[key] - {""}))
            report.refuse(entry, f"It is given several labels: {others}.", "Keep the right one.")
        elif stands is not None or key in fresh:
            report.already_known += 1
        else:
            fresh[key] = entry, label
    rows = _rows(store, fresh, known, settings, report)
    report.filled = sum(row["id"] in known for row in rows)
    report.added = len(rows) - report.filled
    if rows and not dry_run:
        store.add_labels(rows)
    return report


def _storable(entries: Sequence[LabelEntry], report: LabelReport) -> list[LabelEntry]:
    """Those that a table can hold; the others are refused, each alone."""
    kept = list[LabelEntry]()
    for entry in entries:
        try:
            plain_text(entry.id, "id")
            plain_text(entry.source, "source")
            json_cell(entry.inputs, "features")
        except InputError as error:
            report.refuse(entry, error.message, error.hint)
        else:
            kept.append(entry)
    return kept


def _row_ids(
    store: GroundTruth, entries: Sequence[LabelEntry], settings: Settings
) -> tuple[list[str], dict[str, str | None]]:
    """The id of each label's row, and the labels that stand in those that are there.

    Where models share the table, the row that another one has of the same id is not touched.
    """
    name = settings.model_name
    ids = {text for entry in entries for text in (entry.id, entry.key(name)) if text}
    known = store.known_labels(ids)
    if settings.ground_truth.model_column is None:
        return [entry.id if entry.id in known else entry.key(name) for entry in entries], known
    own = store.known_labels(ids, model_name=name)
    others = known.keys() - own.keys()
    keys = [entry.id if entry.id in own else entry.key(name) for entry in entries]
    keys = [
        str(uuid5(NAMESPACE_URL, f"ml_pipeline:{name}:id {key}")) if key in others else key
        for key in keys
    ]
    return keys, store.known_labels(keys)


def _rows(
    store: LabelStore,
    fresh: Mapping[str, tuple[LabelEntry, str]],
    known: Collection[str],
    settings: Settings,
    report: LabelReport,
) -> list[dict[str, Any]]:
    """Rows of `ml_data`; a label of what nobody can find is refused."""
    bare = {entry.id for key, (entry, _) in fresh.items() if not entry.inputs and key not in known}
    logged = _logged(store, bare - {""}, settings.model_name)
    rows = list[dict[str, Any]]()
    for key, (entry, label) in fresh.items():
        inputs = entry.inputs or logged.get(entry.id, {})
        if key not in known and not inputs:
            hint = "Give its features or text as columns, or the id of a logged prediction."
            report.refuse(entry, "Nothing says what it is the label of.", hint)
            continue
        values, reason, hint = checked_inputs(inputs, settings)
        if reason:
            report.refuse(entry, reason, hint)
            continue
        rows.append(
            {
                "id": key, "created_at": entry.created_at, "model_name": settings.model_name,
                "query": values.get("query"), "features": values or None, "label": label,
                "source": entry.source, "metadata": {"id": entry.id} if entry.id else {},
            }
        )  # fmt: skip
    return rows


def _logged(store: LabelStore, ids: Collection[str], name: str) -> dict[str, dict[str, Any]]:
    """The features of the latest prediction of each id, which is that of an event or a match."""
    if not ids:
        return {}
    events = store.find_events(model_name=name, event_ids=ids, match_ids=ids)
    found: dict[str, dict[str, Any]] = {}
    for event in events.sort_values("timestamp").to_dict("records"):
        features = json.loads(event["features"]) if isinstance(event["features"], str) else None
        if isinstance(features, dict):
            found |= {event[key]: features for key in ("event_id", "match_id") if event[key] in ids}
    return found


def checked_inputs(
    inputs: Mapping[str, object], settings: Settings
) -> tuple[dict[str, Any], str, str]:
    """The inputs as JSON has them, and what is wrong with one of them and what to do."""
    values: dict[str, Any] = dict(inputs)
    for name in settings.data.features:
        text = str(values.get(name, "")).strip()
        if values.get(name) is None or is_blank(text):
            values.pop(name, None)
            continue
        kind = settings.data.kind(name)
        if kind is not Kind.NUMBER:
            try:
                _, values[name] = read_cell(kind, values[name], name)
            except InputError as error:
                return {}, error.message, error.hint
            continue
        try:
            # As a prediction takes them: a truth is 1 or 0 where a number is wanted.
            number = float(values[name] if isinstance(values[name], bool) else text)
        except ValueError:
            return {}, f"{name} = {text!r} is not a number.", number_hint(text)
        if not isfinite(number) or abs(number) > LARGEST:
            return {}, f"{name} = {text} is not a finite number.", ""
        values[name] = number
    column = settings.data.text_column
    if column is not None and inputs and (fault := texts.fault(str(values.get(column) or ""))):
        return {}, f"The text {column} {fault}.", ""
    try:
        # As the log keeps them: what no table can hold is refused with its line alone.
        return json.loads(json_cell(values, "features") or "{}"), "", ""
    except InputError as error:
        return {}, error.message, error.hint
