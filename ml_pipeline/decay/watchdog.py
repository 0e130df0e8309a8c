"""One look at a model: sum the days, judge them, follow open alerts up, act, tell.

Nothing is remembered between two looks but what stands in the store, so a watchdog may be killed
at any point and another one goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from ml_pipeline.config.settings import Settings
from ml_pipeline.decay import actions, measures, messages
from ml_pipeline.decay.actions import changed, told
from ml_pipeline.decay.rules import FollowUp, Verdict, follow_up, judge, of_cause, severity
from ml_pipeline.errors import StoreRefused
from ml_pipeline.evaluation_log.frames import sum_file
from ml_pipeline.evaluation_log.loading import TABLE
from ml_pipeline.registry.serving_state import lineage_ids
from ml_pipeline.store.alerts import (
    ActionState,
    AlertStatus,
    Cause,
    DailyAccuracy,
    DecayAlert,
    LearningCycle,
    Severity,
)
from ml_pipeline.store.contract import Store
from ml_pipeline.store.json_values import alert_json
from ml_pipeline.store.records import LookbackWindow, ModelVersion, day_start, parse_utc

log = logging.getLogger("model_retrainer")

TOGETHER = ""
SHOWN_ALERTS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """What a look needs to know. `new_id` makes the ids of alerts."""

    settings: Settings
    now: datetime
    new_id: Callable[[], str]
    work_dir: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What a look came to."""

    verdict: Verdict
    alerts: tuple[DecayAlert, ...]
    model_id: str | None
    anchor_id: str | None

    def as_json(self) -> dict[str, Any]:
        """The look as plain JSON values."""
        return {
            "decayed": self.verdict.decayed is not None,
            "sentence": self.verdict.sentence,
            "severity": None if self.verdict.severity is None else str(self.verdict.severity),
            "model_id": self.model_id,
            "signals": [signal.as_json() for signal in self.verdict.signals],
            "alerts": [alert_json(alert) for alert in self.alerts],
        }


def look(store: Store, watch: Watch) -> Look:
    """Look once at the champion's outcomes. Raises StoreError, DataError."""
    settings, now = watch.settings, watch.now
    champion = store.champion(model_name=settings.model_name)
    line = lineage_ids(store, champion)
    days = line_days(store, watch, line)
    alerts = store.list_alerts(model_name=settings.model_name, limit=SHOWN_ALERTS)
    closed = of_cause(alerts, Cause.PERFORMANCE)
    cycles = _cycles(store, settings, champion, line)
    verdict = judge(days, cycles, settings.decay, now=now, closed=closed)
    is_open = [a for a in alerts if a.status.is_open and a.cause is Cause.PERFORMANCE]
    case = _Case(store=store, watch=watch, champion=champion, days=days, cycles=cycles)
    open_alerts = [alert for alert in alerts if alert.status.is_open]
    if is_open or verdict.decayed is not None:
        try:
            if is_open:
                case.follow(is_open[0])
            else:
                case.open(verdict, closed)
        except StoreRefused as refused:
            # A person was faster; the next look sees what they did.
            log.warning("%s", refused)
        open_alerts = store.list_alerts(model_name=settings.model_name, open_only=True)
    return Look(
        verdict=verdict,
        alerts=tuple(open_alerts),
        model_id=None if champion is None else champion.model_id,
        anchor_id=None if champion is None else champion.anchor_id,
    )


def _cycles(
    store: Store,
    settings: Settings,
    champion: ModelVersion | None,
    line: frozenset[str] | None,
) -> list[LearningCycle]:
    """The learning cycles of the serving line; a cycle that names no model counts by its time."""
    limit = settings.decay.accept_rate_window
    cycles = store.learning_cycles(model_name=settings.model_name, limit=limit)
    if champion is None or line is None or not cycles:
        return cycles
    began = champion.created_at
    if any(cycle.at < began for cycle in cycles):
        began = _line_began(store, champion)
    return [c for c in cycles if (c.at >= began if c.model_id is None else c.model_id in line)]


def _line_began(store: Store, champion: ModelVersion) -> datetime:
    """When the line of the champion began to serve."""
    events = store.promotion_events(model_name=champion.model_name)
    first = [e.created_at for e in events if e.to_model_id == champion.anchor_id]
    return min(first, default=champion.created_at)


# -------------------------------------------------------------------------------------- days


