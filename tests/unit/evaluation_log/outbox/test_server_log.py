"""The log of a server: durable for many callers at once, delivered behind them, each event once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ml_pipeline.errors import StoreDenied, StoreError, StoreUnavailable
from ml_pipeline.evaluation_log.event_csv import EventCsv
from ml_pipeline.evaluation_log.logger import EvaluationLogger
from ml_pipeline.evaluation_log.outbox.server_log import ServerLogger
from ml_pipeline.store.embedded.serving_view import LocalServingView
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.event_row import EventRow, new_event_id, prediction_row, with_outcome
from tests.contract.kit.base import EVER

AT = datetime(2026, 3, 14, 2, tzinfo=UTC)


def row(match_id: str | None = None) -> EventRow:
    return prediction_row(
        event_id=new_event_id(), timestamp=AT, model_name="default", model_id="m",
        match_id=match_id, prediction="H", confidence=0.7, features={"form": 0.5},
    )  # fmt: skip


class Cut(LocalServingView):
    """The embedded store behind a connection that can be cut, or that takes its time."""

    fault: StoreError | None = None

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.sizes: list[int] = []

    def append_rows(self, rows: Sequence[Mapping[str, object]], *, durable: bool = True) -> int:
        self.may_go_on.wait(20)
        if self.fault is not None:
            raise self.fault
        self.sizes.append(len(rows))
        return super().append_rows(rows, durable=durable)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore.open(tmp_path / "store")


@pytest.fixture
def table(store: LocalStore) -> Cut:
    return Cut(str(store.describe()["directory"]))


@pytest.fixture
def logger(table: Cut, tmp_path: Path) -> Iterator[ServerLogger]:
    found = ServerLogger(
        str(tmp_path / "log.csv"), model_name="default", open_table=lambda: table,
        retry_after_s=0.1,
    )  # fmt: skip
    found.start()
    yield found
    table.may_go_on.set()
    found.close(within_s=5)


def ids_of(store: LocalStore) -> list[str]:
    frames = store.read_events(EVER, model_name="default", labelled_only=False)
    return sorted(str(name) for frame in frames for name in frame["event_id"])


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_many_write_at_once_is_on_the_disk_and_in_the_store_once(
    logger: ServerLogger, store: LocalStore, tmp_path: Path
) -> None:
    written: list[str] = []

    def write(_: int) -> None:
        for _ in range(20):
            rows = [row(), row()]
            logger.write(rows)
            written.extend(str(one["event_id"]) for one in rows)

    with ThreadPoolExecutor(16) as callers:
        list(callers.map(write, range(16)))
    found = EventCsv(str(tmp_path / "log.csv")).find(written)
    assert sorted(found) == sorted(written)
    until(lambda: logger.waiting_bytes() == 0)
    assert ids_of(store) == sorted(written)


def test_nobody_waits_for_a_store_that_takes_its_time(
    logger: ServerLogger, table: Cut, store: LocalStore
) -> None:
    table.may_go_on.clear()
    began = time.monotonic()
    for _ in range(20):
        logger.write([row()])
    assert time.monotonic() - began < 5
    assert logger.waiting_bytes() > 0
    assert ids_of(store) == []
    table.may_go_on.set()
    until(lambda: len(ids_of(store)) == 20)


@pytest.mark.parametrize("fault", [StoreUnavailable("away"), StoreDenied("another key")])
def test_what_waits_is_delivered_in_pieces_and_once(
    logger: ServerLogger, table: Cut, store: LocalStore, fault: StoreError
) -> None:
    table.fault = fault
    rows = [row() for _ in range(3000)]
    logger.write(rows)
    until(lambda: logger.away == fault.message)
    table.fault = None
    until(lambda: logger.waiting_bytes() == 0)
    assert ids_of(store) == sorted(str(one["event_id"]) for one in rows)
    assert (sum(table.sizes), max(table.sizes) <= 1000) == (3000, True)
    assert (logger.away, logger.refused) == ("", [])


def test_an_event_that_contradicts_what_stands_keeps_no_other_back(
    logger: ServerLogger, store: LocalStore
) -> None:
    first = row("m1")
    logger.write([first])
    until(lambda: logger.waiting_bytes() == 0)
    second = row()
    logger.write([{**first, "prediction": "A"}, second])
    until(lambda: len(ids_of(store)) == 2)
    assert logger.refused == [first["event_id"]]


def no_file(path: Path) -> None:
    path.mkdir()


def no_log(path: Path) -> None:
    path.write_text("hello,world\n")


@pytest.mark.parametrize("lie_there", [no_file, no_log])
def test_who_cannot_write_is_told_and_those_after_it_can(
    logger: ServerLogger, tmp_path: Path, lie_there: Callable[[Path], None]
) -> None:
    logger.write([row()])
    log = tmp_path / "log.csv"
    log.rename(tmp_path / "other.csv")
    lie_there(log)
    with ThreadPoolExecutor(4) as callers:
        faults = [
            one.exception() for one in [callers.submit(logger.write, [row()]) for _ in "1234"]
        ]
    assert [type(fault) for fault in faults] == [StoreUnavailable] * 4
    with pytest.raises(StoreUnavailable):
        logger.write_outcomes([with_outcome(row(), "H", AT)])
    log.rename(tmp_path / "taken away")
    (tmp_path / "other.csv").rename(log)
    kept = row()
    logger.write([kept])
    assert str(kept["event_id"]) in EventCsv(str(log)).find([str(kept["event_id"])])


def test_an_application_s_log_waits_as_well_while_its_key_is_not_accepted(
    table: Cut, store: LocalStore, tmp_path: Path
) -> None:
    logger = EvaluationLogger(
        str(tmp_path / "own.csv"), model_name="default", open_table=lambda: table
    )
    table.fault = StoreDenied("another key")
    event = logger.log_prediction("m", "match", "H", 0.7, features={"form": 0.5})
    assert (logger.away, logger.refused, logger.waiting_bytes() > 0) == ("another key", [], True)
    table.fault, logger.away = None, ""
    assert (logger.settle(), ids_of(store)) == (0, [event])
    logger.close()
