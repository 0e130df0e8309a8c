"""Outcomes and labels that an application sends: recorded as `outcome` and `labels add` do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.label_file import LabelEntry, add_labels
from ml_pipeline.errors import ConfigError, InputError
from ml_pipeline.evaluation_log.outbox.server_log import ServerLogger
from ml_pipeline.evaluation_log.outcomes import read_outcome, record
from ml_pipeline.evaluation_log.recording.settling import CORRECT_HINT, Correction
from ml_pipeline.registry.model_inputs import inputs_of
from ml_pipeline.store.contract import Store
from ml_pipeline.store.event_row import plain_text
from ml_pipeline.store.inputs.labels import is_blank, spelt

WAITING: Final = "waiting"
LABEL_TABLE: Final = "ml_data"
_BY: Final = "serve"
_CORRECT_HINT: Final = (
    'If the recorded outcome is wrong, send it again with "correct": true: it is replaced, and '
    "kept in the event's metadata."
)


def record_outcomes(  # noqa: PLR0913 - two places to write to, and what is said when
    logger: ServerLogger,
    store: Store,
    settings: Settings,
    entries: Sequence[Mapping[str, object]],
    *,
    now: datetime,
    correct: bool,
) -> dict[str, Any]:
    """Record outcomes; each has `event_id` or `match_id`, `actual_result`, maybe `evaluated_at`.

    The report is that of `ml-pipeline outcome`; its `status` is `waiting` where the store is away
    and the outcomes wait in the log. Raises InputError, DataError, StoreError.
    """
    tolerance = timedelta(minutes=settings.log.future_tolerance_minutes)
    outcomes = []
    for place, one in enumerate(entries):
        where = f"outcomes[{place}]" if len(entries) > 1 else "The outcome"
        cells = {
            "event_id": plain_text(one.get("event_id"), "event_id") or "",
            "match_id": plain_text(one.get("match_id"), "match_id") or "",
            "actual_result": spelt(one.get("actual_result")),
            "evaluated_at": _time(one.get("evaluated_at"), where),
        }
        if is_blank(cells["actual_result"]) or not (cells["event_id"] or cells["match_id"]):
            raise InputError(f"{where} needs an event_id or match_id, and actual_result.")
        outcomes.append(read_outcome(where, cells, now, tolerance))
    correction = Correction(now=now, by=_BY) if correct else None
    report = record(
        logger, store, outcomes, settings, correction=correction, since=logger.sent_until
    )
    result = report.as_json()
    for refused in result["refused"]:
        if refused.get("hint") == CORRECT_HINT:
            refused["hint"] = _CORRECT_HINT
    if result["status"] == "completed" and (logger.away or report.away):
        result["status"] = WAITING
    return result


def _time(value: object, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{where}: evaluated_at = {value!r} is no time in a text.")
    return value


def record_labels(
    store: Store, settings: Settings, entries: Sequence[Mapping[str, object]], *, now: datetime
) -> dict[str, Any]:
    """Add labels to the table of `labels add`; the report is that command's.

    Each has `label`, and `id`, `features` or `text`; maybe `source`. Raises InputError,
    ConfigError, StoreError.
    """
    table = settings.ground_truth.table
    if table != LABEL_TABLE:
        raise ConfigError(
            f"Labels are added to {LABEL_TABLE}, and ground_truth.table is {table}.",
            hint="Write into that table, or take ground_truth.table out of the settings.",
        )
    inputs = inputs_of(store, store.champion(model_name=settings.model_name))
    settings = settings if inputs is None else inputs.completing(settings)
    labels = [_entry(one, place + 1, settings, now) for place, one in enumerate(entries)]
    return add_labels(store, labels, settings, dry_run=False).as_json()


def _entry(one: Mapping[str, object], line: int, settings: Settings, now: datetime) -> LabelEntry:
    features, text = one.get("features"), one.get("text")
    if features is not None and not isinstance(features, Mapping):
        raise InputError("features is no JSON object.", hint='For example {"form": 0.5}.')
    inputs: dict[str, object] = dict(features or {})
    if text is not None:
        if settings.data.text_column is None:
            raise InputError("The model reads no text.", hint="Give features, or id alone.")
        inputs[settings.data.text_column] = text
    if unknown := [name for name in inputs if name not in settings.data.inputs]:
        raise InputError(
            f"The model has no feature {', '.join(unknown)}.",
            hint=f"It takes {', '.join(settings.data.inputs)}.",
        )
    own_id = plain_text(one.get("id"), "id") or ""
    if not own_id and not inputs:
        raise InputError("A label needs an id, features or a text.")
    return LabelEntry(
        id=own_id,
        label=plain_text(spelt(one.get("label")), "label") or "",
        created_at=now,
        source=plain_text(one.get("source"), "source") or "person",
        inputs=inputs,
        line=line,
    )
