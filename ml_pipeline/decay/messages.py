"""What people read about a decay: how a metric changed, what an alert says, what happens next."""

from __future__ import annotations

from datetime import date

from ml_pipeline.decay.refresh.versions import sentence_of
from ml_pipeline.store.alerts import ActionState, AlertStatus, Cause, DecayAlert

# An alert's headline while it is open, and what the same is called when it is over.
_CAUSES = {
    Cause.PERFORMANCE: ("{} has decayed", "The decay of {}"),
    Cause.INPUT_DRIFT: ("The inputs of {} have shifted", "The shift in the inputs of {}"),
    Cause.ERROR_CLUSTERS: ("The errors of {} come in clusters", "The cluster of errors of {}"),
}
_ACTIONS = {"request": "retraining", "command": "command"}


# ----------------------------------------------------------------------------------- metrics


def figure(metric: str, value: float) -> str:
    """A metric's value in its own unit: per cent, points, or none."""
    if metric == "log_loss":
        return f"{value:.3f}"
    if metric == "calibration":
        return f"{abs(100 * value):.1f} points {'below' if value < 0 else 'above'}"
    return f"{100 * value:.1f} %"


def behaviour(metric: str, value: float) -> str:
    """What a model did when a metric has that value; goes on from "the model"."""
    shown = figure(metric, value)
    return {
        "accuracy": f"was right {shown} of the time",
        "confident_errors": f"was wrong in {shown} of its confident answers",
        "abstention": f"was too uncertain to answer {shown} of the time",
        "calibration": f"gave confidences {shown} its accuracy",
        "log_loss": f"had a log loss of {shown}",
    }[metric]


def compared(metric: str, *, days: int, recent: tuple[float, int], usual: tuple[float, int]) -> str:
    """The last days against those before; both as value and rows."""
    (value, rows), (before, rows_before) = recent, usual
    return (
        f"In the last {days} days the model {behaviour(metric, value)} ({rows:,} new results), "
        f"against {figure(metric, before)} on the {rows_before:,} results before."
    )


def certainty(metric: str, *, at_least: float, level: float) -> str:
    """How sure a worsening is, from its lower bound at the confidence level."""
    if at_least <= 0:
        return "That is no certain decline."
    amount = f"{at_least:.3f}" if metric == "log_loss" else f"{100 * at_least:.1f} points"
    return f"That is at least {amount} worse, with {100 * level:g} % confidence."


def since_then(alert: DecayAlert, value: float, rows: int, *, since: date) -> str:
    """How the metric of an alert did after it."""
    usual, alarming = (figure(alert.metric, it) for it in (alert.baseline, alert.recent))
    return (
        f"Since {since} the model {behaviour(alert.metric, value)} ({rows:,} new results); "
        f"{usual} was normal and {alarming} raised the alert."
    )


# ------------------------------------------------------------------------------------ alerts


def opening(alert: DecayAlert) -> str:
    """The headline of an alert that begins, without a full stop."""
    opened, _ = _CAUSES[alert.cause]
    return f"{opened.format(alert.model_name)} ({alert.severity})"


def subject(alert: DecayAlert) -> str:
    """What an alert is about, to begin a sentence with."""
    _, called = _CAUSES[alert.cause]
    return called.format(alert.model_name)


def headline(alert: DecayAlert) -> str:
    """What happened and where it stands, without a full stop."""
    if alert.status is AlertStatus.RESOLVED:
        return f"{subject(alert)} is over"
    if alert.status is AlertStatus.OVERRIDDEN:
        return f"{subject(alert)} was accepted as the new normal"
    progress = _progress(alert)
    return f"{opening(alert)}: {progress}" if progress else opening(alert)


def _progress(alert: DecayAlert) -> str:
    """What is being done about an open alert; nothing when that is not worth a headline."""
    if alert.needs_person:
        return "a person is needed"
    if alert.status is AlertStatus.ACKNOWLEDGED:
        return "somebody takes care of it"
    action = _ACTIONS.get(alert.action or "")
    if action and alert.action_state is ActionState.FAILED:
        return f"the {action} failed"
    if action == "retraining" and alert.action_state is ActionState.TRIGGERED:
        return "a retraining is queued"
    return ""


def vain_attempts(alert: DecayAlert) -> str:
    """That retraining does not help, and how often it was tried."""
    return f"{alert.fruitless} retrainings in a row brought no better model"


def next_step(alert: DecayAlert, *, quotes: bool = True) -> str:
    """What happens now, by itself or by a person.

    With `quotes` also what an action said when it failed, which may be a row of the log, and the
    command that was run.
    """
    by_status = {
        AlertStatus.RESOLVED: f"nothing. {alert.details.get('resolved_because', '')}".strip(),
        AlertStatus.OVERRIDDEN: "nothing; this is the new normal.",
        AlertStatus.ACKNOWLEDGED: "somebody takes care of it; nothing happens automatically.",
    }
    if alert.status in by_status:
        return by_status[alert.status]
    if alert.needs_person:
        return (
            f"a person is needed: {vain_attempts(alert)}. "
            f"`ml-pipeline decay --acknowledge {alert.alert_id}` says that somebody takes care."
        )
    if alert.action_state is ActionState.FAILED:
        why = alert.details.get("settled_because") or alert.details.get("error")
        code = alert.details.get("exit_code")
        action = _ACTIONS.get(alert.action or "", alert.action)
        shown = f" ({why or f'exit code {code}'})" if quotes else ""
        return f"the {action} failed{shown}; it will be tried again."
    by_action = {
        "request": f"a retraining is queued (request {alert.request_id}); the next run does it.",
        "command": f"`{' '.join(alert.details.get('command', []))}` was run."
        if quotes
        else "the configured command was run.",
    }
    step = by_action.get(alert.action or "", "nothing happens automatically; a person decides.")
    return f"{step} {sentence_of(alert)}".rstrip()
