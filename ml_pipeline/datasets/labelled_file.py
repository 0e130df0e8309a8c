"""A file of labelled rows, read as a whole or whole days at a time where it is large."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Self

import pandas as pd

from ml_pipeline.config.data import DataSettings
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.csv_file import CsvFile
from ml_pipeline.datasets.dataset import (
    BUILTIN,
    PARQUET,
    Dataset,
    from_frame,
    read_csv,
    read_dataset,
)
from ml_pipeline.datasets.duckdb_session import (
    connect,
    exact_file,
    has_mixed_line_ends,
    parquet_names,
    written_path,
)
from ml_pipeline.errors import DataError
from ml_pipeline.store.inputs.columns import column_places, named
from ml_pipeline.store.inputs.times import time_hint, time_sql

if TYPE_CHECKING:
    import duckdb

# A part is at least so many rows, and whole days.
PART_ROWS: Final = 50_000
LAST_ROWS: Final = 10_000
# A CSV from here on is read in parts.
BIG_BYTES: Final = 32 * 1024**2
MEMORY_MB: Final = 512
_TIME, _ID = "known_at", "event_id"
# The added column of a frame, by a name that no column of a file has: a feature may well be
# called `day`. In SQL the file's own columns are `c0`, `c1`, … and never meet ours.
_DAY = "the UTC day of known_at"
_VECTORS: Final = 5  # of 2,048 rows, fetched at once


def read_labelled(dataset: str, settings: Settings, *, whole: bool = True) -> Dataset:
    """Rows of a training CSV, or of the file of labelled rows that a run writes.

    What a base is trained on is `whole`: there a feature without any value is refused. New rows
    may all lack one, as on a day on which a sensor was off.
    """
    if dataset == BUILTIN:
        return read_dataset(dataset, settings.data)
    frame = named(read_csv(Path(dataset)), (_ID, _TIME), dataset)
    data = settings.data
    if {_ID, _TIME} <= set(frame.columns):
        data = timed(data, frame.columns)
    return from_frame(frame, data, source=dataset, whole=whole)


def timed(data: DataSettings, columns: Iterable[str]) -> DataSettings:
    """How a file of logged rows is read: by when each was known, and in groups.

    The rows of an entity are those of one `data.group_column`, if the file has it, else of one
    match_id.
    """
    wanted = data.group_column
    group = wanted if wanted is not None and wanted in set(columns) else "match_id"
    return data.model_copy(update={"time_column": _TIME, "group_column": group})


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledFile:
    """A CSV (also gzip) or Parquet file with `event_id` and `known_at`, as a run writes it.

    `rows` counts its events; `last` are the last ones in the order of learning, at most
    LAST_ROWS of them.
    """

    path: Path
    settings: DataSettings
    rows: int
    last: Dataset

    @classmethod
    def opened(cls, path: Path, settings: DataSettings) -> Self | None:
        """The file, or None for one that does not say which event it was and when it was known.

        Also for a small CSV, which is read faster as a whole. Raises DataError for a file that
        cannot be read or a time that is none.
        """
        size = path.stat().st_size if path.is_file() else 0
        is_small = path.suffix not in PARQUET and size < BIG_BYTES
        if is_small or not {_TIME, _ID} <= set(_header(path)):
            return None
        return cls.read(path, settings)

    @classmethod
    def read(cls, path: Path, settings: DataSettings) -> Self:
        """The file, whatever its size."""
        with _dated(path) as (database, names):
            counted = database.execute("SELECT count(DISTINCT event) FROM dated").fetchone()
            query = f"{_in_order(names)} DESC, event DESC LIMIT {LAST_ROWS}"
            frame = database.execute(query).df().iloc[::-1].reset_index(drop=True)
            frame.columns = [*names, _DAY]
        if frame.empty:
            raise DataError(f"{path} has a header and no rows.")
        data = timed(settings, names)
        last = from_frame(frame.drop(columns=_DAY), data, source=str(path), whole=False)
        return cls(path=path, settings=data, rows=counted[0] if counted else 0, last=last)

    def parts(self, least: int = PART_ROWS) -> Iterator[Dataset]:
        """The rows in the order of learning: whole UTC days, `least` rows or more at a time."""
        if len(self.last) == self.rows:
            yield self.last
            return
        waiting: list[pd.DataFrame] = []
        with _dated(self.path) as (database, names):
            database.execute(f"{_in_order(names)}, event")
            while len(chunk := database.fetch_df_chunk(_VECTORS)):
                chunk.columns = [*names, _DAY]
                waiting.append(chunk)
                if sum(map(len, waiting)) < least:
                    continue
                frame = pd.concat(waiting, ignore_index=True)
                is_open = frame[_DAY] == frame[_DAY].iloc[-1]
                waiting = [frame[is_open]]
                if not is_open.all():
                    yield self._part(frame[~is_open])
            yield self._part(pd.concat(waiting, ignore_index=True))

    def _part(self, frame: pd.DataFrame) -> Dataset:
        rows = frame.drop(columns=_DAY).reset_index(drop=True)
        # One part may well lack a feature that others have.
        return from_frame(rows, self.settings, source=str(self.path), whole=False)


def _in_order(names: Sequence[str]) -> str:
    """Every cell and the day, in the order of learning.

    An event that is there twice is learned on its first day.
    """
    cells = ", ".join(f"coalesce(c{place}, '')" for place in range(len(names)))
    return (
        f"SELECT {cells}, day FROM dated "  # noqa: S608 - numbered columns
        "QUALIFY row_number() OVER (PARTITION BY event ORDER BY day, place) = 1 ORDER BY day"
    )


def _header(path: Path) -> list[str]:
    """The names of the columns; `event_id` and `known_at` as we call them."""
    if path.suffix in PARQUET:
        with file_session(path) as (database, _):
            names = parquet_names(database, path)
    else:
        names = list(CsvFile.opened(path).names)
    for name, place in column_places({_ID: (_ID,), _TIME: (_TIME,)}, names, str(path)).items():
        names[place] = name
    return names


def source_sql(path: Path, columns: Sequence[str], scratch: Path, *, as_copy: bool = False) -> str:
    """SQL of the file's rows, with `columns` as names for its cells."""
    if path.suffix in PARQUET:
        return f"read_parquet({exact_file(path)}) AS file({', '.join(columns)})"
    file = CsvFile.opened(path)
    plain = file if file.is_plain and not as_copy else file.plain(scratch / "plain.csv")
    # No sniffing: where a line has a cell too many, it takes what stands before for no rows.
    kinds = ", ".join(f"{name}: 'VARCHAR'" for name in columns)
    read = (
        f"read_csv({exact_file(plain.path)}, columns = {{{kinds}}}, auto_detect = false, "
        f"header = true, {plain.dialect()})"
    )
    points = plain.point_places(range(len(columns)))
    if not points:
        return read
    changed = ", ".join(f"replace(c{place}, ',', '.') AS c{place}" for place in points)
    return f"(SELECT * REPLACE ({changed}) FROM {read})"  # noqa: S608 - numbered columns


