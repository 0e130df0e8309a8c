"""SQL helpers: names quoted, DuckDB's complaints in our own words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from ml_pipeline.errors import DataError

OutOfMemory = duckdb.OutOfMemoryException


@contextmanager
def readable(source: str) -> Iterator[None]:
    """Turn what DuckDB says about a log into a DataError; faults of ours and OutOfMemory pass."""
    try:
        yield
    except OutOfMemory:
        raise
    except (duckdb.OperationalError, duckdb.DataError, duckdb.InvalidInputException) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{source} cannot be read: {reason}.") from error


def quote_name(column: str | None) -> str:
    """A column's name as an SQL identifier."""
    return '"' + str(column).replace('"', '""') + '"'


def quote(text: object) -> str:
    """A text as an SQL literal."""
    return "'" + str(text).replace("'", "''") + "'"
