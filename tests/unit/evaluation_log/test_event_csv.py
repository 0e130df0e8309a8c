"""The CSV log: whole lines only, several writers, power cuts, old headers."""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ml_pipeline.errors import DataError, InputError, StoreDenied, StoreUnavailable
from ml_pipeline.evaluation_log.event_csv import EventCsv, naming_errors
from ml_pipeline.store.event_row import (
    EVENT_COLUMNS,
    SEED_LOG_COLUMNS,
    EventRow,
    json_cell,
    merge_rows,
    plain_text,
    prediction_row,
    with_outcome,
)
from tests.support.factories import make_id
from tests.support.shell import ROOT

AT = datetime(2026, 3, 14, 2, 0, 0, 5, tzinfo=UTC)


def make_row(number: int, **changes: object) -> EventRow:
    row = prediction_row(
        event_id=make_id(number),
        timestamp=AT,
        model_name="default",
        model_id="m-1",
        match_id=f"match_{number}",
        prediction="H",
        confidence=1 / 3,
        features={"form": number / 7, "note": 'says "hi", twice'},
        metadata={"league": "E0"},
    )
    return row | changes


def read(path: Path) -> list[EventRow]:
    return [row for rows, _ in EventCsv(str(path)).rows_from(0) for row in rows]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "evaluation_log.csv"


def test_what_is_written_is_read_back_to_the_last_digit(path: Path) -> None:
    rows = [make_row(1), with_outcome(make_row(2), "A", AT), make_row(3, match_id=None)]
    EventCsv(str(path)).append(rows)
    assert read(path) == rows


def test_the_header_is_the_seeds_and_then_ours_and_other_tools_read_the_file(path: Path) -> None:
    EventCsv(str(path)).append([make_row(1)])
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        (row,) = reader
    assert tuple(reader.fieldnames or ()) == EVENT_COLUMNS
    assert EVENT_COLUMNS[: len(SEED_LOG_COLUMNS)] == SEED_LOG_COLUMNS
    assert json.loads(row["features"]) == {"form": 1 / 7, "note": 'says "hi", twice'}


def test_defect_21_an_outcome_is_a_line_more_and_nothing_that_stands_is_rewritten(
    path: Path,
) -> None:
    log = EventCsv(str(path))
    log.append([make_row(number) for number in range(50)])
    before, inode = path.read_bytes(), path.stat().st_ino
    log.append([with_outcome(make_row(7), "A", AT)])
    assert path.read_bytes().startswith(before)
    assert path.stat().st_ino == inode
    assert path.read_bytes().count(b"\n") == before.count(b"\n") + 1


def test_a_line_with_an_outcome_is_complete_by_itself(path: Path) -> None:
    log = EventCsv(str(path))
    log.append([make_row(1)])
    log.append([with_outcome(make_row(1), "A", AT)])
    last = read(path)[-1]
    for name in ("prediction", "confidence", "model_id", "match_id", "features", "timestamp"):
        assert last[name] == make_row(1)[name]
    assert (last["actual_result"], last["accuracy"], last["status"]) == ("A", 0.0, "evaluated")


WRITE = """
import sys
from tests.unit.evaluation_log.test_event_csv import make_row
from ml_pipeline.evaluation_log.event_csv import EventCsv
log = EventCsv(sys.argv[1])
first = int(sys.argv[2])
for number in range(first, first + 200):
    log.append([make_row(number)])
"""


def test_several_processes_append_whole_lines_under_one_header(path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(path), str(first)], cwd=ROOT)
        for first in (0, 1000, 2000)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    lines = path.read_bytes().splitlines()
    assert len(lines) == 601
    assert sum(line.startswith(b"timestamp,") for line in lines) == 1
    numbers = [*range(200), *range(1000, 1200), *range(2000, 2200)]
    assert {row["event_id"] for row in read(path)} == {make_id(number) for number in numbers}


