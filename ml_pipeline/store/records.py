"""The vocabulary of the project: states, column names, UTC rules and the records that travel.

Records are frozen, keyword-only and checked at construction. Many rows travel as frames whose
columns are declared here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from ml_pipeline.store import event_row

UNCERTAIN = event_row.UNCERTAIN
SEED_LOG_COLUMNS = event_row.SEED_LOG_COLUMNS
EVENT_COLUMNS = event_row.EVENT_COLUMNS


# The key in a run's details under which its manifest stands: every earlier version wrote it so.
RUN_MANIFEST = "capsule"


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
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


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
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactRef:
    """Stored bytes and their name. `digest` is `sha256:` + hex, `size` is in bytes."""

    bucket: str
    path: str
    digest: str
    size: int

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.digest):
            message = f"not a digest of the form sha256:hex: {self.digest!r}"
            raise ValueError(message)
        if self.size < 0:
            message = f"an artifact cannot have {self.size} bytes"
            raise ValueError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lineage:
    """What the next run needs to know of a model without opening its artifact.

    A *night* is a UTC day of rows, as `date.toordinal` counts. The online model has taken in every
    day from `first_night` to `settled_night`, and of the days after it the events
    `open_event_ids`. The log then held `log_rows` labelled rows of the days from `counted_from`
    (older records: from `first_night`) to `settled_night`, `first_night_rows` of them on the
    first, and had noted `log_changes` changes of rows known until then, `open_changes` of later
    ones. `experts` are the nights on which experts were fitted, by their names.

    A base has learned rows of up to `learned_until`, and its online models keep that time. A
    shadow has been there since `shadow_since`, with heads that were `fresh` or `carried` over.
    `calibration` is what `evaluation.evidence.calibrate` found, `classes` are the model's.
    `rates` are the settings of its heads, a base's `reference` is the summary of its inputs.

    In the database it is a JSON object with a key for each field. `rest` is what else stood in the
    object that was read, keys that only a newer version knows and empty ones: it is written again.
    """

    settled_night: int | None = None
    first_night: int | None = None
    log_rows: int | None = None
    first_night_rows: int | None = None
    counted_from: int | None = None
    log_changes: int | None = None
    open_changes: int | None = None
    open_event_ids: tuple[str, ...] | None = None
    experts: Mapping[str, int] | None = None
    learned_until: datetime | None = None
    shadow_since: date | None = None
    shadow_heads: str | None = None
    scoring: ArtifactRef | None = None
    calibration: Mapping[str, Any] | None = None
    classes: tuple[str, ...] | None = None
    rates: Mapping[str, Any] | None = None
    reference: Mapping[str, Any] | None = None
    rest: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (item.name for item in fields(self) if item.type == "int | None"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 0):
                message = f"{name} of a lineage is {value!r}, no whole number"
                raise ValueError(message)
        if self.learned_until is not None:
            require_utc(self.learned_until, "learned_until")

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `as_json` wrote. Raises ValueError or TypeError for something else."""
        known = {item.name for item in fields(cls)} - {"rest"}
        filled = {name for name in known if stored.get(name) is not None}
        values: dict[str, Any] = {
            name: _LINEAGE_READERS.get(name, _same)(value)
            for name, value in stored.items()
            if name in filled
        }
        rest = {name: value for name, value in stored.items() if name not in filled}
        return cls(**values, rest=rest)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        names = [item.name for item in fields(self) if item.name != "rest"]
        filled = {name: value for name in names if (value := getattr(self, name)) is not None}
        return {
            **self.rest,
            **{name: _LINEAGE_WRITERS.get(name, _same)(value) for name, value in filled.items()},
        }


def _same(value: object) -> object:
    return value


_LINEAGE_READERS: Mapping[str, Callable[[Any], object]] = {
    "learned_until": datetime.fromisoformat,
    "classes": tuple,
    "open_event_ids": tuple,
    "scoring": lambda stored: ArtifactRef(**stored),
    "shadow_since": date.fromisoformat,
}
# What is not named here is plain already.
_LINEAGE_WRITERS: Mapping[str, Callable[[Any], object]] = {
    "classes": list,
    "learned_until": datetime.isoformat,
    "open_event_ids": list,
    "scoring": asdict,
    "shadow_since": date.isoformat,
}


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
