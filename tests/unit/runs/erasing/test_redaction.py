"""What is taken out of texts and JSON values, and what stays beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ml_pipeline.runs.erasing.redaction import Names, clean_folder, redacted, redacted_text
from tests.support.factories import make_id

NAMES = Names(event_ids=frozenset({"event-0000007"}), match_ids=frozenset({"match-2026-05-01-7"}))


def test_an_id_that_another_one_begins_or_ends_with_is_left_as_it_is() -> None:
    neighbour = {"event_id": "event-00000071", "match_id": "match-2026-05-01-70"}
    theirs = {"event_id": "event-0000007", "match_id": "match-2026-05-01-7"}
    assert redacted({"rows": [theirs, neighbour]}, NAMES) == {"rows": [neighbour]}
    text = "Odd: match-2026-05-01-7, rematch-2026-05-01-7 and match-2026-05-01-70.\n"
    kept = "Odd: (erased), rematch-2026-05-01-7 and match-2026-05-01-70.\n"
    assert redacted_text(text, NAMES) == kept
    assert redacted("row event-0000007: bad", NAMES) == "row (erased): bad"


def test_a_folder_is_only_written_to_where_rows_go(tmp_path: Path) -> None:
    theirs, other = tmp_path / "theirs.csv", tmp_path / "other.csv"
    theirs.write_text("event_id,home\nevent-0000007,1\nevent-00000071,2\n")
    other.write_text("event_id,home\r\nevent-00000071,2\r\n")
    os.utime(tmp_path, (1, 1))
    counted = clean_folder(tmp_path, NAMES, dry_run=True)
    assert tmp_path.stat().st_mtime == 1, "nothing came or went"
    assert clean_folder(tmp_path, NAMES, dry_run=False) == counted
    assert counted == {"work_rows": 1, "work_files": 0}
    assert theirs.read_bytes() == b"event_id,home\nevent-00000071,2\n"
    assert other.read_bytes() == b"event_id,home\r\nevent-00000071,2\r\n"
    assert sorted(tmp_path.iterdir()) == [other, theirs]


def test_rows_that_a_killed_command_left_behind_are_counted_once_in_a_dry_run_too(
    tmp_path: Path,
) -> None:
    folder = tmp_path / ".decay-dataset-x" / ".rows-1"
    folder.mkdir(parents=True)
    (folder / "labelled.csv").write_text("event_id,home\nevent-0000007,1\n")
    counted = clean_folder(tmp_path, NAMES, dry_run=True)
    assert clean_folder(tmp_path, NAMES, dry_run=False) == counted
    assert counted == {"work_rows": 0, "work_files": 1}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_a_trainer_made_of_the_rows_goes_wherever_it_stands_in_the_runs_folder(
    tmp_path: Path,
) -> None:
    made = []
    for run, event in ((make_id(1), "event-0000007"), (make_id(2), "event-00000071")):
        trained = tmp_path / run / "trained" / "m"
        (tmp_path / run / "known").mkdir(parents=True)
        trained.mkdir(parents=True)
        (tmp_path / run / "known" / "labelled.csv").write_text(f"event_id,home\n{event},1\n")
        made += [trained / "sample.npz", trained / "evidence.npz", tmp_path / run / "head.skops"]
    for path in made:
        path.write_bytes(b"numbers of rows")
    counted = clean_folder(tmp_path, NAMES, dry_run=True)
    assert clean_folder(tmp_path, NAMES, dry_run=False) == counted
    assert counted == {"work_rows": 1, "work_files": 3}
    assert [path for path in made if path.exists()] == made[3:]


def test_what_was_made_of_rows_goes_before_the_rows_by_which_it_is_found(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    rows = tmp_path / "run" / "labelled.csv"
    rows.write_text("event_id,home\nevent-0000007,1\n")
    (tmp_path / "run" / "a.npz").write_bytes(b"numbers of rows")
    rows.with_name(f".{rows.name}.part").mkdir()  # the rows cannot be written anew
    with pytest.raises(OSError, match="labelled"):
        clean_folder(tmp_path, NAMES, dry_run=False)
    assert not (tmp_path / "run" / "a.npz").exists()
    assert "event-0000007" in rows.read_text()


def test_rows_that_a_killed_watchdog_left_behind_are_gone(tmp_path: Path) -> None:
    folder = tmp_path / ".decay-dataset-x"
    folder.mkdir()
    (folder / "rows.jsonl").write_text('{"messages": []}\n')
    (tmp_path / "dataset-of-mine").mkdir()
    assert clean_folder(tmp_path, NAMES, dry_run=True)["work_files"] == 1
    assert folder.exists()
    assert clean_folder(tmp_path, NAMES, dry_run=False)["work_files"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["dataset-of-mine"]


def test_rows_that_cannot_be_removed_are_not_called_erased(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "rows.jsonl").write_text('{"messages": []}\n')
    work = tmp_path / "work"
    work.mkdir()
    (work / ".decay-dataset-x").symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic link"):
        clean_folder(work, NAMES, dry_run=False)
