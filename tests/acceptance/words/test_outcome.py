"""`outcome` and `reconcile` as commands: rows in both logs, exit codes, JSON."""

from __future__ import annotations

import csv
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.evaluation_log.event_csv import EventCsv
from ml_pipeline.evaluation_log.opening import get_logger
from tests.support.shell import python
from tests.support.warm import ml_pipeline

FEATURES: dict[str, object] = {
    "home_team_form": 7.5,
    "away_team_form": 6.2,
    "home_team_strength": 8.0,
    "away_team_strength": 7.5,
    "home_advantage": 0.5,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def ids(folder: Path) -> list[str]:
    """Thirty predictions, of thirty matches."""
    predictions = [
        {"model_id": f"m-{number % 2}", "match_id": f"match_{number:03d}",
         "prediction": "HDA"[number % 3], "confidence": 0.5 + number / 100, "features": FEATURES}
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
