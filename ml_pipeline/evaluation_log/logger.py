"""The evaluation log as an application writes it: a CSV first, then the store's table.

The CSV is the outbox. A call succeeds once its line is on the disk; when the store is away the
event waits there, and the next call that reaches the store brings everything that is waiting.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice

from ml_pipeline.errors import NotFound, StoreDenied, StoreError, StoreRefused
from ml_pipeline.evaluation_log.event_csv import EventCsv, Span
from ml_pipeline.evaluation_log.outbox.delivered import Delivered, warn
from ml_pipeline.store.event_row import EventRow, is_of_model, new_event_id, prediction_row
from ml_pipeline.store.serving_view import ServingView

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ml_pipeline.store.inputs.labels import Labels
    from ml_pipeline.store.inputs.predictions import Checked

RETRY_AFTER_S = 60.0
SENT_AT_ONCE = 1000
SETTLED_EVERY = 100
TRAINING_EVENTS_SUFFIX = ".training.csv"


class EvaluationLogger:
    """Writes predictions and their outcomes; safe for threads and for several processes.

    `open_table` opens the store's side, on first use; None keeps the CSV alone. By `labels`
    (None: any text is one) a label is written as its class is called, another is refused.
    `checked_features` may read the features of a prediction before it is logged, or refuse them.
    """

    def __init__(
        self,
        csv_path: str,
        *,
        model_name: str,
        open_table: Callable[[], ServingView] | None = None,
        labels: Callable[[], Labels] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.csv = EventCsv(csv_path, mark=self._mark, moved=self._moved)
        self.model_name = model_name
        self._read_labels = labels
        self.checked_features: Checked | None = None
        self._labels: Labels | None = None
        self.refused: list[str] = []
        self._delivered = Delivered(csv_path)
        self._open_table = open_table
        self._table: ServingView | None = None
        self.away = ""
        self._away_until = 0.0
        self._unsettled, self._settled_once = 0, False
        self._clock = clock
        self._lock = threading.RLock()

    @property
    def labels(self) -> Labels:
        """How labels are read; who only predicts does not load it."""
        if self._labels is None:
            from ml_pipeline.store.inputs.labels import ANY_LABEL

            self._labels = self._read_labels() if self._read_labels else ANY_LABEL
        return self._labels

    def log_prediction(  # noqa: PLR0913 - the original documents' signature, and what it lacks
        self,
        model_id: str,
        match_id: str | None = None,
        prediction: object = None,
        confidence: float | None = None,
        *,
        entity_id: str | None = None,
        features: Mapping[str, object] | None = None,
        probabilities: Mapping[str, float] | None = None,
        metadata: Mapping[str, object] | None = None,
        event_id: str | None = None,
        timestamp: datetime | None = None,
    ) -> str:
        """Log one prediction and return its event id. Without features it cannot be learned.

        `entity_id` is another name of `match_id`.
        `probabilities` say what the answer was made of: a number for each label, 1 in all (within
        0.000001), that of the prediction its confidence (within 0.01). Raises InputError for what
        is no label, number or time, and for a feature that is not of the kind that
        `data.features` gives it.
        """
        passed = {
            "model_id": model_id, "match_id": match_id, "entity_id": entity_id,
            "prediction": prediction,
            "confidence": confidence, "features": features, "probabilities": probabilities,
            "metadata": metadata, "event_id": event_id, "timestamp": timestamp,
        }  # fmt: skip
        return self.log_predictions([passed])[0]

    def log_predictions(self, predictions: Iterable[Mapping[str, object]]) -> list[str]:
        """Log many at once: the arguments of `log_prediction` as mappings; one sync for all.

        A frame whose columns are those arguments does as well.
        """
        from ml_pipeline.store.inputs.predictions import rows_of_predictions

        rows = rows_of_predictions(
            predictions, model_name=self.model_name, labels=self.labels, now=self._clock(),
            checked_features=self.checked_features,
        )  # fmt: skip
        self.write(rows)
        return [str(row["event_id"]) for row in rows]

    def log_evaluation(
        self,
        event_id: str,
        actual_result: object,
        accuracy: float | None = None,
        *,
        correct: bool = False,
    ) -> float:
        """Log what really happened, in any spelling, and return the accuracy, 1.0 or 0.0.

        It is computed; a passed `accuracy` that differs from it is refused (InputError), as is
        what is no label. Raises NotFound for an event that is unknown or another model's, and
        StoreRefused when it has another outcome, unless this one is to `correct` it: the former
        one is kept in the event's metadata, and the next run learns its day again.
        """
        from ml_pipeline.store.inputs.predictions import not_of, settled_row

        with self._lock:
            row = self.csv.find([event_id := str(event_id)]).get(event_id)
            if row is None:
                raise NotFound(
                    f"There is no event {event_id} in {self.csv.path}.",
                    hint="`ml-pipeline outcome` searches the store's table as well.",
                )
            if not is_of_model(row, self.model_name):
                raise not_of(row, self.model_name)
            settled = settled_row(
                row, actual_result, accuracy, labels=self.labels, now=self._clock(),
                correct=correct,
            )  # fmt: skip
            if settled["actual_result"] != row["actual_result"] and self.write_outcomes([settled]):
                raise StoreRefused(
                    f"The store has another outcome for event {event_id}.",
                    hint="`ml-pipeline outcome --correct` reads the store's as well.",
                )
            return float(str(settled["accuracy"]))

    def log_training_event(
        self,
        model_id: str,
        event_type: str = "training",
        metadata: Mapping[str, object] | None = None,
    ) -> str:
        """Note that a model was trained, in a file beside the log: it is no prediction."""
        row = prediction_row(
            event_id=new_event_id(),
            timestamp=self._clock(),
            model_name=self.model_name,
            model_id=model_id,
            match_id=None,
            prediction=event_type,
            confidence=None,
            metadata=metadata,
        )
        file = EventCsv(self.csv.path + TRAINING_EVENTS_SUFFIX)
        file.append([row | {"event_type": event_type, "prediction": None, "status": None}])
        file.close()
        return str(row["event_id"])

    def write(self, rows: Sequence[EventRow]) -> None:
        """Bring rows to the disk, then to the store if it answers."""
        if not rows:
            return
        with self._lock:
            span = self.csv.append(rows)
            self._deliver(rows, span)

    def write_outcomes(self, rows: Sequence[EventRow]) -> list[str]:
        """Write whole events with their outcomes; return the ids that the store refused.

        The store is asked first, so that the CSV never holds an outcome that the store
        contradicts; when it is away the CSV takes them all.
        """
        with self._lock:
            refused, is_sent = list[str](), False
            if self._open_table is not None and time.monotonic() >= self._away_until:
                before = len(self.refused)
                try:
                    self._catch_up()
                    if rows:
                        self._append(rows, durable=True)
                    is_sent = True
                except StoreError as error:
                    self._stay_away(error, len(rows))
                refused = self.refused[before:]
            taken = [row for row in rows if row["event_id"] not in set(refused)]
            if taken:
                start, end = self.csv.append(taken)
                if is_sent and self._delivered.position(end) == start:
                    self._delivered.move(end, durable=True)
            return refused

    def _catch_up(self) -> None:
        """Send what waits before what comes now."""
        self.sync()

    def _mark(self) -> int:
        return self._delivered.position(self.csv.size()) if self._open_table is not None else 0

    def _moved(self, mark: int) -> None:
        """What was sent stays marked as sent where the file was written anew."""
        if mark:
            self._delivered.move(mark, durable=False)

    def _deliver(self, rows: Sequence[EventRow], span: Span) -> None:
        if self._open_table is None or time.monotonic() < self._away_until:
            return
        try:
            if self._delivered.position(span[1]) == span[0]:
                durable = self._is_due(len(rows))
                self._append(rows, durable=durable)
                self._delivered.move(span[1], durable=durable)
            else:
                self.sync()
        except StoreError as error:
            self._stay_away(error, len(rows))

    def _stay_away(self, error: StoreError, events: int) -> None:
        self._note_away(error, RETRY_AFTER_S)
        warn(
            "The store did not take %d events (%s). They are kept in %s and sent again.",
            events, error.message, self.csv.path,
        )  # fmt: skip

    def _note_away(self, error: StoreError, seconds: float) -> None:
        """The store is not asked again for so long."""
        self.away = error.message
        self._away_until = time.monotonic() + seconds

    def _is_due(self, rows: int) -> bool:
        """The CSV holds each event on the disk; the table follows every hundred events."""
        self._unsettled += rows
        if self._settled_once and self._unsettled < SETTLED_EVERY:
            return False
        self._unsettled, self._settled_once = 0, True
        return True

    def sync(self, *, pieces: int | None = None) -> int:
        """Send everything that the store does not have yet; return how many events were new.

        Of very many, with `pieces`, so many thousands of lines at most.

        Events that the store refuses, because it holds them with other content, are left out,
        named in the log, and kept in `refused`. Raises StoreError when the store is away.
        """
        if self._open_table is None:
            return 0
        new = 0
        with self._lock:
            size = self.csv.size()
            position = self._delivered.position(size) if size else 0
            if position == size:
                return 0
            for rows, end in islice(self.csv.rows_from(position), pieces):
                for at in range(0, len(rows), SENT_AT_ONCE):
                    new += self._append(rows[at : at + SENT_AT_ONCE], durable=True)
                self._delivered.move(end, durable=True)
        return new

    def _append(self, rows: Sequence[EventRow], *, durable: bool) -> int:
        """Append what is not refused."""
        if self._table is None and self._open_table is not None:
            self._table = self._open_table()
        if self._table is None:
            return 0
        try:
            return self._table.append_rows(rows, durable=durable)
        except StoreDenied:
            raise  # no event is at fault, and each of them waits
        except StoreRefused as error:
            if len(rows) == 1:
                self.refused.append(str(rows[0]["event_id"]))
                warn("The store refused an event: %s", error.message)
                return 0
            middle = len(rows) // 2
            return sum(
                self._append(part, durable=durable) for part in (rows[:middle], rows[middle:])
            )

    def erase(self, is_erased: Callable[[EventRow], bool]) -> int:
        """Take events out of the CSV; return how many lines. What was sent stays marked as sent."""
        with self._lock:
            size = self.csv.size()
            mark = self._delivered.position(size) if size else 0
            gone, kept = self.csv.erase(is_erased, mark)
            if gone and mark:
                self._moved(kept)
            return gone

    def settle(self) -> int:
        """Send what waits; return how much of what stood in the CSV waits all the same, in bytes.

        `away` says why. Others may log meanwhile: what they add is theirs to send.
        """
        with self._lock:
            stood = self.csv.size()
            if self._open_table is not None and not self.away:
                try:
                    self.sync()
                    if self.waiting_bytes():
                        self.csv.mend()
                        stood = min(stood, self.csv.size())
                        self.sync()
                except StoreError as error:
                    self.away = error.message
            return max(0, stood - (self._delivered.position(self.csv.size()) if stood else 0))

    def waiting_bytes(self) -> int:
        """How much of the CSV is not known to be in the store, in bytes."""
        size = self.csv.size()
        return size - self._delivered.position(size) if size else 0

    def close(self) -> None:
        """Let go of files and connections."""
        self.csv.close()
        self._delivered.close()
        if self._table is not None:
            self._table.close()
            self._table = None
