"""The evaluation log as an application writes it: a CSV first, then the store's table.

The CSV is the outbox. A call succeeds once its line is on the disk; when the store is away the
event waits there, and the next call that reaches the store brings everything that is waiting.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from ml_pipeline.errors import InputError, NotFound, StoreError, StoreRefused
from ml_pipeline.evaluation_log.event_csv import EventCsv, Span, naming_errors
from ml_pipeline.store.event_row import EventRow, new_event_id, prediction_row, with_outcome
from ml_pipeline.store.inputs.labels import ANY_LABEL, Labels
from ml_pipeline.store.inputs.values import many_rows
from ml_pipeline.store.serving_view import ServingView

RETRY_AFTER_S = 60.0
SENT_AT_ONCE = 1000
SETTLED_EVERY = 100
TRAINING_EVENTS_SUFFIX = ".training.csv"
DELIVERED_SUFFIX = ".delivered"
_TAIL = 1 << 10

Mark = tuple[int, bytes]
_NO_CHECKSUM = b"-"
_NOTHING: Mark = (0, _NO_CHECKSUM)


class EvaluationLogger:
    """Writes predictions and their outcomes; safe for threads and for several processes.

    `open_table` opens the store's side, on first use; None keeps the CSV alone. By `labels`
    (None: any text is one) a label is written as its class is called, another is refused.
    """

    def __init__(
        self,
        csv_path: str,
        *,
        model_name: str,
        open_table: Callable[[], ServingView] | None = None,
        labels: Labels | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.csv = EventCsv(csv_path)
        self.model_name = model_name
        self.labels = labels or ANY_LABEL
        self.refused: list[str] = []
        self._delivered = Delivered(csv_path)
        self._open_table = open_table
        self._table: ServingView | None = None
        self.away = ""
        self._away_until = 0.0
        self._unsettled, self._settled_once = 0, False
        self._clock = clock
        self._lock = threading.RLock()

    def log_prediction(  # noqa: PLR0913 - the original documents' signature, and what it lacks
        self,
        model_id: str,
        match_id: str | None,
        prediction: object,
        confidence: float,
        *,
        features: Mapping[str, object] | None = None,
        metadata: Mapping[str, object] | None = None,
        event_id: str | None = None,
        timestamp: datetime | None = None,
    ) -> str:
        """Log one prediction and return its event id. Without features it cannot be learned."""
        row = self._row({
            "model_id": model_id, "match_id": match_id, "prediction": prediction,
            "confidence": confidence, "features": features, "metadata": metadata,
            "event_id": event_id, "timestamp": timestamp,
        })  # fmt: skip
        self.write([row])
        return str(row["event_id"])

    def log_predictions(self, predictions: Iterable[Mapping[str, object]]) -> list[str]:
        """Log many at once: the arguments of `log_prediction` as mappings; one sync for all.

        A frame whose columns are those arguments does as well.
        """
        rows = [self._row(passed) for passed in many_rows(predictions)]
        self.write(rows)
        return [str(row["event_id"]) for row in rows]

    def _row(self, passed: Mapping[str, object]) -> EventRow:
        from ml_pipeline.store.inputs.predictions import row_of_prediction

        return row_of_prediction(
            passed, model_name=self.model_name, labels=self.labels, now=self._clock
        )

    def log_evaluation(
        self, event_id: str, actual_result: object, accuracy: float | None = None
    ) -> float:
        """Log what really happened, in any spelling, and return the accuracy, 1.0 or 0.0.

        It is computed; a passed `accuracy` that differs from it is refused (InputError), as is
        what is no label. Raises NotFound for an unknown event and StoreRefused when it has another
        outcome.
        """
        actual = self.labels.outcome(actual_result)
        with self._lock:
            row = self.csv.find([event_id]).get(event_id)
            if row is None:
                raise NotFound(
                    f"There is no event {event_id} in {self.csv.path}.",
                    hint="`ml-pipeline outcome` searches the store's table as well.",
                )
            known = row["actual_result"]
            if known is not None and self.labels.find(known) != actual:
                raise StoreRefused(
                    f"Event {event_id} has the outcome {known} already, not {actual}."
                )
            is_right = self.labels.agree(row["prediction"], actual)
            found = 1.0 if is_right else 0.0
            if accuracy is not None and float(accuracy) != found:
                raise InputError(
                    f"Event {event_id} predicted {row['prediction']} and {actual} happened: "
                    f"its accuracy is {found}, not {accuracy}.",
                    hint="Leave accuracy out: it follows from the outcome.",
                )
            settled = with_outcome(row, actual, self._clock(), is_right=is_right)
            if known is None and self.write_outcomes([settled]):
                raise StoreRefused(f"The store has another outcome for event {event_id}.")
            return found

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
                    self.sync()
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
        self.away = error.message
        self._away_until = time.monotonic() + RETRY_AFTER_S
        _warn(
            "The store did not take %d events (%s). They are kept in %s and sent again.",
            events, error.message, self.csv.path,
        )  # fmt: skip

    def _is_due(self, rows: int) -> bool:
        """The CSV holds each event on the disk; the table follows every hundred events."""
        self._unsettled += rows
        if self._settled_once and self._unsettled < SETTLED_EVERY:
            return False
        self._unsettled, self._settled_once = 0, True
        return True

    def sync(self) -> int:
        """Send everything that the store does not have yet; return how many events were new.

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
            for rows, end in self.csv.rows_from(position):
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
        except StoreRefused as error:
            if len(rows) == 1:
                self.refused.append(str(rows[0]["event_id"]))
                _warn("The store refused an event: %s", error.message)
                return 0
            middle = len(rows) // 2
            return sum(
                self._append(part, durable=durable) for part in (rows[:middle], rows[middle:])
            )

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


