"""What DuckDB says about a file it cannot read, as an error of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from ml_pipeline.errors import DataError

OutOfMemory = duckdb.OutOfMemoryException


@contextmanager
def as_data_error(source: str) -> Iterator[None]:
    """Raise DataError, naming `source`, for what DuckDB cannot read.

    Faults of this package's own statements pass, and so does OutOfMemory.
    """
    try:
        yield
    except OutOfMemory:
        raise
    except (duckdb.OperationalError, duckdb.DataError, duckdb.InvalidInputException) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{source} cannot be read: {reason}.") from error


def has_mixed_line_ends(error: Exception) -> bool:
    """Whether DuckDB failed on them: it parses one kind of line end per file."""
    return "state machine" in str(error)
