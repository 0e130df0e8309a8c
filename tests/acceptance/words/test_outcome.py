"""`outcome` and `reconcile` as commands: rows in both logs, exit codes, JSON."""

from __future__ import annotations

import csv
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.evaluation_log.event_csv import EventCsv
from ml_pipeline.evaluation_log.logger import EvaluationLogger
from ml_pipeline.evaluation_log.opening import get_logger
from tests.support.shell import Finished, python
from tests.support.warm import ml_pipeline

FEATURES: dict[str, object] = {
    "home_team_form": 7.5,
    "away_team_form": 6.2,
    "home_team_strength": 8.0,
    "away_team_strength": 7.5,
    "home_advantage": 0.5,
}


MADE = datetime(2026, 2, 1, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def ids(folder: Path) -> list[str]:
    """Thirty predictions, of thirty matches."""
    predictions = [
        {"model_id": f"m-{number % 2}", "match_id": f"match_{number:03d}",
         "prediction": "HDA"[number % 3], "confidence": 0.5 + number / 100, "features": FEATURES,
         "timestamp": MADE}
        for number in range(30)
    ]  # fmt: skip
    with get_logger(local_dir=str(folder)) as logger:
        return logger.log_predictions(predictions)


def rows(folder: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "store.db")) as db:
        return db.execute(query, values).fetchall()


def csv_of(folder: Path) -> EventCsv:
    return EventCsv(str(folder / "logs" / "evaluation_log.csv"))


