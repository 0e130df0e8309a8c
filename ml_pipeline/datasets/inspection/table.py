"""A table of rows with results: its columns, how many rows there are, and a sample of them.

A small file is read as training reads it; of a large one DuckDB reads rows that are spread evenly
over it, so that the memory stays bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd

from ml_pipeline.datasets.csv_file import CsvFile
from ml_pipeline.datasets.dataset import PARQUET, read_csv
from ml_pipeline.datasets.duckdb_session import has_mixed_line_ends, parquet_names
from ml_pipeline.datasets.labelled_file import BIG_BYTES, file_session, source_sql
from ml_pipeline.errors import DataError
from ml_pipeline.store.inputs.columns import column_place, listed

if TYPE_CHECKING:
    import duckdb

MOST_ROWS: Final = 50_000
MOST_CELLS: Final = 2_000_000
# A packed file is so many times smaller than a CSV of the same rows.
_PACKED: Final = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows as texts, '' for what is missing.

    `frame` (m, d) has at most MOST_ROWS of the `rows`, spread evenly and in their order, and the
    columns that one can name: none without a name, none whose name others have as well; these are
    `unusable`, with the reason. `path` is None for rows that come from elsewhere; `known_counts`
    are then those of columns that were counted over all rows. `whole` are all rows of a small file.
    """

    source: str
    frame: pd.DataFrame
    rows: int
    path: Path | None = None
    unusable: dict[str, str] = field(default_factory=dict)
    known_counts: dict[str, Counter[str]] = field(default_factory=dict)
    whole: pd.DataFrame | None = field(default=None, repr=False)

    @property
    def names(self) -> list[str]:
        """The columns that one can name."""
        return [str(name) for name in self.frame.columns]

    def find(self, name: str) -> str:
        """The column of that name as it is written there. Raises DataError naming a similar one."""
        wanted = name.strip()
        if wanted in self.unusable:
            raise DataError(
                f"{self.source}: the column {wanted!r} {self.unusable[wanted]}.",
                hint="Rename or drop one of them.",
            )
        place = column_place(wanted, self.names, self.source)
        if place is None:
            raise DataError(
                f"{self.source} has no column {wanted!r}.{_meant(wanted, self.names)}",
                hint=f"It has: {listed(self.names)}.",
            )
        return self.names[place]

    def counts(self, name: str) -> Counter[str]:
        """How many rows have each text in a column, over all rows."""
        if name in self.known_counts:
            return self.known_counts[name]
        if self.path is None or self.whole is not None:
            return Counter((self.frame if self.whole is None else self.whole)[name].tolist())
        with _rows_of(self.path) as (database, names, source):
            place = names.index(name)
            query = f"SELECT coalesce(c{place}::VARCHAR, ''), count(*) FROM {source} GROUP BY 1"  # noqa: S608
            return Counter(dict(database.execute(query).fetchall()))


def read_table(path: Path) -> Table:
    """Look at a CSV (also gzip) or Parquet file.

    Raises DataError for a file that is missing, empty or broken, or has no rows.
    """
    if not path.exists():
        raise DataError(f"There is no file {path}.", hint="Give a CSV with a header line.")
    if not path.is_file():
        raise DataError(f"{path} is not a file.", hint="Give a CSV or Parquet file.")
    whole = None if _is_big(path) else read_csv(path).pipe(_stripped)
    if whole is None:
        frame, rows = _sample(path)
    else:
        frame, rows = thinned(whole, most_rows(whole.shape[1])), len(whole)
    unusable = _unusable([str(name) for name in frame.columns])
    kept = [place for place, name in enumerate(frame.columns) if name and name not in unusable]
    if not kept:
        raise DataError(f"{path} has no column with a name of its own.")
    return Table(
        source=str(path), frame=frame.iloc[:, kept], rows=rows, path=path, unusable=unusable,
        whole=whole,
    )  # fmt: skip


def most_rows(columns: int) -> int:
    """How many rows of so many columns a sample has."""
    return max(1, min(MOST_ROWS, MOST_CELLS // max(1, columns)))


def thinned(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many of the rows, spread evenly, in their order."""
    if len(frame) <= most:
        return frame
    return frame.iloc[:: -(-len(frame) // most)].reset_index(drop=True)


def _stripped(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_axis([str(name).strip() for name in frame.columns], axis=1)


def _unusable(names: list[str]) -> dict[str, str]:
    times = Counter(names)
    return {
        name: f"stands there {count} times: nobody can tell which is meant"
        for name, count in times.items()
        if name and count > 1
    }


def _meant(wanted: str, names: list[str]) -> str:
    from difflib import get_close_matches

    folded = {name.lower(): name for name in names}
    close = get_close_matches(wanted.lower(), folded, n=1)
    return f" Did you mean {folded[close[0]]!r}?" if close else ""


def _is_big(path: Path) -> bool:
    packed = path.suffix in PARQUET or path.suffix == ".gz"
    return path.stat().st_size >= BIG_BYTES // (_PACKED if packed else 1)


def _sample(path: Path) -> tuple[pd.DataFrame, int]:
    """Rows spread evenly over a large file, and how many there are."""
    with _rows_of(path) as (database, names, source):
        counted = database.execute(f"SELECT count(*) FROM {source}").fetchone()  # noqa: S608
        rows = int(counted[0]) if counted else 0
        if not rows:
            raise DataError(f"{path} has a header and no rows.")
        step = -(-rows // most_rows(len(names)))
        cells = ", ".join(f"coalesce(c{place}::VARCHAR, '')" for place in range(len(names)))
        query = (
            f"SELECT {cells} FROM (SELECT *, row_number() OVER () AS place FROM {source}) "  # noqa: S608
            f"WHERE (place - 1) % {step} = 0 ORDER BY place"
        )
        frame = database.execute(query).df()
        frame.columns = pd.Index(names)
    return frame, rows


@contextmanager
def _rows_of(path: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[str], str]]:
    """A session, the names of the file's columns, and SQL of its rows with columns c0, c1, …."""
    import duckdb

    with file_session(path) as (database, scratch):
        if path.suffix in PARQUET:
            names = [name.strip() for name in parquet_names(database, path)]
        else:
            names = list(CsvFile.opened(path).names)
        columns = [f"c{place}" for place in range(len(names))]
        source = source_sql(path, columns, scratch)
        try:
            database.execute(f"SELECT count(*) FROM {source}")  # noqa: S608
        except duckdb.InvalidInputException as error:
            if not has_mixed_line_ends(error):
                raise
            source = source_sql(path, columns, scratch, as_copy=True)
        yield database, names, source
