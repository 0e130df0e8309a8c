"""The requests that a run serves: claimed together, kept while it works, settled by its outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import (
    AlreadyFinished,
    NotFound,
    PipelineError,
    Stopped,
    StoreRefused,
    StoreUnavailable,
)
from ml_pipeline.store.contract import Store
from ml_pipeline.store.queue.contract import RequestQueue
from ml_pipeline.store.records import (
    OpenLimits,
    Priority,
    RequestStatus,
    RetrainingRequest,
    RetrainingRun,
    RunStatus,
)

log = logging.getLogger("auto_reinforcement")

# Faults that are not the request's: the next run may well serve it.
PASSING = (StoreUnavailable, Stopped)


@dataclass(kw_only=True, slots=True)
class ServedRequests:
    """The requests of one run."""

    store: Store
    settings: Settings
    run_id: str
    clock: Callable[[], datetime]
    claimed: list[RetrainingRequest] = field(default_factory=list)
    _renewed_at: datetime | None = None

    @property
    def lease(self) -> timedelta:
        """How long a request is held without a sign of life."""
        return timedelta(minutes=self.settings.run.request_lease_minutes)

    def claim_all(self, wanted: str | None) -> None:
        """Claim everything that waits, `wanted` first; each counts as soon as it is claimed.

        Raises PipelineError when the wanted one cannot be served.
        """
        if wanted is not None and not self._claim(wanted):
            found = self.store.get_request(wanted)
            raise PipelineError(
                f"Request {wanted} is {found.status} and cannot be served.",
                hint="Submit a new one with `ml-pipeline requests submit`.",
            )
        while self._claim(None):
            pass

    def _claim(self, request_id: str | None) -> bool:
        request = self.store.claim(
            model_name=self.settings.model_name,
            run_id=self.run_id,
            now=self.clock(),
            lease=self.lease,
            request_id=request_id,
        )
        if request is None:
            return False
        log.info("Serving request %s (%s)", request.request_id, request.priority)
        self.claimed.append(request)
        return True

    def renew(self) -> None:
        """Let the leases go on; asked often, done when half of their time is over."""
        now = self.clock()
        since = self._renewed_at or min((r.claimed_at or now for r in self.claimed), default=now)
        # A clock that was set back must not make the leases look fresh.
        if self.claimed and not timedelta(0) <= now - since < self.lease / 2:
            self.store.renew(run_id=self.run_id, now=now, lease=self.lease)
            self._renewed_at = now

    def settle(self, run: RetrainingRun, error: Exception | None) -> None:
        """Complete, release or fail every request of the run."""
        for request in self.claimed:
            try:
                self._settle(request, run, error)
            except (AlreadyFinished, StoreRefused) as lost:
                # Its lease ran out and somebody else took it: it is theirs to settle.
                log.warning("Request %s is not this run's any more: %s", request.request_id, lost)

    def _settle(
        self, request: RetrainingRequest, run: RetrainingRun, error: Exception | None
    ) -> None:
        now, request_id = self.clock(), request.request_id
        if error is None:
            self.store.complete(request_id, run_id=self.run_id, now=now)
        elif isinstance(error, PASSING) and _may_try_again(request, self.settings):
            self.store.release(request_id, run_id=self.run_id, now=now)
        else:
            reason = why_it_failed(request, run.run_id, run.error_message or str(error))
            self.store.fail(request_id, run_id=self.run_id, now=now, reason=reason)


def why_it_failed(request: RetrainingRequest, run_id: str, cause: str) -> str:
    """What a request says of the run that failed.

    A user reads their own request, and the cause may quote rows of the log: it stands in the run's
    row, which they do not read.
    """
    return cause if request.requested_by is None else f"run {run_id} failed"


def close_leftovers(store: Store, settings: Settings, *, now: datetime) -> None:
    """Close what earlier crashes left: dead runs, and requests that nobody works on any more."""
    stale_after = timedelta(minutes=settings.run.stale_after_minutes)
    for stale in store.fail_stale_runs(
        model_name=settings.model_name, now=now, older_than=stale_after
    ):
        log.warning("Run %s died; closed as failed: %s", stale.run_id, stale.outcome_reason)
    held = RequestStatus.PROCESSING
    for request in store.list_requests(model_name=settings.model_name, status=held):
        _follow_its_run(store, settings, request, now)
    for request in store.release_stale(
        model_name=settings.model_name, now=now, max_attempts=settings.run.request_max_attempts
    ):
        log.warning("Request %s is %s again", request.request_id, request.status)


def _follow_its_run(
    store: Store, settings: Settings, request: RetrainingRequest, now: datetime
) -> None:
    """Settle a request as the run that held it ended; its lease is left alone while it works."""
    run_id, request_id = request.run_id or "", request.request_id
    try:
        run = store.get_run(run_id)
        if run.status is RunStatus.COMPLETED:
            store.complete(request_id, run_id=run_id, now=now)
        elif run.status is RunStatus.FAILED and _may_try_again(request, settings):
            store.release(request_id, run_id=run_id, now=now)
        elif run.status is RunStatus.FAILED:
            cause = why_it_failed(request, run_id, str(run.error_message))
            reason = f"given up after {request.attempts} attempts: {cause}"
            store.fail(request_id, run_id=run_id, now=now, reason=reason)
        else:
            return
    except (AlreadyFinished, NotFound, StoreRefused) as lost:
        # Its own run, or another that cleans up as well, was quicker; leases end all the rest.
        log.info("Request %s was left alone: %s", request_id, lost)
        return
    log.warning("Request %s was left by run %s, which %s", request_id, run_id, run.status)


def _may_try_again(request: RetrainingRequest, settings: Settings) -> bool:
    return request.attempts < settings.run.request_max_attempts


def submit_request(  # noqa: PLR0913 - one request has that many parts
    store: RequestQueue,
    settings: Settings,
    *,
    reason: str,
    priority: Priority,
    now: datetime,
    new_id: str,
    requested_by: str | None = None,
) -> RetrainingRequest:
    """Submit a request within the limits. Raises StoreRefused when too many are open."""
    request = RetrainingRequest(
        request_id=new_id,
        model_name=settings.model_name,
        priority=priority,
        status=RequestStatus.PENDING,
        created_at=now,
        reason=reason,
        requested_by=requested_by,
    )
    limits = OpenLimits(
        per_user=settings.run.open_requests_per_user, total=settings.run.open_requests_total
    )
    return store.submit(request, limits=limits)
