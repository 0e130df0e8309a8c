"""A prediction as a caller describes it, as a row of the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from ml_pipeline.errors import InputError
from ml_pipeline.store.event_row import EventRow, new_event_id, prediction_row
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.inputs.values import is_missing, mapping, moment

REQUIRED: Final = ("model_id", "prediction", "confidence")
ARGUMENTS: Final = (*REQUIRED, "match_id", "features", "metadata", "event_id", "timestamp")


def row_of_prediction(
    passed: Mapping[str, object], *, model_name: str, labels: Labels, now: Callable[[], datetime]
) -> EventRow:
    """The row of a prediction. Raises InputError for what is missing, unknown or has no meaning."""
    passed = mapping(passed, "A prediction")
    _check(passed)
    values: dict[str, Any] = {
        name: None if is_missing(value) else value for name, value in passed.items()
    }
    at = values.get("timestamp")
    return prediction_row(
        event_id=values.get("event_id") or new_event_id(),
        timestamp=now() if at is None else moment(at, "timestamp"),
        model_name=model_name,
        model_id=values["model_id"],
        match_id=values.get("match_id"),
        prediction=labels.prediction(values["prediction"]),
        # A missing one is none, but NaN is refused.
        confidence=passed["confidence"],  # type: ignore[arg-type]
        features=values.get("features"),
        metadata=values.get("metadata"),
    )


def _check(passed: Mapping[str, object]) -> None:
    unknown = [str(name) for name in passed if name not in ARGUMENTS]
    missing = [name for name in REQUIRED if name not in passed]
    if unknown or missing:
        raise InputError(
            f"A prediction lacks {', '.join(missing) or 'nothing'}, "
            f"and has {', '.join(unknown) or 'nothing'} that is unknown.",
            hint=f"It has {', '.join(ARGUMENTS)}.",
        )
