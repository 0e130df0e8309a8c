"""A training file is read whole or refused with its fault."""

from __future__ import annotations

import gzip
from pathlib import Path

import duckdb
import numpy as np
import pytest

from ml_pipeline.config.data import DataSettings
from ml_pipeline.datasets.dataset import (
    Dataset,
    class_order,
    read_csv,
    read_dataset,
)
from ml_pipeline.errors import DataError
from tests.support import streams

SETTINGS = DataSettings(features=["a", "b"])
GOOD = "match_id,match_date,a,b,result\nm1,2025-01-02,1,2,H\nm2,2025-01-03T04:05:06Z,3,,home\n"


def _file(folder: Path, content: str | bytes, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _refusal(folder: Path, content: str | bytes, name: str = "rows.csv") -> str:
    with pytest.raises(DataError) as caught:
        read_dataset(_file(folder, content, name), SETTINGS)
    return caught.value.message.replace(str(folder / name), "FILE")


def test_rows_are_read_with_labels_times_and_matches(tmp_path: Path) -> None:
    data = read_dataset(_file(tmp_path, GOOD), SETTINGS)
    assert len(data) == 2
    assert data.features[0].tolist() == [1, 2]
    assert np.isnan(data.features[1, 1])
    assert data.labels.tolist() == ["H", "H"]
    assert data.times is not None
    assert [moment.isoformat() for moment in data.times] == [
        "2025-01-02T00:00:00+00:00",
        "2025-01-03T04:05:06+00:00",
    ]
    assert data.groups is not None
    assert data.groups.tolist() == ["m1", "m2"]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (gzip.compress(GOOD.encode(), mtime=0), "rows.csv.gz"),
        ("\ufeff" + GOOD, "rows.csv"),
        (GOOD.replace("\n", "\r\n"), "rows.csv"),
        (GOOD.rstrip("\n"), "rows.csv"),
        (GOOD.replace("m1", '"m1"').replace(",H\n", ',"H"\n'), "rows.csv"),
    ],
    ids=["gzip", "byte order mark", "line ends of Windows", "no last line end", "quotes"],
)
def test_a_file_may_be_written_in_several_ways(
    tmp_path: Path, content: str | bytes, name: str
) -> None:
    plain = read_dataset(_file(tmp_path, GOOD, "plain.csv"), SETTINGS)
    data = read_dataset(_file(tmp_path, content, name), SETTINGS)
    assert data.digest() == plain.digest()
    assert data.frame.columns.tolist() == plain.frame.columns.tolist()


def test_the_bundled_sample_is_read_by_its_name() -> None:
    data = read_dataset("builtin", DataSettings())
    assert data.source == "the bundled sample"
    assert len(data) > 1000
    assert set(data.labels) == {"H", "D", "A"}
    assert data.times is not None
    assert data.groups is not None
    assert len(set(data.groups)) == len(data)
    assert np.isfinite(data.features).any(axis=0).all()