def test_one_outcome_by_event_and_one_by_match_in_any_spelling(
    folder: Path, ids: list[str], tmp_path: Path
) -> None:
    by_event = ["--event-id", ids[0], "--actual", "home_win"]
    done = ml_pipeline("outcome", "--local", folder, *by_event, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert (done.json["recorded"], done.json["accuracy"]) == (1, 1.0)
    by_match = ["--match-id", "match_001", "--actual", "2"]
    done = ml_pipeline("outcome", "--local", folder, *by_match, cwd=tmp_path)
    assert done.json["accuracy"] == 0.0
    assert rows(
        folder,
        "SELECT match_id, actual_result, accuracy FROM evaluation_log "
        "WHERE actual_result IS NOT NULL ORDER BY 1",
    ) == [("match_000", "H", 1.0), ("match_001", "A", 0.0)]
    assert csv_of(folder).find([ids[1]])[ids[1]]["actual_result"] == "A"

    again = ml_pipeline("outcome", "--local", folder, *by_match, cwd=tmp_path)
    assert (again.code, again.json["recorded"], again.json["already_known"]) == (0, 0, 1)


def test_a_file_is_recorded_and_what_contradicts_or_is_unknown_is_listed(
    folder: Path, ids: list[str], tmp_path: Path
) -> None:
    ml_pipeline("outcome", "--local", folder, "--event-id", ids[3], "--actual", "D", cwd=tmp_path)
    with (tmp_path / "results.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["match_id", "actual_result", "evaluated_at"])
        for number in range(30):
            writer.writerow([f"match_{number:03d}", "H", "2026-03-01T22:00:00Z"])
        writer.writerow(["match_999", "H", ""])
        writer.writerow(["match_004", "Z", ""])

    done = ml_pipeline("outcome", "--local", folder, "--csv", "results.csv", cwd=tmp_path)

    assert done.code == 1
    assert done.json["status"] == "failed"
    assert done.json["recorded"] == 29
    refused = {(item["match_id"], item["stands"], item["given"]) for item in done.json["refused"]}
    assert refused == {("match_003", "D", "H"), ("match_004", "a label of data.classes", "Z")}
    assert done.json["unknown"] == [{"match_id": "match_999", "actual_result": "H"}]
    query = "SELECT count(*), min(evaluated_at) FROM evaluation_log WHERE actual_result = 'H'"
    assert rows(folder, query) == [(29, "2026-03-01T22:00:00.000000+00:00")]
    query = "SELECT actual_result FROM evaluation_log WHERE event_id = ?"
    assert rows(folder, query, ids[3]) == [("D",)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("result\nH\n", "needs the columns"),
        ("match_id,actual_result\nx,\n", "line 2: no id or no outcome"),
        ("match_id,actual_result,evaluated_at\nx,H,yesterday\n", "line 2"),
    ],
)
def test_a_file_that_cannot_be_used_records_nothing(
    folder: Path, ids: list[str], tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "results.csv").write_text(content)
    done = ml_pipeline("outcome", "--local", folder, "--csv", "results.csv", cwd=tmp_path)
    assert done.code == 1
    assert words in done.json["error"]
    assert rows(folder, "SELECT count(actual_result) FROM evaluation_log") == [(0,)]
    assert len(ids) == 30


def test_an_event_that_only_the_table_has_gets_its_outcome_in_both(
    folder: Path, ids: list[str], tmp_path: Path
) -> None:
    csv_of(folder).close()
    (folder / "logs" / "evaluation_log.csv").unlink()
    done = ml_pipeline(
        "outcome", "--local", folder, "--event-id", ids[2], "--actual", "A", cwd=tmp_path
    )
    assert done.code == 0, done.stderr
    event = csv_of(folder).find([ids[2]])[ids[2]]
    assert (event["prediction"], event["actual_result"], event["accuracy"]) == ("A", "A", 1.0)
    assert rows(folder, "SELECT count(actual_result) FROM evaluation_log") == [(1,)]


def test_defect_22_reconciling_compares_event_by_event_and_repairs_what_is_missing(
    folder: Path, ids: list[str], tmp_path: Path
) -> None:
    with closing(sqlite3.connect(folder / "store.db")) as db, db:
        db.execute("DELETE FROM evaluation_log WHERE event_id = ?", [ids[0]])
        db.execute("UPDATE evaluation_log SET confidence = 0.999 WHERE event_id = ?", [ids[1]])
        db.execute(
            "UPDATE evaluation_log SET actual_result = 'D', "
            "evaluated_at = '2026-03-01T22:00:00.000000+00:00' WHERE event_id = ?", [ids[2]]
        )  # fmt: skip
    log = csv_of(folder)
    lines = Path(log.path).read_text().splitlines(keepends=True)
    kept = [line for line in lines if ids[5] not in line]
    twice = next(line for line in lines if ids[6] in line)
    Path(log.path).write_text("".join([*kept, twice, "not,an,event\n"]))

    report = ml_pipeline("reconcile", "--local", folder, cwd=tmp_path)

    assert report.code == 0, report.stderr
    found = report.json
    assert found["consistent"] is False
    assert (found["csv_events"], found["table_events"]) == (29, 29)
    assert (found["missing_in_table"], found["missing_in_csv"]) == (1, 1)
    assert found["ids"] == {
        "not_in_csv": [ids[5]], "not_in_table": [ids[0]], "outcome_not_in_csv": [ids[2]],
    }  # fmt: skip
    assert found["differences"] == [
        {"event_id": ids[1], "field": "confidence", "csv": 0.51, "table": 0.999}
    ]
    assert (found["duplicates"], found["bad_lines"], found["pending"]) == (1, 1, 29)
    assert found["models"]["m-0"] == {
        "events": 15, "evaluated": 1, "accuracy": 0.0, "abstention_rate": 0.0,
    }  # fmt: skip
    assert rows(folder, "SELECT count(*) FROM evaluation_log") == [(29,)]

    done = ml_pipeline("reconcile", "--repair", "--local", folder, cwd=tmp_path)
    assert done.json["repaired"] == {"sent_to_table": 1, "appended_to_csv": 2}
    after = ml_pipeline("reconcile", "--local", folder, cwd=tmp_path).json
    assert (after["missing_in_table"], after["missing_in_csv"]) == (0, 0)
    assert after["outcome_missing_in_csv"] == 0
    assert after["differing_fields"] == {"confidence": 1}
    assert rows(folder, "SELECT confidence FROM evaluation_log WHERE event_id = ?", ids[1]) == [
        (0.999,)
    ]


def test_without_a_store_reconcile_reads_the_csv_and_will_not_repair(tmp_path: Path) -> None:
    done = python("-m", "ml_pipeline.ml_logging", "reconcile", cwd=tmp_path)
    assert (done.code, done.json["csv_events"], done.json["table_events"]) == (0, 0, None)
    refused = ml_pipeline("reconcile", "--repair", cwd=tmp_path)
    assert refused.code == 1
    assert "no store to repair" in refused.json["error"]


def test_an_outcome_without_a_key_or_a_label_is_refused(folder: Path, tmp_path: Path) -> None:
    done = ml_pipeline("outcome", "--local", folder, "--actual", "H", cwd=tmp_path)
    assert done.code == 1
    assert "--event-id or --match-id" in done.json["error"]


@pytest.mark.parametrize("key", ["event_id", "match_id"])
def test_l1_a_machine_that_has_not_logged_before_records_in_the_store(
    folder: Path, ids: list[str], tmp_path: Path, key: str
) -> None:
    shutil.rmtree(folder / "logs")
    names = ids if key == "event_id" else [f"match_{number:03d}" for number in range(30)]
    lines = [f"{name},H" for name in names[:20]]
    (tmp_path / "results.csv").write_text("\n".join([f"{key},actual_result", *lines]))
    done = ml_pipeline("outcome", "--local", folder, "--csv", "results.csv", cwd=tmp_path)
    assert (done.code, done.json["status"], done.json["recorded"]) == (0, "completed", 20)
    assert done.json["waiting_bytes"] == 0
    assert rows(folder, "SELECT count(actual_result) FROM evaluation_log") == [(20,)]


def test_l1_with_nothing_to_record_a_new_machine_says_what_is_unknown(
    folder: Path, ids: list[str], tmp_path: Path
) -> None:
    shutil.rmtree(folder / "logs")
    unknown = ["--event-id", "0" * 8, "--actual", "H"]
    done = ml_pipeline("outcome", "--local", folder, *unknown, cwd=tmp_path)
    assert (done.code, len(done.json["unknown"]), len(ids)) == (1, 1, 30)
    again = ["--event-id", ids[0], "--actual", "H"]
    assert ml_pipeline("outcome", "--local", folder, *again, cwd=tmp_path).code == 0
    shutil.rmtree(folder / "logs")
    done = ml_pipeline("outcome", "--local", folder, *again, cwd=tmp_path)
    assert (done.code, done.json["already_known"], done.json["waiting_bytes"]) == (0, 1, 0)


def test_l1_what_waits_in_the_csv_is_no_success_unless_that_is_allowed(
    folder: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.csv"
    with get_logger(csv_path=log) as logger:
        first, second = logger.log_predictions(
            {"model_id": "m", "match_id": f"x{n}", "prediction": "H", "confidence": 0.5}
            for n in range(2)
        )
    env = {"ML_PIPELINE__LOG__CSV_FILE": str(log)}
    one, other = (["--event-id", name, "--actual", "A"] for name in (first, second))
    done = ml_pipeline("outcome", *one, cwd=tmp_path, **env)
    assert (done.code, done.json["status"], done.json["recorded"]) == (1, "waiting", 1)
    assert done.json["waiting_bytes"] == log.stat().st_size
    assert str(log) in done.stderr
    assert "SUPABASE_URL" in done.stderr
    allowed = ml_pipeline("outcome", *other, "--allow-outbox", cwd=tmp_path, **env)
    assert (allowed.code, allowed.json["status"]) == (0, "waiting")
    # The way out that the message names.
    done = ml_pipeline("outcome", *one, "--local", folder, cwd=tmp_path, **env)
    assert (done.code, done.json["status"], done.json["waiting_bytes"]) == (0, "completed", 0)
    query = "SELECT event_id, actual_result FROM evaluation_log ORDER BY 1"
    assert rows(folder, query) == sorted([(first, "A"), (second, "A")])


def predict(logger: EvaluationLogger, match_id: str, made: datetime, prediction: str = "H") -> str:
    return logger.log_prediction("m", match_id, prediction, 0.6, features=FEATURES, timestamp=made)


def record(folder: Path, tmp_path: Path, *lines: str) -> Finished:
    (tmp_path / "results.csv").write_text(
        "\n".join(["match_id,actual_result,evaluated_at", *lines])
    )
    return ml_pipeline("outcome", "--local", folder, "--csv", "results.csv", cwd=tmp_path)


def outcomes(folder: Path) -> dict[str, tuple[str | None, str | None]]:
    found = rows(folder, "SELECT event_id, actual_result, evaluated_at FROM evaluation_log")
    return {event_id: (label, at and at[:16]) for event_id, label, at in found}


def test_l7_every_prediction_of_a_match_gets_its_outcome_whoever_logged_it(
    folder: Path, tmp_path: Path
) -> None:
    with get_logger(local_dir=str(folder)) as mine:
        here = predict(mine, "x", MADE)
    with get_logger(local_dir=str(folder), csv_path=tmp_path / "other.csv") as other:
        there = [predict(other, "x", MADE, label) for label in "HD"]
    done = ml_pipeline(
        "outcome", "--local", folder, "--match-id", "x", "--actual", "H", cwd=tmp_path
    )
    assert (done.code, done.json["recorded"], done.json["accuracy"]) == (0, 3, 2 / 3)
    assert {label for label, _ in outcomes(folder).values()} == {"H"}
    assert set(outcomes(folder)) == {here, *there}

    # The other machine is told as well: the same outcome, with the time that stands.
    env = {"ML_PIPELINE__LOG__CSV_FILE": str(tmp_path / "other.csv")}
    again = ["outcome", "--local", str(folder), "--match-id", "x", "--actual"]
    done = ml_pipeline(*again, "H", cwd=tmp_path, **env)
    assert (done.code, done.json["recorded"], done.json["already_known"]) == (0, 0, 3)
    report = ml_pipeline("reconcile", "--local", folder, cwd=tmp_path, **env).json
    assert (report["differing"], report["outcome_missing_in_csv"]) == (0, 0)
    done = ml_pipeline(*again, "A", cwd=tmp_path, **env)
    assert (done.code, len(done.json["refused"])) == (1, 3)


def test_l4_an_outcome_is_that_of_the_predictions_made_before_it_was_known(
    folder: Path, tmp_path: Path
) -> None:
    with get_logger(local_dir=str(folder)) as logger:
        october = predict(logger, "customer_7", datetime(2025, 10, 1, tzinfo=UTC))
        november = predict(logger, "customer_7", datetime(2025, 11, 1, tzinfo=UTC))
        late = predict(logger, "late", datetime(2025, 11, 1, tzinfo=UTC))
    first, second = "customer_7,H,2025-10-15T10:00:00Z", "customer_7,A,2025-11-15T10:00:00Z"

    done = record(folder, tmp_path, first)
    assert (done.code, done.json["recorded"]) == (0, 1)
    assert outcomes(folder)[november] == (None, None)

    for lines in ((first, second), (second, first)):
        done = record(folder, tmp_path, *lines)
        assert done.code == 0, done.stdout
    assert outcomes(folder)[october] == ("H", "2025-10-15T10:00")
    assert outcomes(folder)[november] == ("A", "2025-11-15T10:00")

    done = record(folder, tmp_path, "late,H,2025-10-15T10:00:00Z")
    assert (done.code, done.json["status"], done.json["recorded"]) == (1, "failed", 0)
    (refused,) = done.json["refused"]
    assert refused["event_id"] == late
    assert "made at 2025-11-01" in refused["reason"]
    assert record(folder, tmp_path, "late,A,2025-11-15").code == 0
    assert outcomes(folder)[late] == ("A", "2025-11-15T00:00")
    # A correction is no outcome of a later prediction.
    done = record(folder, tmp_path, "late,H,2025-11-20")
    assert (done.code, done.json["refused"][0]["stands"]) == (1, "A")


def test_l4_by_event_id_as_well(folder: Path, tmp_path: Path) -> None:
    with get_logger(local_dir=str(folder)) as logger:
        event_id = predict(logger, "x", MADE)
    (tmp_path / "results.csv").write_text(
        f"event_id,actual_result,evaluated_at\n{event_id},H,2026-01-31T23:59:59Z\n"
    )
    done = ml_pipeline("outcome", "--local", folder, "--csv", "results.csv", cwd=tmp_path)
    assert (done.code, len(done.json["refused"]), done.json["recorded"]) == (1, 1, 0)
    assert outcomes(folder) == {event_id: (None, None)}


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-02-01", "2026-02-01T12:00"),
        ("2026-02-01T12:00", "2026-02-01T12:00"),
        ("2026-02-01T13:00:00+01:00", "2026-02-01T12:00"),
        ("2026-02-02", "2026-02-02T00:00"),
    ],
)
def test_l4_a_day_or_a_minute_holds_the_prediction_that_was_made_in_it(
    folder: Path, tmp_path: Path, text: str, at: str
) -> None:
    with get_logger(local_dir=str(folder)) as logger:
        event_id = predict(logger, "x", MADE + timedelta(seconds=0.25))
    assert record(folder, tmp_path, f"x,H,{text}").code == 0
    assert outcomes(folder)[event_id] == ("H", at)