@contextmanager
def file_session(path: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """A session to read a file with, of bounded memory, and a folder for its copies.

    What DuckDB cannot read of the file becomes a DataError that names it.
    """
    import duckdb

    with TemporaryDirectory() as scratch:
        database = connect()
        try:
            database.execute(
                f"SET memory_limit = '{MEMORY_MB}MB'; "
                f"SET temp_directory = {written_path(scratch)}; "
                "SET TimeZone = 'UTC'; SET enable_progress_bar = false; "
                "SET pandas_analyze_sample = 0"
            )
            yield database, Path(scratch)
        except duckdb.Error as error:
            raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
        finally:
            database.close()


@contextmanager
def _dated(path: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[str]]]:
    """A session in which `dated` are the rows, and the names of their columns `c0`, `c1`, ….

    Beside these texts stand `event`, `known`, `place` (the row's number) and `day` (in UTC).
    """
    import duckdb

    names = _header(path)
    if not {_TIME, _ID} <= set(names):
        raise DataError(f"{path} cannot be read: it has no columns {_ID} and {_TIME}.")
    columns = [f"c{place}" for place in range(len(names))]
    event, known = columns[names.index(_ID)], columns[names.index(_TIME)]
    with file_session(path) as (database, scratch):
        try:
            bad = _view(database, source_sql(path, columns, scratch), columns, event, known)
        except duckdb.InvalidInputException as error:
            if not has_mixed_line_ends(error):
                raise
            source = source_sql(path, columns, scratch, as_copy=True)
            bad = _view(database, source, columns, event, known)
        if bad is not None:
            message = f"{path}: {_TIME} is not an ISO 8601 time: {bad[1]!r} (row {bad[0]})."
            raise DataError(message, hint=time_hint(str(bad[1])))
        yield database, names


def _view(
    database: duckdb.DuckDBPyConnection,
    source: str,
    columns: Sequence[str],
    event: str,
    known: str,
) -> tuple[int, str] | None:
    """Make `dated` of the rows; returns the first row whose time is none."""
    cells = ", ".join(f"{name}::VARCHAR AS {name}" for name in columns)
    database.execute(
        f"CREATE OR REPLACE VIEW dated AS SELECT *, {event} AS event, {known} AS known, "  # noqa: S608
        "row_number() OVER () AS place, "
        f"epoch_us({time_sql(known)}) // 86400000000 AS day "
        f"FROM (SELECT {cells} FROM {source})"
    )
    query = "SELECT place, known FROM dated WHERE day IS NULL LIMIT 1"
    bad: tuple[int, str] | None = database.execute(query).fetchone()
    return bad