@pytest.mark.parametrize(
    ("content", "name", "fault"),
    [
        ("", "rows.csv", "FILE is empty."),
        ("\n\n", "rows.csv", "FILE is empty."),
        ("match_id,a,b,result\n", "rows.csv", "FILE has a header and no rows."),
        (gzip.compress(GOOD.encode(), mtime=0)[:-20], "rows.csv.gz", "truncated or damaged gzip"),
        (
            gzip.compress(GOOD.encode() * 900, mtime=0)[:200],
            "rows.csv.gz",
            "truncated or damaged gzip",
        ),
        (GOOD, "rows.csv.gz", "truncated or damaged gzip"),
        ("a,b,result\n1,2,H\n1,2,H,3,4\n", "rows.csv", "FILE cannot be read as CSV: "),
        ('a,b,result\n1,2,"H\n', "rows.csv", "FILE cannot be read as CSV: "),
        (b"a,b,result\n1,2,\xff\xfe\n", "rows.csv", "FILE cannot be read as CSV: "),
        ("a,b\n1,2\n", "rows.csv", "FILE has no column 'result' (data.target)."),
        ("a,result\n1,H\n", "rows.csv", "Feature columns are missing: b."),
        ("a,b,result\n1,,H\n2,,D\n", "rows.csv", "Features without a single value: b."),
        ("a,b,result\n1,2,H\n1,high,D\n", "rows.csv", "Feature b holds 'high' in row 2"),
        ("a,b,result\n1,inf,H\n1,2,D\n", "rows.csv", "Feature b holds 'inf' in row 1"),
        ("a,b,result\n1,2\n", "rows.csv", "FILE: result is '' in 1 rows (row 1)."),
        (
            "a,b,result\n1,2,H\n1,2,X\n1,2,\n",
            "rows.csv",
            "FILE: result is '', 'X' in 2 rows (row 2, 3).",
        ),
        (
            GOOD.replace("2025-01-02", "2nd of May"),
            "rows.csv",
            "FILE: match_date is not an ISO 8601 time: '2nd of May' (row 1).",
        ),
        (GOOD.replace("2025-01-02", ""), "rows.csv", "match_date is not an ISO 8601 time: ''"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_with_its_fault(
    tmp_path: Path, content: str | bytes, name: str, fault: str
) -> None:
    assert fault in _refusal(tmp_path, content, name)


def test_rows_without_a_label_are_skipped_aloud_where_the_settings_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = "a,b,result\n1,2,H\n3,4,\n5,6,D\n7,8, NaN\n"
    settings = SETTINGS.model_copy(update={"unlabelled_rows": "skip"})
    data = read_dataset(_file(tmp_path, content), settings)
    assert data.features.tolist() == [[1, 2], [5, 6]]
    assert data.labels.tolist() == ["H", "D"]
    assert "2 rows have no result and are not learned" in caplog.text
    with pytest.raises(DataError, match="result is empty in every row"):
        read_dataset(_file(tmp_path, "a,b,result\n1,2,\n"), settings)
    with pytest.raises(DataError, match="result is 'X' in 1 rows"):
        read_dataset(_file(tmp_path, "a,b,result\n1,2,X\n1,2,\n1,2,H\n"), settings)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no file .*none\.csv"):
        read_csv(tmp_path / "none.csv")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        read_csv(tmp_path)


def test_a_refused_label_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_dataset(_file(tmp_path, "a,b,result\n1,2,X\n"), SETTINGS)
    assert "home_win" in caught.value.hint
    assert "their class in data.labels" in caught.value.hint
    assert caught.value.hint.endswith("name a new class in data.classes.")


def test_without_configured_classes_any_label_but_none_is_accepted(tmp_path: Path) -> None:
    settings = DataSettings(features=["a"], classes=None, labels={"yes": "won"})
    path = _file(tmp_path, "a,result\n1,yes\n2,lost\n3, won \n")
    assert read_dataset(path, settings).labels.tolist() == ["won", "lost", "won"]
    with pytest.raises(DataError, match=r"result is '' in 1 rows \(row 2\)"):
        read_dataset(_file(tmp_path, "a,result\n1,yes\n2,\n"), settings)


def test_a_time_in_another_zone_is_brought_to_utc(tmp_path: Path) -> None:
    content = GOOD.replace("2025-01-02", "2025-01-02T23:30:00-05:00")
    data = read_dataset(_file(tmp_path, content), SETTINGS)
    assert data.times is not None
    assert data.times[0].isoformat() == "2025-01-03T04:30:00+00:00"


def test_a_file_without_times_and_matches_has_none(tmp_path: Path) -> None:
    data = read_dataset(_file(tmp_path, "a,b,result\n1,2,H\n3,4,D\n"), SETTINGS)
    assert data.times is None
    assert data.groups is None


def test_rows_without_a_match_are_matches_of_their_own(tmp_path: Path) -> None:
    data = read_dataset(_file(tmp_path, "match_id,a,b,result\n,1,2,H\n,3,4,D\nm,5,6,A\n"), SETTINGS)
    assert data.groups is not None
    assert data.groups.tolist() == ["\0row 0", "\0row 1", "m"]


def test_the_digest_depends_on_features_labels_and_their_order() -> None:
    features, labels = streams.draw(1, 10)
    data = streams.dataset(features, labels)
    other = streams.dataset(features + 1e-9, labels)
    relabelled = streams.dataset(features, ["H"] * 10)
    turned = data.take(np.arange(10)[::-1])
    digests = {each.digest() for each in (data, other, relabelled, turned)}
    assert len(digests) == 4
    assert data.digest() == turned.take(np.arange(10)[::-1]).digest()
    assert data.digest().startswith("sha256:")


def test_taken_rows_keep_everything_that_is_known_beside_them() -> None:
    data = streams.stream([5, 5])
    some = data.take(np.array([7, 2]))
    assert data.times is not None
    assert some.times is not None
    assert some.labels.tolist() == [data.labels[7], data.labels[2]]
    assert some.times.tolist() == [data.times[7], data.times[2]]
    assert some.frame["event_id"].tolist() == [data.frame["event_id"][n] for n in (7, 2)]
    assert some.frame.index.tolist() == [0, 1]


def test_the_class_set_is_the_configured_one_or_what_was_found() -> None:
    assert class_order(["A", "H"], DataSettings()) == ["H", "D", "A"]
    assert class_order(["b", "a", "b"], DataSettings(classes=None)) == ["a", "b"]


def test_an_empty_dataset_has_no_rows() -> None:
    data: Dataset = streams.dataset(np.empty((0, 3)), [])
    assert len(data) == 0


def test_a_parquet_file_is_read_as_the_csv_that_it_was_made_of(tmp_path: Path) -> None:
    csv, parquet = _file(tmp_path, GOOD), tmp_path / "rows.parquet"
    duckdb.sql(f"COPY (FROM read_csv('{csv}')) TO '{parquet}'")
    one, other = (read_dataset(path, SETTINGS) for path in (csv, parquet))
    assert np.array_equal(one.features, other.features, equal_nan=True)
    assert one.labels.tolist() == other.labels.tolist()
    assert one.times is not None
    assert other.times is not None
    assert one.times.tolist() == other.times.tolist()
    assert "cannot be read" in _refusal(tmp_path, b"PAR1 and nothing more", "broken.parquet")
    duckdb.sql(f"COPY (FROM read_csv('{csv}') LIMIT 0) TO '{parquet}'")
    with pytest.raises(DataError, match="holds no rows"):
        read_dataset(parquet, SETTINGS)


@pytest.mark.parametrize(
    ("setting", "column"), [("time_column", "kickoff"), ("group_column", "player")]
)
def test_a_column_that_the_settings_name_and_the_data_lacks_is_an_error(
    tmp_path: Path, setting: str, column: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("one,result\n1,H\n2,A\n", encoding="utf-8")
    data = DataSettings(features=["one"])
    # The default is a guess: a file without such a column is read all the same.
    plain = read_dataset(path, data)
    assert (plain.times, plain.groups) == (None, None)
    with pytest.raises(DataError) as refused:
        read_dataset(path, data.model_copy(update={setting: column}))
    assert str(refused.value) == (
        f"{path} has no column '{column}' (data.{setting}). It has: one, result. Name one of "
        f"them, or set data.{setting} to null."
    )
    assert read_dataset(path, data.model_copy(update={setting: None})).labels.tolist() == ["H", "A"]


def test_the_time_that_an_example_of_old_named_is_missed_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("one,result\n1,H\n2,A\n", encoding="utf-8")
    data = read_dataset(path, DataSettings(features=["one"], time_column="created_at"))
    assert data.times is None
    assert caplog.messages == [
        f"{path} has no column created_at (data.time_column): rows are not cut in time"
    ]
