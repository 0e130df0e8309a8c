"""The life of a performance alert: opened, acted on, followed up, resolved, decided by a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from ml_pipeline.decay import actions, messages
from ml_pipeline.decay.actions import log_event, update_alert
from ml_pipeline.decay.context import CheckContext
from ml_pipeline.decay.measures import LabelWeights
from ml_pipeline.decay.refresh import versions
from ml_pipeline.decay.rules import FollowUp, Verdict, follow_up, severity
from ml_pipeline.decay.watched import Watched
from ml_pipeline.errors import StoreRefused
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
from ml_pipeline.store.records import day_start, parse_utc


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertLifecycle:
    """What becomes of the performance alert of whoever is watched: opened, acted on, resolved."""

    store: Store
    context: CheckContext
    watched: Watched
    days: Sequence[DailyAccuracy]
    cycles: Sequence[LearningCycle]

    def open(self, verdict: Verdict, closed: Sequence[DecayAlert]) -> None:
        """Open an alert of a decay, and act."""
        signal, now, settings = verdict.decayed, self.context.now, self.context.settings
        if signal is None or verdict.severity is None:
            return
        alert = DecayAlert(
            alert_id=self.context.new_id(),
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
            model_id=self.watched.anchor_id,
            fruitless=_carried(closed, settings.decay.baseline_days, now),
            details={"signals": [s.as_json() for s in verdict.signals if s.alarming]},
        )
        stands = self.store.open_alert(alert)
        if stands.alert_id != alert.alert_id:
            return
        log_event(self.store, alert, "opened", f"{messages.opening(alert)}. {alert.message}", now)
        self._act(alert)

    def _act(self, alert: DecayAlert) -> None:
        """Act, unless that was in vain often enough."""
        settings, now = self.context.settings.decay, self.context.now
        if settings.action != "alert" and alert.fruitless >= settings.max_fruitless:
            if not alert.needs_person:
                tripped = update_alert(self.store, alert, now, needs_person=True)
                message = (
                    f"{messages.headline(tripped)}, because {messages.vain_attempts(tripped)}. "
                    f"{alert.message}"
                )
                log_event(self.store, tripped, "needs a person", message, now)
            return
        actions.act(self.store, alert, self.context)

    def follow(self, alert: DecayAlert) -> None:
        """Follow an open alert up: settle its action, close it, act again, or wait."""
        settings, now = self.context.settings.decay, self.context.now
        alert = actions.settle(self.store, alert, settings, now)
        if self.watched.ended is not None:
            self._resolve(alert, self.watched.ended)
            return
        alert, then = self._followed_up(alert)
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
            if _made_a_version(alert):
                # A new version that is as bad is an attempt in vain as well.
                alert = update_alert(self.store, alert, now, fruitless=alert.fruitless + 1)
            self._act(alert)

    def _followed_up(self, alert: DecayAlert) -> tuple[DecayAlert, FollowUp]:
        """How the metric did since; where a command made a new version, how that one's did."""
        settings = self.context.settings.decay
        weights = LabelWeights.of(self.context.settings.training.adaptive)
        name = versions.new_version(alert)
        if name is None:
            since = _since(alert)
            return alert, follow_up(
                alert, self.days, self.cycles, settings, since=since, weights=weights
            )
        days = versions.days_of_everybody(self.store, alert)
        cycles = self.store.learning_cycles(
            model_name=alert.model_name, limit=settings.accept_rate_window, model_ids=[name]
        )
        compared = versions.compare_versions(self.store, alert, name, days, self.days)
        own = [day for day in days if day.model_id == name]
        began = versions.first_day(alert)
        if own and alert.metric != versions.ACCEPT_RATE:
            began = min(day.day for day in own)
        then = follow_up(
            alert,
            own,
            [cycle for cycle in cycles if cycle.model_id == name],
            settings,
            since=began - timedelta(days=1),
            weights=weights,
        )
        found = compared.as_json()
        if alert.details.get(versions.COMPARED) != found:
            details = {**alert.details, versions.COMPARED: found}
            alert = update_alert(self.store, alert, self.context.now, details=details)
        is_sure = compared.is_better or not compared.has_rate_of(alert)
        sentence = f"{then.sentence} {compared.sentence}"
        return alert, replace(then, recovered=then.recovered and is_sure, sentence=sentence)

    def _may_act_again(self, alert: DecayAlert, then: FollowUp) -> bool:
        """Whether it is still bad, the last action is over, and time enough has passed."""
        if alert.action_state is ActionState.TRIGGERED or alert.acted_at is None:
            return False
        if alert.fruitless >= self.context.settings.decay.max_fruitless:
            return True  # not to act: to say that a person is needed
        cool_down = timedelta(hours=self.context.settings.decay.cool_down_hours)
        return then.still_down and self.context.now - alert.acted_at >= cool_down

    def _resolve(self, alert: DecayAlert, why: str) -> None:
        now = self.context.now
        done = update_alert(
            self.store,
            alert,
            now,
            status=AlertStatus.RESOLVED,
            resolved_at=now,
            details={**alert.details, "resolved_because": why},
        )
        log_event(self.store, done, "resolved", f"{messages.subject(done)} is over. {why}", now)

    def _escalated(self, alert: DecayAlert, then: FollowUp) -> DecayAlert:
        """The alert, its severity raised when more was lost than it says."""
        if not then.still_down or then.value is None or alert.metric != "accuracy":
            return alert
        now_is: Severity = severity(
            (alert.baseline - then.value) / alert.baseline, self.context.settings.decay
        )
        if now_is.rank <= alert.severity.rank:
            return alert
        worse = update_alert(self.store, alert, self.context.now, severity=now_is)
        message = f"{messages.subject(worse)} has become {now_is}. {then.sentence}"
        log_event(self.store, worse, f"escalated to {now_is}", message, self.context.now)
        return worse


