"""What is done about a decay: queue a retraining, run a command, or only alert; and its result.

An alert is written before and after each action, so whoever comes next knows how far it got: a
request has an id made from the alert and the attempt, so that queueing it twice queues it once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID, uuid5

from ml_pipeline.config.sections import DecaySettings
from ml_pipeline.decay import messages
from ml_pipeline.decay.context import CheckContext
from ml_pipeline.decay.refresh.command import filled_command, named_version, run_command
from ml_pipeline.decay.refresh.versions import COMPARED, NEW_VERSION, answering
from ml_pipeline.errors import NotFound, PipelineError, StoreRefused
from ml_pipeline.store.alerts import (
    ActionState,
    AlertStatus,
    DecayAlert,
    SystemEvent,
    WatchLedger,
)
from ml_pipeline.store.contract import RunLedger, Store
from ml_pipeline.store.queue.contract import RequestQueue
from ml_pipeline.store.records import Outcome, Priority, RequestStatus, RetrainingRequest, Source

log = logging.getLogger("model_retrainer")

# What an alert forgets when the next action begins.
_OF_AN_ACTION = frozenset({"settled_at", "run_outcome", "error", COMPARED})
# What an event keeps of a command's result.
_OF_COMMANDS = ("command_run_id", "exit_code", NEW_VERSION)
_NAMESPACE = UUID("6f0a8a0e-5c1b-4a53-9d0f-0d4c1b7f5a11")
_STEP = timedelta(microseconds=1)
_GRACE = timedelta(minutes=1)


class Ledgers(WatchLedger, RequestQueue, RunLedger, Protocol):
    """The parts of the store that actions use."""


def derived_id(*parts: object) -> str:
    """The id that follows from those parts, always the same."""
    return str(uuid5(_NAMESPACE, "/".join(map(str, parts))))


def update_alert(
    store: WatchLedger,
    alert: DecayAlert,
    now: datetime,
    **changes: Any,  # noqa: ANN401 - fields
) -> DecayAlert:
    """Write an alert with these changes. Raises StoreRefused when somebody else did meanwhile."""
    later = max(now, alert.updated_at + _STEP)
    new = replace(alert, updated_at=later, **changes)
    store.change_alert(new, seen=alert.updated_at)
    return new


def log_event(
    store: WatchLedger, alert: DecayAlert, what: str, message: str, now: datetime
) -> None:
    """Log what happened to an alert, and keep it once in `system_events`."""
    log.warning("%s", message)
    store.record_event(
        SystemEvent(
            event_id=derived_id(alert.alert_id, what, alert.attempts),
            model_name=alert.model_name,
            event_type="model_retrain" if what.startswith("action") else "decay_alert",
            at=now,
            message=message,
            metadata={
                "alert_id": alert.alert_id,
                "what": what,
                "status": str(alert.status),
                "action": alert.action,
                "action_state": None if alert.action_state is None else str(alert.action_state),
                "metric": alert.metric,
                "recent": alert.recent,
                "baseline": alert.baseline,
                "rows": alert.recent_rows,
                "request_id": alert.request_id,
                **{name: alert.details[name] for name in _OF_COMMANDS if name in alert.details},
            },
        )
    )


def act(store: Store, alert: DecayAlert, context: CheckContext) -> DecayAlert:
    """Do what the settings say about an open alert."""
    settings, now = context.settings.decay, context.now
    if settings.action == "request":
        return _queue(store, alert, settings, now)
    if settings.action == "command":
        return _command(store, alert, context)
    return update_alert(store, alert, now, action="alert", acted_at=now)


def _queue(store: Ledgers, alert: DecayAlert, settings: DecaySettings, now: datetime) -> DecayAlert:
    attempt = alert.attempts + 1
    request = RetrainingRequest(
        request_id=derived_id(alert.alert_id, "request", attempt),
        model_name=alert.model_name,
        priority=Priority(settings.priority),
        status=RequestStatus.PENDING,
        # Not now: after a crash the very same request has to be submitted again.
        created_at=alert.updated_at,
        reason=f"{Source.DECAY_TRIGGERED}: {alert.message}",
    )
    try:
        store.submit(request)
    except StoreRefused as refused:
        return _acted(store, alert, now, "request", ActionState.FAILED, error=str(refused))
    return _acted(
        store, alert, now, "request", ActionState.TRIGGERED, request_id=request.request_id
    )


def _command(store: Store, alert: DecayAlert, context: CheckContext) -> DecayAlert:
    """Run the configured command; its rows are written first, so that its time is its own."""
    settings, now = context.settings, context.now
    run_id = derived_id(alert.alert_id, "command", alert.attempts + 1)
    with ExitStack() as stack:
        try:
            filled = stack.enter_context(filled_command(store, context, run_id))
        except PipelineError as error:
            return _acted(store, alert, now, "command", ActionState.FAILED, error=str(error))
        started = _acted(
            store, alert, now, "command", ActionState.TRIGGERED,
            command=list(settings.decay.command), command_run_id=run_id,
        )  # fmt: skip
        began = time.monotonic()
        result = run_command(
            filled,
            timeout_s=settings.decay.command_timeout_s,
            also=settings.decay.command_environment,
        )
    ended = now + timedelta(seconds=time.monotonic() - began)
    state = ActionState.SUCCEEDED if result.exit_code == 0 else ActionState.FAILED
    named = named_version(result)
    if named is not None and named in answering(store, alert):
        named, reused = None, named
        result = replace(result, sentence=f"{result.sentence} It names {reused}, which answered "
                         "before: the answers of the two cannot be told apart.")  # fmt: skip
    done = update_alert(
        store,
        started,
        ended,
        action_state=state,
        fruitless=started.fruitless + (state is ActionState.FAILED),
        details={
            **started.details,
            **result.as_json(),
            NEW_VERSION: named,
            "settled_at": ended.isoformat(),
        },
    )
    new = f" The new version is {named}." if named else f" {result.last_line}"
    log_event(store, done, f"action {state}", f"{result.sentence}{new}", ended)
    return done


def _acted(  # noqa: PLR0913 - one row has that many parts
    store: WatchLedger,
    alert: DecayAlert,
    now: datetime,
    action: str,
    state: ActionState,
    *,
    request_id: str | None = None,
    **details: object,
) -> DecayAlert:
    failed = state is ActionState.FAILED
    settled = {"settled_at": now.isoformat()} if failed else {}
    kept = {k: v for k, v in alert.details.items() if k not in _OF_AN_ACTION}
    acted = update_alert(
        store,
        alert,
        now,
        status=alert.status if failed else AlertStatus.TRIGGERED,
        action=action,
        action_state=state,
        acted_at=now,
        attempts=alert.attempts + 1,
        fruitless=alert.fruitless + failed,
        request_id=request_id,
        run_id=None,
        details={**kept, **details, **settled},
    )
    what = "a retraining is queued" if action == "request" else "the configured command runs"
    if failed:
        what = f"the {action} failed: {details.get('error')}"
    log_event(store, acted, f"action {state}", f"{messages.opening(acted)}: {what}", now)
    return acted


# ---------------------------------------------------------------------------------- settling


def settle(store: Ledgers, alert: DecayAlert, settings: DecaySettings, now: datetime) -> DecayAlert:
    """Write down what came of an action under way."""
    if alert.action_state is not ActionState.TRIGGERED:
        return alert
    if alert.action == "request":
        return _settle_request(store, alert, now)
    limit = timedelta(seconds=settings.command_timeout_s) + _GRACE
    if alert.acted_at is not None and now - alert.acted_at > limit:
        return _settled(store, alert, now, ActionState.FAILED, "the watchdog ended before it did")
    return alert


def _settle_request(store: Ledgers, alert: DecayAlert, now: datetime) -> DecayAlert:
    try:
        request = store.get_request(alert.request_id or "")
    except NotFound:
        return _settled(store, alert, now, ActionState.FAILED, "the request is gone")
    if request.status in {RequestStatus.PENDING, RequestStatus.PROCESSING}:
        return alert
    if request.status is not RequestStatus.COMPLETED or request.run_id is None:
        reason = request.error_message or f"the request was {request.status}"
        return _settled(store, alert, now, ActionState.FAILED, reason, run_id=request.run_id)
    run = store.get_run(request.run_id)
    reason = run.outcome_reason or str(run.outcome)
    return _settled(
        store,
        alert,
        now,
        ActionState.SUCCEEDED,
        reason,
        run_id=run.run_id,
        fruitful=run.outcome is Outcome.PROMOTED,
        ended=run.completed_at,
        details={"run_outcome": str(run.outcome)},
    )


def _settled(  # noqa: PLR0913 - one row has that many parts
    store: WatchLedger,
    alert: DecayAlert,
    now: datetime,
    state: ActionState,
    reason: str,
    *,
    run_id: str | None = None,
    fruitful: bool = False,
    ended: datetime | None = None,
    details: Mapping[str, object] | None = None,
) -> DecayAlert:
    done = update_alert(
        store,
        alert,
        now,
        action_state=state,
        run_id=run_id,
        fruitless=0 if fruitful else alert.fruitless + 1,
        details={
            **alert.details,
            **(details or {}),
            "settled_at": (ended or now).isoformat(),
            "settled_because": reason,
        },
    )
    action = "retraining" if alert.action == "request" else "command"
    message = f"{messages.opening(done)}: the {action} {state}. {reason}"
    log_event(store, done, f"action {state}", message, now)
    return done
