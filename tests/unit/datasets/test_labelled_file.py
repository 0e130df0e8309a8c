"""Rows of a file of any size come day by day, and teach what they teach at once."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pytest

from ml_pipeline.config.settings import load_settings
from ml_pipeline.datasets.labelled_file import LabelledFile, read_labelled
from ml_pipeline.errors import DataError
from ml_pipeline.training.learned_rows import Champion
from ml_pipeline.training.online_training import adapt
from tests.support import streams
from tests.support.streams import DAY_ONE, FEATURES

SETTINGS = load_settings(environment={}).changed(
    {"data.features": FEATURES, "data.classes": streams.CLASSES}
)
TARGET = SETTINGS.data.target
SIZES = [70, 0, 45, 3, 1, 120, 33]


def write(path: Path, *, shuffled: bool = True) -> Path:
    """The stream as a run writes it, but in any order, and with one row twice."""
    data = streams.stream(SIZES)
    assert data.times is not None
    frame = data.frame.assign(
        known_at=[moment.isoformat() for moment in data.times],
        match_id="",
        prediction="H",
        **dict(zip(FEATURES, data.features.T, strict=True)),
        **{TARGET: data.labels},
    ).drop(columns="row")
    if shuffled:
        frame = frame.sample(frac=1, random_state=3)
    frame.iloc[[*range(len(frame)), 5]].to_csv(path, index=False)
    return path


@pytest.mark.parametrize("least", [1, 50, 10_000])
@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_parts_are_whole_days_in_order_and_every_event_comes_once(
    tmp_path: Path, least: int, kind: str
) -> None:
    path = write(tmp_path / "rows.csv")
    if kind == "csv.gz":
        path = write(tmp_path / "rows.csv.gz")
    elif kind == "parquet":
        duckdb.sql(f"COPY (FROM read_csv('{path}')) TO '{tmp_path}/rows.parquet'")
        path = tmp_path / "rows.parquet"
    file = LabelledFile.read(path, SETTINGS.data)
    assert file.rows == len(file.last) == sum(SIZES)
    cut = LabelledFile(
        path=path, settings=file.settings, rows=file.rows, last=file.last.take(np.arange(9))
    )
    parts = list(cut.parts(least))
    days = [{moment.date() for moment in part.times} for part in parts if part.times is not None]
    assert len(parts) == {1: 2, 50: 2, 10_000: 1}[least]
    assert sum(len(part) for part in parts) == sum(SIZES)
    assert sorted(set().union(*days)) == sorted(
        DAY_ONE + timedelta(days=n) for n, size in enumerate(SIZES) if size
    )
    for one, other in pairwise(days):
        assert max(one) < min(other)
    texts = [event for part in parts for event in part.frame["event_id"]]
    assert len(set(texts)) == len(texts)


def test_a_long_file_comes_in_many_parts(tmp_path: Path) -> None:
    path = tmp_path / "long.parquet"
    rows = f"""SELECT 'e' || i AS event_id, 1.0 AS form, 2.0 AS strength, 3.0 AS rest,
        TIMESTAMP '2025-01-01' + INTERVAL (hash(i) % 50) DAY AS known_at, 'H' AS {TARGET}
        FROM range(60000) t(i)"""  # noqa: S608 - a column of ours
    duckdb.sql(f"COPY ({rows}) TO '{path}'")
    file = LabelledFile.read(path, SETTINGS.data)
    assert (file.rows, len(file.last)) == (60_000, 10_000)
    sizes, days = [], list[set[date]]()
    for part in file.parts(5000):
        assert part.times is not None
        sizes.append(len(part))
        days.append(set(part.times.dt.date))
    assert sum(sizes) == 60_000
    assert len(sizes) > 4
    assert sum(map(len, days)) == len(set().union(*days)) == 50


def test_an_online_model_learns_the_same_from_the_parts_as_from_the_whole(tmp_path: Path) -> None:
    path, today = write(tmp_path / "rows.csv"), DAY_ONE + timedelta(days=len(SIZES) - 1)
    file = LabelledFile.read(path, SETTINGS.data)
    cut = LabelledFile(
        path=path, settings=file.settings, rows=file.rows, last=file.last.take(np.arange(9))
    )
    model = streams.model(SETTINGS)
    champion = Champion(model_id="champion", model=model)
    whole = [read_labelled(str(path), SETTINGS)]
    one = adapt(model, champion, whole, today, SETTINGS)
    other = adapt(model, champion, cut.parts(40), today, SETTINGS)
    assert one.training_digest == other.training_digest
    assert one.rows_learned == other.rows_learned == sum(SIZES)
    assert np.array_equal(one.evidence.challenger, other.evidence.challenger)
    assert one.evidence.event_ids == other.evidence.event_ids
    probes = streams.draw(9, 40)[0]
    assert np.array_equal(one.model.predict_proba(probes), other.model.predict_proba(probes))


def test_a_part_may_lack_a_feature_that_the_file_has(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        f"event_id,known_at,form,strength,rest,{TARGET}\n"
        "a,2025-01-01T10:00:00+00:00,1,2,,H\n"
        "b,2025-01-02T10:00:00+01:00,1,2,3,A\n"
    )
    file = LabelledFile.read(path, SETTINGS.data)
    cut = LabelledFile(path=path, settings=file.settings, rows=2, last=file.last.take(np.arange(1)))
    first, second = cut.parts(1)
    assert np.isnan(first.features[0, 2])
    assert second.times is not None
    assert [moment.date() for moment in second.times] == [date(2025, 1, 2)]


def test_a_feature_may_be_called_like_an_added_column(tmp_path: Path) -> None:
    path, names = tmp_path / "rows.csv", ["day", "place"]
    path.write_text(
        f"event_id,known_at,day,place,{TARGET}\n"
        "a,2025-01-02T10:00:00+00:00,1,7,H\n"
        "b,2025-01-01T10:00:00+00:00,2,8,A\n"
    )
    file = LabelledFile.read(path, SETTINGS.changed({"data.features": names}).data)
    assert file.last.features.tolist() == [[2, 8], [1, 7]]


def test_what_is_small_or_no_log_is_left_to_the_ordinary_reader(tmp_path: Path) -> None:
    assert LabelledFile.opened(write(tmp_path / "rows.csv"), SETTINGS.data) is None
    assert LabelledFile.opened(tmp_path / "nothing.csv", SETTINGS.data) is None
    plain = tmp_path / "plain.parquet"
    duckdb.sql(f"COPY (SELECT 1 AS form) TO '{plain}'")
    assert LabelledFile.opened(plain, SETTINGS.data) is None


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("b,yesterday,1,2,3,A", "known_at is not an ISO 8601 time: 'yesterday' (row 2)"),
        ("b,2025-01-02T10:00:00+00:00,1,2,3,Z", "is 'Z' in 1 rows"),
        ('b,"2025-01-02', "cannot be read"),
    ],
)
def test_a_fault_of_a_file_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        f"event_id,known_at,form,strength,rest,{TARGET}\na,2025-01-01T10:00:00+00:00,1,2,1,H\n{line}\n"
    )
    with pytest.raises(DataError) as caught:
        LabelledFile.read(path, SETTINGS.data)
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("line", ["2,{time},2,H,surplus", "2,{time}", '2,{time},2,"H'])
def test_a_line_that_is_no_row_is_named_and_hides_no_other(tmp_path: Path, line: str) -> None:
    rows = ["event_id,known_at,form,result", "1,2026-03-01T00:00:00+00:00,1,H"]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join([*rows, line.format(time="2026-03-01T00:00:00+00:00"), ""]))
    settings = SETTINGS.changed({"data.features": ["form"]})
    with pytest.raises(DataError, match=r"rows\.csv cannot be read: .*Line: 3"):
        LabelledFile.read(path, settings.data)