def test_a_child_that_was_forked_locks_for_itself(path: Path) -> None:
    log = EventCsv(str(path))
    log.append([make_row(1)])
    child = os.fork()
    if child == 0:
        log.append([make_row(2)])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    log.append([make_row(3)])
    assert [row["event_id"] for row in read(path)] == [make_id(number) for number in (1, 2, 3)]


@pytest.mark.parametrize("kept", [1, 60, 200, -2])
def test_a_torn_last_line_is_set_aside_and_the_log_goes_on(path: Path, kept: int) -> None:
    log = EventCsv(str(path))
    start, _ = log.append([make_row(1)])
    _, end = log.append([with_outcome(make_row(2), "A", AT)])
    whole = path.read_bytes()
    torn = whole[: end + kept] if kept < 0 else whole[: whole.rindex(b"\n", 0, -1) + 1 + kept]
    path.write_bytes(torn)

    EventCsv(str(path)).append([make_row(3)])

    assert [row["event_id"] for row in read(path)] == [make_id(1), make_id(3)]
    aside = path.with_name(path.name + ".torn").read_bytes()
    assert aside == torn[torn.rindex(b"\n") + 1 :] + b"\n"
    assert start > 0


@pytest.mark.parametrize("settled", [False, True])
def test_a_whole_last_line_that_only_lacks_its_line_break_is_kept(
    path: Path, *, settled: bool
) -> None:
    row = with_outcome(make_row(2), "A", AT) if settled else make_row(2)
    EventCsv(str(path)).append([make_row(1), row])
    path.write_bytes(path.read_bytes()[:-1])
    EventCsv(str(path)).append([make_row(3)])
    assert [row["event_id"] for row in read(path)] == [make_id(number) for number in (1, 2, 3)]


def test_a_log_of_the_original_documents_is_carried_on(path: Path) -> None:
    path.parent.mkdir()
    old = f'2025-01-01T00:00:00,{make_id(9)},prediction,lr_v1,match_001,H,,0.85,,"{{}}",pending'
    path.write_text(",".join(SEED_LOG_COLUMNS) + "\r\n" + old + "\r\n", newline="")
    EventCsv(str(path)).append([make_row(1)])
    first, second = read(path)
    assert (first["event_id"], first["model_id"], first["confidence"]) == (
        make_id(9),
        "lr_v1",
        0.85,
    )
    assert second == make_row(1)
    assert path.read_text().splitlines()[0] == ",".join(EVENT_COLUMNS)


OLDER = tuple(name for name in EVENT_COLUMNS if name != "probabilities")


def older_line(row: EventRow) -> str:
    text = io.StringIO()
    csv.DictWriter(text, OLDER, extrasaction="ignore", lineterminator="\n").writerow(row)
    return text.getvalue()


