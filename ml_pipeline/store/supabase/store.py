"""The store in a Supabase project."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final, Self

from pydantic import SecretStr

from ml_pipeline.errors import NotFound, StoreCorrupt
from ml_pipeline.store.contract import EVERYTHING
from ml_pipeline.store.records import (
    ModelState,
    ModelVersion,
    OpenLimits,
    PromotionEvent,
    RequestStatus,
    RetrainingRequest,
    RetrainingRun,
)
from ml_pipeline.store.rows import Record, time_text
from ml_pipeline.store.supabase.artifacts import SupabaseArtifacts
from ml_pipeline.store.supabase.changes import SupabaseChanges
from ml_pipeline.store.supabase.log import SupabaseLog
from ml_pipeline.store.supabase.models import SupabaseModels
from ml_pipeline.store.supabase.samples import SupabaseSamples
from ml_pipeline.store.supabase.scoring import SupabaseScoring
from ml_pipeline.store.supabase.tables import (
    SupabaseTruth,
    SupabaseWatch,
    from_array,
    from_json,
    to_json,
)
from ml_pipeline.store.supabase.transport import Project, Timeouts, checked_url

_TIMEOUTS: Final = Timeouts()
_CANDIDATES: Final = 20


class SupabaseStore(
    SupabaseLog,
    SupabaseChanges,
    SupabaseArtifacts,
    SupabaseTruth,
    SupabaseWatch,
    SupabaseSamples,
    SupabaseModels,
    SupabaseScoring,
):
    """Everything of `Store` in one Supabase project. Build it with `open`."""

    def __init__(self, project: Project, *, public_url: str | None = None) -> None:
        self._project = project
        self._public_url = project.url if public_url is None else public_url

    @classmethod
    def open(
        cls,
        url: str,
        key: SecretStr,
        *,
        timeouts: Timeouts = _TIMEOUTS,
        public_url: str | None = None,
    ) -> Self:
        """Open the store of the project; nothing is asked of it yet.

        `key` is a service key of either style. `public_url` is the project's address in what is
        written for people, when they do not reach it at `url`. Raises ConfigError when an address
        or the key cannot be one.
        """
        if public_url is not None:
            public_url = checked_url(public_url, "SUPABASE_PUBLIC_URL")
        return cls(Project(url, key, timeouts), public_url=public_url)

    def __repr__(self) -> str:
        return f"SupabaseStore({self._project.url!r})"

    def close(self) -> None:
        """Close the connections."""
        self._project.close()

    def describe(self) -> Mapping[str, Any]:
        """What the store is and where, without secrets."""
        return {"kind": "supabase", "url": self._project.url}

    def etag(self, *, model_name: str, since: date) -> str | None:
        """A text that changes whenever something does that `status` shows of the model."""
        answer = self._project.call(
            "ml_pipeline_etag", p_model_name=model_name, p_since=since.isoformat()
        )
        if not isinstance(answer, list) or len(answer) != 1:
            raise StoreCorrupt("ml_pipeline_etag answered something else than a text.")
        return str(answer[0])

    # -- runs

    def start_run(self, run: RetrainingRun) -> None:
        """Insert a running row. Raises RunInProgress when another run of the model is running."""
        self._project.call("start_retraining_run", p_run=to_json(run))

    def heartbeat(self, run_id: str, *, now: datetime) -> None:
        """Record that the run is alive. Raises AlreadyFinished when it was closed meanwhile."""
        self._project.call(
            "heartbeat_retraining_run", by_id=True, p_run_id=run_id, p_now=time_text(now)
        )

    def finish_run(self, run: RetrainingRun) -> None:
        """Close the row with everything it came to. Raises AlreadyFinished, NotFound."""
        self._project.call("finish_retraining_run", p_run=to_json(run))

    def get_run(self, run_id: str) -> RetrainingRun:
        """Raise NotFound when there is none."""
        return self._get(RetrainingRun, "model_retraining_runs", id=run_id)

    def latest_run(self, *, model_name: str) -> RetrainingRun | None:
        """The run started last."""
        return next(iter(self.list_runs(model_name=model_name, limit=1)), None)

    def list_runs(
        self,
        *,
        model_name: str,
        limit: int,
        only: Collection[str] | None = None,
        without: Collection[str] = (),
    ) -> list[RetrainingRun]:
        """The latest runs, newest first, with all of their details or some."""
        chosen: dict[str, Any] = {"p_model_name": model_name, "p_limit": limit}
        function = "list_retraining_runs"
        if only is not None or without:
            function = "list_retraining_runs_in_brief"
            wanted = None if only is None else sorted(only)
            chosen |= {"p_only": wanted, "p_without": sorted(without)}
        return from_array(RetrainingRun, self._project.call(function, **chosen))

    def fail_stale_runs(
        self, *, model_name: str, now: datetime, older_than: timedelta
    ) -> list[RetrainingRun]:
        """Close running rows whose last heartbeat is older than that as failed; return them.

        One that lies as far in the future was made by a wrong clock and is closed as well.
        """
        rows = self._project.call(
            "fail_stale_retraining_runs",
            p_model_name=model_name,
            p_now=time_text(now),
            p_heard_before=time_text(now - older_than),
        )
        return from_array(RetrainingRun, rows)

    # -- requests

    def submit(
        self, request: RetrainingRequest, *, limits: OpenLimits | None = None
    ) -> RetrainingRequest:
        """Add a pending request; return the row."""
        row_sent = to_json(request)
        if limits is None:
            row = self._project.call("submit_retraining_request", p_request=row_sent)
        else:
            row = self._project.call(
                "submit_retraining_request_within",
                p_request=row_sent,
                p_per_user=limits.per_user,
                p_total=limits.total,
            )
        return from_json(RetrainingRequest, row)

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
        if request_id is not None:
            return self._claim(request_id, model_name, run_id, now, lease)
        # The next one is claimed by its id, because only that may be repeated: `the next` after
        # an answer that was lost would be another one, and the first would wait for its lease.
        while candidates := self._claimable(model_name, now):
            for candidate in candidates:
                claimed = self._claim(candidate.request_id, model_name, run_id, now, lease)
                if claimed is not None:
                    return claimed
        return None

    def _claim(
        self, request_id: str, model_name: str, run_id: str, now: datetime, lease: timedelta
    ) -> RetrainingRequest | None:
        row = self._project.call(
            "claim_retraining_request",
            by_id=True,
            p_model_name=model_name,
            p_run_id=run_id,
            p_now=time_text(now),
            p_lease_until=time_text(now + lease),
            p_request_id=request_id,
        )
        return None if row is None else from_json(RetrainingRequest, row)

    def _claimable(self, model_name: str, now: datetime) -> list[RetrainingRequest]:
        """The next few: when others claim at the same moment, one of them is left."""
        expired = f'and(status.eq.processing,lease_until.lte."{time_text(now)}")'
        rows = self._project.select(
            "model_retraining_requests",
            lambda table: (
                table.eq("model_name", model_name)
                .or_(f"status.eq.pending,{expired}")
                .order("priority_rank")
                .order("created_at")
                .order("id")
                .limit(_CANDIDATES)
            ),
        )
        return from_array(RetrainingRequest, rows)

    def renew(self, *, run_id: str, now: datetime, lease: timedelta) -> int:
        """Let the leases that the run holds last from now on; return how many it holds."""
        return int(
            self._project.call(
                "renew_retraining_leases", p_run_id=run_id, p_lease_until=time_text(now + lease)
            )
        )

    def complete(self, request_id: str, *, run_id: str, now: datetime) -> None:
        """Close a request that the run holds. Raises AlreadyFinished, NotFound."""
        self._project.call(
            "complete_retraining_request",
            by_id=True,
            p_request_id=request_id,
            p_run_id=run_id,
            p_now=time_text(now),
        )

    def fail(self, request_id: str, *, run_id: str, now: datetime, reason: str) -> None:
        """Close a request that the run holds as failed, with the reason."""
        self._project.call(
            "fail_retraining_request",
            by_id=True,
            p_request_id=request_id,
            p_run_id=run_id,
            p_now=time_text(now),
            p_reason=reason,
        )

    def release(self, request_id: str, *, run_id: str, now: datetime) -> None:  # noqa: ARG002
        """Give a request that the run holds back to the queue."""
        self._project.call(
            "release_retraining_request", by_id=True, p_request_id=request_id, p_run_id=run_id
        )

    def cancel(self, request_id: str, *, now: datetime) -> RetrainingRequest:
        """Cancel a pending request. Raises AlreadyFinished when it is no longer pending."""
        row = self._project.call(
            "cancel_retraining_request", by_id=True, p_request_id=request_id, p_now=time_text(now)
        )
        return from_json(RetrainingRequest, row)

    def get_request(self, request_id: str) -> RetrainingRequest:
        """Raise NotFound when there is none."""
        return self._get(RetrainingRequest, "model_retraining_requests", id=request_id)

    def list_requests(
        self, *, model_name: str, status: RequestStatus | None = None
    ) -> list[RetrainingRequest]:
        """Requests in the order in which they are served."""
        wanted = None if status is None else status.value
        rows = self._project.call(
            "list_retraining_requests", p_model_name=model_name, p_status=wanted
        )
        return from_array(RetrainingRequest, rows)

    def release_stale(
        self, *, model_name: str, now: datetime, max_attempts: int
    ) -> list[RetrainingRequest]:
        """Return requests whose lease has run out to the queue, or fail the worn out ones."""
        rows = self._project.call(
            "release_stale_retraining_requests",
            p_model_name=model_name,
            p_now=time_text(now),
            p_max_attempts=max_attempts,
        )
        return from_array(RetrainingRequest, rows)

    def prune_requests(
        self, *, model_name: str, now: datetime, pending_before: datetime, closed_before: datetime
    ) -> list[RetrainingRequest]:
        """Fail requests that wait since before then and return them, in the order of service.

        Requests that were closed before `closed_before` are deleted.
        """
        rows = self._project.call(
            "prune_retraining_requests",
            p_model_name=model_name,
            p_now=time_text(now),
            p_pending_before=time_text(pending_before),
            p_closed_before=time_text(closed_before),
        )
        return from_array(RetrainingRequest, rows)

    # -- models

    def register(self, model: ModelVersion) -> None:
        """Add a model that is not champion."""
        self._project.call("register_model", p_model=to_json(model))

    def get_model(self, model_name: str, model_id: str) -> ModelVersion:
        """Raise NotFound when there is none."""
        return self._get(ModelVersion, "model_metadata", model_name=model_name, model_id=model_id)

    def list_models(
        self,
        *,
        model_name: str,
        anchor_id: str | None = None,
        state: ModelState | None = None,
        limit: int = EVERYTHING,
    ) -> list[ModelVersion]:
        """Registered models, newest first; `anchor_id` keeps one lineage, `state` one state."""
        chosen: dict[str, Any] = {"p_model_name": model_name, "p_limit": limit}
        chosen |= {"p_anchor_id": anchor_id}
        function = "list_models"
        if state is not None:
            function = "list_models_in_state"
            chosen |= {"p_state": state.value}
        return from_array(ModelVersion, self._project.call(function, **chosen))

    def champion(self, *, model_name: str) -> ModelVersion | None:
        """The model that serves."""
        serving = ModelState.CHAMPION.value
        rows = self._find("model_metadata", model_name=model_name, state=serving)
        return next(iter(from_array(ModelVersion, rows)), None)

    def champion_id(self, *, model_name: str) -> str | None:
        """The id of the model that serves."""
        key = {"model_name": model_name, "state": ModelState.CHAMPION.value}
        rows = self._project.select(
            "model_metadata", lambda rows: rows.match(key).limit(1), columns="model_id"
        )
        return str(rows[0]["model_id"]) if rows else None

    def served_names(self) -> list[str]:
        """The model names under which a champion serves, twenty at most."""
        rows = self._project.select(
            "model_metadata",
            lambda rows: rows.eq("state", ModelState.CHAMPION.value).order("model_name").limit(20),
            columns="model_name",
        )
        return [str(row["model_name"]) for row in rows]

    def set_model_state(self, model_name: str, model_id: str, state: ModelState) -> None:
        """Move a model that is not champion to another state that is not champion."""
        self._project.call(
            "set_model_state", p_model_name=model_name, p_model_id=model_id, p_state=state.value
        )

    def prune_model(self, model_name: str, model_id: str, *, now: datetime) -> ModelVersion:
        """Mark the model's bytes as deleted, before they are removed."""
        row = self._project.call(
            "prune_model", p_model_name=model_name, p_model_id=model_id, p_now=time_text(now)
        )
        return from_json(ModelVersion, row)

    def promotion_events(self, *, model_name: str, limit: int = EVERYTHING) -> list[PromotionEvent]:
        """Changes of champion, newest first."""
        rows = self._project.call("list_promotion_events", p_model_name=model_name, p_limit=limit)
        return from_array(PromotionEvent, rows)

    # -- rows

    def _find(self, table: str, **key: str) -> list[Mapping[str, Any]]:
        return self._project.select(table, lambda rows: rows.match(key).limit(1))

    def _get(self, kind: type[Record], table: str, **key: str) -> Record:
        rows = self._find(table, **key)
        if not rows:
            message = f"There is no {' / '.join(key.values())} in {table}."
            raise NotFound(message)
        return from_json(kind, rows[0])