@pytest.mark.parametrize("text", ["2062-01-01", "2062-03-01T10:00:00Z", "9999-12-31T23:59:59Z"])
def test_l6_an_outcome_of_the_future_is_refused_with_its_line_and_the_right_one_is_taken(
    folder: Path, tmp_path: Path, text: str
) -> None:
    with get_logger(local_dir=str(folder)) as logger:
        ids = [predict(logger, name, MADE) for name in "xy"]
    done = record(folder, tmp_path, "x,H,2026-02-02", f"y,H,{text}")
    assert done.code == 1
    assert f"line 3: evaluated_at {text} is in the future" in done.json["error"]
    assert outcomes(folder) == dict.fromkeys(ids, (None, None))
    done = record(folder, tmp_path, "x,H,2026-02-02", "y,H,2026-02-02")
    assert (done.code, done.json["recorded"]) == (0, 2)


def test_o10_answers_that_were_uncertain_are_counted_apart(folder: Path, tmp_path: Path) -> None:
    with get_logger(local_dir=str(folder)) as logger:
        for label in ("H", "A", "UNCERTAIN"):
            predict(logger, "x", MADE, label)
        predict(logger, "y", MADE, "UNCERTAIN")
    store = ("--local", folder)
    done = ml_pipeline("outcome", *store, "--match-id", "x", "--actual", "H", cwd=tmp_path)
    found = {name: done.json[name] for name in ("recorded", "uncertain", "accuracy")}
    assert found == {"recorded": 3, "uncertain": 1, "accuracy": 0.5}
    alone = ml_pipeline("outcome", *store, "--match-id", "y", "--actual", "H", cwd=tmp_path).json
    assert (alone["uncertain"], alone["accuracy"]) == (1, None)


def test_l12_what_a_program_writes_for_no_id_is_none(
    folder: Path, ids: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "both.csv"
    path.write_text(f"event_id,match_id,actual_result\nnan,match_000,H\n{ids[1]},None,A\n")
    done = ml_pipeline("outcome", "--local", folder, "--csv", path, cwd=tmp_path)
    assert (done.code, done.json["recorded"]) == (0, 2), done.stdout


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+02:00", "9999-12-31T23:59:00-02:00"])
def test_l12_a_time_at_the_end_of_the_calendar_is_refused_with_its_line(
    folder: Path, tmp_path: Path, moment: str
) -> None:
    path = tmp_path / "ends.csv"
    path.write_text(f"match_id,actual_result,evaluated_at\nmatch_000,H,{moment}\n")
    done = ml_pipeline("outcome", "--local", folder, "--csv", path, cwd=tmp_path)
    assert (done.code, done.json["error_type"]) == (1, "DataError"), done.stderr
    assert "ends.csv, line 2: evaluated_at" in done.json["error"]
