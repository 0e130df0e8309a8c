"""Files as they come: line ends, quotes, encodings, ragged lines, damaged archives, Parquet."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import duckdb
import pytest

from ml_pipeline.errors import ConfigError, DataError
from ml_pipeline.evaluation_log.loading import LoadedLog
from ml_pipeline.evaluation_log.scan import scan_file
from ml_pipeline.evaluation_log.stage import open_stage
from ml_pipeline.store.records import EVENT_COLUMNS, LookbackWindow
from tests.support.factories import NOW, make_id
from tests.support.logs import (
    FEATURES,
    Desk,
    csv_text,
    make_log_request,
    make_row,
    settings_for,
    write_log,
)

HEADER = ",".join(EVENT_COLUMNS)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def ids(loaded: LoadedLog) -> list[str]:
    return sorted(loaded.errors["event_id"])


def rejected_rows(loaded: LoadedLog) -> list[tuple[str, str]]:
    assert loaded.report.rejects_path is not None
    with Path(loaded.report.rejects_path).open(newline="", encoding="utf-8") as file:
        return [(row["row"], row["reason"]) for row in csv.DictReader(file)]


def bare(number: int, **changes: str) -> str:
    """A line without quotes."""
    row = make_row(number, features="", **changes)
    return ",".join(row.get(name, "") for name in EVENT_COLUMNS)


def test_a_missing_file_is_named(desk: Desk) -> None:
    with pytest.raises(DataError, match=r"There is no log .*nothing\.csv"):
        desk.load_file(desk.folder / "nothing.csv")


def test_a_file_of_another_kind_is_a_fault_of_the_settings(desk: Desk) -> None:
    with pytest.raises(ConfigError, match=r"log\.source .*log\.xlsx"):
        desk.load_text("", "log.xlsx")


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"  \r\n"])
def test_an_empty_file_is_refused(desk: Desk, content: bytes) -> None:
    with pytest.raises(DataError, match="is empty"):
        desk.load_text(content)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_header_alone_is_an_empty_log(desk: Desk, end: str) -> None:
    loaded = desk.load_text(HEADER + end)
    assert (loaded.report.rows, len(loaded.errors), loaded.labelled_rows) == (0, 0, 0)
    assert loaded.errors_path.read_text().startswith("event_id,match_id,known_at")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_any_line_end_and_a_byte_order_mark_are_read(desk: Desk, end: str, mark: str) -> None:
    loaded = desk.load_text(mark + csv_text([make_row(1), make_row(2)], end=end))
    assert ids(loaded) == [make_id(1), make_id(2)]


def test_mixed_line_ends_are_read(desk: Desk) -> None:
    lines = [HEADER, "\n", bare(1), "\r\n", bare(2), "\n", bare(3), "\r\n"]
    assert ids(desk.load_text("".join(lines))) == [make_id(n) for n in (1, 2, 3)]


def test_a_last_line_without_its_end_counts(desk: Desk) -> None:
    assert ids(desk.load_text(f"{HEADER}\n{bare(1)}")) == [make_id(1)]


def test_quotes_commas_and_line_feeds_stand_inside_fields(desk: Desk) -> None:
    row = make_row(1, match_id='Ham "The Hammers", or\nso\r\n')
    loaded = desk.load_text(csv_text([row, make_row(2)]))
    assert loaded.errors["match_id"].tolist() == [row["match_id"], "match-2"]


def test_a_field_of_a_million_characters_is_read(desk: Desk) -> None:
    rows = [make_row(1, match_id="ä" * 1_000_000), make_row(2)]
    assert desk.load(rows).errors["match_id"].str.len().tolist() == [1_000_000, 7]


def test_a_line_longer_than_the_limit_is_bad_and_the_rest_is_read(desk: Desk) -> None:
    loaded = desk.load([make_row(1, metadata="x" * 5_000_000), make_row(2)])
    assert ids(loaded) == [make_id(2)]
    assert loaded.report.bad == 1


@pytest.mark.long
def test_many_long_rows_are_read_with_more_memory(desk: Desk) -> None:
    features = json.dumps(FEATURES | {"note": "x" * 30_000})
    rows = [make_row(number, features=features) for number in range(1, 2500)]
    assert desk.load(rows).labelled_rows == 2499


def test_ragged_lines_are_bad_and_counted_in_their_place(desk: Desk) -> None:
    lines = [HEADER, bare(1), "short", bare(2), bare(3) + ",more", "x", bare(4, prediction="X")]
    loaded = desk.load_text("\n".join([*lines, bare(5)]) + "\n")
    assert ids(loaded) == [make_id(n) for n in (1, 2, 5)]
    assert rejected_rows(loaded) == [
        ("2", "malformed: missing columns"),
        ("4", "malformed: too many columns"),
        ("5", "malformed: missing columns"),
        ("6", "unknown prediction label"),
    ]
    assert (loaded.report.rows, loaded.report.bad) == (7, 4)


def test_bytes_that_are_not_utf_8_are_bad_and_the_rest_is_read(desk: Desk) -> None:
    content = f"{HEADER}\n{bare(1, match_id='Köln')}\n{bare(2)}\n"
    loaded = desk.load_text(content.encode("latin-1"))
    assert ids(loaded) == [make_id(2)]
    assert rejected_rows(loaded) == [("1", "malformed: invalid encoding")]


def test_a_quote_that_never_ends_loses_no_row_in_silence(desk: Desk) -> None:
    lines = [HEADER, bare(1), bare(2, match_id='"open'), bare(3), bare(4)]
    loaded = desk.load_text("\n".join(lines) + "\n")
    assert loaded.report.bad >= 1
    assert make_id(1) in ids(loaded)


@pytest.mark.long
def test_a_stray_quote_in_a_large_file_loses_no_row(desk: Desk) -> None:
    lines = [bare(n % 9000 + 1) for n in range(120_000)]
    lines[60_000] = bare(5, match_id='say "hi" twice')
    loaded = desk.load_text("\n".join([HEADER, *lines]) + "\n")
    assert loaded.report.rows == 120_000


def test_a_gzipped_csv_is_read(desk: Desk) -> None:
    content = gzip.compress(csv_text([make_row(1), make_row(2)]).encode())
    assert ids(desk.load_text(content, "log.csv.gz")) == [make_id(1), make_id(2)]
    assert ids(desk.load_text(content, "named.csv")) == [make_id(1), make_id(2)]


@pytest.mark.parametrize("rows", [2, 20_000])
def test_a_truncated_gzip_is_refused(desk: Desk, rows: int) -> None:
    content = gzip.compress(csv_text([make_row(n) for n in range(1, rows + 1)]).encode())
    for length in (len(content) // 2, len(content) - 4):
        with pytest.raises(DataError, match=r"log\.csv\.gz"):
            desk.load_text(content[:length], "log.csv.gz")


def test_a_damaged_gzip_is_refused(desk: Desk) -> None:
    content = gzip.compress(csv_text([make_row(n) for n in range(1, 20_000)]).encode())
    middle = len(content) // 2
    with pytest.raises(DataError, match=r"log\.csv\.gz"):
        desk.load_text(content[:middle] + bytes(64) + content[middle + 64 :], "log.csv.gz")


def test_a_csv_named_gz_is_refused(desk: Desk) -> None:
    with pytest.raises(DataError, match="holds no gzip"):
        desk.load_text(csv_text([make_row(1)]), "log.csv.gz")


def _write_parquet(path: Path, query: str) -> Path:
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return path


def test_a_parquet_file_of_texts_is_read(desk: Desk) -> None:
    source = write_log(desk.folder / "log.csv", [make_row(1), make_row(2, prediction="X")])
    query = f"SELECT * FROM read_csv('{source}', all_varchar = true)"  # noqa: S608 - a test
    loaded = desk.load_file(_write_parquet(desk.folder / "log.parquet", query))
    assert ids(loaded) == [make_id(1)]
    assert rejected_rows(loaded) == [("2", "unknown prediction label")]


def test_a_parquet_file_with_types_is_read(desk: Desk) -> None:
    numbers = ", ".join(f"{value} AS {name}" for name, value in FEATURES.items())
    query = f"""SELECT '{make_id(1)}'::UUID AS event_id, 'H' AS prediction, 'A' AS actual_result,
        0.9::FLOAT AS confidence, TIMESTAMP '2026-03-13 10:00:00' AS timestamp,
        TIMESTAMPTZ '2026-03-14 01:00:00+01' AS evaluated_at,
        (SELECT f FROM (SELECT {numbers}) f) AS features"""  # noqa: S608 - a test
    loaded = desk.load_file(_write_parquet(desk.folder / "log.parquet", query))
    assert loaded.errors["known_at"].tolist() == ["2026-03-14T00:00:00.000000+00:00"]
    assert loaded.errors["home_advantage"].tolist() == [4.5]


def test_a_damaged_parquet_file_is_refused(desk: Desk) -> None:
    with pytest.raises(DataError, match=r"log\.parquet cannot be read"):
        desk.load_text(b"PAR1 and then nothing", "log.parquet")


def test_settled_rows_are_not_kept_whole(desk: Desk) -> None:
    rows = [make_row(1), make_row(24 * 30), make_row(24 * 30, confidence="7")]
    path = write_log(desk.folder / "log.csv", rows)
    last = LookbackWindow.ending(NOW, days=0.01)
    with open_stage(desk.folder) as stage:
        scan_file(stage, path, settings_for(path), make_log_request(learn_from=NOW, window=last))
        assert stage.run("SELECT row_no FROM whole") == [(3,)]
        folder = stage.folder
    assert not folder.exists()


def test_a_scan_that_fails_leaves_no_scratch_files(desk: Desk) -> None:
    with pytest.raises(DataError):
        desk.load_text(gzip.compress(HEADER.encode())[:-4], "log.csv.gz")
    assert list(desk.work.iterdir()) == []


def test_the_event_id_of_a_log_is_text(desk: Desk) -> None:
    rows = [make_row(1, event_id="007"), make_row(2, event_id=" 7 "), make_row(3, event_id="ü,'\"")]
    loaded = desk.load(rows)
    assert ids(loaded) == ["007", "7", "ü,'\""]
    json.dumps(loaded.report.as_json())
