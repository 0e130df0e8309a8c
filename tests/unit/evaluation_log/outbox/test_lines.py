"""Lines of the CSV log that a power cut, a person or another user has spoilt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ml_pipeline.evaluation_log import comparison
from ml_pipeline.evaluation_log.event_csv import EventCsv
from ml_pipeline.evaluation_log.opening import MLLogger
from ml_pipeline.evaluation_log.outbox.lines import BOM, HEADER, NARROW, events_in, lines_of
from ml_pipeline.private_files import keep_access
from ml_pipeline.runs.erasing.redaction import Names, clean_folder
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.inputs.outcome_history import metadata_of
from ml_pipeline.store.store_serving_view import StoreServingView
from tests.support.factories import make_id
from tests.unit.evaluation_log.test_event_csv import make_row, read


def ids_in(path: Path) -> list[object]:
    return [row["event_id"] for row in read(path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evaluation_log.csv"


def tear(path: Path, number: int) -> None:
    """Blocks of a line that never reached the disk, in the middle of its features."""
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number] = lines[number][: lines[number].index(b'"{') + 12] + b"\0" * 20 + b"\n"
    path.write_bytes(b"".join(lines))


@pytest.mark.parametrize("few", [True, False])
def test_a_torn_line_takes_no_other_along(path: Path, few: bool) -> None:  # noqa: FBT001
    log = EventCsv(str(path))
    rows = [make_row(n) | {"features": '{"form": 0.5}'} for n in range(4)]
    log.append(rows)
    tear(path, 2)
    whole = [make_id(number) for number in (0, 2, 3)]
    assert ids_in(path) == whole
    wanted = [make_id(number) for number in range(4 if few else 40)]
    assert list(log.find(wanted)) == whole


def test_what_stands_behind_a_torn_line_is_delivered_and_compared(path: Path) -> None:
    store = LocalStore.open(path.parent / "store")
    with MLLogger(str(path), model_name="default") as log:
        log.write([make_row(number) for number in range(4)])
    tear(path, 2)
    with MLLogger(
        str(path), model_name="default", open_table=lambda: StoreServingView(store)
    ) as log:
        log.open_store = lambda: LocalStore.open(path.parent / "store")
        assert log.sync() == 3
        found = log.reconcile_logs()
    assert (found["csv_events"], found["table_events"], found["bad_lines"]) == (3, 3, 1)
    assert not found["consistent"]


def test_a_torn_line_without_another_quote_behind_it_hides_nothing(path: Path) -> None:
    log = EventCsv(str(path))
    log.append([make_row(0)] + [make_row(n, features=None, metadata=None) for n in range(1, 4)])
    tear(path, 1)
    with comparison.open_comparison(str(path.parent), 200) as db:
        comparison.read_csv(db, path, "default", path.parent)
        comparison.join(db)
        assert comparison.count(db, "NOT not_in_csv") == 3
        assert comparison.bad_lines(db) == 1


def test_a_garbled_line_that_names_somebody_is_erased(path: Path) -> None:
    log = EventCsv(str(path))
    log.append([make_row(number) for number in range(3)])
    tear(path, 2)
    assert log.erase(lambda row: row["match_id"] == "match_1", 0)[0] == 1
    assert b"match_1," not in path.read_bytes()
    assert ids_in(path) == [make_id(0), make_id(2)]


def test_json_that_was_written_over_several_lines_is_one_line_of_the_log() -> None:
    row = make_row(1) | {"metadata": '{\n "league": "E0"\r\n}'}
    line = lines_of([row, make_row(2)])
    assert line.count(b"\n") == 2
    assert b"\r" not in line
    first, second = events_in(line.splitlines(keepends=True))
    assert (metadata_of(first), second) == ({"league": "E0"}, make_row(2))


OLDER = ",".join(NARROW[1]).encode()


@pytest.mark.parametrize("start", [HEADER[:-1], HEADER[:20], BOM + HEADER[:-1], OLDER, b"\0" * 300])
def test_a_log_whose_header_is_torn_or_lacks_its_line_break_is_begun_anew(
    path: Path, start: bytes
) -> None:
    path.write_bytes(start)
    EventCsv(str(path)).append([make_row(1)])
    EventCsv(str(path)).append([make_row(2)])
    assert path.read_bytes().startswith(HEADER)
    assert ids_in(path) == [make_id(1), make_id(2)]
    assert not path.with_name(path.name + ".torn").exists()


def test_nobody_is_left_in_the_file_that_a_link_leads_to(path: Path) -> None:
    behind = path.with_name("elsewhere.csv")
    path.symlink_to(behind)
    log = EventCsv(str(path))
    log.append([make_row(number) for number in range(3)])
    log.erase(lambda row: row["match_id"] == "match_1", 0)
    assert path.is_symlink()
    assert ids_in(behind) == [make_id(0), make_id(2)]


def test_a_log_that_several_users_share_stays_theirs(path: Path) -> None:
    log = EventCsv(str(path))
    log.append([make_row(number) for number in range(3)])
    path.chmod(0o660)
    before = path.stat()
    log.erase(lambda row: row["match_id"] == "match_1", 0)
    assert (path.stat().st_mode, path.stat().st_gid) == (before.st_mode, before.st_gid)


def test_a_file_that_root_writes_anew_stays_its_users(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("")
    # Root alone gives files away; whoever else runs this has one of their own.
    user, group = (65534, 65534) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(old, user, group)
    with new.open("w") as file:
        keep_access(old, file.fileno())
    assert (new.stat().st_uid, new.stat().st_gid) == (user, group)


def test_files_of_runs_are_erased_behind_links_and_stay_readable(tmp_path: Path) -> None:
    run, behind = tmp_path / "work" / "run", tmp_path / "rows.csv"
    run.mkdir(parents=True)
    behind.write_text(f"event_id,match_id\n{make_id(1)},match_1\n{make_id(2)},match_2\n")
    behind.chmod(0o640)
    (run / "rows.csv").symlink_to(behind)
    names = Names(event_ids=frozenset(), match_ids=frozenset({"match_1"}))
    assert clean_folder(tmp_path / "work", names, dry_run=False)["work_rows"] == 1
    assert "match_1" not in behind.read_text()
    assert behind.stat().st_mode & 0o777 == 0o640


def test_what_processes_left_that_were_killed_is_erased_too(path: Path) -> None:
    log = EventCsv(str(path))
    log.append([make_row(number) for number in range(3)])
    left = path.with_name(f"{path.name}.77.tmp")
    left.write_bytes(path.read_bytes())
    log.erase(lambda row: row["match_id"] == "match_1", 0)
    assert not left.exists()

    run = path.parent / "work" / "run-1"
    names = Names(event_ids=frozenset(), match_ids=frozenset({"match_1"}))
    for name in (".scan-x/stage.duckdb", ".rows-x/body", ".labelled.csv.part", ".other.csv.part"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("1,match_2\n" if "other" in name else "1,match_1\n")
    assert clean_folder(path.parent / "work", names, dry_run=True)["work_files"] == 3
    assert clean_folder(path.parent / "work", names, dry_run=False)["work_files"] == 3
    assert [file.name for file in run.iterdir()] == [".other.csv.part"]
