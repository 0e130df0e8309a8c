"""DuckDB's doors: every path is one file, and nothing leaves the machine."""

# ruff: noqa: S608 - statements are made of constants and quoted names

from __future__ import annotations

import os
import re
from pathlib import Path

import duckdb
import pytest

import ml_pipeline
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import read_csv
from ml_pipeline.datasets.duckdb_session import connect, exact_file, files_of
from ml_pipeline.datasets.labelled_file import LabelledFile
from ml_pipeline.errors import InputError
from ml_pipeline.evaluation_log import comparison, scan
from ml_pipeline.evaluation_log.stage import open_stage
from ml_pipeline.runs.manifest import days_of
from ml_pipeline.store.records import EVENT_COLUMNS
from tests.support.logs import make_log_request

# Each name beside another one that it matches as a pattern.
NAMES = {
    "rows[1]": "rows1", "a*": "ab", "q?": "qx", "[!x]": "y", "{a,b}": "a", "**": "zz",
    "br]": "br", "[": "[[]", "back\\slash": "backslash", "~": "home", "it's [2]": "it's 2",
    "é[a]": "éa", "b\\c[1]*": "b\\c1x",
}  # fmt: skip
SETTINGS = Settings.model_validate({
    "data": {"features": ["form"], "target": "label", "classes": None}
})  # fmt: skip
READERS = ("read_csv", "read_parquet", "read_json", "read_text", "read_blob", "glob")


