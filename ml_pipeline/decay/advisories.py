"""Alerts that only advise: inputs that drift, errors that cluster. They retrain nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ml_pipeline.decay import messages
from ml_pipeline.decay.actions import log_event, update_alert
from ml_pipeline.decay.context import CheckContext
from ml_pipeline.errors import StoreRefused
from ml_pipeline.store.alerts import AlertStatus, Cause, DecayAlert, Severity
from ml_pipeline.store.contract import Store

log = logging.getLogger("model_retrainer")


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


def update_advisory(
    store: Store, context: CheckContext, finding: Finding, *, model_id: str | None
) -> None:
    """Open or close the one alert of the finding's cause, if it has to be. Raises StoreError."""
    alerts = store.list_alerts(model_name=context.settings.model_name, open_only=True)
    is_open = next((alert for alert in alerts if alert.cause is finding.cause), None)
    if is_open is None and finding.is_alarming:
        _open(store, context, finding, model_id)
    if is_open is not None and finding.is_over:
        _close(store, context, is_open, finding)


def _open(store: Store, context: CheckContext, finding: Finding, model_id: str | None) -> None:
    now = context.now
    alert = DecayAlert(
        alert_id=context.new_id(),
        model_name=context.settings.model_name,
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
        window_start=now - timedelta(days=max(context.settings.decay.recent_days)),
        window_end=now,
        message=finding.sentence,
        model_id=model_id,
        action="alert",
        acted_at=now,
        details=dict(finding.details),
    )
    if store.open_alert(alert) == alert:
        log_event(store, alert, "opened", f"{messages.opening(alert)}. {finding.sentence}", now)


def _close(store: Store, context: CheckContext, alert: DecayAlert, finding: Finding) -> None:
    now = context.now
    details = {**alert.details, "resolved_because": finding.sentence}
    try:
        done = update_alert(
            store, alert, now, status=AlertStatus.RESOLVED, resolved_at=now, details=details
        )
    except StoreRefused as refused:
        # A person was faster; the next check sees what they did.
        log.warning("%s", refused)
        return
    log_event(store, done, "resolved", f"{messages.subject(done)} is over. {finding.sentence}", now)
