"""`outcome --correct` as a command: what is replaced, what is refused, and what contradicts."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ml_pipeline.config.settings import load_settings
from ml_pipeline.errors import StoreRefused
from ml_pipeline.evaluation_log.loading import load_log
from ml_pipeline.evaluation_log.opening import get_logger
from ml_pipeline.evaluation_log.rules import LogRequest
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import LookbackWindow
from tests.acceptance.words.test_outcome import MADE, csv_of, outcomes, predict, rows
from tests.support.shell import Finished
from tests.support.warm import ml_pipeline

LOG = "ML_PIPELINE__LOG__CSV_FILE"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def tell(folder: Path, *flags: str, **env: str) -> Finished:
    return ml_pipeline("outcome", "--local", folder, *flags, cwd=folder.parent, **env)


def tell_lines(folder: Path, header: str, *lines: str, flags: tuple[str, ...] = ()) -> Finished:
    (folder.parent / "results.csv").write_text("\n".join([header, *lines]) + "\n")
    return tell(folder, "--csv", "results.csv", *flags)


def settled(folder: Path, *ids: str, label: str = "H") -> None:
    for event_id in ids:
        assert tell(folder, "--event-id", event_id, "--actual", label).code == 0


@pytest.fixture
def made(folder: Path) -> list[str]:
    """Four predictions of H, of four matches."""
    with get_logger(local_dir=str(folder)) as logger:
        return [predict(logger, f"match_{number}", MADE) for number in range(4)]


def test_l5_another_outcome_is_refused_with_the_flag_that_replaces_it(
    folder: Path, made: list[str]
) -> None:
    settled(folder, made[0])
    done = tell(folder, "--event-id", made[0], "--actual", "A")
    (refused,) = done.json["refused"]
    assert (done.code, refused["stands"]) == (1, "H")
    assert "--correct" in refused["hint"]
    assert outcomes(folder)[made[0]][0] == "H"
    # The way out that it names.
    done = tell(folder, "--event-id", made[0], "--actual", "A", "--correct")
    assert (done.code, done.json["corrected"], done.json["accuracy"]) == (0, 1, 0.0)
    assert outcomes(folder)[made[0]][0] == "A"
    assert csv_of(folder).find([made[0]])[made[0]]["actual_result"] == "A"
    # Nothing to correct is an outcome as any.
    done = tell(folder, "--event-id", made[1], "--actual", "A", "--correct")
    assert (done.code, done.json["recorded"], done.json["corrected"]) == (0, 1, 0)
    # And back again: everything stays.
    done = tell(folder, "--event-id", made[0], "--actual", "H", "--correct")
    assert (done.code, done.json["accuracy"]) == (0, 1.0)
    ((metadata,),) = rows(folder, "SELECT metadata FROM evaluation_log WHERE event_id = ?", made[0])
    former = json.loads(metadata)["outcome_corrections"]
    assert [item["actual_result"] for item in former] == ["H", "A"]


def test_l5_two_lines_that_contradict_each_other_are_named_and_the_rest_is_recorded(
    folder: Path, made: list[str]
) -> None:
    header = "event_id,actual_result"
    lines = [f"{made[0]},H", f"{made[1]},H", f"{made[0]},A", f"{made[2]},D"]
    done = tell_lines(folder, header, *lines)
    (refused,) = done.json["refused"]
    assert (done.code, done.json["recorded"], refused["event_id"]) == (1, 2, made[0])
    assert "Lines 2 and 4" in refused["reason"]
    assert {name: label for name, (label, _) in outcomes(folder).items()} == {
        made[0]: None, made[1]: "H", made[2]: "D", made[3]: None,
    }  # fmt: skip
    # The same of a correction, by match as well, and across both kinds of id.
    done = tell_lines(
        folder, "event_id,match_id,actual_result", f"{made[1]},,A", ",match_1,D", ",match_2,A",
        flags=("--correct",),
    )  # fmt: skip
    (refused,) = done.json["refused"]
    assert (done.code, done.json["corrected"], refused["stands"]) == (1, 1, "H")
    assert "Lines 2 and 3" in refused["reason"]
    assert outcomes(folder)[made[1]][0] == "H"
    assert outcomes(folder)[made[2]][0] == "A"
    # The same twice contradicts nothing.
    done = tell_lines(folder, header, f"{made[3]},H", f"{made[3]},home")
    assert (done.code, done.json["recorded"], done.json["already_known"]) == (0, 1, 1)


def test_l4_l6_the_rules_of_dates_hold_for_corrections(folder: Path, made: list[str]) -> None:
    header, correct = "event_id,actual_result,evaluated_at", ("--correct",)
    assert tell_lines(folder, header, f"{made[0]},H,2026-02-02T10:00:00Z").code == 0
    before = outcomes(folder)[made[0]]
    done = tell_lines(folder, header, f"{made[0]},A,2026-01-01T10:00:00Z", flags=correct)
    assert (done.code, done.json["corrected"]) == (1, 0)
    assert "is not its outcome" in done.json["refused"][0]["reason"]
    done = tell_lines(folder, header, f"{made[0]},A,2062-01-01T10:00:00Z", flags=correct)
    assert done.code == 1
    assert "in the future" in done.json["error"]
    assert outcomes(folder)[made[0]] == before
    # A time that is given is taken, also alone; a day holds the time that is recorded.
    done = tell_lines(folder, header, f"{made[0]},A,2026-02-03T10:00:00Z", flags=correct)
    assert (done.code, done.json["corrected"]) == (0, 1)
    assert outcomes(folder)[made[0]] == ("A", "2026-02-03T10:00")
    done = tell_lines(folder, header, f"{made[0]},A,2026-02-03", flags=correct)
    assert (done.json["corrected"], done.json["already_known"]) == (0, 1)
    done = tell_lines(folder, header, f"{made[0]},A,2026-02-04", flags=correct)
    assert (done.json["corrected"], done.json["already_known"]) == (1, 0)
    assert outcomes(folder)[made[0]] == ("A", "2026-02-04T00:00")


def test_l6_a_recorded_time_that_cannot_be_does_not_outlive_its_correction(
    folder: Path, made: list[str]
) -> None:
    settled(folder, made[0])
    rows_of_the_future = "UPDATE evaluation_log SET evaluated_at = ? WHERE event_id = ?"
    change(folder, rows_of_the_future, "2062-01-01T00:00:00.000000+00:00", made[0])
    assert tell(folder, "--event-id", made[0], "--actual", "A", "--correct").code == 0
    label, known = outcomes(folder)[made[0]]
    assert label == "A"
    assert known is not None
    assert known < "2062"


def change(folder: Path, query: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "store.db")) as db, db:
        db.execute(query, values)


def test_l5_somebody_who_was_predicted_again_keeps_the_outcomes_that_are_right(
    folder: Path,
) -> None:
    with get_logger(local_dir=str(folder)) as logger:
        first = predict(logger, "customer", datetime(2026, 1, 1, tzinfo=UTC))
        second = predict(logger, "customer", datetime(2026, 2, 1, tzinfo=UTC))
    header, correct = "match_id,actual_result,evaluated_at", ("--correct",)
    both = ("customer,H,2026-01-15T00:00:00Z", "customer,D,2026-02-15T00:00:00Z")
    assert tell_lines(folder, header, *both).code == 0
    done = tell(folder, "--match-id", "customer", "--actual", "A", *correct)
    assert (done.code, done.json["corrected"]) == (1, 0)
    assert "--event-id" in done.json["refused"][0]["hint"]
    done = tell_lines(folder, header, "customer,A,2026-02-15T00:00:00Z", flags=correct)
    assert (done.code, done.json["corrected"]) == (0, 1), done.stdout
    assert {outcomes(folder)[first][0], outcomes(folder)[second][0]} == {"H", "A"}
    assert outcomes(folder)[first][0] == "H"


def test_l5_a_correction_waits_in_the_csv_and_reaches_the_table_and_the_other_machine(
    folder: Path, made: list[str], tmp_path: Path
) -> None:
    other = {LOG: str(tmp_path / "other.csv")}
    shutil.copy(csv_of(folder).path, other[LOG])
    settled(folder, made[0])
    # A machine without the store corrects what it knows.
    alone = {LOG: csv_of(folder).path}
    flags = ("--event-id", made[0], "--actual", "A", "--correct", "--allow-outbox")
    done = ml_pipeline("outcome", *flags, cwd=tmp_path, **alone)
    assert (done.code, done.json["status"], done.json["corrected"]) == (0, "waiting", 1)
    assert outcomes(folder)[made[0]][0] == "H"
    with get_logger(local_dir=str(folder)) as logger:
        assert logger.settle() == 0
    assert outcomes(folder)[made[0]][0] == "A"
    # The other one has not heard of it; what it tells next does not bring the old one back.
    done = tell(folder, "--event-id", made[0], "--actual", "A", **other)
    assert (done.code, done.json["already_known"]) == (0, 1), done.stdout
    assert outcomes(folder)[made[0]][0] == "A"


def test_l5_python_corrects_by_a_keyword(folder: Path, made: list[str]) -> None:
    with get_logger(local_dir=str(folder)) as logger:
        assert logger.log_evaluation(made[0], "H") == 1.0
        with pytest.raises(StoreRefused) as refused:
            logger.log_evaluation(made[0], "A")
        assert "correct=True" in str(refused.value.hint)
        assert logger.log_evaluation(made[0], "away", correct=True) == 0.0
        assert logger.log_evaluation(made[0], "A", correct=True) == 0.0
    assert outcomes(folder)[made[0]][0] == "A"
    assert len(rows(folder, "SELECT * FROM evaluation_log_changes")) == 1


def test_l5_an_outcome_taken_back_by_sql_does_not_come_back_from_the_log(
    folder: Path, made: list[str]
) -> None:
    settled(folder, made[0])
    change(
        folder,
        "UPDATE evaluation_log SET actual_result = NULL, evaluated_at = NULL WHERE event_id = ?",
        made[0],
    )
    assert len(rows(folder, "SELECT * FROM evaluation_log_changes")) == 1
    ml_pipeline("reconcile", "--repair", "--local", folder, cwd=folder.parent)
    assert outcomes(folder)[made[0]] == (None, None)
    assert tell(folder, "--event-id", made[0], "--actual", "A", "--correct").code == 0
    assert outcomes(folder)[made[0]][0] == "A"


@pytest.mark.parametrize("learn_from", [None, datetime(2026, 6, 1, tzinfo=UTC)])
def test_l5_a_log_that_is_read_as_a_file_says_what_its_last_correction_says(
    folder: Path, made: list[str], tmp_path: Path, learn_from: datetime | None
) -> None:
    settled(folder, *made)
    for label in ("A", "D"):
        assert tell(folder, "--event-id", made[0], "--actual", label, "--correct").code == 0
    settings = load_settings(environment={}).changed({"log.source": csv_of(folder).path})
    now = datetime.now(UTC)
    request = LogRequest(
        now=now, window=LookbackWindow.ending(now, days=1), learn_from=learn_from, model_ids=None
    )
    with closing(LocalStore.open(folder)) as store:
        loaded = load_log(store, settings, request, tmp_path / "work")
    assert (loaded.report.bad, loaded.report.labelled) == (0, 4)
    lines = csv.DictReader(loaded.labelled_path.read_text().splitlines())
    assert {line["event_id"]: line[settings.data.target] for line in lines} == {
        made[0]: "D", made[1]: "H", made[2]: "H", made[3]: "H",
    }  # fmt: skip


def test_l5_reconcile_brings_a_correction_to_the_side_that_lacks_it(
    folder: Path, made: list[str]
) -> None:
    def compared(*flags: str) -> dict[str, object]:
        return ml_pipeline("reconcile", "--local", folder, *flags, cwd=folder.parent).json

    settled(folder, made[0], made[1])
    assert tell(folder, "--event-id", made[0], "--actual", "A", "--correct").code == 0
    assert compared()["consistent"] is True
    change(folder, "UPDATE evaluation_log SET actual_result = 'D' WHERE event_id = ?", made[1])
    found = compared()
    assert (found["outcome_missing_in_csv"], found["differing"]) == (1, 0)
    found = compared("--repair")
    assert found["repaired"] == {"sent_to_table": 0, "appended_to_csv": 1}
    assert compared()["consistent"] is True
    assert csv_of(folder).find([made[1]])[made[1]]["actual_result"] == "D"
    # The other way round: the table was restored from a backup before the corrections.
    change(folder, "DELETE FROM evaluation_log WHERE event_id = ?", made[1])
    first_lines = Path(csv_of(folder).path).read_text().splitlines(keepends=True)
    with get_logger(local_dir=str(folder), csv_path=folder.parent / "early.csv") as logger:
        Path(logger.csv.path).write_text(
            "".join(line for line in first_lines if "outcome_corrections" not in line)
        )
        logger.settle()
    assert outcomes(folder)[made[1]][0] == "H"
    assert compared()["outcome_missing_in_table"] == 1
    compared("--repair")
    assert outcomes(folder)[made[1]][0] == "D"
    assert compared()["consistent"] is True