def write_older(path: Path, *rows: EventRow) -> int:
    """A log as version 0.1 wrote it; returns its size."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(",".join(OLDER) + "\n" + "".join(map(older_line, rows)))
    return path.stat().st_size


def test_a_log_of_an_earlier_version_is_read_as_it_is_and_carried_on(path: Path) -> None:
    rows = [make_row(1), with_outcome(make_row(2), "A", AT)]
    write_older(path, *rows)
    log = EventCsv(str(path))
    assert read(path) == rows
    assert log.find([make_id(2)])[make_id(2)] == rows[1]
    answered = make_row(3) | {"probabilities": '{"H": 0.75, "A": 0.25}'}
    log.append([answered])
    assert read(path) == [*rows, answered]
    assert path.read_text().splitlines()[0] == ",".join(EVENT_COLUMNS)


def test_what_was_sent_of_a_log_of_an_earlier_version_stays_sent(path: Path) -> None:
    sent = write_older(path, make_row(1))
    write_older(path, make_row(1), make_row(2))
    moved = list[int]()
    EventCsv(str(path), mark=lambda: sent, moved=moved.append).append([make_row(3)])
    (mark,) = moved
    ((rows, _),) = EventCsv(str(path)).rows_from(mark)
    assert [row["event_id"] for row in rows] == [make_id(2), make_id(3)]


def test_a_torn_line_of_an_earlier_version_is_set_aside(path: Path) -> None:
    aside = path.with_name(path.name + ".torn")
    for cut in range(1, len(older_line(make_row(2))), 9):
        aside.unlink(missing_ok=True)
        whole = write_older(path, make_row(1), make_row(2))
        os.truncate(path, whole - cut)
        EventCsv(str(path)).append([make_row(3)])
        ids = [row["event_id"] for row in read(path)]
        assert ids == [make_id(1), *([make_id(2)] if cut == 1 else []), make_id(3)]
        assert aside.exists() == (cut > 1)


def test_a_file_that_is_no_log_is_not_touched(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("my,own,data\n1,2,3\n")
    log = EventCsv(str(path))
    with pytest.raises(DataError, match="is no evaluation log"):
        log.append([make_row(1)])
    assert path.read_text() == "my,own,data\n1,2,3\n"
    # Whoever asks next is told as well, and does not wait for this one.
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_log_that_was_moved_away_is_begun_anew(path: Path) -> None:
    log = EventCsv(str(path))
    log.append([make_row(1)])
    path.rename(path.with_name("old.csv"))
    log.append([make_row(2)])
    assert [row["event_id"] for row in read(path)] == [make_id(2)]
    assert [row["event_id"] for row in read(path.with_name("old.csv"))] == [make_id(1)]


FULL = """
import resource, signal, sys
from tests.unit.evaluation_log.test_event_csv import make_row
from ml_pipeline.errors import StoreUnavailable
from ml_pipeline.evaluation_log.event_csv import EventCsv
log = EventCsv(sys.argv[1])
log.append([make_row(1)])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    log.append([make_row(number) for number in range(2, 20)])
except StoreUnavailable as error:
    print(error.message)
