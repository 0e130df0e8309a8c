"""What the page shows, read from the store once a second at most, however many people watch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import StoreUnavailable
from ml_pipeline.reports.classes.figures import class_view
from ml_pipeline.reports.drift import drift_view
from ml_pipeline.reports.key_figures import of_store
from ml_pipeline.reports.overview import Overview, first_day, read_overview
from ml_pipeline.reports.run_view import champion_name, metric_rows
from ml_pipeline.store.contract import Store
from ml_pipeline.store.json_values import took_seconds
from ml_pipeline.web.attention import notices
from ml_pipeline.web.drawings import charts

_Read = TypeVar("_Read")
FRESH_SECONDS = 1.0
PATIENT_SECONDS = 4.0
FAILED_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """An overview of the store, what has been rendered from it, and what else was read with it."""

    overview: Overview
    view: dict[str, Any]
    taken_at: float
    rendered: dict[str, str] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)


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
                view, rendered = page_view(overview), {}
            # What other pages read is not kept: the etag says nothing of a candidate, for one.
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


def kept_once(snapshot: Snapshot, name: str, read: Callable[[], _Read]) -> _Read:
    """What other pages read from the store, read at its first use in each snapshot."""
    if name not in snapshot.kept:
        snapshot.kept[name] = read()
    found: _Read = snapshot.kept[name]
    return found


def page_view(overview: Overview) -> dict[str, Any]:
    """What the page shows beside the records themselves."""
    latest = overview.latest
    return {
        "notices": notices(overview),
        "figures": of_store(overview),
        "took": {run.run_id: took_seconds(run) for run in overview.runs},
        "metrics": [] if latest is None else metric_rows(latest)[:4],
        "charts": [drawn for drawn in charts(overview) if drawn],
        "drift": drift_view(overview.drift),
        "classes": class_view(overview.class_days),
        "champion_name": "champion" if latest is None else champion_name(latest),
    }