def _since(alert: DecayAlert) -> date:
    """The day after which outcomes say what became of it: detected, or the action settled."""
    settled = alert.details.get("settled_at")
    moments = [alert.detected_at, *([parse_utc(settled)] if settled else [])]
    return max(moments).astimezone(UTC).date()


def _made_a_version(alert: DecayAlert) -> bool:
    """Whether the last action brought one: a champion, or what a command that succeeded made."""
    if alert.action == "command":
        return alert.action_state is ActionState.SUCCEEDED
    return alert.details.get("run_outcome") == "promoted"


def _carried(closed: Sequence[DecayAlert], days: int, now: datetime) -> int:
    """Retrainings in vain under the alert before, when it is not long ago."""
    recent = [a for a in closed if a.resolved_at and now - a.resolved_at < timedelta(days=days)]
    last = max(recent, key=lambda alert: alert.detected_at, default=None)
    return 0 if last is None or last.status is AlertStatus.OVERRIDDEN else last.fruitless


def decide(  # noqa: PLR0913 - who, what, why and when
    store: Store, *, model_name: str, alert_id: str, status: AlertStatus, reason: str, now: datetime
) -> DecayAlert:
    """Record a person's decision on an open alert. Raises StoreRefused when there is none."""
    open_alerts = store.list_alerts(model_name=model_name, open_only=True)
    alert = next((alert for alert in open_alerts if alert.alert_id == alert_id), None)
    if alert is None:
        raise StoreRefused(
            f"There is no open alert {alert_id} of {model_name}.",
            hint="`ml-pipeline decay` lists the open ones.",
        )
    done = update_alert(
        store,
        alert,
        now,
        status=status,
        resolved_at=None if status.is_open else now,
        details={**alert.details, f"{status}_because": reason},
    )
    log_event(store, done, str(status), f"Alert {alert_id} was {status} by a person: {reason}", now)
    return done
