"""The embedded store: one SQLite file in WAL mode and a folder of artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

from ml_pipeline.domain import (
    ModelState,
    ModelVersion,
    Outcome,
    PromotionEvent,
    RequestStatus,
    RetrainingRequest,
    RetrainingRun,
    RunStatus,
)
from ml_pipeline.errors import AlreadyFinished, PromotionRefused, RunInProgress, StoreRefused
from ml_pipeline.local_database import SQLITE_VERSION, Connection, Database
from ml_pipeline.local_log import LocalLog
from ml_pipeline.local_shelf import LocalShelf
from ml_pipeline.local_tables import (
    check_same,
    find,
    from_row,
    get,
    insert,
    select,
    time_text,
    to_row,
    update,
)
from ml_pipeline.local_truth import LocalTruth
from ml_pipeline.local_watch import LocalWatch

PATIENCE: Final = timedelta(seconds=10)
_ENDED: Final = {RunStatus.COMPLETED, RunStatus.FAILED}
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


def _held(db: Connection, request_id: str, run_id: str) -> RetrainingRequest:
    """The request, if the run holds it or closed it itself."""
    request = get(db, RetrainingRequest, request_id)
    if request.status in _CLOSED and request.run_id != run_id:
        message = f"Request {request_id} is {request.status}, by run {request.run_id}."
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


def _dead(run: RetrainingRun, now: datetime) -> RetrainingRun:
    reason = f"no heartbeat since {run.heartbeat_at.isoformat()}; closed at {now.isoformat()}"
    return replace(
        run,
        status=RunStatus.FAILED,
        outcome=Outcome.FAILED,
        outcome_reason=reason,
        error_message=reason,
        completed_at=now,
    )


def _expired(request: RetrainingRequest, now: datetime, max_attempts: int) -> RetrainingRequest:
    if request.attempts < max_attempts:
        return _unclaimed(request)
    reason = f"given up after {request.attempts} attempts: run {request.run_id} did not finish it"
    return _closed(request, RequestStatus.FAILED, now=now, reason=reason)


def _champion(db: Connection, model_name: str) -> ModelVersion | None:
    state = ModelState.CHAMPION.value
    return next(iter(select(db, ModelVersion, "", model_name=model_name, state=state)), None)


def _check_expected(event: PromotionEvent, champion: ModelVersion | None) -> None:
    serving = None if champion is None else champion.model_id
    if serving != event.from_model_id:
        message = f"{serving} serves {event.model_name} by now, not {event.from_model_id}."
        raise PromotionRefused(message, hint="Judge the challenger against the champion of today.")
    if serving == event.to_model_id:
        message = f"{serving} serves {event.model_name} already."
        raise PromotionRefused(message)


class LocalStore(LocalLog, LocalShelf, LocalTruth, LocalWatch):
    """Everything of `Store` in one folder. Build it with `open`."""

    def __init__(self, directory: Path, *, patience: timedelta = PATIENCE) -> None:
        self._database = Database(str(directory / "store.db"), patience=patience)
        self._folder = directory / "artifacts"

    @classmethod
    def open(cls, directory: Path, *, patience: timedelta = PATIENCE) -> Self:
        """Open the store in the folder, made on first use.

        `patience` is how long a call waits for another process's write lock.
        """
        store = cls(directory.absolute(), patience=patience)
        store._make_folder()
        store._database.prepare()
        return store

    def close(self) -> None:
        """Nothing is held between calls."""

    def describe(self) -> Mapping[str, Any]:
        """What the store is and where, without secrets."""
        folder = self._folder.parent
        return {"kind": "local", "directory": str(folder), "sqlite": SQLITE_VERSION}

    # -- runs

    def start_run(self, run: RetrainingRun) -> None:
        """Insert a running row. Raises RunInProgress when another run of the model is running."""
        if run.status is not RunStatus.RUNNING:
            message = f"Run {run.run_id} is {run.status}; a run starts as running."
            raise StoreRefused(message)
        with self._database.writing() as db:
            known = find(db, RetrainingRun, run.run_id)
            if known is None:
                self._check_none_running(db, run.model_name)
                insert(db, run)
            elif known.status in _ENDED:
                message = f"Run {run.run_id} is {known.status} already."
                raise AlreadyFinished(message)
            else:
                check_same(known, run, "heartbeat_at")

    @staticmethod
    def _check_none_running(db: Connection, model_name: str) -> None:
        running = RunStatus.RUNNING.value
        for run in select(db, RetrainingRun, "", model_name=model_name, status=running):
            message = (
                f"Run {run.run_id} of {model_name} is running since {run.started_at.isoformat()}, "
                f"last heard of at {run.heartbeat_at.isoformat()}."
            )
            raise RunInProgress(message, hint="Wait for it; a run that died is closed by the next.")

    def heartbeat(self, run_id: str, *, now: datetime) -> None:
        """Say that the run is alive. Raises AlreadyFinished when it was closed meanwhile."""
        with self._database.writing() as db:
            run = get(db, RetrainingRun, run_id)
            if run.status in _ENDED:
                message = f"Run {run_id} is {run.status}: {run.outcome_reason}."
                raise AlreadyFinished(message)
            update(db, replace(run, heartbeat_at=max(run.heartbeat_at, now)))

    def finish_run(self, run: RetrainingRun) -> None:
        """Close the row with everything it came to. Raises AlreadyFinished, NotFound."""
        if run.status not in _ENDED:
            message = f"Run {run.run_id} is {run.status}; a run ends as completed or failed."
            raise StoreRefused(message)
        with self._database.writing() as db:
            known = get(db, RetrainingRun, run.run_id)
            if known.status in _ENDED:
                if to_row(known) != to_row(run):
                    message = f"Run {run.run_id} is {known.status} already, with another result."
                    raise AlreadyFinished(message)
                return
            check_same(
                known,
                replace(
                    known, model_name=run.model_name, source=run.source, started_at=run.started_at
                ),
            )
            update(db, run)

    def get_run(self, run_id: str) -> RetrainingRun:
        """Raise NotFound when there is none."""
        with self._database.reading() as db:
            return get(db, RetrainingRun, run_id)

    def latest_run(self, *, model_name: str) -> RetrainingRun | None:
        """The run started last."""
        return next(iter(self.list_runs(model_name=model_name, limit=1)), None)

    def list_runs(self, *, model_name: str, limit: int) -> list[RetrainingRun]:
        """The latest runs, newest first."""
        rest = f"ORDER BY started_at DESC, id DESC LIMIT {int(limit)}"
        with self._database.reading() as db:
            return select(db, RetrainingRun, rest, model_name=model_name)

    def fail_stale_runs(
        self, *, model_name: str, now: datetime, older_than: timedelta
    ) -> list[RetrainingRun]:
        """Close running rows whose last heartbeat is older than that as failed; return them."""
        running = RunStatus.RUNNING.value
        with self._database.writing() as db:
            runs = select(db, RetrainingRun, "", model_name=model_name, status=running)
            return [
                update(db, _dead(run, now)) for run in runs if run.heartbeat_at < now - older_than
            ]

    # -- requests

    def submit(self, request: RetrainingRequest) -> RetrainingRequest:
        """Add a pending request; return the row."""
        if request != replace(
            _unclaimed(request), attempts=0, processed_at=None, error_message=None
        ):
            message = f"Request {request.request_id} is not fresh; it starts pending and unclaimed."
            raise StoreRefused(message)
        with self._database.writing() as db:
            known = find(db, RetrainingRequest, request.request_id)
            if known is None:
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

    # -- models

    def register(self, model: ModelVersion) -> None:
        """Add a model that is not champion."""
        with self._database.writing() as db:
            known = find(db, ModelVersion, model.model_name, model.model_id)
            if known is not None:
                check_same(known, model, "state")
            elif model.state is ModelState.CHAMPION:
                message = f"{model.model_id} cannot be registered as champion."
                raise StoreRefused(message, hint="Register it as candidate, then promote it.")
            else:
                insert(db, model)

    def get_model(self, model_name: str, model_id: str) -> ModelVersion:
        """Raise NotFound when there is none."""
        with self._database.reading() as db:
            return get(db, ModelVersion, model_name, model_id)

    def list_models(
        self, *, model_name: str, anchor_id: str | None = None, limit: int = 1000
    ) -> list[ModelVersion]:
        """Registered models, newest first; `anchor_id` keeps one live line."""
        rest = f"ORDER BY created_at DESC, model_id DESC LIMIT {int(limit)}"
        with self._database.reading() as db:
            return select(db, ModelVersion, rest, model_name=model_name, anchor_id=anchor_id)

    def champion(self, *, model_name: str) -> ModelVersion | None:
        """The model that serves."""
        with self._database.reading() as db:
            return _champion(db, model_name)

    def promote(self, event: PromotionEvent) -> ModelVersion:
        """Make `to_model_id` champion if `from_model_id` still is; keep the event."""
        with self._database.writing() as db:
            model = get(db, ModelVersion, event.model_name, event.to_model_id)
            known = find(db, PromotionEvent, event.event_id)
            if known is not None:
                check_same(known, event)
                return model
            before = _champion(db, event.model_name)
            _check_expected(event, before)
            # The index on champions is checked row by row: the old one leaves first.
            if before is not None:
                update(db, replace(before, state=ModelState.RETIRED))
            insert(db, event)
            return update(db, replace(model, state=ModelState.CHAMPION))

    def set_model_state(self, model_name: str, model_id: str, state: ModelState) -> None:
        """Move a model that is not champion to another state that is not champion."""
        with self._database.writing() as db:
            model = get(db, ModelVersion, model_name, model_id)
            if ModelState.CHAMPION in {state, model.state}:
                message = f"{model_id} is {model.state} and cannot become {state} this way."
                raise StoreRefused(message, hint="Champions change by promotion or rollback only.")
            update(db, replace(model, state=state))

    def promotion_events(self, *, model_name: str, limit: int = 1000) -> list[PromotionEvent]:
        """Changes of champion, newest first."""
        rest = f"ORDER BY sequence DESC LIMIT {int(limit)}"
        with self._database.reading() as db:
            return select(db, PromotionEvent, rest, model_name=model_name)