class Delivered:
    """Up to which byte of the CSV the store has everything.

    Two marks, the boot that they were made in, and a checksum of what stood before each, in a small
    file of fixed width. The first mark counts what was sent; the second what the store has brought
    to its disk, and it alone counts after a power cut. Marks may lag behind: what stands after them
    is sent again, and a store takes an event once however often it comes. So a mark before which
    something else stands now counts for nothing.
    """

    _FORM = b"%020d %020d %-36.36s %s %s\n"
    _SIZE = 113

    def __init__(self, csv_path: str) -> None:
        self._csv = os.path.abspath(csv_path)
        self._path = self._csv + DELIVERED_SUFFIX
        self._file = -1
        self._process = 0
        self._boot = b""

    def position(self, size: int) -> int:
        """The mark; 0 when there is none, or when what stands before it was rewritten."""
        marks = self._marks()
        for mark, checksum in marks:
            if mark <= size and checksum in {_NO_CHECKSUM, self._checksum(mark)}:
                return mark
        if marks:
            self.move(0, durable=True)
            _warn(
                "%s was rewritten or replaced since its events were sent; all of it is sent again. "
                "`ml-pipeline reconcile` shows what else the store holds.", self._csv,
            )  # fmt: skip
        return 0

    def move(self, position: int, *, durable: bool) -> None:
        """Everything before `position` was sent; `durable` says that the store has it on disk."""
        sent = position, self._checksum(position)
        settled = sent
        if not durable:
            mark, checksum = self._read()[1]
            settled = mark, self._checksum(mark) if checksum == _NO_CHECKSUM else checksum
        marks = self._FORM % (sent[0], settled[0], self._boot, sent[1], settled[1])
        with naming_errors(self._path):
            os.pwrite(self._opened(), marks, 0)

    def _marks(self) -> list[Mark]:
        """The marks that may count, the later first; one of an older version has no checksum."""
        marks = sorted(self._read(), reverse=True)
        if marks[0][1] == _NO_CHECKSUM:
            marks = marks[:1]
        return [mark for mark in marks if mark[0]]

    def _read(self) -> tuple[Mark, Mark]:
        """What was sent since this boot, and what the store has on its disk."""
        with naming_errors(self._path):
            parts = os.pread(self._opened(), self._SIZE, 0).split()
        is_whole = len(parts) in {3, 5} and parts[0].isdigit() and parts[1].isdigit()
        if not is_whole:
            return _NOTHING, _NOTHING
        sent, settled = int(parts[0]), int(parts[1])
        checksums = parts[3:] or [_NO_CHECKSUM, _NO_CHECKSUM]
        return (
            (sent, checksums[0]) if parts[2] == self._boot else _NOTHING,
            (settled, checksums[1]),
        )

    def _checksum(self, mark: int) -> bytes:
        """Of the last bytes before the mark: a log rewritten shorter or longer has others there.

        Few, because every logged event is held to them.
        """
        try:
            file = os.open(self._csv, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            found = b""
        else:
            found = os.pread(file, min(mark, _TAIL), max(0, mark - _TAIL))
            os.close(file)
        return hashlib.blake2b(found, digest_size=8).hexdigest().encode()

    def _opened(self) -> int:
        """The file, made with its folder when there is none: a machine may log for the first time.

        It stands beside the CSV, whose folder is as new as that.
        """
        if self._file < 0 or self._process != os.getpid():
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._process = os.getpid()
            self._boot = _boot_id()
        return self._file

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def _boot_id() -> bytes:
    """What differs after each start of the machine; without it nothing counts as sent before."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().strip()
    except OSError:
        return b"process-%d" % os.getpid()


def _warn(message: str, *values: object) -> None:
    import logging

    logging.getLogger("ml_logging").warning(message, *values)
