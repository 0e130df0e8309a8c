"""The embedded store: one SQLite file in WAL mode and a folder of artifacts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

from ml_pipeline.errors import AlreadyFinished, PromotionRefused, RunInProgress, StoreRefused
from ml_pipeline.store.contract import EVERYTHING
from ml_pipeline.store.embedded import run_lock
from ml_pipeline.store.embedded.artifacts import LocalArtifacts
from ml_pipeline.store.embedded.changes import LocalChanges
from ml_pipeline.store.embedded.database import LOCK_TIMEOUT, SQLITE_VERSION, Connection, Database
from ml_pipeline.store.embedded.log import LocalLog
from ml_pipeline.store.embedded.requests import LocalRequests
from ml_pipeline.store.embedded.samples import LocalSamples
from ml_pipeline.store.embedded.tables import LocalTruth, find, get, insert, select, update
from ml_pipeline.store.embedded.watch import LocalWatch
from ml_pipeline.store.records import (
    ModelBrief,
    ModelState,
    ModelVersion,
    Outcome,
    PromotionEvent,
    RetrainingRun,
    RunStatus,
)
from ml_pipeline.store.rows import brief_from_row, check_same, to_row
from ml_pipeline.store.scoring.records import ModelScoring, PublishedScoring

_WAIT_HINT: Final = "Wait until it ends; a run that died is closed by the next `ml-pipeline run`."
_IN_BRIEF: Final = """
    SELECT model_id, anchor_id, created_at, state, run_id,
           json_extract(lineage, '$.shadow_since') AS shadow_since,
           json_extract(lineage, '$.settled_night') AS settled_night,
           json_extract(lineage, '$.rebuilds') AS rebuilds
    FROM model_metadata
    WHERE model_name = :name AND (:anchor IS NULL OR anchor_id = :anchor)
    ORDER BY created_at DESC, model_id DESC
