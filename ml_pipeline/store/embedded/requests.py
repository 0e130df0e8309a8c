"""The queue of the embedded store: requests, their leases and their order."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from ml_pipeline.errors import AlreadyFinished, StoreRefused
from ml_pipeline.store.embedded.database import Connection, Database
from ml_pipeline.store.embedded.tables import find, get, insert, select, update
from ml_pipeline.store.records import OpenLimits, RequestStatus, RetrainingRequest
from ml_pipeline.store.rows import check_same, from_row, time_text

_CLOSED: Final = {RequestStatus.COMPLETED, RequestStatus.FAILED, RequestStatus.CANCELLED}
# What the queue writes; the rest of a request is as it was submitted.
_QUEUE_FIELDS: Final = (
    "status",
    "run_id",
    "attempts",
    "claimed_at",
    "lease_until",
    "processed_at",
    "error_message",
)
_SERVED = "ORDER BY priority_rank, created_at, id"
_CLAIMABLE = (
    "SELECT * FROM model_retraining_requests "  # noqa: S608 - constants
    "WHERE model_name = :model_name AND (:request_id IS NULL OR id = :request_id) "
    "AND (status = 'pending' OR (status = 'processing' AND lease_until <= :now)) "
    f"{_SERVED} LIMIT 1"
)

_OPEN = (
    "SELECT count(*) FILTER (WHERE requested_by = :requested_by) AS theirs, count(*) AS everyone "
    "FROM model_retraining_requests "
    "WHERE model_name = :model_name AND status IN ('pending', 'processing')"
)
_FORGET = (
    "DELETE FROM model_retraining_requests WHERE model_name = :model_name "
    "AND status IN ('completed', 'failed', 'cancelled') AND processed_at < :before"
)
_HOLDING = (
    "SELECT * FROM model_retraining_requests "
    "WHERE retraining_run_id = :run_id AND status = 'processing'"
)


def _held(db: Connection, request_id: str, run_id: str) -> RetrainingRequest:
    """The request, if the run holds it or closed it itself."""
    request = get(db, RetrainingRequest, request_id)
    if request.status in _CLOSED and request.run_id != run_id:
        message = (
            f"Request {request_id} is {request.status} already, closed by run {request.run_id}."
        )
        raise AlreadyFinished(message)
    if request.run_id != run_id:
        message = f"Run {run_id} does not hold request {request_id} ({request.status})."
        raise StoreRefused(message)
    return request


def _check_open(request: RetrainingRequest) -> None:
    if request.status in _CLOSED:
        message = f"Request {request.request_id} is {request.status} already."
        raise AlreadyFinished(message)


def _unclaimed(request: RetrainingRequest) -> RetrainingRequest:
    pending = RequestStatus.PENDING
    return replace(request, status=pending, run_id=None, claimed_at=None, lease_until=None)


def _closed(
    request: RetrainingRequest, status: RequestStatus, *, now: datetime, reason: str | None = None
) -> RetrainingRequest:
    return replace(request, status=status, processed_at=now, lease_until=None, error_message=reason)


def _check_room(db: Connection, request: RetrainingRequest, limits: OpenLimits) -> None:
    """Requests that name nobody count in the total only."""
    asked = {"requested_by": request.requested_by, "model_name": request.model_name}
    open_now = db.execute(_OPEN, asked).fetchone()
    hint = "Wait until some requests are served, or cancel some."
    if open_now["theirs"] >= limits.per_user:
        message = (
            f"{request.requested_by} has {open_now['theirs']} open requests already; "
            f"{limits.per_user} are allowed."
        )
        raise StoreRefused(message, hint=hint)
    if open_now["everyone"] >= limits.total:
        message = f"{open_now['everyone']} requests are open already; {limits.total} are allowed."
        raise StoreRefused(message, hint=hint)


def _expired(request: RetrainingRequest, now: datetime, max_attempts: int) -> RetrainingRequest:
    if request.attempts < max_attempts:
        return _unclaimed(request)
    reason = f"given up after {request.attempts} attempts: run {request.run_id} did not finish it"
    return _closed(request, RequestStatus.FAILED, now=now, reason=reason)


def _unserved(request: RetrainingRequest, now: datetime) -> RetrainingRequest:
    reason = f"expired: no run served it since {request.created_at:%Y-%m-%d %H:%M} UTC"
    return _closed(request, RequestStatus.FAILED, now=now, reason=reason)


class LocalRequests:
    """`RequestQueue` on the table `model_retraining_requests`."""

    _database: Database

    def submit(
        self, request: RetrainingRequest, *, limits: OpenLimits | None = None
    ) -> RetrainingRequest:
        """Add a pending request; return the row."""
        if request != replace(
            _unclaimed(request), attempts=0, processed_at=None, error_message=None
        ):
            message = (
                f"Request {request.request_id} cannot be submitted: a new request is pending and "
                "unclaimed."
            )
            raise StoreRefused(message)
        with self._database.writing() as db:
            known = find(db, RetrainingRequest, request.request_id)
            if known is None:
                if limits is not None:
                    _check_room(db, request, limits)
                insert(db, request)
                return request
            check_same(known, request, *_QUEUE_FIELDS)
            return known

    def claim(
        self,
        *,
        model_name: str,
        run_id: str,
        now: datetime,
        lease: timedelta,
        request_id: str | None = None,
    ) -> RetrainingRequest | None:
        """Take the next claimable request (high, normal, low; then oldest), or that one.

        Asking again for one that the run holds changes nothing. Raises NotFound for an unknown id.
        """
        values = {"model_name": model_name, "request_id": request_id, "now": time_text(now)}
        with self._database.writing() as db:
            if request_id is not None:
                known = get(db, RetrainingRequest, request_id)
                alive = known.lease_until is not None and known.lease_until > now
                if known.run_id == run_id and alive and known.model_name == model_name:
                    return known
            row = db.execute(_CLAIMABLE, values).fetchone()
            if row is None:
                return None
            free = from_row(RetrainingRequest, row)
            return update(
                db,
                replace(
                    free,
                    status=RequestStatus.PROCESSING,
                    run_id=run_id,
                    claimed_at=now,
                    lease_until=now + lease,
                    attempts=free.attempts + 1,
                ),
            )

    def renew(self, *, run_id: str, now: datetime, lease: timedelta) -> int:
        """Let the leases that the run holds last from now on; return how many it holds."""
        with self._database.writing() as db:
            held = [
                from_row(RetrainingRequest, row) for row in db.execute(_HOLDING, {"run_id": run_id})
            ]
            for request in held:
                until = max(request.lease_until or now, now + lease)
                update(db, replace(request, lease_until=until))
        return len(held)

    def complete(self, request_id: str, *, run_id: str, now: datetime) -> None:
        """Close a request that the run holds. Raises AlreadyFinished, NotFound."""
        with self._database.writing() as db:
            request = _held(db, request_id, run_id)
            if request.status is not RequestStatus.COMPLETED:
                _check_open(request)
                update(db, _closed(request, RequestStatus.COMPLETED, now=now))

    def fail(self, request_id: str, *, run_id: str, now: datetime, reason: str) -> None:
        """Close a request that the run holds as failed, with the reason."""
        with self._database.writing() as db:
            request = _held(db, request_id, run_id)
            if (request.status, request.error_message) != (RequestStatus.FAILED, reason):
                _check_open(request)
                update(db, _closed(request, RequestStatus.FAILED, now=now, reason=reason))

    def release(self, request_id: str, *, run_id: str, now: datetime) -> None:  # noqa: ARG002
        """Give a request that the run holds back to the queue."""
        with self._database.writing() as db:
            request = get(db, RetrainingRequest, request_id)
            _check_open(request)
            if request.status is not RequestStatus.PENDING:
                update(db, _unclaimed(_held(db, request_id, run_id)))

    def cancel(self, request_id: str, *, now: datetime) -> RetrainingRequest:
        """Cancel a pending request. Raises AlreadyFinished when it is no longer pending."""
        with self._database.writing() as db:
            request = get(db, RetrainingRequest, request_id)
            if request.status is RequestStatus.CANCELLED:
                return request
            if request.status is not RequestStatus.PENDING:
                message = f"Request {request_id} is {request.status}, no longer pending."
                raise AlreadyFinished(message)
            return update(db, _closed(request, RequestStatus.CANCELLED, now=now))

    def get_request(self, request_id: str) -> RetrainingRequest:
        """Raise NotFound when there is none."""
        with self._database.reading() as db:
            return get(db, RetrainingRequest, request_id)

    def list_requests(
        self, *, model_name: str, status: RequestStatus | None = None
    ) -> list[RetrainingRequest]:
        """Requests in the order in which they are served."""
        wanted = None if status is None else status.value
        with self._database.reading() as db:
            return select(db, RetrainingRequest, _SERVED, model_name=model_name, status=wanted)

    def release_stale(
        self, *, model_name: str, now: datetime, max_attempts: int
    ) -> list[RetrainingRequest]:
        """Return requests whose lease has run out to the queue, or fail the worn out ones."""
        held = RequestStatus.PROCESSING.value
        with self._database.writing() as db:
            requests = select(db, RetrainingRequest, _SERVED, model_name=model_name, status=held)
            return [
                update(db, _expired(request, now, max_attempts))
                for request in requests
                if request.lease_until is not None and request.lease_until <= now
            ]

    def prune_requests(
        self, *, model_name: str, now: datetime, pending_before: datetime, closed_before: datetime
    ) -> list[RetrainingRequest]:
        """Fail requests that wait since before then and return them, in the order of service.

        Requests that were closed before `closed_before` are deleted.
        """
        waiting = RequestStatus.PENDING.value
        forgotten = {"model_name": model_name, "before": time_text(closed_before)}
        with self._database.writing() as db:
            db.execute(_FORGET, forgotten)
            requests = select(db, RetrainingRequest, _SERVED, model_name=model_name, status=waiting)
            return [
                update(db, _unserved(request, now))
                for request in requests
                if request.created_at < pending_before
            ]
