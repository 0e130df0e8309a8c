"""DuckDB as this package uses it: alone on the machine, paths taken literally, its errors ours.

To DuckDB a path is a pattern: `rows[1].csv` reads `rows1.csv`, `a*.csv` whatever begins with an a,
`https://…` another machine, and `year=2026/` in it is one more column. A path is one file here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from ml_pipeline.errors import DataError, InputError
from ml_pipeline.store.sql_text import literal

if TYPE_CHECKING:
    import duckdb

# Nothing is downloaded, and a name that is no table is not looked up among Python's variables.
_ALONE: Final[dict[str, str | bool | int | float | list[str]]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
}
_PATTERN: Final = "*?["


def connect(path: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A session without extensions and remote files; in memory, or spilling into a file."""
    import duckdb

    return duckdb.connect(":memory:" if path is None else str(path), config=_ALONE)


def exact_file(path: str | os.PathLike[str]) -> str:
    """The first arguments of `read_csv` and `read_parquet` for this file and no other."""
    return f"{literal(_escaped(_absolute(path)))}, hive_partitioning = false"


def files_of(folder: str | os.PathLike[str], suffix: str) -> str:
    """The same for all files of a folder that end so; every other part is taken literally."""
    pattern = f"{_escaped(_absolute(folder))}/*{_escaped(suffix)}"
    return f"{literal(pattern)}, hive_partitioning = false"


def parquet_names(database: duckdb.DuckDBPyConnection, path: str | os.PathLike[str]) -> list[str]:
    """The names of a Parquet file's columns as they stand there.

    DuckDB itself calls `age` beside `Age` `age_1`.
    """
    query = f"SELECT name, num_children FROM parquet_schema({literal(_escaped(_absolute(path)))})"  # noqa: S608
    found = iter(database.execute(query).fetchall())

    def skip(count: int) -> None:
        for _ in range(count):
            skip(next(found)[1] or 0)

    names = list[str]()
    for _ in range(next(found)[1] or 0):
        name, inner = next(found)
        names.append(name)
        skip(inner or 0)
    return names


def written_path(path: str | os.PathLike[str]) -> str:
    """A path to write to, as SQL: absolute, so that nothing in it is a scheme or a home folder."""
    return literal(_absolute(path))


def _absolute(path: str | os.PathLike[str]) -> str:
    text = Path(path).absolute().as_posix()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"The name {os.fsencode(text)!r} is not valid UTF-8.", hint="Rename the file."
        ) from None
    return text


def _escaped(text: str) -> str:
    """Every letter of a pattern in brackets: there it stands for itself."""
    if "\\" in text and any(letter in _PATTERN for letter in text):
        text = _linked(text)
    return "".join(f"[{letter}]" if letter in _PATTERN else letter for letter in text)


def _linked(text: str) -> str:
    """Another name of the file, for a pattern takes a backslash for the end of a folder's name."""
    link = Path(_links().name) / sha256(text.encode()).hexdigest()[:32]
    if not link.is_symlink():
        link.symlink_to(text)
    return link.as_posix()


@cache
def _links() -> TemporaryDirectory[str]:
    """A folder of this process, gone with it."""
    return TemporaryDirectory(prefix="ml_pipeline_")


@contextmanager
def as_data_error(source: str) -> Iterator[None]:
    """Raise DataError, naming `source`, for what DuckDB cannot read.

    Faults of this package's own statements pass, and so does DuckDB's OutOfMemoryException.
    """
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except (duckdb.OperationalError, duckdb.DataError, duckdb.InvalidInputException) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{source} cannot be read: {reason}.") from error


def has_mixed_line_ends(error: Exception) -> bool:
    """Whether DuckDB failed on them: it parses one kind of line end per file."""
    return "state machine" in str(error)
