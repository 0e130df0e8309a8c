"""What needs somebody: the lines that the page begins with, the most urgent first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ml_pipeline.reports.overview import Overview
from ml_pipeline.store.alerts import AlertStatus, Cause, DecayAlert, Severity
from ml_pipeline.store.records import RetrainingRun, RunStatus

_CAUSES = {
    Cause.PERFORMANCE: "The answers have become worse.",
    Cause.INPUT_DRIFT: "The inputs have shifted.",
    Cause.ERROR_CLUSTERS: "The errors come in clusters.",
}
_URGENCY = ("bad", "wait", "info", "good")


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """A headline, what is behind it, and where to look or what to do; `tone` is the urgency.

    `path` is a path of the page or a place in it.
    """

    tone: str
    headline: str
    text: str = ""
    path: str = ""
    link: str = ""


def notices(overview: Overview) -> list[Notice]:
    """The lines for an overview; one that says that nothing is to be done, if so."""
    found = [
        *map(_alert, (alert for alert in overview.alerts if alert.status.is_open)),
        *_runs(overview),
        *_models(overview),
    ]
    found.sort(key=lambda notice: _URGENCY.index(notice.tone))
    if any(notice.tone in {"bad", "wait"} for notice in found):
        return found
    text = "No open alert, no failed or late run, nothing to approve."
    calm = Notice(tone="good", headline="Nothing needs you.", text=text)
    return [*found, calm] if overview.is_answered and overview.runs else found


def _alert(alert: DecayAlert) -> Notice:
    text = alert.message
    if alert.needs_person:
        text += f" {alert.fruitless} retrainings in a row brought no better model: look at it."
    elif alert.status is AlertStatus.ACKNOWLEDGED:
        text += " Somebody takes care of it."
    is_urgent = alert.needs_person or alert.severity is not Severity.WARNING
    return Notice(
        tone="bad" if is_urgent else "wait",
        headline=f"{_CAUSES[alert.cause]} ({alert.severity})",
        text=text,
        path="#alerts-h",
        link="All alerts",
    )


def _runs(overview: Overview) -> Iterator[Notice]:
    if overview.latest is not None:
        yield from _latest(overview.latest)
    if overview.is_late and overview.due_at is not None:
        text = (
            f"One was expected by {overview.due_at:%Y-%m-%d %H:%M} UTC. `ml-pipeline doctor` says "
            "what keeps it; `ml-pipeline run` starts one."
        )
        yield Notice(tone="bad", headline="No run has started for too long.", text=text)


def _latest(run: RetrainingRun) -> Iterator[Notice]:
    if run.status is RunStatus.FAILED:
        first = (run.error_message or "").strip().partition("\n")[0]
        headline, path = "The latest run failed.", f"/runs/{run.run_id}"
        yield Notice(tone="bad", headline=headline, text=first, path=path, link="Its report")
    if run.status is RunStatus.RUNNING:
        text = f"It began at {run.started_at:%Y-%m-%d %H:%M} UTC."
        yield Notice(tone="info", headline="A run is under way.", text=text)


def _models(overview: Overview) -> Iterator[Notice]:
    count = len(overview.waiting)
    if count:
        headline = "A model waits" if count == 1 else f"{count} models wait"
        yield Notice(
            tone="wait", headline=f"{headline} for approval.", path="#waiting-h", link="Decide"
        )
    if overview.proposal is not None:
        headline = "Somebody answers whom nobody here trained."
        yield Notice(tone="wait", headline=headline, text=overview.proposal)
    if overview.yours is not None:
        text = "What is trained here learns beside it and asks before it takes its place."
        yield Notice(tone="info", headline=f"Answering: {overview.yours}.", text=text)
    elif overview.champion is None and overview.runs:
        text = "`ml-pipeline train --register` makes a first one from a table of labelled rows."
        yield Notice(tone="wait", headline="No model answers yet.", text=text)
