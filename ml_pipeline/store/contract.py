"""The store: the contract in prose, then small protocols.

Promises, each a test in `tests/contract`:

- Ids come from the caller. Repeating a write with the same id and content changes nothing and
  succeeds, so a caller that lost the answer may always ask again.
- A write with a known id and *different* content is refused (`StoreRefused`).
- Records returned never change. Times come back UTC-aware, numbers as they were written.
- Reads are complete or raise: an empty frame means there are no rows, never that reading failed.
- `None` means none, never failed.
- A change of several rows happens whole or not at all.
- Finished runs refuse writes (`AlreadyFinished`), except the very same write again.
- At most one run per model name is running; the store decides, not the caller.
- A request has exactly one claimer at a time. It is claimable when it is pending, or when its
  lease has run out; `release_stale` fails the ones whose attempts are used up, so it is called
  first. `renew` moves the leases of a run that works on, never back. Releasing resets the lease
  and leaves the attempts. `prune_requests` fails what has waited too long.
- At most one model per model name is champion. Promotion is compare-and-swap on the champion
  the caller saw (`PromotionRefused` otherwise), and leaves an event row. A run that is closed
  promotes nothing any more (`AlreadyFinished`).
- At most one alert of decay is open for a model name and cause. Alerts move on by compare-and-swap
  on the time of the last change (`StoreRefused` otherwise). A lease has one holder at a time.
- A model whose bytes are to be deleted is marked first, and never promoted (`PromotionRefused`).
- Artifacts are immutable: `put` of other bytes under a known path is refused, `fetch` verifies
  size and digest before anyone sees the file, paths cannot leave their bucket.

Order of a run's writes: run row (running) → log and artifact bytes → model row → promotion →
run row (finished) → requests completed. Bytes are written before the row that names them, so a
crash anywhere leaves a store that the next run repairs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from ml_pipeline.store.alerts import WatchLedger
from ml_pipeline.store.inputs.changes import LogChanges
from ml_pipeline.store.queue.contract import RequestQueue
from ml_pipeline.store.records import (
    ArtifactRef,
    LookbackWindow,
    ModelBrief,
    ModelState,
    ModelVersion,
    PromotionEvent,
    RetrainingRun,
)
from ml_pipeline.store.scoring.records import ModelScoring, PublishedScoring

if TYPE_CHECKING:
    import pandas as pd

EXPORT_DELIMITER: Final = "\x1f"
EXPORT_QUOTE: Final = "\x1e"
# As a `limit`: what goes over all rows must not lose the oldest of them.
EVERYTHING: Final = 1_000_000


class EvaluationLog(LogChanges, Protocol):
    """Evaluation events, keyed by `event_id`. Frames have the columns `EVENT_COLUMNS`.

    In frames `timestamp` and `evaluated_at` are UTC-aware, `features` and `metadata` JSON text,
    `confidence` and `accuracy` floats, missing values None/NaN/NaT.
    """

    def append_events(self, events: pd.DataFrame) -> int:
        """Add events; return how many were new. `inputs.outcome_history` says what corrects one.

        Raises StoreRefused when a known id comes with a different prediction, and writes none.
        """
        ...

    def append_rows(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """The same for a few events given as rows, see `event_row`.

        Also raises StoreRefused for an outcome that was known more than an hour before its
        prediction; a history in a frame is taken as it was.
        """
        ...

    def record_outcomes(self, outcomes: Mapping[str, str], *, evaluated_at: datetime) -> int:
        """Set `actual_result` by event id; return how many were new.

        The same outcome twice is fine. Raises StoreRefused for a different one and for one that was
        known more than an hour before its prediction, NotFound for an unknown id, and writes none.
        """
        ...

    def read_events(
        self, window: LookbackWindow, *, model_name: str, labelled_only: bool = True
    ) -> Iterator[pd.DataFrame]:
        """Events whose time falls in the window, ordered by that time and then by event id.

        The time is `evaluated_at`; for an event without an outcome, and for one whose outcome
        carries no time of its own, `timestamp`.
        """
        ...

    def find_events(
        self, *, model_name: str, event_ids: Collection[str], match_ids: Collection[str]
    ) -> pd.DataFrame:
        """The events with those ids and of those matches, by event id; unknown ids name none."""
        ...

    def models_of_events(self, event_ids: Collection[str]) -> dict[str, str]:
        """The name of the model of each of those events that there is, of whatever model."""
        ...

    def export_events(self, folder: Path, *, model_name: str) -> Iterator[Path]:
        """Write every event as a line of text into files, and yield each file when it is whole.

        There is no header and no order. The columns are `EVENT_COLUMNS`, an empty cell is a missing
        value, times are UTC text of one width, confidences have at least 15 digits. Cells stand
        between `EXPORT_DELIMITER`s, and between `EXPORT_QUOTE`s (doubled inside) where they hold
        one of both or a line break.
        """
        ...

    def read_error_samples(
        self,
        window: LookbackWindow,
        *,
        model_name: str,
        confidence_threshold: float,
        model_ids: Sequence[str] | None,
    ) -> pd.DataFrame:
        """Labelled events that are wrong with confidence strictly over the threshold.

        Of an UNCERTAIN answer the `best_guess` of its metadata counts. `model_ids` keeps the
        predictions of those models; None keeps every model's.
        """
        ...

    def count_labelled(self, window: LookbackWindow, *, model_name: str) -> dict[date, int]:
        """Labelled events per UTC day of the time they became known; days without are absent."""
        ...


class RunLedger(Protocol):
    """Rows of `model_retraining_runs`."""

    def start_run(self, run: RetrainingRun) -> None:
        """Insert a running row. Raises RunInProgress when another run of the model is running."""
        ...

    def heartbeat(self, run_id: str, *, now: datetime) -> None:
        """Record that the run is alive. Raises AlreadyFinished when it was closed meanwhile."""
        ...

    def finish_run(self, run: RetrainingRun) -> None:
        """Close the row with everything it came to. Raises AlreadyFinished, NotFound."""
        ...

    def get_run(self, run_id: str) -> RetrainingRun:
        """Raise NotFound when there is none."""
        ...

    def latest_run(self, *, model_name: str) -> RetrainingRun | None:
        """The run started last."""
        ...

    def list_runs(
        self,
        *,
        model_name: str,
        limit: int,
        only: Collection[str] | None = None,
        without: Collection[str] = (),
    ) -> list[RetrainingRun]:
        """The latest runs, newest first.

        Details are the largest part of a run: `only` names the entries of them that are read (None:
        all), `without` those that are left out.
        """
        ...

    def fail_stale_runs(
        self, *, model_name: str, now: datetime, older_than: timedelta
    ) -> list[RetrainingRun]:
        """Close running rows whose last heartbeat is older than that as failed; return them.

        One that lies as far in the future was made by a wrong clock and is closed as well, and so
        is one of which the store knows that its process has ended.
        """
        ...


class ArtifactStore(Protocol):
    """Immutable bytes under `bucket/path`."""

    def put(self, bucket: str, path: str, source: Path) -> ArtifactRef:
        """Store the file's bytes. Raises StoreRefused when the path holds other bytes already."""
        ...

    def fetch(self, ref: ArtifactRef, target: Path) -> Path:
        """Write the verified bytes to `target`. Raises NotFound, ArtifactCorrupt."""
        ...

    def download(self, bucket: str, path: str, target: Path) -> Path:
        """Write an object that others may overwrite to `target`, whatever its bytes are.

        For the evaluation log that an app keeps beside the artifacts. Raises NotFound.
        """
        ...

    def names(self, bucket: str, folder: str) -> list[str]:
        """The names directly in a folder; none when there is no such folder."""
        ...

    def remove(self, bucket: str, path: str) -> None:
        """Remove an object for good; one that is not there is fine."""
        ...

    def url(self, ref: ArtifactRef) -> str:
        """Where a person with access finds the bytes."""
        ...


