"""One check of whoever answers: sum the days, judge them, follow open alerts up, act.

Nothing is remembered between two checks but what stands in the store, so a watchdog may be killed
at any point and another one goes on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from ml_pipeline.decay.context import CheckContext
from ml_pipeline.decay.lifecycle import AlertLifecycle
from ml_pipeline.decay.lineage import all_days, days_of, lineage_cycles
from ml_pipeline.decay.measures import LabelWeights
from ml_pipeline.decay.rules import Verdict, judge, of_cause
from ml_pipeline.decay.watched import Watched
from ml_pipeline.errors import StoreRefused
from ml_pipeline.store.alerts import Cause, DecayAlert, newest_alerts
from ml_pipeline.store.contract import Store
from ml_pipeline.store.json_values import alert_json

log = logging.getLogger("model_retrainer")


@dataclass(frozen=True, kw_only=True, slots=True)
class DecayCheck:
    """The result of a check: the verdict, and the alerts that are open after it.

    `answering` says who answers where that is no champion, or that others than the champion do.
    """

    verdict: Verdict
    alerts: tuple[DecayAlert, ...]
    model_id: str | None
    anchor_id: str | None
    answering: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        return {
            "decayed": self.verdict.decayed is not None,
            "sentence": self.verdict.sentence,
            "severity": None if self.verdict.severity is None else str(self.verdict.severity),
            "model_id": self.model_id,
            "answering": self.answering,
            "signals": [signal.as_json() for signal in self.verdict.signals],
            "alerts": [alert_json(alert) for alert in self.alerts],
        }


def check_decay(store: Store, context: CheckContext) -> DecayCheck:
    """Check the outcomes of whoever answers once. Raises StoreError, DataError."""
    settings, now = context.settings, context.now
    champion = store.champion(model_name=settings.model_name)
    alerts = newest_alerts(store, model_name=settings.model_name)
    is_open = [a for a in alerts if a.status.is_open and a.cause is Cause.PERFORMANCE]
    everybody = all_days(store, context)
    watched = Watched.of(store, settings, champion, everybody, is_open[0] if is_open else None)
    days = days_of(everybody, watched.model_ids)
    closed = of_cause(alerts, Cause.PERFORMANCE)
    cycles = lineage_cycles(store, settings, watched.champion, watched.model_ids)
    weights = LabelWeights.of(settings.training.adaptive)
    verdict = judge(days, cycles, settings.decay, now=now, closed=closed, weights=weights)
    lifecycle = AlertLifecycle(
        store=store, context=context, watched=watched, days=days, cycles=cycles
    )
    open_alerts = [alert for alert in alerts if alert.status.is_open]
    if is_open or verdict.decayed is not None:
        try:
            if is_open:
                lifecycle.follow(is_open[0])
            else:
                lifecycle.open(verdict, closed)
        except StoreRefused as refused:
            # A person was faster; the next check sees what they did.
            log.warning("%s", refused)
        open_alerts = store.list_alerts(model_name=settings.model_name, open_only=True)
    return DecayCheck(
        verdict=verdict,
        alerts=tuple(open_alerts),
        model_id=watched.model_id,
        anchor_id=watched.anchor_id,
        answering=watched.answering,
    )
