"""The vocabulary of the project: states, column names, UTC rules and the records that travel.

Records are frozen, keyword-only and checked at construction. Many rows travel as frames whose
columns are declared here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from ml_pipeline.store import event_row
from ml_pipeline.store.lineage import lineage as model_lineage

UNCERTAIN = event_row.UNCERTAIN
SEED_LOG_COLUMNS = event_row.SEED_LOG_COLUMNS
EVENT_COLUMNS = event_row.EVENT_COLUMNS
ArtifactRef = model_lineage.ArtifactRef
Lineage = model_lineage.Lineage


# The key in a run's details under which its manifest stands: every earlier version wrote it so.
RUN_MANIFEST = "capsule"
# The same of its answers by day and class, from which the next run goes on.
CLASS_DAYS = "class_days"
# The detail of a run with the sums of its challenger beside a classifier of the person's own.
INCUMBENT_RECORD = "incumbent_record"


class Source(StrEnum):
    """What started a run."""

    AUTO_DAILY = "auto_daily"
    MANUAL = "manual"
    DECAY_TRIGGERED = "decay_triggered"


class RunStatus(StrEnum):
    """State of a run row, in the seeds' words."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class Outcome(StrEnum):
    """What a run came to."""

    PROMOTED = "promoted"
    REJECTED = "rejected"
    AWAITING_APPROVAL = "awaiting_approval"
    SKIPPED_INSUFFICIENT_ERRORS = "skipped_insufficient_errors"
    SKIPPED_NO_NEW_DATA = "skipped_no_new_data"
    FAILED = "failed"


