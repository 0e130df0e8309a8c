"""`erase` as a command: what goes, what stays, and that nothing brings it back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.evaluation_log.opening import MLLogger, open_logger
from ml_pipeline.reports.report import REPORT_BUCKET
from ml_pipeline.runs.erasing.erasing import Erasure
from ml_pipeline.runs.erasing.erasing import erase as erase_rows
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import EVER, RunStatus, Source
from tests.conftest import FirstModel
from tests.support import league
from tests.support.crashing import NOW
from tests.support.factories import make_run
from tests.support.places import EMBEDDED, Place
from tests.support.shell import Finished
from tests.support.warm import ml_pipeline

NIGHTS = league.nights_before(NOW, 2, matches=12)
DAY = NIGHTS[0].day
PERSON = f"match-{DAY}-7"
THEIRS = league.event_id(f"{DAY}/7")
OTHER = league.event_id(f"{DAY}/8")
RUN = "00000000-0000-4000-8000-00000000e7a5"
MARKER = "0.123456789"


@pytest.fixture
def csv_path(tmp_path: Path) -> Path:
    return tmp_path / "log.csv"


def opened_logger(place: Place, csv_path: Path) -> MLLogger:
    settings = league.settings_for(log__csv_file=str(csv_path))
    return open_logger(settings, load_store_settings(environment=place.variables))


@pytest.fixture
def filled(place: Place, first_model: FirstModel, csv_path: Path, tmp_path: Path) -> Place:
    """Two nights in the table and in the CSV, and a finished run that has kept some of the rows."""
    place.fill(first_model, NIGHTS)
    with opened_logger(place, csv_path) as logger:
        logger.reconcile_logs(repair=True)
        logger.settle()
    work = tmp_path / "work" / RUN
    work.mkdir(parents=True)
    rows = [("event_id", "match_id", "home"), (THEIRS, PERSON, MARKER), (OTHER, "x", "1")]
    for name in ("finetune_1.csv", "labelled_1.csv", "unusable_1.csv"):
        (work / name).write_text("\n".join(map(",".join, rows)) + "\n")
    (work / "rejected_1.csv").write_text(f'row,reason,text\n3,bad,"{THEIRS},{PERSON},{MARKER}"\n')
    (work / "report.html").write_text(f"<p>{PERSON}</p>")
    (work / "model.skops").write_bytes(b"waiting rows")
    with place.opened() as store:
        _keep_a_run(store, tmp_path)
    return place


def _keep_a_run(store: Store, tmp_path: Path) -> None:
    run = make_run(run_id=RUN, model_name="default", source=Source.MANUAL)
    store.start_run(run)
    for path, text in (
        (f"reports/{RUN}.html", f"<p>{THEIRS} {MARKER}</p>"),
        (f"training-logs/{RUN}.txt", f"first\n2 rows, for example event {THEIRS}\nlast\n"),
    ):
        (tmp_path / "object").write_text(text)
        store.put(REPORT_BUCKET, path, tmp_path / "object")
    kept = [
        {
            "event_id": event_id, "match_id": match_id, "features": {"home": 1.5}, "said": "H",
            "was": "A", "confidence": 0.9, "known_at": NOW.isoformat(), "model_id": "m",
        }
        for event_id, match_id in ((THEIRS, PERSON), (OTHER, "x"))
    ]  # fmt: skip
    details = {
        "load_report": {"rows": 24, "examples": {"unusable: odd": THEIRS}},
        "review": {
            "errors": {
                "total": 2, "most_confident": kept, "by_class": [], "by_confidence": [],
                "by_segment": [],
            },
            "rejected": [{"row": "3", "reason": "bad", "text": f"{THEIRS},{PERSON},{MARKER}"}],
        },
    }  # fmt: skip
    store.finish_run(
        make_run(
            run_id=RUN, model_name="default", source=Source.MANUAL, status=RunStatus.COMPLETED,
            completed_at=run.started_at + timedelta(minutes=1), details=details,
            outcome="skipped_no_new_data", outcome_reason=f"Odd, for example event {THEIRS}.",
        )
    )  # fmt: skip


def erase(place: Place, csv_path: Path, *flags: str) -> Finished:
    env = {
        "ML_PIPELINE__LOG__CSV_FILE": str(csv_path),
        "ML_PIPELINE__RUN__WORK_DIR": str(csv_path.parent / "work"),
    }
    return ml_pipeline("erase", *flags, cwd=csv_path.parent, **place.variables, **env)


def everything(place: Place, csv_path: Path) -> str:
    """All text that is kept anywhere."""
    files = [csv_path, *(csv_path.parent / "work").rglob("*.*")]
    texts = [path.read_text(errors="replace") for path in files if path.is_file()]
    with place.opened() as store:
        for name in (f"reports/{RUN}.html", f"training-logs/{RUN}.txt"):
            target = store.download(REPORT_BUCKET, name, csv_path.parent / "seen")
            texts.append(target.read_text())
            target.unlink()
        run = store.get_run(RUN)
        texts += [json.dumps(dict(run.details)), str(run.outcome_reason), str(run.error_message)]
        found = store.find_events(model_name="default", event_ids=[THEIRS], match_ids=[PERSON])
        texts += found["event_id"].tolist()
    return "\n".join(texts)


def test_l11_a_persons_rows_are_gone_everywhere_and_do_not_come_back(
    filled: Place, csv_path: Path, first_model: FirstModel
) -> None:
    original = csv_path.read_text()
    before = everything(filled, csv_path)

    counted = erase(filled, csv_path, "--match-id", PERSON, "--dry-run")
    assert counted.code == 0, counted.stdout + counted.stderr
    assert everything(filled, csv_path) == before

    done = erase(filled, csv_path, "--id", PERSON)
    assert done.code == 0, done.stdout + done.stderr
    assert done.json["erased"] == counted.json["erased"] == {
        "csv_lines": 1, "runs": 1, "reports": 1, "run_logs": 1, "work_rows": 4, "work_files": 2,
        "evaluation_log": 1, "ml_data": 0,
    }  # fmt: skip
    assert done.json["learned_again"] == "by the next run"
    assert "backups" in json.dumps(done.json["not_reached"])
    after = everything(filled, csv_path)
    for name in (THEIRS, PERSON):
        assert name in before
        assert name not in after
    assert OTHER in after
    with filled.opened() as store:
        assert store.count_changes(model_name="default") == {DAY: 1}
        assert store.count_labelled(EVER, model_name="default")[DAY] == 11
        review: dict[str, Any] = store.get_run(RUN).details["review"]
        assert [row["event_id"] for row in review["errors"]["most_confident"]] == [OTHER]

    # What was sent stays marked as sent, and what is logged next arrives.
    with opened_logger(filled, csv_path) as logger:
        assert logger.waiting_bytes() == 0
        logger.log_prediction("m", "next", "H", 0.5)
        assert logger.waiting_bytes() == 0

    # Another machine still has the lines: neither its outbox nor a repair brings them back.
    other = csv_path.parent / "other.csv"
    other.write_text(original)
    with opened_logger(filled, other) as logger:
        logger.settle()
        assert logger.refused == []
        report = logger.reconcile_logs()
        assert (report["erased_lines"], report["missing_in_table"]) == (1, 0)
        assert report["consistent"] is False
        logger.reconcile_logs(repair=True)
    assert THEIRS not in other.read_text()
    with filled.opened() as store:
        events = league.events_of(first_model.model, NIGHTS[0])
        assert store.append_events(events[events["event_id"] == THEIRS]) == 0
        assert store.find_events(model_name="default", event_ids=[THEIRS], match_ids=[PERSON]).empty

    repeated = erase(filled, csv_path, "--id", PERSON, "--event-id", THEIRS)
    assert repeated.code == 0
    assert set(repeated.json["erased"].values()) == {0}
    assert repeated.json["without_prediction"] == sorted([PERSON, THEIRS])
    assert f"No prediction was found of {THEIRS}" in repeated.stderr


@pytest.mark.parametrize("place", [EMBEDDED], indirect=True)
def test_l11_an_event_is_erased_by_its_id_in_any_case(filled: Place, csv_path: Path) -> None:
    (csv_path.parent / "ids.csv").write_text(f"Prediction_ID\n{THEIRS.upper()}\n")
    counted = erase(filled, csv_path, "--csv", "ids.csv", "--dry-run")
    assert (counted.code, counted.json.get("events")) == (0, 1), counted.stdout
    done = erase(filled, csv_path, "--event-id", THEIRS.upper())
    assert (done.code, done.json["events"], done.json["without_prediction"]) == (0, 1, [])
    assert (done.json["erased"]["evaluation_log"], done.json["erased"]["csv_lines"]) == (1, 1)
    assert THEIRS not in everything(filled, csv_path)


@pytest.mark.parametrize("place", [EMBEDDED], indirect=True)
def test_a_log_of_their_own_that_is_not_reached_is_named(filled: Place, csv_path: Path) -> None:
    own = csv_path.parent / "own.csv"
    own.write_bytes(csv_path.read_bytes())
    env = {
        **filled.variables,
        "ML_PIPELINE__LOG__CSV_FILE": str(csv_path), "ML_PIPELINE__LOG__SOURCE": str(own),
    }  # fmt: skip
    done = ml_pipeline("erase", "--id", PERSON, cwd=csv_path.parent, **env)
    assert done.code == 0, done.stderr
    assert f"Nothing was erased from log.source {own}. Take the rows out of it" in done.stderr
    assert done.json["learned_again"].startswith("by the next run, once they are out of log.source")
    assert THEIRS in own.read_text()
    plain = erase(filled, csv_path, "--id", PERSON)
    assert "log.source" not in plain.stderr


@pytest.mark.parametrize("place", [EMBEDDED], indirect=True)
def test_a_base_that_may_have_been_fitted_on_a_label_is_named(
    place: Place, csv_path: Path, first_model: FirstModel
) -> None:
    place.fill(first_model, [])
    with place.opened() as store:
        store.add_labels(
            [{"id": RUN, "created_at": NOW, "label": "H", "metadata": {"id": "ticket 9"}}]
        )
    for name, count in (("ticket 8", 0), ("ticket 9", 1), ("ticket 9", 0)):
        done = erase(place, csv_path, "--id", name)
        assert (done.code, done.json["erased"]["ml_data"]) == (0, count), done.stderr
        places = [kept["place"] for kept in done.json["not_reached"]]
        assert sum(text.startswith("model ") for text in places) == count


def test_l11_wrong_usage_erases_nothing(filled: Place, csv_path: Path) -> None:
    before = everything(filled, csv_path)
    (csv_path.parent / "ids.csv").write_text("name\nAda\n")
    for flags, words in (
        ([], "Give --match-id"),
        (["--csv", "ids.csv"], "needs a column"),
        (["--match-id", ""], "Give --match-id"),
    ):
        done = erase(filled, csv_path, *flags)
        assert done.code == 1
        assert words in done.json["error"]
    assert everything(filled, csv_path) == before


class Broken:
    """The store, until the write of that number, which never comes."""

    def __init__(self, store: Store, fatal: int) -> None:
        self.store, self.left = store, fatal

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the store has
        if name in {"erase_events", "redact_run", "remove", "put"}:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return getattr(self.store, name)


@pytest.mark.parametrize("place", [EMBEDDED], indirect=True)
@pytest.mark.parametrize("fatal", range(12))
def test_l11_one_that_was_broken_off_goes_on_when_it_is_repeated(
    filled: Place, csv_path: Path, fatal: int
) -> None:
    settings = league.settings_for(log__csv_file=str(csv_path))
    asked = Erasure(
        event_ids=frozenset(), match_ids=frozenset({PERSON}), work_dir=csv_path.parent / "work"
    )
    with filled.opened() as store, opened_logger(filled, csv_path) as logger:
        with pytest.raises(KeyboardInterrupt):
            erase_rows(cast("Store", Broken(store, fatal)), logger, settings, asked)
        logger.reconcile_logs(repair=True)
        erase_rows(store, logger, settings, asked)
        assert store.runs_that_name(model_name="default", ids=[THEIRS, PERSON]) == []
        assert store.names(REPORT_BUCKET, "reports") == [f"{RUN}.html"]
        assert store.names(REPORT_BUCKET, "training-logs") == [f"{RUN}.txt"]
    after = everything(filled, csv_path)
    assert THEIRS not in after
    assert MARKER not in after.replace(f"{THEIRS},{PERSON}", "")
    assert "first\n" in after
    assert "last\n" in after


def test_l11_while_a_run_works_nothing_is_erased(filled: Place, csv_path: Path) -> None:
    before = everything(filled, csv_path)
    with filled.opened() as store:
        store.start_run(
            make_run(2, model_name="default", started_at=datetime.now(UTC) - timedelta(minutes=1))
        )
    done = erase(filled, csv_path, "--match-id", PERSON)
    assert (done.code, done.json["error_type"]) == (1, "RunInProgress")
    assert everything(filled, csv_path) == before