def line_days(store: Store, watch: Watch, line: frozenset[str] | None) -> list[DailyAccuracy]:
    """The days of the serving line; `prediction_accuracy_daily` is brought up to date first."""
    kept = _refreshed(store, watch)
    if line is None:
        return [day for day in kept if day.model_id == TOGETHER]
    return [day for day in kept if day.model_id in line]


def _refreshed(store: Store, watch: Watch) -> list[DailyAccuracy]:
    settings, today = watch.settings, watch.now.date()
    first = measures.horizon(settings.decay, today)
    kept = store.list_days(model_name=settings.model_name, since=first)
    start = first if settings.log.source != TABLE else _stale_from(store, watch, kept, first)
    window = LookbackWindow(start=day_start(start), end=watch.now + timedelta(microseconds=1))
    threshold = settings.run.confidence_threshold
    if settings.log.source == TABLE:
        summed = store.sum_days(
            window, model_name=settings.model_name, confidence_threshold=threshold
        )
    else:
        summed = sum_file(store, settings, window, work_dir=watch.work_dir)
    fresh = [*summed, *_together(summed)]
    known = {(day.day, day.model_id): day for day in kept}
    new = [day for day in fresh if known.get((day.day, day.model_id)) != day]
    if new:
        store.keep_days(new, now=watch.now)
    return [*(day for day in kept if day.day < start), *fresh]


def _stale_from(store: Store, watch: Watch, kept: Sequence[DailyAccuracy], first: date) -> date:
    """The first day whose sums may have changed: yesterday, or an earlier one that was imported.

    Earlier days are counted once a day only: outcomes become known on the day they are written.
    """
    today = watch.now.date()
    seen = {day.day: day.evaluated for day in kept if day.model_id == TOGETHER}
    yesterday = today - timedelta(days=1)
    if today in seen or not seen:
        return max(first, yesterday) if seen else first
    window = LookbackWindow(start=day_start(first), end=watch.now + timedelta(microseconds=1))
    counted = store.count_labelled(window, model_name=watch.settings.model_name)
    changed_days = [day for day, count in counted.items() if seen.get(day) != count]
    return min([*changed_days, yesterday])


def _together(days: Sequence[DailyAccuracy]) -> list[DailyAccuracy]:
    """Every model's sums of a day as one."""
    found: dict[date, list[DailyAccuracy]] = {}
    for day in days:
        found.setdefault(day.day, []).append(day)
    return [measures.added(parts, model_id=TOGETHER) for parts in found.values()]


# ------------------------------------------------------------------------------------- alerts


