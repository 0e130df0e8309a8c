"""The queue's part of the store's contract."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from ml_pipeline.store.records import OpenLimits, RequestStatus, RetrainingRequest


class RequestQueue(Protocol):
    """Rows of `model_retraining_requests`."""

    def submit(
        self, request: RetrainingRequest, *, limits: OpenLimits | None = None
    ) -> RetrainingRequest:
        """Add a pending request. Raises StoreRefused when the limits leave no room for it."""
        ...

    def claim(
        self,
        *,
        model_name: str,
        run_id: str,
        now: datetime,
        lease: timedelta,
        request_id: str | None = None,
    ) -> RetrainingRequest | None:
        """Take the next claimable request (high, normal, low; then oldest), or that one."""
        ...

    def renew(self, *, run_id: str, now: datetime, lease: timedelta) -> int:
        """Let the leases that the run holds last from now on; return how many it holds."""
        ...

    def complete(self, request_id: str, *, run_id: str, now: datetime) -> None:
        """Close a request that the run holds. Raises AlreadyFinished, NotFound."""
        ...

    def fail(self, request_id: str, *, run_id: str, now: datetime, reason: str) -> None:
        """Close a request that the run holds as failed, with the reason."""
        ...

    def release(self, request_id: str, *, run_id: str, now: datetime) -> None:
        """Give a request that the run holds back to the queue."""
        ...

    def cancel(self, request_id: str, *, now: datetime) -> RetrainingRequest:
        """Cancel a pending request. Raises AlreadyFinished when it is no longer pending."""
        ...

    def get_request(self, request_id: str) -> RetrainingRequest:
        """Raise NotFound when there is none."""
        ...

    def list_requests(
        self, *, model_name: str, status: RequestStatus | None = None
    ) -> list[RetrainingRequest]:
        """Requests in the order in which they are served."""
        ...

    def release_stale(
        self, *, model_name: str, now: datetime, max_attempts: int
    ) -> list[RetrainingRequest]:
        """Return requests whose lease has run out to the queue, or fail the worn out ones."""
        ...

    def prune_requests(
        self, *, model_name: str, now: datetime, pending_before: datetime, closed_before: datetime
    ) -> list[RetrainingRequest]:
        """Fail requests that wait since before then and return them, in the order of service.

        Requests that were closed before `closed_before` are deleted.
        """
        ...