"""


def test_a_full_disk_leaves_nothing_half_written(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(path) in done.stdout
    assert [row["event_id"] for row in read(path)] == [make_id(1)]
    assert path.read_bytes().endswith(b"\n")


def test_events_are_found_by_event_and_by_match_in_a_few_and_in_many(path: Path) -> None:
    log = EventCsv(str(path))
    assert log.find([make_id(1)]) == {}
    log.append([make_row(number) for number in range(100)])
    log.append([make_row(500, match_id="match_7"), with_outcome(make_row(8), "H", AT)])
    few = log.find([make_id(3), make_id(777)], ["match_7"])
    assert set(few) == {make_id(3), make_id(7), make_id(500)}
    many = log.find([make_id(number) for number in range(50)])
    assert len(many) == 50
    assert many[make_id(8)]["actual_result"] == "H"


def test_merging_keeps_the_first_outcome_and_fills_what_was_missing() -> None:
    bare: EventRow = dict.fromkeys(EVENT_COLUMNS)
    bare |= {"event_id": make_id(1), "actual_result": "A", "accuracy": 0.0, "status": "evaluated"}
    again = with_outcome(make_row(1), "D", AT)
    event = merge_rows([make_row(1), bare, again])[make_id(1)]
    assert (event["actual_result"], event["prediction"]) == ("A", "H")
    assert event["features"] == make_row(1)["features"]


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b"])
def test_an_id_with_a_control_character_is_refused(value: str) -> None:
    with pytest.raises(InputError, match="match_id holds a control character"):
        prediction_row(
            event_id=make_id(1), timestamp=AT, model_name="default", model_id="m", match_id=value,
            prediction="H", confidence=0.5,
        )  # fmt: skip


def test_an_id_that_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match="match_id is not valid Unicode"):
        plain_text("caf\udce9", "match_id")


@pytest.mark.parametrize("confidence", [-0.1, 1.1, float("nan")])
def test_a_confidence_outside_its_range_is_refused(confidence: float) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        prediction_row(
            event_id=make_id(1), timestamp=AT, model_name="default", model_id="m", match_id="x",
            prediction="H", confidence=confidence,
        )  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        {"a": 0.1, "b": -1e-300},
        {"a": 1, "b": "x"},
        {"%d": 0.5},
        {},
        {"a": {"b": [1.5]}},
        {"query": "two\nlines, 👍 and \\u0000"},
    ],
)
def test_objects_are_written_as_json_that_reads_back(value: dict[str, object]) -> None:
    assert json.loads(json_cell(value, "features") or "") == value


def test_json_has_no_nan() -> None:
    assert json_cell({"form": float("nan")}, "features") == '{"form": null}'
    with pytest.raises(InputError, match=r"features\.form = inf is not a finite number"):
        json_cell({"form": float("inf")}, "features")


@pytest.mark.parametrize(
    ("text", "fault"), [("a\0b", "holds a NUL character"), ("\ud800", "cannot be written as JSON")]
)
def test_a_text_that_no_table_can_hold_is_refused(text: str, fault: str) -> None:
    with pytest.raises(InputError, match=f"features {fault}"):
        json_cell({"query": text}, "features")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(StoreUnavailable, match="logs"):
        EventCsv(str(tmp_path / "logs" / "evaluation_log.csv")).append([make_row(1)])


def test_a_log_that_belongs_to_another_user_is_no_conflict_of_what_it_is_asked_for() -> None:
    with pytest.raises(StoreDenied, match="Permission denied"), naming_errors("log.csv"):
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("name", ['say "hi"', 'a,"b', "it's", "100 %", "é😀"])
def test_an_event_is_found_whatever_its_id_holds(path: Path, name: str) -> None:
    log = EventCsv(str(path))
    row = make_row(1, match_id=name)
    log.append([row, make_row(2)])
    assert log.find([], [name]) == {make_id(1): row}


@pytest.mark.parametrize("name", ["\n", "\na", "a\n", "\ud800"])
def test_an_id_that_no_line_can_hold_is_that_of_no_event(path: Path, name: str) -> None:
    log = EventCsv(str(path))
    log.append([make_row(1), make_row(2)])
    assert log.find([name], [name]) == {}


def test_an_empty_id_is_that_of_no_event(path: Path) -> None:
    log = EventCsv(str(path))
    log.append([make_row(1, match_id=None)])
    assert log.find([""], [""]) == {}


def test_l11_an_event_is_erased_without_its_neighbour_where_line_ends_are_mixed(path: Path) -> None:
    log = EventCsv(str(path))
    log.append([make_row(number) for number in range(4)])
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"%s\n%s\r%s\n%s\r\n%s\n" % tuple(lines))
    gone, kept = log.erase(lambda row: row["match_id"] in {"match_1", "match_2"}, 1 << 20)
    assert (gone, kept) == (2, path.stat().st_size)
    assert [row["match_id"] for row in read(path)] == ["match_0", "match_3"]


def test_l11_torn_lines_are_erased_too_and_the_file_stays_its_owners(path: Path) -> None:
    log = EventCsv(str(path))
    log.append([make_row(0)])
    log.append([make_row(1)])
    lines = path.read_bytes().splitlines()
    torn = path.with_name(path.name + ".torn")
    torn.write_bytes(lines[1][:-90] + b"\n" + lines[2][:-90] + b"\n")
    torn.chmod(0o600)
    assert [row["match_id"] for row in log.torn()] == ["match_0", "match_1"]
    before = os.umask(0o022)
    try:
        assert log.erase(lambda row: row["match_id"] == "match_1", 0)[0] == 2
    finally:
        os.umask(before)
    assert torn.read_bytes() == lines[1][:-90] + b"\n"
    assert [row["match_id"] for row in read(path)] == ["match_0"]
    assert {file.stat().st_mode & 0o777 for file in (path, torn)} == {0o600}
