"""The CSV of a batch in DuckDB: read into a table, unusable rows marked, written with answers."""

# ruff: noqa: S608 - statements are made of constants, quoted names and quoted texts

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import duckdb

from ml_pipeline.datasets.duckdb_session import connect, exact_file, written_path
from ml_pipeline.errors import InputError
from ml_pipeline.serving.answering import LARGEST
from ml_pipeline.serving.artifact import BatchScorer
from ml_pipeline.store.event_row import UNCERTAIN
from ml_pipeline.store.sql_text import identifier, literal

MEMORY_MB = 160
ADDED = (
    "event_id", "prediction", "best_guess", "confidence", "confidence_level", "probabilities",
    "model_id", "timestamp", "status", "error",
)  # fmt: skip
LEVELS = ("low", "medium", "high")
_NAMES_SHOWN = 20


def default_output(path: str) -> str:
    """Where the predictions for a file go."""
    file = Path(path.removesuffix(".gz"))
    return str(file.with_name(f"{file.stem}_predictions{file.suffix or '.csv'}"))


@contextmanager
def open_database(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A session whose data spill into `folder`."""
    with connect(folder / "batch.duckdb") as db:
        db.execute(
            f"SET memory_limit = '{MEMORY_MB}MB'; SET preserve_insertion_order = true; "
            "SET enable_progress_bar = false"
        )
        yield db


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchCsv:
    """A CSV that has what a model reads.

    In the table `input_rows` its cells are `c0`, `c1`, … as they came, so that a column may have
    any name; `error` says why a row cannot be used.
    """

    path: str
    header: tuple[str, ...]
    scorer: BatchScorer

    @classmethod
    def opened(cls, path: str, scorer: BatchScorer) -> Self:
        """Read the header. Raises InputError for one that cannot be used."""
        header = _read_header(path)
        _check_header(path, header, scorer)
        return cls(path=path, header=tuple(header), scorer=scorer)

    def cell(self, name: str) -> str:
        """SQL of a column's text; NULL for one that the file does not have."""
        return f"c{self.header.index(name)}" if name in self.header else "NULL::VARCHAR"

    def number(self, name: str) -> str:
        """SQL of a column's number; NULL where it holds none."""
        return f"TRY_CAST(trim({self.cell(name)}) AS DOUBLE)"

    def load(self, db: duckdb.DuckDBPyConnection) -> int:
        """Make the table `input_rows`; return how many rows it has. Raises InputError."""
        columns = ", ".join(f"c{place}: 'VARCHAR'" for place in range(len(self.header)))
        faults = " ".join(map(self._number_faults, self.scorer.features))
        if self.scorer.text_column:
            missing = literal(f"{self.scorer.text_column} is missing.")
            faults += f" WHEN {self.cell(self.scorer.text_column)} IS NULL THEN {missing}"
        try:
            db.execute(
                f"CREATE TABLE input_rows AS SELECT *, CASE {faults} END AS error "
                f"FROM read_csv({exact_file(self.path)}, columns = {{{columns}}}, header = true, "
                "auto_detect = false, delim = ',', quote = '\"', escape = '\"', "
                "null_padding = true, ignore_errors = true, store_rejects = true, "
                "parallel = false)"
            )
        except duckdb.Error as error:
            raise InputError(f"{self.path} cannot be read as CSV: {error}.") from error
        return int(db.execute("SELECT count(*) FROM input_rows").fetchall()[0][0])

    def _number_faults(self, feature: str) -> str:
        cell, value = self.cell(feature), self.number(feature)
        shown = f"{literal(f'{feature} = ')} || {cell}"
        return (
            f"WHEN {cell} IS NULL OR trim({cell}) = '' THEN {literal(f'{feature} is missing.')} "
            f"WHEN {value} IS NULL THEN {shown} || ' is not a number.' "
            f"WHEN NOT isfinite({value}) THEN {shown} || ' is not a finite number.' "
            f"WHEN abs({value}) > {LARGEST} THEN {shown} || ' is out of range.'"
        )

    def write(
        self, db: duckdb.DuckDBPyConnection, target: Path, *, rows: int, timestamp: str
    ) -> None:
        """Write every row and, from the table `answers`, what was predicted for it.

        The file appears as a whole or not at all.
        """
        cells = [f"c{place} AS {identifier(name)}" for place, name in enumerate(self.header)]
        if rows:
            source = "input_rows POSITIONAL JOIN answers"
            added = self._added_columns(timestamp)
        else:
            source, added = "input_rows", [f"NULL AS {name}" for name in ADDED]
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            db.execute(
                f"COPY (SELECT {', '.join([*cells, *added])} FROM {source}) "
                f"TO {written_path(draft)} (FORMAT csv, HEADER true, DELIMITER ',')"
            )
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)

    def _added_columns(self, timestamp: str) -> list[str]:
        """SQL of `ADDED`; a row with an error has no prediction."""
        labels = f"[{', '.join(map(literal, self.scorer.classes))}]"
        levels = f"[{', '.join(map(literal, LEVELS))}]"
        best = f"{labels}[best::INT + 1]"
        pairs = " || ', ' || ".join(
            f"{literal(json.dumps(label, ensure_ascii=False) + ': ')} || p{place}"
            for place, label in enumerate(self.scorer.classes)
        )
        predicted = {
            "event_id": "answers.event_id",
            "prediction": f"CASE WHEN blocked = 1 THEN '{UNCERTAIN}' ELSE {best} END",
            "best_guess": f"CASE WHEN blocked = 1 THEN {best} END",
            "confidence": "answers.confidence",
            "confidence_level": f"{levels}[level::INT + 1]",
            "probabilities": f"'{{' || {pairs} || '}}'",
            "model_id": literal(self.scorer.model_id),
        }
        return [
            *(
                f"CASE WHEN input_rows.error IS NULL THEN {answer} END AS {name}"
                for name, answer in predicted.items()
            ),
            f"{literal(timestamp)} AS timestamp",
            "CASE WHEN input_rows.error IS NULL THEN 'completed' ELSE 'failed' END AS status",
            "input_rows.error AS error",
        ]


def unreadable_lines(db: duckdb.DuckDBPyConnection) -> int:
    """How many lines of the file are no rows."""
    return int(db.execute("SELECT count(DISTINCT line) FROM reject_errors").fetchall()[0][0])


def _opened(path: str) -> IO[str]:
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return Path(path).open(encoding="utf-8-sig", newline="")


def _read_header(path: str) -> list[str]:
    try:
        with _opened(path) as file:
            return next(csv.reader(file))
    except StopIteration:
        raise InputError(f"{path} is empty.", hint="Give a CSV with a header line.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error


def _check_header(path: str, header: list[str], scorer: BatchScorer) -> None:
    needed = [*scorer.features, *([scorer.text_column] if scorer.text_column else [])]
    missing = [name for name in needed if name not in header]
    if missing:
        raise InputError(
            f"{path} lacks the columns {', '.join(missing)}.",
            hint=f"It has: {', '.join(header[:_NAMES_SHOWN])}.",
        )
    if "" in header:
        raise InputError(
            f"{path}: column {header.index('') + 1} has no name.", hint="Name it or drop it."
        )
    # Names that differ in case alone are one name to DuckDB.
    folded = [name.lower() for name in header]
    twice = [name for name in header if name.lower() in ADDED or folded.count(name.lower()) > 1]
    if twice:
        raise InputError(
            f"{path} has the columns {', '.join(dict.fromkeys(twice))}: twice, or ours.",
            hint="Rename them; the predictions are added under these names.",
        )