class ModelRegistry(Protocol):
    """Rows of `model_metadata` and `model_promotion_events`."""

    def register(self, model: ModelVersion) -> None:
        """Add a model that is not champion."""
        ...

    def get_model(self, model_name: str, model_id: str) -> ModelVersion:
        """Raise NotFound when there is none."""
        ...

    def list_models(
        self,
        *,
        model_name: str,
        anchor_id: str | None = None,
        state: ModelState | None = None,
        limit: int = EVERYTHING,
    ) -> list[ModelVersion]:
        """Registered models, newest first; `anchor_id` keeps one lineage, `state` one state."""
        ...

    def list_models_in_brief(
        self, *, model_name: str, anchor_id: str | None = None
    ) -> list[ModelBrief]:
        """Every registered model, newest first, or every one of a lineage, without its row."""
        ...

    def list_model_ids(self, *, model_name: str, anchor_id: str) -> list[str]:
        """The ids of a lineage's models."""
        ...

    def champion(self, *, model_name: str) -> ModelVersion | None:
        """The model that serves."""
        ...

    def champion_id(self, *, model_name: str) -> str | None:
        """The id of the model that serves: asked for often, and its row is long."""
        ...

    def served_names(self) -> list[str]:
        """The model names under which a champion serves, twenty at most."""
        ...

    @property
    def answers(self) -> bool:
        """Whether the store gives predictions itself, so that it wants a champion's `scoring`."""
        ...

    def promote(self, event: PromotionEvent, scoring: ModelScoring | None = None) -> ModelVersion:
        """Make `to_model_id` champion if `from_model_id` still is; keep the event.

        What a store answers with changes in the same transaction: to `scoring`, else to nothing.
        Promotions, demotions and rollbacks differ only in the event's kind. Raises
        PromotionRefused when another champion serves by now, NotFound when there is no such model.
        """
        ...

    def publish(self, scoring: ModelScoring) -> str | None:
        """Answer with the champion from now on; return what is in its way, None for nothing.

        Raises PromotionRefused when another champion serves, StoreRefused where no store answers.
        """
        ...

    def published(self, model_name: str) -> PublishedScoring | None:
        """What the store answers with; None for nothing."""
        ...

    def set_model_state(self, model_name: str, model_id: str, state: ModelState) -> None:
        """Move a model that is not champion to another state that is not champion."""
        ...

    def prune_model(self, model_name: str, model_id: str, *, now: datetime) -> ModelVersion:
        """Mark the model's bytes as deleted, before they are removed.

        The same again changes nothing. Raises StoreRefused for the champion, NotFound.
        """
        ...

    def promotion_events(self, *, model_name: str, limit: int = EVERYTHING) -> list[PromotionEvent]:
        """Changes of champion, newest first."""
        ...


