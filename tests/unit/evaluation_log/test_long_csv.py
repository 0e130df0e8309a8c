"""A long log is read by its line numbers; that changes nothing but the time."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ml_pipeline.datasets.csv_file import CsvFile
from ml_pipeline.evaluation_log import long_csv
from ml_pipeline.evaluation_log.csv_source import CsvSource
from ml_pipeline.evaluation_log.loading import LoadedLog
from ml_pipeline.evaluation_log.long_csv import copy_lines
from ml_pipeline.evaluation_log.scan import scan_file
from ml_pipeline.evaluation_log.stage import open_stage
from tests.support.factories import NOW, make_id
from tests.support.logs import (
    Desk,
    csv_text,
    make_log_request,
    make_row,
    outcome_only,
    settings_for,
    without_outcome,
    write_log,
)
from tests.support.properties import tries

HOURS = 24 * 60
# Rows that are learned or errors now, and rows that are too old for either.
RECENT, OLD = range(1, 100), range(24 * 30, HOURS)
REQUEST = make_log_request(learn_from=make_log_request().window.start)


@given(
    texts=st.lists(st.text("ab,", max_size=12), min_size=1, max_size=40),
    wanted=st.sets(st.integers(0, 39), min_size=1),
    chunk=st.integers(1, 50),
    has_end=st.booleans(),
)
def test_lines_are_copied_by_their_numbers(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    wanted: set[int],
    chunk: int,
    *,
    has_end: bool,
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    texts[-1] += "z"
    file = CsvSource(file=CsvFile(path=folder / "log.csv", header=("a",)))
    file.path.write_text("\n".join(texts) + "\n" * has_end)
    numbers = np.array(sorted(number for number in wanted | {0} if number < len(texts))[-3:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_csv, "_BLOCK_BYTES", chunk)
        picked = copy_lines(file, numbers, len(texts), folder / "picked.csv")
    assert picked.path.read_text().splitlines() == [texts[number] for number in numbers]


def lines_of(loaded: LoadedLog) -> tuple[object, ...]:
    rejected = []
    if loaded.report.rejects_path is not None:
        # A full scan has the text of predictions without outcome at hand, a long one has not.
        with Path(loaded.report.rejects_path).open(newline="", encoding="utf-8") as file:
            rejected = [cells[:2] for cells in csv.reader(file)]
    report = loaded.report.as_json() | {"rejects_path": None}
    # Nor has it the id of such a prediction, to name it for an example.
    examples = {r: e for r, e in report["examples"].items() if r != "conflicting predictions"}
    return (
        report | {"examples": examples},
        loaded.labelled_by_day,
        loaded.errors_path.read_text(encoding="utf-8"),
        loaded.labelled_path.read_text(encoding="utf-8"),
        rejected,
    )


def load_both(folder: Path, text: str) -> tuple[LoadedLog, tuple[object, ...], tuple[object, ...]]:
    """The same log with text in one step and by line numbers in two."""
    path = folder / "log.csv"
    path.write_bytes(text.encode())
    found = []
    for long in (1 << 40, 0):
        desk = Desk(folder / str(long))
        desk.folder.mkdir(exist_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(long_csv, "LONG_BYTES", long)
            loaded = desk.load_file(path, request=REQUEST)
        desk.store.close()
        found.append(lines_of(loaded))
    return loaded, found[0], found[1]


row = st.one_of(
    st.builds(make_row, st.sampled_from([*RECENT[:4], *OLD[:8]])),
    st.builds(without_outcome, st.sampled_from([*RECENT[:4], *OLD[:8]])),
    st.builds(outcome_only, st.sampled_from([*RECENT[:4], *OLD[:8]])),
    st.builds(make_row, st.sampled_from(OLD[:8]), prediction=st.sampled_from(["D", "?", ""])),
    st.builds(make_row, st.sampled_from(RECENT[:4]), confidence=st.sampled_from(["7", "", "x"])),
    st.builds(make_row, st.sampled_from(OLD[:8]), model_name=st.just("another")),
    st.builds(without_outcome, st.sampled_from(OLD[:8]), match_id=st.just('two\nlines, "quoted"')),
)


@settings(max_examples=tries(6), deadline=None)
@example(rows=[without_outcome(720), make_row(720, prediction="D")], broken=[])
@given(rows=st.lists(row, max_size=12), broken=st.lists(st.integers(0, 40), max_size=2))
def test_reading_by_line_numbers_finds_what_a_scan_with_text_finds(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]], broken: list[int]
) -> None:
    settled = [make_row(number) for number in OLD[100:130]]
    lines = csv_text([*settled, *rows]).splitlines(keepends=True)
    for place in broken:
        lines.insert(1 + place, "too,few\n")
    _, full, picked = load_both(tmp_path_factory.mktemp("log"), "".join(lines))
    assert picked == full


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_few_rows_of_a_long_log_are_read_from_all_over_it(tmp_path: Path, end: str) -> None:
    rows = [make_row(number) for number in OLD[100:300]]
    rows[3:3] = [without_outcome(5), make_row(6), without_outcome(7)]
    rows += [make_row(5), make_row(900, confidence="7")]
    loaded, full, picked = load_both(tmp_path, csv_text(rows, end=end))
    assert picked == full
    assert loaded.errors["event_id"].tolist() == [make_id(5), make_id(6)]
    assert (loaded.report.pending, loaded.report.bad, loaded.report.folded) == (1, 1, 1)
    assert loaded.report.rows == len(rows)
    assert min(loaded.labelled_by_day) < NOW.date()


def test_a_prediction_that_only_waits_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [make_row(number) for number in OLD[:40]]
    rows[3:3] = [without_outcome(5), without_outcome(7)]
    of_the_future = without_outcome(8, timestamp="2062-03-14T02:00:00+00:00")
    path = write_log(tmp_path / "log.csv", [*rows, make_row(5), of_the_future])
    monkeypatch.setattr(long_csv, "LONG_BYTES", 0)
    with open_stage(tmp_path) as stage:
        scan_file(stage, path, settings_for(path), REQUEST)
        assert stage.run("SELECT row_no FROM whole ORDER BY 1") == [(4,), (43,), (44,)]