"""
_ENDED: Final = {RunStatus.COMPLETED, RunStatus.FAILED}


def _silence(run: RetrainingRun, now: datetime) -> str:
    heard, closed = run.heartbeat_at.isoformat(), f"closed at {now.isoformat()}"
    if run.heartbeat_at > now:
        return f"its last heartbeat {heard} lies ahead of the clock; {closed}"
    return f"no heartbeat since {heard}; {closed}"


def _dead(run: RetrainingRun, now: datetime, reason: str) -> RetrainingRun:
    return replace(
        run,
        status=RunStatus.FAILED,
        outcome=Outcome.FAILED,
        outcome_reason=reason,
        error_message=reason,
        completed_at=now,
    )


def _some(
    details: Mapping[str, Any], only: Collection[str] | None, without: Collection[str]
) -> dict[str, Any]:
    names = set(details if only is None else only) - set(without)
    return {name: value for name, value in details.items() if name in names}


def _champion(db: Connection, model_name: str) -> ModelVersion | None:
    state = ModelState.CHAMPION.value
    return next(iter(select(db, ModelVersion, "", model_name=model_name, state=state)), None)


def _check_may_promote(db: Connection, event: PromotionEvent) -> None:
    """A run that was taken over while its machine slept must not promote when it wakes up."""
    run = None if event.run_id is None else find(db, RetrainingRun, event.run_id)
    if run is not None and run.status in _ENDED:
        message = f"Run {run.run_id} is closed already, so it may not promote a model."
        raise AlreadyFinished(message)


def _check_expected(event: PromotionEvent, champion: ModelVersion | None) -> None:
    serving = None if champion is None else champion.model_id
    if serving != event.from_model_id:
        message = f"The champion of {event.model_name} is {serving} now, not {event.from_model_id}."
        raise PromotionRefused(message, hint="Judge the challenger against the current champion.")
    if serving == event.to_model_id:
        message = f"{serving} is the champion of {event.model_name} already."
        raise PromotionRefused(message)


class LocalStore(
    LocalLog, LocalChanges, LocalRequests, LocalArtifacts, LocalTruth, LocalWatch, LocalSamples
):
    """Everything of `Store` in one folder. Build it with `open`."""

    def __init__(self, directory: Path, *, lock_timeout: timedelta = LOCK_TIMEOUT) -> None:
        self._database = Database(str(directory / "store.db"), lock_timeout=lock_timeout)
        self._folder = directory / "artifacts"

    @classmethod
    def open(cls, directory: Path, *, lock_timeout: timedelta = LOCK_TIMEOUT) -> Self:
        """Open the store in the folder, made on first use.

        `lock_timeout` is how long a call waits for another process's write lock.
        """
        store = cls(directory.absolute(), lock_timeout=lock_timeout)
        store._make_folder()
        store._database.prepare()
        return store

    def close(self) -> None:
        """Nothing is held between calls."""

    def describe(self) -> Mapping[str, Any]:
        """What the store is and where, without secrets."""
        folder = self._folder.parent
        return {"kind": "local", "directory": str(folder), "sqlite": SQLITE_VERSION}

    def etag(self, *, model_name: str, since: date) -> str | None:  # noqa: ARG002 - the contract's
        """None: what is read anew comes from this machine."""
        return None

    # -- runs

    def start_run(self, run: RetrainingRun) -> None:
        """Insert a running row. Raises RunInProgress when another run of the model is running."""
        if run.status is not RunStatus.RUNNING:
            message = f"Run {run.run_id} cannot start as {run.status}; a run starts as running."
            raise StoreRefused(message)
        with self._database.writing() as db:
            known = find(db, RetrainingRun, run.run_id)
            if known is None:
                self._check_none_running(db, run.model_name)
                insert(db, run)
                run_lock.hold(self._folder.parent, run)
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
                f"with its last heartbeat at {run.heartbeat_at.isoformat()}."
            )
            raise RunInProgress(message, hint=_WAIT_HINT)

    def heartbeat(self, run_id: str, *, now: datetime) -> None:
        """Record that the run is alive. Raises AlreadyFinished when it was closed meanwhile."""
        with self._database.writing() as db:
            run = get(db, RetrainingRun, run_id)
            if run.status in _ENDED:
                message = f"Run {run_id} is {run.status}: {run.outcome_reason}."
                raise AlreadyFinished(message)
            update(db, replace(run, heartbeat_at=max(run.heartbeat_at, now)))

    def finish_run(self, run: RetrainingRun) -> None:
        """Close the row with everything it came to. Raises AlreadyFinished, NotFound."""
        if run.status not in _ENDED:
            message = (
                f"Run {run.run_id} cannot end as {run.status}; a run ends as completed or failed."
            )
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
        run_lock.release(self._folder.parent, run)

    def get_run(self, run_id: str) -> RetrainingRun:
        """Raise NotFound when there is none."""
        with self._database.reading() as db:
            return get(db, RetrainingRun, run_id)

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
        rest = f"ORDER BY started_at DESC, id DESC LIMIT {int(limit)}"
        with self._database.reading() as db:
            runs = select(db, RetrainingRun, rest, model_name=model_name)
        if only is None and not without:
            return runs
        return [replace(run, details=_some(run.details, only, without)) for run in runs]

    def fail_stale_runs(
        self, *, model_name: str, now: datetime, older_than: timedelta
    ) -> list[RetrainingRun]:
        """Close running rows whose last heartbeat is older than that as failed; return them.

        One that lies as far in the future was made by a wrong clock and is closed as well, and so
        is one whose process on this machine has ended, at once.
        """
        folder, running = self._folder.parent, RunStatus.RUNNING.value
        closed: list[RetrainingRun] = []
        with self._database.writing() as db:
            for run in select(db, RetrainingRun, "", model_name=model_name, status=running):
                if run_lock.has_died(folder, run):
                    reason = f"its process ended before it was closed; closed at {now.isoformat()}"
                    closed.append(update(db, _dead(run, now, reason)))
                elif abs(now - run.heartbeat_at) > older_than:
                    closed.append(update(db, _dead(run, now, _silence(run, now))))
        return closed

    # -- models

    def register(self, model: ModelVersion) -> None:
        """Add a model that is not champion."""
        with self._database.writing() as db:
            known = find(db, ModelVersion, model.model_name, model.model_id)
            if known is not None:
                check_same(known, model, "state", "pruned_at")
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
        self,
        *,
        model_name: str,
        anchor_id: str | None = None,
        state: ModelState | None = None,
        limit: int = EVERYTHING,
    ) -> list[ModelVersion]:
        """Registered models, newest first; `anchor_id` keeps one lineage, `state` one state."""
        rest = f"ORDER BY created_at DESC, model_id DESC LIMIT {int(limit)}"
        chosen = {"anchor_id": anchor_id, "state": None if state is None else state.value}
        with self._database.reading() as db:
            return select(db, ModelVersion, rest, model_name=model_name, **chosen)

    def list_models_in_brief(
        self, *, model_name: str, anchor_id: str | None = None
    ) -> list[ModelBrief]:
        """Every registered model, newest first, or every one of a lineage, without its row."""
        with self._database.reading() as db:
            rows = db.execute(_IN_BRIEF, {"name": model_name, "anchor": anchor_id}).fetchall()
        return [brief_from_row(row) for row in rows]

    def list_model_ids(self, *, model_name: str, anchor_id: str) -> list[str]:
        """The ids of a lineage's models."""
        query = "SELECT model_id FROM model_metadata WHERE model_name = ? AND anchor_id = ?"
        with self._database.reading() as db:
            rows = db.execute(f"{query} ORDER BY model_id", (model_name, anchor_id)).fetchall()
        return [row["model_id"] for row in rows]

    def champion(self, *, model_name: str) -> ModelVersion | None:
        """The model that serves."""
        with self._database.reading() as db:
            return _champion(db, model_name)

    def champion_id(self, *, model_name: str) -> str | None:
        """The id of the model that serves."""
        champion = self.champion(model_name=model_name)
        return None if champion is None else champion.model_id

    def served_names(self) -> list[str]:
        """The model names under which a champion serves, twenty at most."""
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT model_name FROM model_metadata WHERE state = ? ORDER BY 1 LIMIT 20",
                [ModelState.CHAMPION.value],
            )
            return [str(row[0]) for row in rows]

    @property
    def answers(self) -> bool:
        """No: a file gives no predictions."""
        return False

    def publish(self, scoring: ModelScoring) -> str | None:
        """Refuse: a file answers nothing."""
        message = f"The embedded store does not answer with {scoring.model_id} itself."
        raise StoreRefused(message, hint="Nothing is to be done: `ml-pipeline predict` answers.")

    def published(self, model_name: str) -> PublishedScoring | None:  # noqa: ARG002 - the port
        """Nothing."""
        return None

    def promote(
        self,
        event: PromotionEvent,
        scoring: ModelScoring | None = None,  # noqa: ARG002 - a file answers nothing
    ) -> ModelVersion:
        """Make `to_model_id` champion if `from_model_id` still is; keep the event."""
        with self._database.writing() as db:
            model = get(db, ModelVersion, event.model_name, event.to_model_id)
            known = find(db, PromotionEvent, event.event_id)
            if known is not None:
                check_same(known, event)
                return model
            _check_may_promote(db, event)
            if model.pruned_at is not None:
                message = f"{model.model_id} was pruned: its artifact was deleted."
                raise PromotionRefused(message)
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
                raise StoreRefused(
                    message, hint="The champion changes only by a promotion or a rollback."
                )
            update(db, replace(model, state=state))

    def prune_model(self, model_name: str, model_id: str, *, now: datetime) -> ModelVersion:
        """Mark the model's bytes as deleted, before they are removed."""
        with self._database.writing() as db:
            model = get(db, ModelVersion, model_name, model_id)
            if model.state is ModelState.CHAMPION:
                message = f"{model_id} is the champion, which is never pruned."
                raise StoreRefused(message)
            return update(db, replace(model, pruned_at=model.pruned_at or now))

    def promotion_events(self, *, model_name: str, limit: int = EVERYTHING) -> list[PromotionEvent]:
        """Changes of champion, newest first."""
        rest = f"ORDER BY sequence DESC LIMIT {int(limit)}"
        with self._database.reading() as db:
            return select(db, PromotionEvent, rest, model_name=model_name)