class RequestStatus(StrEnum):
    """State of a request for a run."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Priority(StrEnum):
    """How urgent a request is."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        """Order of service: 0 is served first."""
        return list(Priority).index(self)


class EventStatus(StrEnum):
    """Whether the outcome of an evaluation event is known."""

    PENDING = "pending"
    EVALUATED = "evaluated"


class ModelState(StrEnum):
    """Where a registered model stands. Exactly one per model name is the champion."""

    CANDIDATE = "candidate"
    CHAMPION = "champion"
    SHADOW = "shadow"
    AWAITING = "awaiting_approval"
    RETIRED = "retired"


class PromotionKind(StrEnum):
    """Why the champion changed."""

    PROMOTION = "promotion"
    DEMOTION = "demotion"
    ROLLBACK = "rollback"


def require_utc(moment: datetime, name: str) -> datetime:
    """Return `moment` in UTC; raise ValueError when it carries no zone."""
    if moment.tzinfo is None:
        message = f"{name} has no time zone: {moment.isoformat()}"
        raise ValueError(message)
    return moment.astimezone(UTC)


def parse_utc(text: str) -> datetime:
    """Read ISO 8601; a time without a zone is UTC, as the seeds' logs are written.

    Raises ValueError when `text` is not a time.
    """
    moment = datetime.fromisoformat(text.strip())
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} is no time in UTC: {error}") from None


def day_start(day: date) -> datetime:
    """First instant of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _check_known(name: str, value: str) -> None:
    if not value:
        message = f"{name} is empty"
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class LookbackWindow:
    """A half-open UTC interval `[start, end)`."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", require_utc(self.start, "window start"))
        object.__setattr__(self, "end", require_utc(self.end, "window end"))
        if self.start > self.end:
            message = f"the window ends before it starts: {self.start} > {self.end}"
            raise ValueError(message)

    @classmethod
    def ending(cls, end: datetime, *, days: float) -> Self:
        """The `days` before `end`."""
        return cls(start=end - timedelta(days=days), end=end)

    def __str__(self) -> str:
        return f"[{self.start.isoformat()}, {self.end.isoformat()})"


EVER = LookbackWindow(start=datetime(1970, 1, 1, tzinfo=UTC), end=datetime(9000, 1, 1, tzinfo=UTC))


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVersion:
    """A registered model: the row of `model_metadata` that names the artifact.

    `anchor_id` is the approved base of the model's lineage; a base is its own anchor. The bytes of
    a model with a `pruned_at` are gone.
    """

    model_name: str
    model_id: str
    algorithm: str
    artifact: ArtifactRef
    created_at: datetime
    state: ModelState
    anchor_id: str
    parent_id: str | None = None
    run_id: str | None = None
    confidence_threshold: float = 0.6
    metrics: Mapping[str, Any] = field(default_factory=dict)
    lineage: Lineage = field(default_factory=Lineage)
    library_versions: Mapping[str, str] = field(default_factory=dict)
    artifact_format: str = "skops"
    pruned_at: datetime | None = None

    def __post_init__(self) -> None:
        for name in ("model_name", "model_id", "algorithm", "anchor_id"):
            _check_known(name, getattr(self, name))
        object.__setattr__(self, "created_at", require_utc(self.created_at, "created_at"))
        if self.pruned_at is not None:
            object.__setattr__(self, "pruned_at", require_utc(self.pruned_at, "pruned_at"))
        if not 0 <= self.confidence_threshold <= 1:
            message = f"confidence_threshold is {self.confidence_threshold}, not in 0..1"
            raise ValueError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelBrief:
    """Of a registered model what a look over all of them needs: its row may be long."""

    model_id: str
    anchor_id: str
    created_at: datetime
    state: ModelState
    run_id: str | None = None
    shadow_since: date | None = None
    settled_night: int | None = None
    rebuilds: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "created_at", require_utc(self.created_at, "created_at"))


@dataclass(frozen=True, kw_only=True, slots=True)
class PromotionEvent:
    """One change of champion: who, when, from, to, why."""

    event_id: str
    model_name: str
    kind: PromotionKind
    to_model_id: str
    from_model_id: str | None
    reason: str
    actor: str
    created_at: datetime
    run_id: str | None = None
    verdict: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_known("reason", self.reason)
        object.__setattr__(self, "created_at", require_utc(self.created_at, "created_at"))


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrainingRun:
    """One attempt: a row of `model_retraining_runs`.

    `dataset_size` counts the error samples, `training_rows` the rows that were learned.
    """

    run_id: str
    model_name: str
    source: Source
    status: RunStatus
    started_at: datetime
    heartbeat_at: datetime
    fine_tune: bool = True
    dataset_size: int = 0
    training_rows: int = 0
    outcome: Outcome | None = None
    outcome_reason: str | None = None
    error_message: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    champion_id: str | None = None
    challenger_id: str | None = None
    training_digest: str | None = None
    holdout_digest: str | None = None
    config_digest: str | None = None
    git_sha: str | None = None
    log_url: str | None = None
    triggered_by: str | None = None
    completed_at: datetime | None = None

    def __post_init__(self) -> None:
        for name in ("started_at", "heartbeat_at", "completed_at"):
            moment = getattr(self, name)
            if moment is not None:
                object.__setattr__(self, name, require_utc(moment, name))
        finished = self.status in {RunStatus.COMPLETED, RunStatus.FAILED}
        if finished and (self.outcome is None or self.completed_at is None):
            message = f"run {self.run_id} is {self.status} without an outcome or an end"
            raise ValueError(message)
        if self.status is RunStatus.FAILED and not self.error_message:
            message = f"run {self.run_id} failed without an error message"
            raise ValueError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrainingRequest:
    """Someone's wish for a run: a row of `model_retraining_requests`."""

    request_id: str
    model_name: str
    priority: Priority
    status: RequestStatus
    created_at: datetime
    reason: str = ""
    requested_by: str | None = None
    run_id: str | None = None
    attempts: int = 0
    claimed_at: datetime | None = None
    lease_until: datetime | None = None
    processed_at: datetime | None = None
    error_message: str | None = None

    def __post_init__(self) -> None:
        for name in ("created_at", "claimed_at", "lease_until", "processed_at"):
            moment = getattr(self, name)
            if moment is not None:
                object.__setattr__(self, name, require_utc(moment, name))


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenLimits:
    """How many requests may be open (pending or processing): of one person, and in all."""

    per_user: int
    total: int
