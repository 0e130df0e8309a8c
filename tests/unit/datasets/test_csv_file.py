"""A CSV is read within bounds, and what cannot be read of it is said, whatever it holds."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from ml_pipeline.datasets.csv_file import LONGEST_LINE, CsvFile
from ml_pipeline.errors import DataError


@pytest.mark.parametrize("read", [lambda file: file.frame(), lambda file: list(file.records())])
def test_a_small_gzip_of_one_long_line_does_not_fill_the_memory(
    read: Callable[[CsvFile], object], tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as packed:
        packed.write(b"a,b\n")
        for _ in range(3):
            packed.write(b"a" * LONGEST_LINE)
    opened = CsvFile.opened(path)
    tracemalloc.start()
    with pytest.raises(DataError, match="unpacks to a line of over"):
        read(opened)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * LONGEST_LINE


@pytest.mark.parametrize(
    "read",
    [
        lambda file: file.frame(),
        lambda file: list(file.records()),
        lambda file: file.point_places([1]),
        lambda file: file.plain(file.path.with_name("plain.csv")),
    ],
)
def test_a_gzip_that_breaks_off_late_is_refused_by_every_reader(
    read: Callable[[CsvFile], object], tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(b"id;form\n" + b"r;0,5\n" * 300_000, compresslevel=0)[:-20])
    opened = CsvFile.opened(path)
    with pytest.raises(DataError, match=r"rows\.csv\.gz is a truncated or damaged gzip file"):
        read(opened)


def test_a_cell_that_is_too_long_leaves_the_decimal_commas_of_the_others(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id;form;note\nr;0,5;" + "x" * 200_000 + "\nr;0,25;y\n")
    opened = CsvFile.opened(path)
    assert opened.point_places([1]) == [1]
    assert opened.frame()["form"].tolist() == ["0.5", "0.25"]
