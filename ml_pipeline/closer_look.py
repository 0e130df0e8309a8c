"""A closer look, once a day: the estimate before labels, drift, and the order of the errors."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pandas as pd

from ml_pipeline.alerts import AlertStatus, Cause, DecayAlert, Severity
from ml_pipeline.config import Settings
from ml_pipeline.datasets import Dataset, read_dataset
from ml_pipeline.decay_actions import changed, told
from ml_pipeline.domain import UNCERTAIN, LookbackWindow
from ml_pipeline.errors import DataError, StoreRefused
from ml_pipeline.estimation import Drift, Floats, expected_accuracy, label_drift, numeric_drift
from ml_pipeline.sequences import runs_test
from ml_pipeline.store import Store
from ml_pipeline.watchdog import Watch, line_ids
from ml_pipeline.watched_log import labelled_events, pending_events, since

log = logging.getLogger("model_retrainer")

ROWS = 20_000
MIN_DRIFT_ROWS = 200
PREDICTIONS = "prediction"


def closer_look(store: Store, watch: Watch) -> dict[str, Any]:
    """Look at rows instead of sums; returns JSON. Raises StoreError, DataError.

    The longest recent window is looked at: features against the training data, predictions and
    the calibration against the baseline's days.
    """
    settings, now = watch.settings, watch.now
    champion = store.champion(model_name=settings.model_name)
    line = line_ids(store, champion)
    days = max(settings.decay.recent_days)
    recent_window = since(now, days)
    labelled = labelled_events(
        store, settings, since(now, days + settings.decay.baseline_days),
        model_ids=None if line is None else sorted(line), work_dir=watch.work_dir,
    )  # fmt: skip
    is_recent = labelled["known_at"] >= recent_window.start
    before, after = labelled[~is_recent].tail(ROWS), labelled[is_recent].tail(ROWS)
    waiting = _waiting(store, settings, recent_window, line)
    moved = _drift(settings, before, _together(after, waiting))
    _alert_of_drift(store, watch, moved, None if champion is None else champion.anchor_id)
    answered = _answered(after).sort_values(["timestamp", "event_id"])
    return {
        "estimate": _estimate(_answered(before), _answered(waiting)),
        "realised_accuracy": float(_right(answered).mean()) if len(answered) else None,
        "errors_in_order": runs_test(_right(answered).tolist()).as_json(),
        "drift": [drift.as_json() for drift in moved],
    }


def _waiting(
    store: Store, settings: Settings, window: LookbackWindow, line: frozenset[str] | None
) -> pd.DataFrame:
    events = pending_events(store, settings, window)
    return (events if line is None else events[events["model_id"].isin(line)]).tail(ROWS)


def _together(*frames: pd.DataFrame) -> pd.DataFrame:
    some = [frame for frame in frames if len(frame)]
    return pd.concat(some, ignore_index=True) if some else frames[0]


def _answered(events: pd.DataFrame) -> pd.DataFrame:
    return events[(events["prediction"] != UNCERTAIN) & events["confidence"].notna()]


def _right(events: pd.DataFrame) -> pd.Series[bool]:
    return events["prediction"] == events["actual_result"]


def _estimate(known: pd.DataFrame, waiting: pd.DataFrame) -> dict[str, Any] | None:
    found = expected_accuracy(
        waiting["confidence"].to_numpy(dtype=float),
        known["confidence"].to_numpy(dtype=float),
        _right(known).to_numpy(dtype=bool),
    )
    return None if found is None else found.as_json()


# ------------------------------------------------------------------------------------- drift


def _drift(settings: Settings, before: pd.DataFrame, recent: pd.DataFrame) -> list[Drift]:
    training = _training(settings)
    if training is None or len(recent) < MIN_DRIFT_ROWS:
        return []
    columns = _features(recent, settings.data.features)
    moved = [
        numeric_drift(name, training.features[:, place], columns[:, place])
        for place, name in enumerate(settings.data.features)
    ]
    mix = label_drift(PREDICTIONS, before["prediction"].tolist(), recent["prediction"].tolist())
    return [drift for drift in (*moved, mix) if drift is not None]


def _training(settings: Settings) -> Dataset | None:
    try:
        return read_dataset(settings.data.training_dataset, settings.data)
    except DataError as error:
        log.warning("Inputs cannot be compared with the training data: %s", error)
        return None


def _features(events: pd.DataFrame, names: Sequence[str]) -> Floats:
    """The features of events as numbers, NaN where there is none."""
    if set(names) <= set(events.columns):
        return events[list(names)].to_numpy(dtype=float)
    rows = [json.loads(text) if isinstance(text, str) else {} for text in events["features"]]
    values = pd.DataFrame(rows, index=events.index).reindex(columns=list(names))
    numbers: Floats = values.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    return numbers


def _alert_of_drift(store: Store, watch: Watch, moved: list[Drift], anchor: str | None) -> None:
    """Open, or close, the one alert of drift; nothing is retrained for it alone."""
    settings, now = watch.settings, watch.now
    threshold = settings.decay.drift_threshold
    worst = max(moved, key=lambda drift: drift.psi, default=None)
    alerts = store.list_alerts(model_name=settings.model_name, open_only=True)
    is_open = next((a for a in alerts if a.cause is Cause.INPUT_DRIFT), None)
    if worst is None or (worst.psi > threshold) == (is_open is not None):
        return
    said = (
        f"{worst.column} has moved most: population stability index {worst.psi:.2f} on "
        f"{worst.rows:,} rows against {worst.reference_rows:,}, {threshold:g} is allowed."
    )
    if is_open is not None:
        try:
            done = changed(
                store, is_open, now, status=AlertStatus.RESOLVED, resolved_at=now,
                details={**is_open.details, "resolved_because": said},
            )  # fmt: skip
        except StoreRefused as refused:
            log.warning("%s", refused)
            return
        told(store, done, "resolved", f"Drift of {settings.model_name} is over. {said}", now)
        return
    alert = DecayAlert(
        alert_id=watch.new_id(),
        model_name=settings.model_name,
        cause=Cause.INPUT_DRIFT,
        metric=f"psi {worst.column}"[:100],
        severity=Severity.WARNING,
        status=AlertStatus.PENDING,
        detected_at=now,
        updated_at=now,
        baseline=0.0,
        recent=worst.psi,
        threshold=threshold,
        baseline_rows=worst.reference_rows,
        recent_rows=worst.rows,
        window_start=now - timedelta(days=max(settings.decay.recent_days)),
        window_end=now,
        message=said,
        model_id=anchor,
        action="alert",
        acted_at=now,
        details={"drift": [d.as_json() for d in moved if d.psi > threshold]},
    )
    if store.open_alert(alert) == alert:
        told(store, alert, "opened", f"Inputs of {settings.model_name} have moved. {said}", now)
