"""The CSV of a batch in DuckDB: read into a table, unusable rows marked, written with answers.

A column of the file may have any name: to DuckDB it is `c0`, `c1`, …, so that no name of a file
ever stands beside one of ours.
"""

# ruff: noqa: S608 - statements are made of constants, numbered columns and quoted texts

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import duckdb

from ml_pipeline.config.defaults import MATCH_ID
from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets.csv_file import CsvFile, number_hint
from ml_pipeline.datasets.duckdb_session import connect, exact_file, written_path
from ml_pipeline.errors import DataError, InputError
from ml_pipeline.printable import FORMULA
from ml_pipeline.serving import batch_lines
from ml_pipeline.serving.answering import LARGEST
from ml_pipeline.serving.artifact import BatchScorer
from ml_pipeline.serving.batch_incumbents import AnswerColumns
from ml_pipeline.store.event_row import UNCERTAIN
from ml_pipeline.store.inputs.cells import no_values
from ml_pipeline.store.inputs.columns import listed
from ml_pipeline.store.inputs.label_sql import is_blank
from ml_pipeline.store.sql_text import literal

MEMORY_MB = 160
ADDED = (
    "event_id", "prediction", "best_guess", "confidence", "confidence_level", "probabilities",
    "model_id", "timestamp", "status", "imputed", "error",
)  # fmt: skip
LEVELS = ("low", "medium", "high")
# What a column of the file that is called like one of ours is called in the output.
RENAMED = "input_"
_CONTROL = r"[\x{00}-\x{1f}]"


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

    In the table `input_rows` its cells are `c0`, `c1`, … as they came; `error` says why a row
    cannot be used, `imputed` which of its features are missing and filled in.
    """

    path: str
    file: CsvFile
    places: Mapping[str, int]
    points: frozenset[int]
    scorer: BatchScorer
    imputes: bool
    answers: AnswerColumns

    @classmethod
    def opened(
        cls, path: str, scorer: BatchScorer, *, imputes: bool, id_column: str = MATCH_ID
    ) -> Self:
        """Read the header; `id_column` is how else the column match_id may be called.

        Raises InputError for one that cannot be used.
        """
        with batch_lines.refusals():
            file = CsvFile.opened(Path(path))
            answers = AnswerColumns.wanted(scorer, file.names, path)
            places = _places(file, scorer, id_column, answers)
            numbers = [*scorer.features, *answers.names]
            points = frozenset(file.point_places([places[name] for name in numbers]))
        return cls(
            path=path,
            file=file,
            places=places,
            points=points,
            scorer=scorer,
            imputes=imputes,
            answers=answers,
        )

    @property
    def header(self) -> tuple[str, ...]:
        """The names of its columns as they stand there."""
        return self.file.header

    def cell(self, name: str) -> str:
        """SQL of a column's text; NULL for one that the file does not have."""
        return f"c{self.places[name]}" if name in self.places else "NULL::VARCHAR"

    def match_id(self) -> str:
        """SQL of the match's id; NULL where a program wrote `nan` or the like for none."""
        cell = self.cell("match_id")
        return f"CASE WHEN NOT {is_blank(cell)} THEN {cell} END"

    def answer_cells(self) -> list[str]:
        """SQL of the texts that tell the incumbent's answer."""
        return list(map(self._plain, self.answers.names))

    def _plain(self, name: str) -> str:
        """SQL of a feature's text, a decimal comma as a point."""
        cell = self.cell(name)
        return f"replace({cell}, ',', '.')" if self.places[name] in self.points else cell

    def number(self, name: str) -> str:
        """SQL of a column's number; NULL where it holds none."""
        return f"TRY_CAST(trim({self._plain(name)}) AS DOUBLE)"

    def value(self, name: str) -> str:
        """SQL of a feature: its number, or its text where it is of another kind."""
        return self.number(name) if self._is_number(name) else self._plain(name)

    def _is_number(self, name: str) -> bool:
        return self._kind(name) == Kind.NUMBER

    def _kind(self, name: str) -> str:
        kinds = self.scorer.kinds
        return kinds[self.scorer.features.index(name)] if kinds else Kind.NUMBER

    def load(self, db: duckdb.DuckDBPyConnection, folder: Path) -> tuple[int, int]:
        """Make the table `input_rows` of all lines, also of those that are no rows.

        Returns how many there are, and how many are no rows. Raises InputError.
        """
        unreadable = 0
        is_complete = self.file.is_plain
        if is_complete:
            try:
                db.execute(self._table(self.path, is_copy=False))
                is_complete = self._is_complete(db)
            except duckdb.Error:
                is_complete = False
        if not is_complete:
            # Read again line by line: what DuckDB leaves out has no number and no place.
            copy, width = folder / "rows.csv", len(self.header)
            needed = {self.places[name] for name in self._inputs()}
            unreadable = batch_lines.write_whole_rows(self.file, width, needed, copy)
            try:
                db.execute(self._table(str(copy), is_copy=True))
            except duckdb.Error as error:
                raise InputError(f"{self.path} cannot be read as CSV: {error}.") from error
            copy.unlink()
        return _number(db, "count(*)"), unreadable

    def _is_complete(self, db: duckdb.DuckDBPyConnection) -> bool:
        """Whether every line became a row or a part of one.

        Without a word DuckDB drops what follows a quote that is never closed.
        """
        header = 1 + "".join(self.header).count("\n")
        left = batch_lines.count_lines(self.file) - header - _number(db, "count(*)")
        if left:
            cells = [f"c{place}" for place in range(len(self.header))]
            inside = (
                f"coalesce(length({c}) - length(replace({c}, chr(10), '')), 0)" for c in cells
            )
            left -= _number(db, f"coalesce(sum({' + '.join(inside)}), 0)")
        return left == 0

    def _inputs(self) -> list[str]:
        text = self.scorer.text_column
        return [*self.scorer.features, *([text] if text else []), *self.answers.names]

    def _table(self, path: str, *, is_copy: bool) -> str:
        names = [f"c{place}" for place in range(len(self.header))]
        read = [*names, *(["fault"] if is_copy else [])]
        columns = ", ".join(f"{name}: 'VARCHAR'" for name in read)
        fault = "fault" if is_copy else "NULL::VARCHAR"
        dialect = batch_lines.COPY_DIALECT if is_copy else self.file.dialect()
        return (
            f"CREATE OR REPLACE TABLE input_rows AS SELECT {', '.join(names)}, "
            f"coalesce({fault}, {self._faults()}) AS error, {self._imputed()} AS imputed "
            f"FROM read_csv({exact_file(path)}, columns = {{{columns}}}, header = true, "
            f"auto_detect = false, {dialect}, parallel = false)"
        )

    def _faults(self) -> str:
        """SQL of what may be wrong with a row, one text or NULL each."""
        faults = list(map(self._feature_faults, self.scorer.features))
        features, text = self.scorer.features, self.scorer.text_column
        if text:
            missing = literal(f"{text} is missing.")
            faults.append(f"CASE WHEN {self.cell(text)} IS NULL THEN {missing} END")
        elif features:
            nothing = " AND ".join(map(self._is_missing, features))
            faults.append(f"CASE WHEN {nothing} THEN 'Every feature is missing.' END")
        control = f"regexp_matches({self.cell('match_id')}, {literal(_CONTROL)})"
        faults.append(f"CASE WHEN {control} THEN 'match_id holds a control character.' END")
        return ", ".join(faults)

    def _is_missing(self, feature: str) -> str:
        blanks = no_values(Kind(self._kind(feature)))
        return f"coalesce({is_blank(self.cell(feature), blanks)}, true)"

    def _feature_faults(self, feature: str) -> str:
        cell, value, missing = self.cell(feature), self.number(feature), self._is_missing(feature)
        shown = f"{literal(f'{feature} = ')} || {cell}"
        refused = "NULL" if self.imputes else literal(f"{feature} is missing.")
        if not self._is_number(feature):
            # What else may be wrong is seen when it is read.
            return f"CASE WHEN {missing} THEN {refused} END"
        return (
            f"CASE WHEN {missing} THEN {refused} "
            f"WHEN {value} IS NULL THEN {shown} || ' is not a number.' || "
            f"CASE WHEN contains({cell}, ',') THEN {literal(' ' + number_hint(','))} ELSE '' END "
            f"WHEN NOT isfinite({value}) THEN {shown} || ' is not a finite number.' "
            f"WHEN abs({value}) > {LARGEST} THEN {shown} || ' is out of range.' END"
        )

    def _imputed(self) -> str:
        """SQL of the missing features' names as JSON, NULL where there are none."""
        missing = [
            f"CASE WHEN {self._is_missing(name)} "
            f"THEN {literal(json.dumps(name, ensure_ascii=False))} END"
            for name in self.scorer.features
        ]
        names = f"nullif(concat_ws(', ', {', '.join(missing)}), '')" if missing else "NULL"
        return f"'[' || {names} || ']'"

    def written_header(self) -> list[str]:
        """The names of the output's columns: the file's own, then ours.

        A column that is called like one of ours is renamed, for a reader would mix them up.
        """
        names = list(self.header)
        for place, name in enumerate(self.header):
            while names[place] in ADDED or (names[place] != name and names[place] in self.header):
                names[place] = RENAMED + names[place]
        return [*names, *ADDED]

    def write(
        self,
        db: duckdb.DuckDBPyConnection,
        folder: Path,
        target: Path,
        *,
        timestamp: str,
        as_text: bool = False,
    ) -> None:
        """Write every row and, from the table `answers`, what was predicted for it.

        `as_text` puts `'` before what a spreadsheet takes for a formula. The file appears as a
        whole or not at all. Raises InputError where it cannot be written.
        """
        body = folder / "answers.csv"
        cells = [f"input_rows.c{place}" for place in range(len(self.header))]
        cells += self._added_columns(timestamp)
        header = self.written_header()
        if as_text:
            cells = [_no_formula(cell) for cell in cells]
            header = [f"'{name}" if name.startswith(FORMULA) else name for name in header]
        db.execute(
            f"COPY (SELECT {', '.join(cells)} "
            f"FROM input_rows POSITIONAL JOIN answers) TO {written_path(body)} "
            "(FORMAT csv, HEADER false, DELIMITER ',')"
        )
        draft = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with _written(draft, is_packed=target.suffix == ".gz") as file:
                csv.writer(file, lineterminator="\n").writerow(header)
                with body.open(encoding="utf-8", newline="") as rows:
                    shutil.copyfileobj(rows, file, 1 << 20)
            draft.replace(target)
        except OSError as error:
            raise InputError(
                f"{target} cannot be written: {error.strerror or error}.",
                hint="Nothing was logged. Choose another --output.",
            ) from error
        finally:
            # Also where its folder is none.
            with suppress(OSError):
                draft.unlink()
            body.unlink()

    def _added_columns(self, timestamp: str) -> list[str]:
        """SQL of `ADDED`; a row with an error has no prediction."""
        labels = f"[{', '.join(map(literal, self.scorer.classes))}]"
        levels = f"[{', '.join(map(literal, LEVELS))}]"
        best = f"{labels}[answers.best::INT + 1]"
        pairs = " || ', ' || ".join(
            f"{literal(json.dumps(label, ensure_ascii=False) + ': ')} || answers.p{place}"
            for place, label in enumerate(self.scorer.classes)
        )
        predicted = [
            "answers.event_id",
            f"CASE WHEN answers.blocked = 1 THEN '{UNCERTAIN}' ELSE {best} END",
            f"CASE WHEN answers.blocked = 1 THEN {best} END",
            "answers.confidence",
            f"{levels}[answers.level::INT + 1]",
            f"'{{' || {pairs} || '}}'",
            literal(self.scorer.model_id),
        ]
        is_sound = "CASE WHEN input_rows.error IS NULL THEN"
        return [
            *(f"{is_sound} {answer} END" for answer in predicted),
            literal(timestamp),
            f"{is_sound} 'completed' ELSE 'failed' END",
            f"{is_sound} input_rows.imputed END",
            "input_rows.error",
        ]