# Of each sign one.
@pytest.fixture(params=["rows[1]", "a*", "q?", "{a,b}", "b\\c[1]*"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def both(folder: Path, name: str, suffix: str, write: str) -> Path:
    """The file of that name, which holds `right`, and the one that it matches: `wrong`."""
    # A folder is part of the pattern too, and `key=value` in it is no column.
    folder = folder / "day[1]" / "form=7"
    folder.mkdir(parents=True)
    with duckdb.connect() as database:
        for stem, text in ((NAMES[name], "wrong"), (name, "right")):
            plain = folder / f"plain{suffix}"
            plain.unlink(missing_ok=True)
            kind = suffix.removeprefix(".")
            query = write.replace("TEXT", text)
            target = str(tmp := folder.parent.parent / f"plain{suffix}").replace("'", "''")
            database.execute(f"COPY ({query}) TO '{target}' (FORMAT {kind})")
            tmp.replace(folder / f"{stem}{suffix}")
    return folder / f"{name}{suffix}"


LABELLED = """SELECT 'TEXT' AS event_id, '' AS match_id, '2026-03-01T00:00:00+00:00' AS known_at,
'm' AS model_id, 'H' AS prediction, 0.5 AS confidence, false AS is_error, 1 AS form, 'H' AS label"""
EVENT = "SELECT " + ", ".join(
    f"{value} AS {column}"
    for column, value in {
        **dict.fromkeys(EVENT_COLUMNS, "NULL"),
        "event_id": "'TEXT'", "timestamp": "'2026-03-01T00:00:00+00:00'", "prediction": "'H'",
        "confidence": "0.5", "actual_result": "'H'", "model_name": "'default'",
    }.items()
)  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_to_train_on_come_from_exactly_that_file(
    tmp_path: Path, name: str, suffix: str
) -> None:
    path = both(tmp_path, name, suffix, LABELLED)
    assert read_csv(path)["event_id"].tolist() == ["right"]
    assert "form=7" not in set(read_csv(path).columns)
    found = LabelledFile.read(path, SETTINGS.data)
    assert found.last.frame["event_id"].tolist() == ["right"]
    assert found.last.features[:, 0].tolist() == [1.0]


def test_days_of_a_run_are_counted_in_exactly_that_file(tmp_path: Path, name: str) -> None:
    path = both(tmp_path, name, ".csv", LABELLED)
    plain = tmp_path / "as it is.csv"
    plain.write_bytes(path.read_bytes())
    assert days_of(path, SETTINGS) == days_of(plain, SETTINGS)
    assert days_of(path, SETTINGS)["2026-03-01"][0] == 1


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_log_is_read_from_exactly_that_file(tmp_path: Path, name: str, suffix: str) -> None:
    path = both(tmp_path, name, suffix, EVENT)
    with open_stage(path.parent) as stage:
        scanned = scan.scan_file(stage, path, SETTINGS, make_log_request())
        place = scanned.column(scanned.columns.places["event_id"])
        assert stage.run(f"SELECT {place} FROM whole") == [("right",)]


def test_both_sides_of_a_comparison_are_read_from_exactly_those_files(
    tmp_path: Path, name: str
) -> None:
    path = both(tmp_path, name, ".csv", EVENT)
    with comparison.open_comparison(str(path.parent), 200) as db:
        comparison.read_csv(db, path, "default", tmp_path)
        comparison.join(db)
        assert comparison.event_ids(db, comparison.CSV, "not_in_table", 5) == ["right"]
    if "\\" in name:
        return  # DuckDB lists no such names; the store writes none
    with connect() as db:
        names = db.execute(f"SELECT event_id FROM read_csv({files_of(path.parent, '.csv')})")
        assert sorted(names.fetchall()) == [("right",), ("wrong",)]


def test_names_in_parquet_that_differ_in_case_stay_two(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    inner = "{'Age': 1, 'list': [{'a': 1}]} AS features_of_it"
    with duckdb.connect() as database:
        rows = f'SELECT 7 AS "Form", {inner}, 1 AS xxxx, * FROM ({EVENT})'
        database.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet)")
    # No writer at hand has both names: one of the same length is put in place of another.
    path.write_bytes(path.read_bytes().replace(b"xxxx", b"form"))
    assert list(read_csv(path).columns)[:3] == ["Form", "features_of_it", "form"]
    assert read_csv(path)["form"].tolist() == ["1"]
    with open_stage(tmp_path) as stage:
        scanned = scan.scan_file(stage, path, SETTINGS, make_log_request())
        place = scanned.column(scanned.columns.features["form"])
        assert stage.run(f"SELECT {place} FROM whole") == [("1",)]


def test_no_other_machine_is_asked_and_nothing_is_installed() -> None:
    with connect() as database:
        for address in ("http://127.0.0.1:9/a.csv", "s3://bucket/a.csv", "hf://datasets/a/b.csv"):
            with pytest.raises(duckdb.Error, match="requires the extension httpfs"):
                database.execute(f"FROM read_csv('{address}')")
            # As a path it is a file that is not there.
            with pytest.raises(duckdb.IOException, match="No files found"):
                database.execute(f"FROM read_csv({exact_file(address)})")
        variable = {"a": [1]}
        with pytest.raises(duckdb.CatalogException):
            database.execute("FROM variable")
        assert variable


@pytest.mark.parametrize("name", NAMES)
def test_a_name_stands_for_one_file(tmp_path: Path, name: str) -> None:
    for stem, text in ((NAMES[name], "wrong"), (name, "right")):
        (tmp_path / f"{stem}.csv").write_text(f"v\n{text}\n", encoding="utf-8")
    with connect() as database:
        file = exact_file(tmp_path / f"{name}.csv")
        assert database.execute(f"FROM read_csv({file}, header = true)").fetchall() == [("right",)]


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match="not valid UTF-8"):
        exact_file(os.fsdecode(b"rows\xff.csv"))


def test_every_door_to_duckdb_is_one_of_these() -> None:
    """A reader that is new names its file by `exact_file`, and a session is opened in one place."""
    root = Path(ml_pipeline.__file__).parent
    reader = re.compile(rf"(?<![.\w])(?:{'|'.join(READERS)})\(\{{(\w+)")
    loose = re.compile(rf"(?<![.\w])(?:{'|'.join(READERS)})\((?:\?|'|\")|FROM '|\.read_parquet\(")
    found = dict[str, set[str]]()
    for path in sorted(root.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        place = path.relative_to(root).as_posix()
        if place != "datasets/duckdb_session.py":
            assert "duckdb.connect(" not in text, place
            assert not re.search(r" TO \{literal", text), place
            assert not re.search(r"temp_directory = \{literal", text), place
        assert not loose.search(text), place
        if names := set(reader.findall(text)):
            found[place] = names
    assert set.union(*found.values()) <= {"exact_file", "files"}, found
    # `files` are arguments that `exact_file` and `files_of` made.
    assert [place for place, names in found.items() if "files" in names] == [
        "evaluation_log/comparison.py"
    ]
