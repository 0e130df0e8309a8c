"""The evaluation log of a server: many threads write at once, and none waits for the store.

A call returns once its lines are on the disk, by one sync for all that came meanwhile. A thread
of its own brings them to the store behind that, and while the store is away they wait in the CSV.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from ml_pipeline.errors import PipelineError, StoreError, StoreUnavailable
from ml_pipeline.evaluation_log.event_csv import EventCsv
from ml_pipeline.evaluation_log.logger import RETRY_AFTER_S, EvaluationLogger
from ml_pipeline.evaluation_log.outbox.lines import lines_of
from ml_pipeline.store.event_row import EventRow
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.serving_view import ServingView

GATHERED_S: Final = 0.2
FIRST_RETRY_S: Final = 1.0
log = logging.getLogger("ml_logging")


class _Group:
    """Lines that are brought to the disk together."""

    __slots__ = ("done", "fault", "lines")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.done = threading.Event()
        self.fault: StoreUnavailable | None = None


@contextmanager
def _for_the_log() -> Iterator[None]:
    """What is wrong with the file is no fault of who asks, and may pass: it is unavailable."""
    try:
        yield
    except PipelineError as error:
        raise StoreUnavailable(error.message, hint=error.hint) from error


class ServerLogger(EvaluationLogger):
    """`EvaluationLogger` whose rows are delivered by a thread of its own: `start`, then `close`.

    `away` says why the store does not take events, empty while it does.
    """

    def __init__(  # noqa: PLR0913 - as the logger that it is
        self,
        csv_path: str,
        *,
        model_name: str,
        open_table: Callable[[], ServingView],
        labels: Callable[[], Labels] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        retry_after_s: float = RETRY_AFTER_S,
    ) -> None:
        super().__init__(
            csv_path, model_name=model_name, open_table=open_table, labels=labels, clock=clock
        )
        # A handle of its own: an outcome may hold the other one while the store takes its time.
        self._lines = EventCsv(csv_path)
        self._gate, self._disk = threading.Lock(), threading.Lock()
        self._group = _Group()
        self._longest_wait_s = retry_after_s
        self._news, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep_delivering, name="delivery", daemon=True)
        self.sent_until = 0

    def start(self) -> None:
        """Begin to deliver. Raises StoreRefused, DataError where the log cannot be written."""
        self.csv.mend()
        self._news.set()
        self._thread.start()

    def write(self, rows: Sequence[EventRow]) -> None:
        """Bring rows to the disk. Raises StoreUnavailable when they are not there."""
        if not rows:
            return
        lines = lines_of(rows)
        with self._gate:
            group = self._group
            is_first = not group.lines
            group.lines.append(lines)
        if is_first:
            self._bring_to_disk(group)
        else:
            group.done.wait()
        if group.fault is not None:
            raise StoreUnavailable(group.fault.message, hint=group.fault.hint)
        self._news.set()

    def _bring_to_disk(self, group: _Group) -> None:
        """Whoever came first writes for all that came while the group before was written."""
        with self._disk:
            with self._gate:
                self._group = _Group()
            try:
                with _for_the_log():
                    self._lines.append_lines(b"".join(group.lines))
            except StoreUnavailable as error:
                group.fault = error
            except BaseException:
                group.fault = StoreUnavailable("The log could not be written.")
                raise
            finally:
                group.done.set()

    def write_outcomes(self, rows: Sequence[EventRow]) -> list[str]:
        """Write whole events with their outcomes; return the ids that the store refused.

        Raises StoreUnavailable when they are not on the disk.
        """
        with _for_the_log():
            refused = super().write_outcomes(rows)
        self._news.set()
        return refused

    def waiting_bytes(self) -> int:
        """How much of the CSV is not known to be in the store, in bytes."""
        return max(0, self.csv.size() - self.sent_until)

    def _catch_up(self) -> None:
        """What waits is the thread's."""

    def _keep_delivering(self) -> None:
        wait_s = FIRST_RETRY_S
        while not self._ending.is_set():
            self._news.wait()
            # So that a store is not asked for every single event.
            self._ending.wait(GATHERED_S)
            self._news.clear()
            try:
                while self._deliver_piece() and not self._ending.is_set():
                    pass
                wait_s = FIRST_RETRY_S
            except StoreError as error:
                self._say_away(error, wait_s)
                self._ending.wait(wait_s)
                wait_s = min(wait_s * 2, self._longest_wait_s)
                self._news.set()
            except Exception:  # a fault of ours must not end the delivery for good
                log.exception("Events could not be delivered; they are kept in %s", self.csv.path)
                self._ending.wait(self._longest_wait_s)
                self._news.set()

    def _deliver_piece(self) -> bool:
        """Send some of what waits; return whether there may be more."""
        with self._lock:
            self.sync(pieces=1)
            size = self.csv.size()
            waiting = super().waiting_bytes()
        # A last line that another program is writing, or was killed at, stays for later.
        before, self.sent_until = self.sent_until, size - waiting
        if self.away:
            log.info("The store answers again; %d bytes of the log wait for it", waiting)
        self.away, self._away_until = "", 0.0
        return waiting > 0 and self.sent_until != before

    def _say_away(self, error: StoreError, wait_s: float) -> None:
        if not self.away:
            log.warning(
                "The store takes no events (%s). They are kept in %s and sent again.",
                error.message, self.csv.path,
            )  # fmt: skip
        self._note_away(error, wait_s)

    def close(self, *, within_s: float = 0.0) -> None:
        """End the delivery, after what waits was sent if that takes no longer than `within_s`."""
        until = time.monotonic() + within_s
        while self._thread.is_alive() and time.monotonic() < until:
            if self.away or not self.waiting_bytes():
                break
            time.sleep(0.02)
        self._ending.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(max(0.0, until - time.monotonic()))
        self._lines.close()
        if not self._thread.is_alive():
            super().close()
