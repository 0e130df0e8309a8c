"""What a watchdog keeps: accuracy per day, alerts of decay, learning cycles, what happened.

First the records, then the part of the store's contract that reads and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

from ml_pipeline.store.inputs.labels import ANY_LABEL, Labels
from ml_pipeline.store.records import LookbackWindow, require_utc

if TYPE_CHECKING:
    import pandas as pd


class AlertStatus(StrEnum):
    """State of an alert of decay. The first three are open."""

    PENDING = "pending"
    ACKNOWLEDGED = "acknowledged"
    TRIGGERED = "auto_retrain_triggered"
    OVERRIDDEN = "overridden"
    RESOLVED = "resolved"

    @property
    def is_open(self) -> bool:
        """Whether what the alert is about still goes on."""
        return self not in {AlertStatus.OVERRIDDEN, AlertStatus.RESOLVED}


class Severity(StrEnum):
    """How much was lost, relative to before; in the order of urgency."""

    WARNING = "warning"
    CRITICAL = "critical"
    SEVERE = "severe"

    @property
    def rank(self) -> int:
        """0 is the least urgent."""
        return list(Severity).index(self)


class Cause(StrEnum):
    """What an alert is about. At most one alert of a cause is open for a model name."""

    PERFORMANCE = "performance"
    INPUT_DRIFT = "input_drift"
    ERROR_CLUSTERS = "error_clusters"


# The model id under which a day's sums of all models stand.
TOGETHER: Final = ""


class ActionState(StrEnum):
    """What came of an action."""

    TRIGGERED = "triggered"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class DailyAccuracy:
    """What became known of one model's predictions on one UTC day; sums, so that days add up.

    `evaluated` counts outcomes, `uncertain` the UNCERTAIN answers among them, `correct` the right
    ones among the rest. `confident` counts answers with confidence over the threshold, and
    `confident_errors` the wrong ones among those. Sums go over the `scored` answers, those with a
    confidence: `confidence_sum`, `loss_sum` and `loss_square_sum` (nats, of the confidence as the
    chance of being right).
    """

    model_name: str
    day: date
    model_id: str
    evaluated: int
    correct: int
    uncertain: int = 0
    scored: int = 0
    scored_correct: int = 0
    confident: int = 0
    confident_errors: int = 0
    confidence_sum: float = 0.0
    loss_sum: float = 0.0
    loss_square_sum: float = 0.0

    @property
    def answered(self) -> int:
        """Outcomes of predictions that were no UNCERTAIN."""
        return self.evaluated - self.uncertain

    @property
    def accuracy(self) -> float | None:
        """Share of right answers."""
        return self.correct / self.answered if self.answered else None


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerCount:
    """How often a model answered so, and how many of these answers have an outcome by now.

    `confidence_sum` goes over the `scored` ones, those with a confidence.
    """

    prediction: str
    answers: int
    labelled: int
    scored: int
    confidence_sum: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DecayAlert:
    """A row of `prediction_decay_events`: since when, by how much, on how many rows, what then.

    `metric` is the one that lost the most; `baseline` and `recent` are its values on
    `baseline_rows` and `recent_rows`, the recent ones known in `[window_start, window_end)`.
    `model_id` names the approved base of the lineage that was serving. `attempts` counts the
    actions taken, `fruitless` those in a row that did not bring a new champion.
    """

    alert_id: str
    model_name: str
    cause: Cause
    metric: str
    severity: Severity
    status: AlertStatus
    detected_at: datetime
    updated_at: datetime
    baseline: float
    recent: float
    threshold: float
    baseline_rows: int
    recent_rows: int
    window_start: datetime
    window_end: datetime
    message: str
    model_id: str | None = None
    action: str | None = None
    action_state: ActionState | None = None
    acted_at: datetime | None = None
    attempts: int = 0
    fruitless: int = 0
    needs_person: bool = False
    request_id: str | None = None
    run_id: str | None = None
    resolved_at: datetime | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (
            "detected_at", "updated_at", "window_start", "window_end", "acted_at", "resolved_at",
        ):  # fmt: skip
            moment = getattr(self, name)
            if moment is not None:
                object.__setattr__(self, name, require_utc(moment, name))
        if self.status.is_open == (self.resolved_at is not None):
            message = f"alert {self.alert_id} is {self.status}, resolved at {self.resolved_at}"
            raise ValueError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningCycle:
    """A row of `learning_stats`. `accept_rate` is in 0..1; `total` is None when none was kept."""

    at: datetime
    accept_rate: float
    total: int | None = None
    model_id: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", require_utc(self.at, "at"))
        if not 0 <= self.accept_rate <= 1:
            message = f"accept_rate is {self.accept_rate}, not in 0..1"
            raise ValueError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemEvent:
    """A row of `system_events`: what the watchdog did, as it was."""

    event_id: str
    model_name: str
    event_type: str
    at: datetime
    message: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", require_utc(self.at, "at"))


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelDelays:
    """How long after the predictions their outcomes were known: days, of `rows` labelled events.

    Half of the rows took at most `median`, nine tenths at most `most`; None of no rows.
    """

    rows: int
    median: float | None = None
    most: float | None = None


SAMPLE_COLUMNS: Final = (
    "event_id",
    "timestamp",
    "known_at",
    "model_id",
    "prediction",
    "actual_result",
    "confidence",
    "features",
)
SAMPLED_FROM: Final = 100_000


class WatchLedger(Protocol):
    """Rows of `prediction_accuracy_daily`, `prediction_decay_events` and the tables beside them."""

    def sum_days(
        self,
        window: LookbackWindow,
        *,
        model_name: str,
        confidence_threshold: float,
        labels: Labels = ANY_LABEL,
    ) -> list[DailyAccuracy]:
        """Labelled events of the window, summed where they live, by UTC day and model.

        The day is that of the time at which the outcome became known. Events without a model have
        the model_id 'unknown'. A prediction is right when `labels` read it and the outcome alike.
        """
        ...

    def count_answers(self, window: LookbackWindow, *, model_name: str) -> list[AnswerCount]:
        """Events by their prediction, whether labelled or not; by the time known, or given."""
        ...

    def label_delays(self, window: LookbackWindow, *, model_name: str) -> LabelDelays:
        """Of labelled events that became known in the window, after their prediction."""
        ...

    def answers_in_order(
        self,
        window: LookbackWindow,
        *,
        model_name: str,
        model_ids: Sequence[str] | None,
        labels: Labels = ANY_LABEL,
        rows: int,
    ) -> list[bool]:
        """Whether each answer was right, in the order of their predictions: the last `rows`.

        Of labelled events that became known in the window, those that have a confidence and are
        not UNCERTAIN. `model_ids` keeps those models' answers, None everybody's.
        """
        ...

    def sample_events(  # noqa: PLR0913 - which events, and what of them
        self,
        window: LookbackWindow,
        *,
        model_name: str,
        model_ids: Sequence[str] | None,
        labelled: bool,
        rows: int,
        with_features: bool = True,
    ) -> pd.DataFrame:
        """At most `rows` events of the window, as `SAMPLE_COLUMNS`, ordered by time and id.

        Those with an outcome (`labelled`), or those that wait for it. They are spread over the
        window, the same ones each time; of more than 100,000, over the newest.
        """
        ...

    def keep_days(self, days: Sequence[DailyAccuracy], *, now: datetime) -> None:
        """Write rows of `prediction_accuracy_daily`; later sums replace earlier ones."""
        ...

    def list_days(self, *, model_name: str, since: date) -> list[DailyAccuracy]:
        """The rows from that day on, by day and model."""
        ...

    def open_alert(self, alert: DecayAlert) -> DecayAlert:
        """Add an open alert, unless one of its cause is open; return the one that is."""
        ...

    def change_alert(self, alert: DecayAlert, *, seen: datetime) -> None:
        """Write an alert anew if it was last changed at `seen`. The very same write is fine.

        Raises StoreRefused when somebody else changed it meanwhile, NotFound.
        """
        ...

    def list_alerts(
        self, *, model_name: str, open_only: bool = False, limit: int = 100
    ) -> list[DecayAlert]:
        """Alerts, newest first."""
        ...

    def record_event(self, event: SystemEvent) -> str:
        """Keep what happened; return the table: `system_events`, else `learning_events`."""
        ...

    def learning_cycles(
        self, *, model_name: str, limit: int, model_ids: Sequence[str] | None = None
    ) -> list[LearningCycle]:
        """The latest learning cycles with a rate, newest first.

        Those of the versions `model_ids` and those that name none; None is all. A cycle names its
        version in the column `model_id`, or in its metadata as applications did before.
        """
        ...

    def take_lease(self, name: str, *, holder: str, now: datetime, until: datetime) -> bool:
        """Take or renew a lease; False when another holder's has not run out."""
        ...

    def drop_lease(self, name: str, *, holder: str) -> None:
        """Give the lease back, if it is the holder's."""
        ...


def newest_alerts(store: WatchLedger, *, model_name: str, limit: int = 500) -> list[DecayAlert]:
    """The newest alerts, and those that are open however old they are; newest first.

    By default of far more days than anything that is judged looks back on.
    """
    newest = store.list_alerts(model_name=model_name, limit=limit)
    if len(newest) < limit:
        return newest
    known = {alert.alert_id for alert in newest}
    older = store.list_alerts(model_name=model_name, open_only=True)
    return [*newest, *(alert for alert in older if alert.alert_id not in known)]
