"""A closer look, once a day: the estimate before labels, drift, and the order of the errors."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets import texts
from ml_pipeline.datasets.dataset import Dataset, read_dataset
from ml_pipeline.datasets.features import parted
from ml_pipeline.decay import messages
from ml_pipeline.decay.actions import changed, told
from ml_pipeline.decay.drift import Drift, expected_accuracy, label_drift, numeric_drift
from ml_pipeline.decay.watchdog import Watch
from ml_pipeline.errors import DataError, StoreRefused
from ml_pipeline.evaluation.metrics import Floats
from ml_pipeline.evaluation.sequences import RunsTest, runs_test
from ml_pipeline.evaluation_log.frames import labelled_events, pending_events, since
from ml_pipeline.registry.serving_state import lineage_ids
from ml_pipeline.store.alerts import AlertStatus, Cause, DecayAlert, Severity
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import UNCERTAIN, LookbackWindow


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What was found of a cause: whether it alarms, whether it is over, and its numbers.

    Between the two an alert stays as it is.
    """

    cause: Cause
    is_alarming: bool
    is_over: bool
    metric: str
    value: float
    usual: float
    threshold: float
    rows: int
    usual_rows: int
    sentence: str
    details: Mapping[str, Any] = field(default_factory=dict)


def stand(store: Store, watch: Watch, finding: Finding, *, model_id: str | None) -> None:
    """Open or close the one alert of the finding's cause, if it has to be. Raises StoreError."""
    alerts = store.list_alerts(model_name=watch.settings.model_name, open_only=True)
    is_open = next((alert for alert in alerts if alert.cause is finding.cause), None)
    if is_open is None and finding.is_alarming:
        _open(store, watch, finding, model_id)
    if is_open is not None and finding.is_over:
        _close(store, watch, is_open, finding)


def _open(store: Store, watch: Watch, finding: Finding, model_id: str | None) -> None:
    now = watch.now
    alert = DecayAlert(
        alert_id=watch.new_id(),
        model_name=watch.settings.model_name,
        cause=finding.cause,
        metric=finding.metric[:100],
        severity=Severity.WARNING,
        status=AlertStatus.PENDING,
        detected_at=now,
        updated_at=now,
        baseline=finding.usual,
        recent=finding.value,
        threshold=finding.threshold,
        baseline_rows=finding.usual_rows,
        recent_rows=finding.rows,
        window_start=now - timedelta(days=max(watch.settings.decay.recent_days)),
        window_end=now,
        message=finding.sentence,
        model_id=model_id,
        action="alert",
        acted_at=now,
        details=dict(finding.details),
    )
    if store.open_alert(alert) == alert:
        told(store, alert, "opened", f"{messages.opening(alert)}. {finding.sentence}", now)


def _close(store: Store, watch: Watch, alert: DecayAlert, finding: Finding) -> None:
    now = watch.now
    details = {**alert.details, "resolved_because": finding.sentence}
    try:
        done = changed(
            store, alert, now, status=AlertStatus.RESOLVED, resolved_at=now, details=details
        )
    except StoreRefused as refused:
        # A person was faster; the next look sees what they did.
        log.warning("%s", refused)
        return
    told(store, done, "resolved", f"{messages.subject(done)} is over. {finding.sentence}", now)


log = logging.getLogger("model_retrainer")

ROWS = 20_000
MIN_DRIFT_ROWS = 200
PREDICTIONS = "prediction"


