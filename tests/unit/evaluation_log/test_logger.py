"""The logger: CSV first, the store afterwards, each event in both exactly once."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from ml_pipeline import ml_logging
from ml_pipeline.config.settings import load_settings
from ml_pipeline.errors import InputError, NotFound, StoreRefused, StoreUnavailable
from ml_pipeline.evaluation_log import logger as logger_
from ml_pipeline.evaluation_log.event_csv import EventCsv
from ml_pipeline.evaluation_log.logger import EvaluationLogger
from ml_pipeline.evaluation_log.opening import MLLogger, get_logger
from ml_pipeline.evaluation_log.outbox.delivered import Delivered
from ml_pipeline.evaluation_log.outcomes import record
from ml_pipeline.evaluation_log.reconciling import reconcile
from ml_pipeline.evaluation_log.recording.parsed import ParsedOutcome
from ml_pipeline.store.embedded.serving_view import LocalServingView
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.event_row import SEED_LOG_COLUMNS
from tests.contract.kit.base import EVER
from tests.contract.kit.log import read_all
from tests.support.factories import MODEL_NAME, make_id

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


def test_l4_a_prediction_that_lies_ahead_has_no_outcome_yet(
    open_logger: Callable[[], MLLogger], store: LocalStore
) -> None:
    logger = open_logger()
    ahead = logger.log_prediction("m", "x", "H", 0.5, timestamp=AT + timedelta(days=1))
    soon = logger.log_prediction("m", "x", "H", 0.5, timestamp=AT + timedelta(seconds=2))
    with pytest.raises(InputError, match="known before its prediction"):
        logger.log_evaluation(ahead, "H")
    assert logger.log_evaluation(soon, "H") == 1.0
    assert events(store)[ahead]["actual_result"] is None
    assert events(store)[soon]["evaluated_at"] == AT + timedelta(seconds=2)


def test_a_prediction_that_lies_more_than_a_day_ahead_is_refused(
    open_logger: Callable[[], MLLogger], store: LocalStore
) -> None:
    logger = open_logger()
    far = datetime(2062, 3, 14, tzinfo=UTC)
    with pytest.raises(InputError, match=r"2062-03-14T\S+ is in the future: it is 2026"):
        logger.log_prediction("m", "x", "H", 0.5, timestamp=far)
    good = {"model_id": "m", "prediction": "H", "confidence": 0.5}
    with pytest.raises(InputError, match="is in the future"):
        logger.log_predictions([good, good | {"timestamp": AT + timedelta(days=1, seconds=1)}])
    assert not events(store)


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


def test_after_a_power_cut_only_what_the_store_had_on_disk_counts_as_sent(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(bytes(range(250)) * 4)
    mark = Delivered(str(path))
    assert mark.position(1000) == 0
    mark.move(300, durable=True)
    mark.move(700, durable=False)
    assert mark.position(1000) == 700
    assert mark.position(500) == 300
    file = path.with_name(path.name + ".delivered")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    file.write_text(file.read_text().replace(boot, "another-boot".ljust(36)))
    assert Delivered(str(path)).position(1000) == 300
    file.write_text("rubbish")
    assert Delivered(str(path)).position(1000) == 0


def test_marks_of_an_older_version_count_until_they_are_moved(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"x" * 1000)
    file = path.with_name(path.name + ".delivered")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    file.write_text(f"{700:020d} {300:020d} {boot}\n")
    assert Delivered(str(path)).position(1000) == 700
    assert Delivered(str(path)).position(600) == 0
    file.write_text(f"{700:020d} {300:020d} {boot}\n")
    Delivered(str(path)).move(900, durable=False)
    assert Delivered(str(path)).position(1000) == 900
    assert len(file.read_bytes()) == Delivered._SIZE


@pytest.mark.parametrize(
    "rewrite",
    [
        # a little shorter, in another order, with other line ends
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: [lines[0], *reversed(lines[1:])],
        lambda lines: [line.replace(b"\n", b"\r\n") for line in lines],
    ],
)
@pytest.mark.parametrize("added", [1, 40])
def test_l8_after_the_csv_was_rewritten_no_event_is_skipped_and_the_log_says_so(
    open_logger: Callable[[], MLLogger],
    store: LocalStore,
    caplog: pytest.LogCaptureFixture,
    rewrite: Callable[[list[bytes]], list[bytes]],
    added: int,
) -> None:
    logger = open_logger()
    known = [log_one(logger, f"match_{number}") for number in range(20)]
    assert logger.waiting_bytes() == 0
    path = Path(logger.csv.path)
    lines = rewrite(path.read_bytes().splitlines(keepends=True))
    size = path.stat().st_size

    alone = EvaluationLogger(str(path), model_name=MODEL_NAME, clock=lambda: AT)
    path.write_bytes(b"".join(lines))
    new = [log_one(alone, f"new_{number}") for number in range(added)]
    assert path.stat().st_size != size

    assert open_logger().settle() == 0
    assert set(events(store)) == {*known, *new}
    assert "was rewritten or replaced" in caplog.text
    caplog.clear()
    assert open_logger().settle() == 0
    assert "was rewritten" not in caplog.text


def test_l8_a_csv_that_begins_anew_is_sent_however_long_it_has_become(
    open_logger: Callable[[], MLLogger], store: LocalStore
) -> None:
    logger = open_logger()
    known = [log_one(logger) for _ in range(3)]
    path = Path(logger.csv.path)
    path.rename(path.with_name("old.csv"))
    alone = EvaluationLogger(str(path), model_name=MODEL_NAME, clock=lambda: AT)
    new = [log_one(alone) for _ in range(30)]
    logger = open_logger()
    new.append(log_one(logger))
    assert set(events(store)) == {*known, *new}
    assert logger.waiting_bytes() == 0


def test_l8_a_log_of_the_original_documents_is_sent_when_its_header_is_made_ours(
    open_logger: Callable[[], MLLogger], store: LocalStore
) -> None:
    logger = open_logger()
    old = make_id(9)
    line = f'2025-01-01T00:00:00+00:00,{old},prediction,m,match_001,H,,0.85,,"{{}}",pending'
    Path(logger.csv.path).write_text(f"{','.join(SEED_LOG_COLUMNS)}\n{line}\n")
    logger.sync()
    new = log_one(logger)
    assert {old, new} <= {
        str(row["event_id"]) for rows, _ in logger.csv.rows_from(0) for row in rows
    }
    assert logger.waiting_bytes() == 0
    assert new in events(store)


def test_a_store_of_an_earlier_version_takes_events_and_gets_their_probabilities_later(
    open_logger: Callable[[], MLLogger], store: LocalStore, tmp_path: Path
) -> None:
    shares = {"H": 0.85, "A": 0.15}
    folder = store.describe()["directory"]
    with sqlite3.connect(Path(folder) / "store.db") as db:
        db.execute("ALTER TABLE evaluation_log DROP COLUMN probabilities")
        db.execute("ALTER TABLE learning_stats DROP COLUMN model_id")
        db.execute("PRAGMA user_version = 26")
    logger = open_logger()
    answered = logger.log_prediction("m-1", "x", "H", 0.85, probabilities=shares)
    logger.log_evaluation(answered, "A")
    opened = LocalStore.open(tmp_path / "store")
    row = events(opened)[answered]
    assert (row["probabilities"], row["actual_result"]) == (None, "A")
    assert logger.reconcile_logs()["csv_events"] == 1
    assert reconcile(logger, opened, repair=True)["probabilities_missing_in_table"] == 1
    assert json.loads(str(events(opened)[answered]["probabilities"])) == shares


@pytest.mark.parametrize("ends", [b"\r\n", b"\r"])
def test_l8_lines_with_other_ends_are_read_as_lines(
    open_logger: Callable[[], MLLogger], store: LocalStore, table: Flaky, ends: bytes
) -> None:
    logger = open_logger()
    table.away = True
    ids = [log_one(logger, f"match_{number}") for number in range(30)]
    path = Path(logger.csv.path)
    head, *lines = path.read_bytes().splitlines(keepends=True)
    mixed = [line.replace(b"\n", ends) if 3 < n < 9 else line for n, line in enumerate(lines)]
    path.write_bytes(b"".join([head, *mixed]))
    table.away = False
    logger = open_logger()
    assert logger.sync() == 30
    assert set(events(store)) == set(ids)
    assert logger.csv.find([ids[5]])[ids[5]]["match_id"] == "match_5"
    path.write_bytes(path.read_bytes().replace(b"\n", ends, 1) + b"no,event\n")
    report = logger.reconcile_logs()
    assert (report["csv_events"], report["bad_lines"]) == (30, 1)


def test_l1_a_torn_last_line_holds_up_nothing_that_is_sent(
    open_logger: Callable[[], MLLogger], store: LocalStore
) -> None:
    logger = open_logger()
    event_id = log_one(logger)
    with Path(logger.csv.path).open("ab") as file:
        file.write(b"2026-03-14T02:00:00,half a li")
    assert open_logger().settle() == 0
    assert set(events(store)) == {event_id}
    assert Path(logger.csv.path + ".torn").read_bytes() == b"2026-03-14T02:00:00,half a li\n"


class Unreachable(LocalStore):
    """The embedded store when nobody can ask it."""

    def find_events(self, **_: object) -> pd.DataFrame:
        raise StoreUnavailable("The connection is cut.")


def test_l7_while_the_store_is_away_a_match_that_the_csv_knows_waits_and_another_fails(
    open_logger: Callable[[], MLLogger], tmp_path: Path, table: Flaky
) -> None:
    logger = open_logger()
    event_id = log_one(logger, "x")
    table.away = True
    away = Unreachable.open(tmp_path / "store")
    known, unknown = (
        ParsedOutcome(key="match_id", value=name, actual="H", known_at=AT) for name in "xy"
    )
    with pytest.raises(StoreUnavailable):
        record(logger, away, [known, unknown], load_settings())
    assert logger.csv.find([event_id])[event_id]["actual_result"] is None
    report = record(logger, away, [known], load_settings(flags={"model_name": MODEL_NAME}))
    assert (report.recorded, report.away) == (1, "The connection is cut.")
    assert logger.settle() > 0
    table.away = False
    assert open_logger().settle() == 0


def test_started_as_a_program_it_is_outcome_and_reconcile() -> None:
    assert ml_logging.main([]) == 2
    with pytest.raises(SystemExit) as caught:
        ml_logging.main(["reconcile", "--help"])
    assert caught.value.code == 0


def test_an_event_with_a_megabyte_of_features_holds_nothing_back(
    open_logger: Callable[[], MLLogger], store: LocalStore
) -> None:
    with open_logger() as logger:
        huge = logger.log_prediction("m-1", "match_001", "H", 0.85, features={"city": "x" * 10**6})
        later = log_one(logger, "match_002")
    assert set(events(store)) == {huge, later}
    assert json.loads(str(events(store)[huge]["features"])) == {"city": "x" * 10**6}


@pytest.mark.parametrize("key", ["event_id", "match_id"])
def test_an_outcome_goes_to_no_other_models_event_of_a_shared_csv(
    open_logger: Callable[[], MLLogger], store: LocalStore, tmp_path: Path, key: str
) -> None:
    with open_logger() as logger:
        event_id = log_one(logger)
    path = tmp_path / "evaluation_log.csv"
    before = path.read_bytes()
    with MLLogger(str(path), model_name="churn", clock=lambda: AT) as logger:
        with pytest.raises(NotFound, match=rf"{event_id} is a prediction of {MODEL_NAME}, not of"):
            logger.log_evaluation(event_id, "A")
        value = event_id if key == "event_id" else "match_001"
        told = ParsedOutcome(key=key, value=value, actual="A", known_at=AT)
        settings = load_settings(flags={"model_name": "churn"})
        report = record(logger, store, [told], settings).as_json()
    assert (report["status"], report["recorded"], report["unknown"]) == ("failed", 0, [])
    (refused,) = report["refused"]
    assert (refused["event_id"], refused["given"]) == (event_id, "A")
    assert f"ML_PIPELINE__MODEL_NAME={MODEL_NAME}" in refused["hint"]
    assert path.read_bytes() == before
    assert events(store)[event_id]["actual_result"] is None


def test_another_models_event_that_only_the_table_has_is_named_as_such(
    open_logger: Callable[[], MLLogger], store: LocalStore, tmp_path: Path
) -> None:
    with open_logger() as logger:
        event_id = log_one(logger)
    told = [ParsedOutcome(key="event_id", value=value, actual="A", known_at=AT)
            for value in (event_id, make_id(77))]  # fmt: skip
    with MLLogger(str(tmp_path / "other.csv"), model_name="churn", clock=lambda: AT) as logger:
        report = record(logger, store, told, load_settings(flags={"model_name": "churn"}))
    (refused,) = report.refused
    assert refused["event_id"] == event_id
    assert f"is a prediction of {MODEL_NAME}, not of churn" in str(refused["reason"])
    assert [one["event_id"] for one in report.unknown] == [make_id(77)]
    assert events(store)[event_id]["actual_result"] is None