@dataclass(frozen=True, kw_only=True, slots=True)
class _Case:
    """The open question of one model: its alert's life."""

    store: Store
    watch: Watch
    champion: ModelVersion | None
    days: Sequence[DailyAccuracy]
    cycles: Sequence[LearningCycle]

    def open(self, verdict: Verdict, closed: Sequence[DecayAlert]) -> None:
        """Alert of a decay, and act."""
        signal, now, settings = verdict.decayed, self.watch.now, self.watch.settings
        if signal is None or verdict.severity is None:
            return
        alert = DecayAlert(
            alert_id=self.watch.new_id(),
            model_name=settings.model_name,
            cause=Cause.PERFORMANCE,
            metric=signal.metric,
            severity=verdict.severity,
            status=AlertStatus.PENDING,
            detected_at=now,
            updated_at=now,
            baseline=signal.baseline,
            recent=signal.recent,
            threshold=signal.threshold,
            baseline_rows=signal.baseline_rows,
            recent_rows=signal.recent_rows,
            window_start=day_start(signal.since),
            window_end=now,
            message=verdict.sentence,
            model_id=None if self.champion is None else self.champion.anchor_id,
            fruitless=_carried(closed, settings.decay.baseline_days, now),
            details={"signals": [s.as_json() for s in verdict.signals if s.alarming]},
        )
        stands = self.store.open_alert(alert)
        if stands.alert_id != alert.alert_id:
            return
        told(self.store, alert, "opened", f"{messages.opening(alert)}. {alert.message}", now)
        self._act(alert)

    def _act(self, alert: DecayAlert) -> None:
        """Act, unless enough was done in vain."""
        settings, now = self.watch.settings.decay, self.watch.now
        if settings.action != "alert" and alert.fruitless >= settings.max_fruitless:
            if not alert.needs_person:
                tripped = changed(self.store, alert, now, needs_person=True)
                message = (
                    f"{messages.headline(tripped)}, because {messages.vain_attempts(tripped)}. "
                    f"{alert.message}"
                )
                told(self.store, tripped, "needs a person", message, now)
            return
        actions.act(self.store, alert, settings, now)

    def follow(self, alert: DecayAlert) -> None:
        """Take an open alert on: settle its action, close it, act again, or wait."""
        settings, now = self.watch.settings.decay, self.watch.now
        alert = actions.settle(self.store, alert, settings, now)
        anchor = None if self.champion is None else self.champion.anchor_id
        if alert.model_id != anchor:
            self._resolve(alert, f"{anchor or 'No model'} serves now, not {alert.model_id}.")
            return
        then = follow_up(alert, self.days, self.cycles, settings, since=_since(alert))
        if then.recovered:
            self._resolve(alert, f"Recovered: {then.sentence}")
            return
        alert = self._escalated(alert, then)
        if alert.needs_person:
            return
        if alert.status is AlertStatus.ACKNOWLEDGED or settings.action == "alert":
            if alert.status is AlertStatus.PENDING and alert.acted_at is None:
                self._act(alert)
        elif alert.acted_at is None:
            self._act(alert)  # the watchdog before ended between alerting and acting
        elif self._may_act_again(alert, then):
            if alert.details.get("run_outcome") == "promoted":
                # A new champion that is as bad is a retrain in vain as well.
                alert = changed(self.store, alert, now, fruitless=alert.fruitless + 1)
            self._act(alert)

    def _may_act_again(self, alert: DecayAlert, then: FollowUp) -> bool:
        """Whether it is still bad, the last action is over, and time enough has passed."""
        if alert.action_state is ActionState.TRIGGERED or alert.acted_at is None:
            return False
        if alert.fruitless >= self.watch.settings.decay.max_fruitless:
            return True  # not to act: to say that a person is needed
        cool_down = timedelta(hours=self.watch.settings.decay.cool_down_hours)
        return then.still_down and self.watch.now - alert.acted_at >= cool_down

    def _resolve(self, alert: DecayAlert, why: str) -> None:
        now = self.watch.now
        done = changed(
            self.store,
            alert,
            now,
            status=AlertStatus.RESOLVED,
            resolved_at=now,
            details={**alert.details, "resolved_because": why},
        )
        told(self.store, done, "resolved", f"{messages.subject(done)} is over. {why}", now)

    def _escalated(self, alert: DecayAlert, then: FollowUp) -> DecayAlert:
        """The alert, its severity raised when more was lost than it says."""
        if not then.still_down or then.value is None or alert.metric != "accuracy":
            return alert
        now_is: Severity = severity(
            (alert.baseline - then.value) / alert.baseline, self.watch.settings.decay
        )
        if now_is.rank <= alert.severity.rank:
            return alert
        worse = changed(self.store, alert, self.watch.now, severity=now_is)
        message = f"{messages.subject(worse)} has become {now_is}. {then.sentence}"
        told(self.store, worse, f"escalated to {now_is}", message, self.watch.now)
        return worse


def _since(alert: DecayAlert) -> date:
    """The day after which outcomes say what became of it: detected, or the action settled."""
    settled = alert.details.get("settled_at")
    moments = [alert.detected_at, *([parse_utc(settled)] if settled else [])]
    return max(moments).astimezone(UTC).date()


def _carried(closed: Sequence[DecayAlert], days: int, now: datetime) -> int:
    """Retrains in vain of the alert before, when it is not long ago."""
    recent = [a for a in closed if a.resolved_at and now - a.resolved_at < timedelta(days=days)]
    last = max(recent, key=lambda alert: alert.detected_at, default=None)
    return 0 if last is None or last.status is AlertStatus.OVERRIDDEN else last.fruitless


def decide(  # noqa: PLR0913 - who, what, why and when
    store: Store, *, model_name: str, alert_id: str, status: AlertStatus, reason: str, now: datetime
) -> DecayAlert:
    """A person's word on an open alert. Raises StoreRefused when there is no such open alert."""
    open_alerts = store.list_alerts(model_name=model_name, open_only=True)
    alert = next((alert for alert in open_alerts if alert.alert_id == alert_id), None)
    if alert is None:
        raise StoreRefused(
            f"There is no open alert {alert_id} of {model_name}.",
            hint="`ml-pipeline decay` lists the open ones.",
        )
    done = changed(
        store,
        alert,
        now,
        status=status,
        resolved_at=None if status.is_open else now,
        details={**alert.details, f"{status}_because": reason},
    )
    told(store, done, str(status), f"Alert {alert_id} was {status} by a person: {reason}", now)
    return done