def daily_checks(store: Store, watch: Watch) -> dict[str, Any]:
    """Look at rows instead of sums; returns JSON. Raises StoreError, DataError.

    The longest recent window is looked at: features against the training data, predictions and
    the calibration against the baseline's days.
    """
    settings, now = watch.settings, watch.now
    champion = store.champion(model_name=settings.model_name)
    line = lineage_ids(store, champion)
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
    answered = _answered(after).sort_values(["timestamp", "event_id"])
    in_order = runs_test(_right(answered).tolist())
    anchor = None if champion is None else champion.anchor_id
    for finding in (_drift_finding(settings, moved), _cluster_finding(settings, in_order)):
        if finding is not None:
            stand(store, watch, finding, model_id=anchor)
    return {
        "estimate": _estimate(_answered(before), _answered(waiting)),
        "realised_accuracy": float(_right(answered).mean()) if len(answered) else None,
        "errors_in_order": in_order.as_json(),
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
    numbers, said = parted(training.features)
    names, column = list(settings.data.features), settings.data.text_column
    logged = _columns(recent, [*names, *([column] if column else [])])
    columns = logged[names].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    moved = [numeric_drift(*pair) for pair in zip(names, numbers.T, columns.T, strict=True)]
    if said is not None and column is not None:
        names = [f"{column} {name}" for name in texts.STATISTICS]
        pairs = zip(names, _counted(said).T, _counted(logged[column].tolist()).T, strict=True)
        moved += [numeric_drift(*pair) for pair in pairs]
    usual = before["prediction"].tolist() if len(before) >= MIN_DRIFT_ROWS else []
    mix = label_drift(PREDICTIONS, usual, recent["prediction"].tolist())
    return [drift for drift in (*moved, mix) if drift is not None]


def _training(settings: Settings) -> Dataset | None:
    try:
        return read_dataset(settings.data.training_dataset, settings.data)
    except DataError as error:
        log.warning("Inputs cannot be compared with the training data: %s", error)
        return None


def _columns(events: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """What events say of those names, in columns of their own or in their features' JSON."""
    if set(names) <= set(events.columns):
        return events[list(names)]
    rows = [json.loads(text) if isinstance(text, str) else {} for text in events["features"]]
    return pd.DataFrame(rows, index=events.index).reindex(columns=list(names))


def _counted(said: Sequence[Any]) -> Floats:
    """The statistics (n, 7) of the texts among these values."""
    rows = [texts.statistics(text) for text in said if isinstance(text, str) and text]
    return np.asarray(rows, dtype=float).reshape(-1, len(texts.STATISTICS))


def _drift_finding(settings: Settings, moved: Sequence[Drift]) -> Finding | None:
    worst = max(moved, key=lambda drift: drift.psi, default=None)
    if worst is None:
        return None
    threshold = settings.decay.drift_threshold
    what, reference = f"The values of {worst.column} have shifted", "training rows"
    if worst.column == PREDICTIONS:
        what, reference = "The mix of predictions has shifted", "earlier ones"
    return Finding(
        cause=Cause.INPUT_DRIFT,
        is_alarming=worst.psi > threshold,
        is_over=worst.psi <= threshold,
        metric=f"psi {worst.column}",
        value=worst.psi,
        usual=0.0,
        threshold=threshold,
        rows=worst.rows,
        usual_rows=worst.reference_rows,
        sentence=f"{what} most: population stability index {worst.psi:.2f} on "
        f"{worst.rows:,} new rows against {worst.reference_rows:,} {reference}; "
        f"more than {threshold:g} raises an alert.",
        details={"drift": [drift.as_json() for drift in moved if drift.psi > threshold]},
    )


# ------------------------------------------------------------------------- errors in their order


def _cluster_finding(settings: Settings, tested: RunsTest) -> Finding | None:
    """Errors that come in clusters: something came and went, which a mean of the days hides."""
    if tested.p_value is None or tested.expected_runs is None:
        return None
    level = settings.decay.cluster_level
    return Finding(
        cause=Cause.ERROR_CLUSTERS,
        is_alarming=tested.p_value < level,
        is_over=not tested.clustered,
        metric="runs of right and wrong",
        value=float(tested.runs),
        usual=tested.expected_runs,
        threshold=level,
        rows=tested.rows,
        usual_rows=0,
        sentence=tested.sentence,
        details={"errors_in_order": tested.as_json()},
    )