class GroundTruth(Protocol):
    """Labels that people gave, in a table of their own. Never the model's own predictions."""

    def add_labels(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Add labels (`LABEL_COLUMNS`) to `ml_data`; return how many were new.

        A row that waits for its label gets it, and counts as new. Raises StoreRefused when a known
        id comes with another label, and writes none.
        """
        ...

    def known_labels(
        self, ids: Collection[str], *, model_name: str | None = None
    ) -> dict[str, str | None]:
        """The label of each id that is in `ml_data`, None for one that waits.

        With a model name only those of its rows.
        """
        ...

    def read_table(self, table: str, *, key: str) -> Iterator[pd.DataFrame]:
        """Every row of a table, ordered by its key: all cells as text, objects as JSON, or None.

        No frame means no rows. Raises NotFound for a table or a key that is not there, and
        StoreCorrupt when rows would be missed.
        """
        ...


class Store(
    EvaluationLog,
    RunLedger,
    RequestQueue,
    ArtifactStore,
    ModelRegistry,
    GroundTruth,
    WatchLedger,
    Protocol,
):
    """All of it."""

    def etag(self, *, model_name: str, since: date) -> str | None:
        """A text that changes whenever something does that `status` shows of the model.

        `since` is the first day that is shown. None where asking costs as much as reading anew.
        """
        ...

    def close(self) -> None:
        """Close connections and files."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """What the store is and where, without secrets."""
        ...
