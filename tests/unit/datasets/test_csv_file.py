"""A CSV is opened within bounds, whatever it unpacks to."""

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
