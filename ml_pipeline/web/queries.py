"""What the page shows, read from the store once a second at most, however many people watch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import StoreUnavailable
from ml_pipeline.reports.charts import Chart, Mark, Series, day_text, draw, percent_text
from ml_pipeline.reports.overview import Overview, first_day, read_overview
from ml_pipeline.reports.pages import percent
from ml_pipeline.reports.run_view import metric_rows
from ml_pipeline.store.alerts import TOGETHER
from ml_pipeline.store.contract import Store
from ml_pipeline.store.json_values import took_seconds

FRESH_SECONDS = 1.0
PATIENT_SECONDS = 4.0
FAILED_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """An overview of the store, and what has been rendered from it."""

    overview: Overview
    view: dict[str, Any]
    taken_at: float
    rendered: dict[str, str] = field(default_factory=dict)


class OverviewCache:
    """The latest snapshot. Several threads may ask; one of them reads, the others wait for it.

    They wait for a few seconds at most, and what was just refused is refused again at once: a
    store that is away must not make everybody stand in line. As long as nothing has changed in a
    store that can tell, only its etag is read.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: Callable[[], datetime],
        *,
        fresh_s: float = FRESH_SECONDS,
    ) -> None:
        self._store, self._settings, self._clock = store, settings, clock
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._latest: Snapshot | None = None
        self._failure: tuple[float, StoreUnavailable] | None = None
        self._etag: str | None = None

    def latest(self) -> Snapshot:
        """A snapshot at most `fresh_s` old. Raises StoreError when the store cannot be read."""
        if not self._lock.acquire(timeout=PATIENT_SECONDS):
            message = f"The store has not answered for {PATIENT_SECONDS:.0f} s."
            raise StoreUnavailable(message)
        try:
            if self._latest is None or time.monotonic() - self._latest.taken_at > self._fresh_s:
                self._latest = self._renewed_or_refused(self._latest)
            return self._latest
        finally:
            self._lock.release()

    def _renewed_or_refused(self, before: Snapshot | None) -> Snapshot:
        if self._failure is not None and time.monotonic() - self._failure[0] < FAILED_SECONDS:
            raise StoreUnavailable(self._failure[1].message, hint=self._failure[1].hint)
        try:
            snapshot = self._renewed(before)
        except StoreUnavailable as error:
            self._failure = (time.monotonic(), error)
            raise
        self._failure = None
        return snapshot

    def _renewed(self, before: Snapshot | None) -> Snapshot:
        now = self._clock()
        since = first_day(now)
        # Asked for before the rest: what changes in between is read twice, never missed.
        etag = self._store.etag(model_name=self._settings.model_name, since=since)
        if (
            before is not None
            and etag is not None
            and (etag, since) == (self._etag, first_day(before.overview.at))
        ):
            overview = replace(before.overview, at=now)
            view, rendered = before.view, before.rendered
            if overview.is_late != before.overview.is_late:
                rendered = {}
            return Snapshot(
                overview=overview, view=view, taken_at=time.monotonic(), rendered=rendered
            )
        overview = read_overview(self._store, self._settings, now=now)
        self._etag = etag
        return Snapshot(overview=overview, view=page_view(overview), taken_at=time.monotonic())

    def forget(self) -> None:
        """Something has changed: read the store again for the next snapshot."""
        with self._lock:
            self._latest = None


def rendered_once(snapshot: Snapshot, name: str, render: Callable[[], str]) -> str:
    """A part of the page, rendered at its first use; two threads that do it at once do the same."""
    if name not in snapshot.rendered:
        snapshot.rendered[name] = render()
    return snapshot.rendered[name]


def page_view(overview: Overview) -> dict[str, Any]:
    """What the page shows beside the records themselves."""
    latest = overview.latest
    return {
        "took": {run.run_id: took_seconds(run) for run in overview.runs},
        "metrics": [] if latest is None else metric_rows(latest)[:4],
        "runs_chart": _runs_chart(overview),
        "days_chart": _days_chart(overview),
    }


def _runs_chart(overview: Overview) -> Any:  # noqa: ANN401 - markup
    judged = [run for run in reversed(overview.runs) if "accuracy" in run.metrics]
    if not judged:
        return ""
    champion = [
        (float(place), run.details["champion_metrics"]["accuracy"])
        for place, run in enumerate(judged)
        if run.details.get("champion_metrics", {}).get("accuracy") is not None
    ]
    challenger = [(float(place), run.metrics["accuracy"]) for place, run in enumerate(judged)]
    marks = [
        Mark(x=float(place), text=f"{run.started_at:%Y-%m-%d}: promoted {run.challenger_id}")
        for place, run in enumerate(judged)
        if run.outcome == "promoted"
    ]
    return draw(
        Chart(
            name="runs",
            title="Accuracy of the last runs on results that neither model was trained on",
            summary=(
                f"{len(judged)} runs compared models; the latest challenger was right "
                f"{percent(challenger[-1][1])} of the time. {len(marks)} promotions."
            ),
            series=[
                Series(name="challenger", points=challenger),
                Series(name="champion", points=champion),
            ],
            x_text=lambda place: (
                f"{judged[round(place)].started_at:%m-%d}" if 0 <= place < len(judged) else ""
            ),
            y_text=percent_text,
            marks=marks,
        )
    )


def _days_chart(overview: Overview) -> Any:  # noqa: ANN401 - markup
    days = by_day(overview)
    if not days:
        return ""
    marks = [
        Mark(
            x=float(alert.detected_at.date().toordinal()),
            text=f"{alert.detected_at:%Y-%m-%d}: {alert.severity} {alert.metric}: {alert.message}",
        )
        for alert in overview.alerts
    ]
    rows = sum(count for _, count, _ in days)
    right = sum(correct for _, _, correct in days)
    return draw(
        Chart(
            name="days",
            title="Accuracy per day on which the outcome became known",
            summary=(
                f"{rows} results on {len(days)} days; the answers were right "
                f"{percent(right / rows)} of the time. {len(marks)} alerts."
            ),
            series=[
                Series(
                    name="accuracy",
                    points=[(float(day.toordinal()), correct / n) for day, n, correct in days],
                )
            ],
            x_text=day_text,
            y_text=percent_text,
            marks=marks,
            marks_name="alert",
        )
    )


def by_day(overview: Overview) -> Sequence[tuple[date, int, int]]:
    """Days with their answers and right ones, all models together.

    A day is kept for each model and, by the watchdog, for all of them: that one counts alone.
    """
    whole = {row.day for row in overview.days if row.model_id == TOGETHER}
    sums: dict[date, tuple[int, int]] = {}
    for row in overview.days:
        if row.answered and (row.model_id == TOGETHER or row.day not in whole):
            answered, correct = sums.get(row.day, (0, 0))
            sums[row.day] = (answered + row.answered, correct + row.correct)
    return [(day, *sums[day]) for day in sorted(sums)]
