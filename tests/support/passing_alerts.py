"""Alerts that came and went, one after the other."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from ml_pipeline.store.alerts import AlertStatus, Cause, WatchLedger
from tests.support.factories import make_alert


def came_and_went(store: WatchLedger, count: int, since: datetime) -> None:
    """So many alerts of inputs that drifted, a minute each, from then on."""
    for number in range(count):
        at = since + timedelta(minutes=number)
        alert = make_alert(900_000 + number, cause=Cause.INPUT_DRIFT, detected_at=at, updated_at=at)
        store.open_alert(alert)
        over = at + timedelta(seconds=1)
        store.change_alert(
            replace(alert, status=AlertStatus.RESOLVED, updated_at=over, resolved_at=over), seen=at
        )