def _no_formula(cell: str) -> str:
    """SQL of a cell that no spreadsheet calculates; a number stays one."""
    starts = ", ".join(f"chr({ord(mark)})" for mark in FORMULA)
    return (
        f"CASE WHEN left(CAST({cell} AS VARCHAR), 1) IN ({starts}) "
        f"AND try_cast(CAST({cell} AS VARCHAR) AS DOUBLE) IS NULL "
        f"THEN chr(39) || CAST({cell} AS VARCHAR) ELSE CAST({cell} AS VARCHAR) END"
    )


def _number(db: duckdb.DuckDBPyConnection, what: str) -> int:
    return int(db.execute(f"SELECT {what} FROM input_rows").fetchall()[0][0])


def _written(path: Path, *, is_packed: bool) -> IO[str]:
    if is_packed:
        return gzip.open(path, "wt", encoding="utf-8", newline="")
    return path.open("w", encoding="utf-8", newline="")


def _places(
    file: CsvFile, scorer: BatchScorer, id_column: str, answers: AnswerColumns
) -> dict[str, int]:
    """Where the columns are that are read. Raises InputError for one that is missing."""
    needed = [*scorer.features, *([scorer.text_column] if scorer.text_column else [])]
    needed += answers.names
    found, twice = dict[str, int | None](), list[str]()
    for name in dict.fromkeys((*needed, MATCH_ID, id_column)):
        try:
            found[name] = file.place(name)
        except DataError:
            twice.append(name)
    if twice:
        raise InputError(
            f"{file.path} has the columns {', '.join(twice)} twice.",
            hint="Rename or drop one of each: which one is meant cannot be told.",
        )
    if found[MATCH_ID] is None:
        found[MATCH_ID] = found[id_column]
    missing = [name for name in needed if found[name] is None]
    if missing:
        raise InputError(
            f"{file.path} lacks the columns {', '.join(missing)}.",
            hint=f"It has: {listed(file.names)}.",
        )
    return {name: place for name, place in found.items() if place is not None}
