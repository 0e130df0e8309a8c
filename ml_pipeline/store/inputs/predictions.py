"""Predictions and outcomes as callers describe them, as rows of the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from ml_pipeline.errors import InputError, NotFound, StoreRefused
from ml_pipeline.store.event_row import (
    MOST_AHEAD,
    EventRow,
    json_cell,
    known_after,
    new_event_id,
    one_id,
    prediction_row,
    with_outcome,
)
from ml_pipeline.store.inputs.corrections import caller, corrected, kept_time
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.inputs.probabilities import checked_probabilities
from ml_pipeline.store.inputs.values import is_missing, many_rows, mapping, moment

REQUIRED: Final = ("model_id", "prediction", "confidence")
_REQUIRED: Final = frozenset(REQUIRED)
ARGUMENTS: Final = (
    *REQUIRED, "match_id", "entity_id", "features", "probabilities", "metadata", "event_id",
    "timestamp",
)  # fmt: skip

_KNOWN: Final = frozenset(ARGUMENTS)
Checked = Callable[[Mapping[str, object]], Mapping[str, object]]


def rows_of_predictions(
    predictions: object,
    *,
    model_name: str,
    labels: Labels,
    now: datetime,
    checked_features: Checked | None = None,
) -> list[EventRow]:
    """Rows of predictions, from mappings or a frame; `checked_features` reads their features.

    Raises InputError for what is missing, unknown or has no meaning.
    """
    return [
        _row(mapping(passed, "A prediction"), model_name, labels, now, checked_features)
        for passed in many_rows(predictions)
    ]


def _row(
    passed: Mapping[str, object],
    model_name: str,
    labels: Labels,
    now: datetime,
    checked_features: Checked | None,
) -> EventRow:
    _check(passed)
    values: dict[str, Any] = {
        name: None if is_missing(value) else value for name, value in passed.items()
    }
    if checked_features is not None and values.get("features") is not None:
        values["features"] = checked_features(mapping(values["features"], "features"))
    at = values.get("timestamp")
    row = prediction_row(
        event_id=values.get("event_id") or new_event_id(),
        timestamp=now if at is None else _made(moment(at, "timestamp"), now),
        model_name=model_name,
        model_id=values["model_id"],
        match_id=one_id(values.get("match_id"), values.get("entity_id")),
        prediction=labels.prediction(values["prediction"]),
        # A missing one is none, but NaN is refused.
        confidence=passed["confidence"],  # type: ignore[arg-type]
        features=values.get("features"),
        metadata=values.get("metadata"),
    )
    if values.get("probabilities") is None:
        return row
    checked = checked_probabilities(
        values["probabilities"], labels, prediction=str(row["prediction"]),
        confidence=row["confidence"],  # type: ignore[arg-type]
    )  # fmt: skip
    return {**row, "probabilities": json_cell(checked, "probabilities")}


def _made(at: datetime, now: datetime) -> datetime:
    if at.tzinfo is not None and at > now + MOST_AHEAD:
        raise InputError(
            f"timestamp {at.isoformat()} is in the future: it is {now.isoformat()}.",
            hint="timestamp is when the prediction was made; leave it out for now. When the match "
            "is played, or whatever is predicted happens, may stand in metadata.",
        )
    return at


def not_of(row: EventRow, model_name: str) -> NotFound:
    """What is wrong with an outcome of a prediction that another model of the log made."""
    other = row["model_name"]
    return NotFound(
        f"Event {row['event_id']} is a prediction of {other}, not of {model_name}.",
        hint=f"Set model_name: {other} in the settings (or ML_PIPELINE__MODEL_NAME={other}), and "
        "repeat.",
    )


def settled_row(  # noqa: PLR0913 - an event, what happened, and how it is read
    row: EventRow,
    actual_result: object,
    accuracy: float | None,
    *,
    labels: Labels,
    now: datetime,
    correct: bool = False,
) -> EventRow:
    """The row with what really happened and the accuracy that follows.

    Raises InputError for what is no label and for an `accuracy` that differs, StoreRefused when
    another outcome stands, unless this one is to `correct` it.
    """
    actual, known = labels.outcome(actual_result), row["actual_result"]
    is_other = known is not None and labels.find(known) != actual
    if is_other and not correct:
        raise StoreRefused(
            f"Event {row['event_id']} has the outcome {known} already, not {actual}.",
            hint="If the recorded one is wrong, say so: log_evaluation(..., correct=True), or "
            "`ml-pipeline outcome --correct`.",
        )
    is_right = labels.agree(row["prediction"], actual)
    if accuracy is not None and float(accuracy) != float(is_right):
        raise InputError(
            f"Event {row['event_id']} predicted {row['prediction']} and {actual} happened: "
            f"its accuracy is {float(is_right)}, not {accuracy}.",
            hint="Leave accuracy out: it follows from the outcome.",
        )
    if is_other:
        return corrected(
            row, actual, kept_time(row, now), is_right=is_right, now=now,
            by=f"log_evaluation, {caller()}",
        )  # fmt: skip
    if known is not None:
        return {**row, "accuracy": float(is_right)}
    return with_outcome(row, actual, known_after(row, now), is_right=is_right)


def _check(passed: Mapping[str, object]) -> None:
    if _REQUIRED <= passed.keys() <= _KNOWN:
        return
    unknown = [str(name) for name in passed if name not in ARGUMENTS]
    missing = [name for name in REQUIRED if name not in passed]
    if unknown or missing:
        raise InputError(
            f"A prediction lacks {', '.join(missing) or 'nothing'}, "
            f"and has {', '.join(unknown) or 'nothing'} that is unknown.",
            hint=f"It has {', '.join(ARGUMENTS)}.",
        )
