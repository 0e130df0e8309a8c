"""The logger: CSV first, the store afterwards, each event in both exactly once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ml_pipeline import ml_logging
from ml_pipeline.errors import InputError, NotFound, StoreRefused, StoreUnavailable
from ml_pipeline.evaluation_log import logger as logger_
from ml_pipeline.evaluation_log.event_csv import EventCsv
from ml_pipeline.evaluation_log.logger import EvaluationLogger
from ml_pipeline.evaluation_log.opening import MLLogger, get_logger
from ml_pipeline.store.embedded.serving_view import LocalServingView
from ml_pipeline.store.embedded.store import LocalStore
from tests.contract.kit.base import EVER
from tests.contract.kit.log import read_all
from tests.support.factories import MODEL_NAME

FEATURES: Mapping[str, object] = {"form": 0.1 + 0.2, "strength": 7.0}
AT = datetime(2026, 3, 14, 2, tzinfo=UTC)


class Flaky(LocalServingView):
    """The embedded store behind a connection that can be cut."""

    away = False

    def append_rows(self, rows: Sequence[Mapping[str, object]], *, durable: bool = True) -> int:
        if self.away:
            raise StoreUnavailable("The connection is cut.")
        return super().append_rows(rows, durable=durable)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore.open(tmp_path / "store")


@pytest.fixture
def table(store: LocalStore) -> Flaky:
    return Flaky(store.describe()["directory"])


@pytest.fixture
def open_logger(tmp_path: Path, table: Flaky) -> Callable[[], MLLogger]:
    return lambda: MLLogger(
        str(tmp_path / "evaluation_log.csv"),
        model_name=MODEL_NAME,
        open_table=lambda: table,
        clock=lambda: AT,
    )


def log_one(logger: EvaluationLogger, match_id: str = "match_001") -> str:
    return logger.log_prediction("m-1", match_id, "H", 0.85, features=FEATURES)


def events(store: LocalStore) -> dict[str, dict[str, object]]:
    frame = read_all(store, labelled_only=False)
    return {row["event_id"]: row for row in frame.to_dict("records")}  # type: ignore[misc]


def test_a_prediction_and_its_outcome_stand_in_both_and_can_be_learned(
    open_logger: Callable[[], MLLogger], store: LocalStore
) -> None:
    logger = open_logger()
    event_id = log_one(logger)
    assert logger.log_evaluation(event_id, "A") == 0.0
    row = events(store)[event_id]
    assert json.loads(str(row["features"])) == FEATURES
    assert (row["actual_result"], row["accuracy"], row["confidence"]) == ("A", 0.0, 0.85)
    assert logger.csv.find([event_id])[event_id]["accuracy"] == 0.0
    assert logger.waiting_bytes() == 0
    report = logger.reconcile_logs()
    assert report["csv_events"] == 1


def test_defect_20_the_accuracy_is_computed_whatever_is_passed(
    open_logger: Callable[[], MLLogger], store: LocalStore
) -> None:
    logger = open_logger()
    right, wrong = log_one(logger), log_one(logger)
    assert logger.log_evaluation(right, "H", accuracy=1.0) == 1.0
    with pytest.raises(InputError, match=r"its accuracy is 0\.0, not 1\.0"):
        logger.log_evaluation(wrong, "A", accuracy=1.0)
    assert logger.log_evaluation(wrong, "A") == 0.0
    assert [row["accuracy"] for row in events(store).values()].count(1.0) == 1


def test_the_same_outcome_twice_is_fine_and_another_is_refused(
    open_logger: Callable[[], MLLogger], store: LocalStore
) -> None:
    logger = open_logger()
    event_id = log_one(logger)
    logger.log_evaluation(event_id, "A")
    size = logger.csv.size()
    assert logger.log_evaluation(event_id, "A") == 0.0
    with pytest.raises(StoreRefused, match="has the outcome A already, not D"):
        logger.log_evaluation(event_id, "D")
    with pytest.raises(NotFound, match="no event nobody"):
        logger.log_evaluation("nobody", "D")
    assert logger.csv.size() == size
    assert events(store)[event_id]["actual_result"] == "A"


def test_while_the_store_is_away_calls_succeed_and_the_next_sync_brings_everything_once(
    open_logger: Callable[[], MLLogger],
    store: LocalStore,
    table: Flaky,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(logger_, "RETRY_AFTER_S", 0.0)
    logger = open_logger()
    first = log_one(logger)
    table.away = True
    waiting = [log_one(logger, f"match_{number}") for number in range(5)]
    logger.log_evaluation(waiting[0], "A")
    assert set(events(store)) == {first}
    assert logger.waiting_bytes() > 0
    assert "The connection is cut." in caplog.text

    table.away = False
    last = log_one(logger, "match_9")
    assert set(events(store)) == {first, *waiting, last}
    assert events(store)[waiting[0]]["accuracy"] == 0.0
    assert logger.waiting_bytes() == 0
    assert logger.sync() == 0


def test_what_a_killed_process_had_not_sent_is_sent_by_the_next(
    open_logger: Callable[[], MLLogger], store: LocalStore, table: Flaky
) -> None:
    table.away = True
    event_id = log_one(open_logger())
    table.away = False
    assert events(store) == {}
    assert open_logger().sync() == 1
    assert set(events(store)) == {event_id}
    assert open_logger().sync() == 0


def test_events_that_the_store_refuses_are_named_and_hold_up_nothing(
    open_logger: Callable[[], MLLogger], store: LocalStore, caplog: pytest.LogCaptureFixture
) -> None:
    logger = open_logger()
    event_id = log_one(logger)
    again = logger.log_prediction("m-1", "match_001", "A", 0.5, event_id=event_id)
    after = log_one(logger)
    assert logger.refused == [again]
    assert set(events(store)) == {event_id, after}
    assert events(store)[event_id]["prediction"] == "H"
    assert event_id in caplog.text


def test_an_outcome_that_the_store_contradicts_is_not_written_to_the_csv_either(
    open_logger: Callable[[], MLLogger], store: LocalStore
) -> None:
    logger = open_logger()
    event_id = log_one(logger)
    store.record_outcomes({event_id: "D"}, evaluated_at=AT)
    with pytest.raises(StoreRefused, match="another outcome"):
        logger.log_evaluation(event_id, "A")
    assert logger.csv.find([event_id])[event_id]["actual_result"] is None


def test_threads_log_at_once_and_each_event_arrives_once(
    open_logger: Callable[[], MLLogger], store: LocalStore
) -> None:
    logger = open_logger()
    threads = [
        threading.Thread(target=lambda: [log_one(logger) for _ in range(20)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(events(store)) == 80
    assert logger.csv.size() == Path(logger.csv.path).stat().st_size
    assert len(logger.csv.find(events(store).keys())) == 80


def test_many_predictions_are_logged_with_one_call(
    open_logger: Callable[[], MLLogger], store: LocalStore
) -> None:
    given = [
        {"model_id": "m-1", "match_id": f"m{n}", "prediction": "H", "confidence": n / 100}
        for n in range(50)
    ]
    ids = open_logger().log_predictions(given)
    assert len(set(ids)) == 50
    assert [events(store)[event_id]["confidence"] for event_id in ids] == [
        n / 100 for n in range(50)
    ]


def test_training_events_stand_beside_the_log_not_in_it(
    open_logger: Callable[[], MLLogger], store: LocalStore
) -> None:
    logger = open_logger()
    logger.log_training_event("m-2", metadata={"rows": 30})
    assert logger.csv.size() == 0
    text = Path(logger.csv.path + ".training.csv").read_text()
    assert "m-2" in text
    assert "training" in text
    assert events(store) == {}


def test_the_csv_stands_alone_and_a_store_that_comes_later_takes_it_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SUPABASE_URL", "SUPABASE_SERVICE_KEY", "ML_PIPELINE_LOCAL"):
        monkeypatch.delenv(name, raising=False)
    with get_logger() as alone:
        event_id = alone.log_prediction("lr_v1", "match_001", "H", 0.85)
        alone.log_evaluation(event_id, "H", accuracy=1.0)
        report = alone.reconcile_logs()
        assert (report["csv_events"], report["table_events"], report["consistent"]) == (
            1,
            None,
            True,
        )
    path = tmp_path / "ml_pipeline" / "logs" / "evaluation_log.csv"
    assert path.is_file()
    with get_logger(local_dir=str(tmp_path / "new"), csv_path=path) as logger:
        assert logger.sync() == 1
    store = LocalStore.open(tmp_path / "new")
    (frame,) = store.read_events(EVER, model_name="default")
    assert frame["accuracy"].tolist() == [1.0]


def test_the_log_stands_beside_an_embedded_store(tmp_path: Path) -> None:
    with get_logger(local_dir=str(tmp_path / "store")) as logger:
        logger.log_prediction("m", "x", "H", 0.5)
    found = EventCsv(str(tmp_path / "store" / "logs" / "evaluation_log.csv"))
    assert len(list(found.rows_from(0))) == 1


def test_started_as_a_program_it_is_outcome_and_reconcile() -> None:
    assert ml_logging.main([]) == 2
    with pytest.raises(SystemExit) as caught:
        ml_logging.main(["reconcile", "--help"])
    assert caught.value.code == 0
