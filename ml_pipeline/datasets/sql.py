"""What DuckDB says of a log that it cannot read, as our errors."""

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
