"""Predict a CSV of any size into a CSV: every cell as it came, and the predictions beside it.

DuckDB reads and writes; rows are scored in chunks, few of them from the scoring file, many by the
artifact's libraries.
"""

# ruff: noqa: S608 - statements are made of constants, quoted names and quoted texts

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from ml_pipeline.datasets.levels.new_levels import LevelCounter, found_by
from ml_pipeline.serving.answering import HIGH_CONFIDENCE
from ml_pipeline.serving.batch_csv import ADDED, BatchCsv, default_output, open_database
from ml_pipeline.serving.batch_inputs import inputs_from, kind_faults
from ml_pipeline.serving.engine import LOGGED_AT_ONCE, PredictionEngine
from ml_pipeline.serving.incumbents import labels_of, metadata_of
from ml_pipeline.store.event_row import UNCERTAIN, EventRow, prediction_row, utc_text

# From (name, total) to the function that advances that bar by one.
Bars = Callable[[str, int], Callable[[], None]]

CHUNK = 50_000
# A text may have 100,000 characters.
CHUNK_OF_TEXTS = 5_000


def predict_csv(  # noqa: PLR0913 - each of the last is a choice of its own
    engine: PredictionEngine,
    path: str,
    output: str | None,
    *,
    log: bool,
    bars: Bars,
    as_text: bool = False,
) -> dict[str, Any]:
    """Predict every row of a CSV; returns the counts. `bars` shows how far it is.

    `as_text` keeps spreadsheets from calculating cells of the output.

    A row that cannot be used gets its `error` and no prediction; without any other the status is
    `failed`. What is logged was written out before. Raises InputError when the file as a whole
    cannot be used, or the output cannot be written.
    """
    target = Path(output or default_output(path))
    file = BatchCsv.opened(
        path, engine.batch_scorer(), imputes=engine.imputes, id_column=engine.settings.id_column
    )
    with TemporaryDirectory(prefix="ml_pipeline_") as scratch, open_database(Path(scratch)) as db:
        total, unreadable = file.load(db, Path(scratch))
        batch = _Batch(db=db, engine=engine, file=file, log=log, total=total)
        starts = range(0, total, batch.chunk)
        advance = bars("rows", len(starts) * (2 if log else 1))
        batch.make_table()
        for start in starts:
            batch.predict(start)
            advance()
        file.write(db, Path(scratch), target, timestamp=batch.timestamp, as_text=as_text)
        for start in starts if log else ():
            batch.log(start)
            advance()
        return batch.counts() | {
            "output": str(target), "unreadable_lines": unreadable, "renamed": _renamed(file),
        }  # fmt: skip


def _renamed(file: BatchCsv) -> dict[str, str]:
    """Columns of the file that are called otherwise in the output."""
    names = zip(file.header, file.written_header()[: -len(ADDED)], strict=True)
    return {name: written for name, written in names if written != name}


class _Batch:
    """Answers a file chunk by chunk, and counts them; `answers` has a row for each of its rows."""

    def __init__(
        self,
        *,
        db: duckdb.DuckDBPyConnection,
        engine: PredictionEngine,
        file: BatchCsv,
        log: bool,
        total: int,
    ) -> None:
        self._db, self._engine, self._file = db, engine, file
        self._scorer = file.scorer
        self._logs, self._total = log, total
        self._labels = labels_of(engine.settings, file.scorer.classes)
        self.chunk = CHUNK_OF_TEXTS if self._scorer.text_column else CHUNK
        self._predicted = self._uncertain = 0
        self._levels = {
            name: LevelCounter(name, np.asarray(known))
            for place, known in self._scorer.known_levels
            if (name := self._scorer.features[place])
        }
        self.now = engine.now()
        self.timestamp = utc_text(self.now)

    def make_table(self) -> None:
        """Make the empty table `answers`."""
        shares = ", ".join(f"{name} DOUBLE" for name in self._shares())
        self._db.execute(
            "CREATE TABLE answers (best INTEGER, confidence DOUBLE, level INTEGER, "
            f"blocked INTEGER, {shares}, event_id UUID)"
        )

    def _shares(self) -> list[str]:
        return [f"p{place}" for place in range(len(self._scorer.classes))]

    def predict(self, start: int) -> None:
        """Score a chunk of rows, beginning at `start`, and keep the answers."""
        columns, incumbent, unanswered = self._read(start)
        could = np.array(columns[0], dtype=bool)
        found = kind_faults(columns, self._scorer)
        found |= {place: fault for place, fault in unanswered.items() if could[place]}
        self._refuse({start + place: fault for place, fault in found.items()})
        could[list(found)] = False
        inputs = inputs_from([could, *columns[1:]], self._scorer, incumbent)
        usable = inputs.usable
        for name, counter in self._levels.items():
            counter.add(inputs.levels[name])
        shares, faults = self._scorer.score(inputs.whole, inputs.texts)
        answers = self._answers(shares)
        everywhere = {
            name: _spread(array, usable) for name, array in answers.items() if name != "shares"
        }
        for place, name in enumerate(self._shares()):
            everywhere[name] = _spread(answers["shares"][:, place], usable)
        self._keep(everywhere)
        rows = np.flatnonzero(usable)
        self._refuse({start + int(rows[place]): fault for place, fault in faults.items()})
        self._count(answers, faults)

    def _refuse(self, faults: Mapping[int, str]) -> None:
        for row, fault in faults.items():
            self._db.execute("UPDATE input_rows SET error = ? WHERE rowid = ?", [fault, row])

    def _read(self, start: int) -> tuple[list[NDArray[Any]], NDArray[np.float64], dict[int, str]]:
        """A chunk's columns; what an incumbent answered, and what is wrong with its answers."""
        columns, cells = self._columns(start)
        return columns, *self._file.answers.read(cells, len(columns[0]), self._labels)

    def _columns(self, start: int) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """Which of a chunk's rows are usable, its features, its texts; and answer cells."""
        scorer, file = self._scorer, self._file
        wanted = ["error IS NULL", *map(file.value, scorer.features)]
        wanted += [file.cell(scorer.text_column)] if scorer.text_column else []
        first_answer = len(wanted)
        wanted += file.answer_cells()
        columns = self._db.execute(
            f"SELECT {', '.join(f'{sql} AS i{place}' for place, sql in enumerate(wanted))} "
            f"FROM input_rows WHERE {self._in_chunk(start)} ORDER BY rowid"
        ).fetchnumpy()
        arrays: list[NDArray[Any]] = [np.ma.asanyarray(array) for array in columns.values()]
        return arrays[:first_answer], arrays[first_answer:]

    def _in_chunk(self, start: int) -> str:
        return f"input_rows.rowid >= {start} AND input_rows.rowid < {start + self.chunk}"

    def _answers(self, shares: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        if not len(shares):
            empty = np.empty(0)
            names = ("best", "confidence", "level", "blocked")
            return dict.fromkeys(names, empty) | {"shares": shares}
        best = shares.argmax(axis=1)
        confidence = shares[np.arange(len(shares)), best]
        threshold = self._scorer.threshold
        low = confidence < threshold
        blocked = low.copy()
        if self._scorer.is_ensemble:
            second = np.partition(shares, -2, axis=1)[:, -2]
            blocked |= confidence - second < self._engine.settings.conflict_margin
        level = np.where(low, 0, np.where(confidence >= max(HIGH_CONFIDENCE, threshold), 2, 1))
        return {
            "best": best, "confidence": confidence, "level": level, "blocked": blocked,
            "shares": shares,
        }  # fmt: skip

    def _keep(self, columns: dict[str, NDArray[Any]]) -> None:
        names = ", ".join(columns)
        self._db.register("chunk", columns)
        self._db.execute(
            f"INSERT INTO answers ({names}, event_id) SELECT {names}, uuid() FROM chunk"
        )
        self._db.unregister("chunk")

    def _count(self, answers: dict[str, NDArray[Any]], faults: dict[int, str]) -> None:
        self._predicted += len(answers["best"]) - len(faults)
        counted = np.ones(len(answers["blocked"]), dtype=bool)
        counted[list(faults)] = False
        self._uncertain += int(np.asarray(answers["blocked"], dtype=bool)[counted].sum())

    def counts(self) -> dict[str, Any]:
        """The counts as JSON."""
        predicted = self._predicted
        is_failed = self._total > 0 and not predicted
        return {
            "status": "failed" if is_failed else "completed",
            **({"error": self._complaint()} if is_failed else {}),
            "model_id": self._scorer.model_id,
            "rows": self._total,
            "predicted": predicted,
            "errors": self._total - predicted,
            "uncertain": self._uncertain,
            "abstention_rate": self._uncertain / predicted if predicted else None,
            "imputed": self._number("imputed IS NOT NULL AND error IS NULL"),
            "new_levels": [found.as_json() for found in found_by(self._levels.values())],
            "logged": predicted if self._logs else 0,
        }

    def _number(self, condition: str) -> int:
        query = f"SELECT count(*) FROM input_rows WHERE {condition}"
        return int(self._db.execute(query).fetchall()[0][0])

    def _complaint(self) -> str:
        query = "SELECT error FROM input_rows ORDER BY rowid LIMIT 1"
        ((first,),) = self._db.execute(query).fetchall()
        return f"None of the {self._total} rows could be predicted; the first: {first}"

    def log(self, start: int) -> None:
        """Log one event for each row of a chunk that has a prediction."""
        columns, incumbent, _ = self._read(start)
        inputs = inputs_from(columns, self._scorer, incumbent)
        sound = (
            "FROM input_rows JOIN answers ON input_rows.rowid = answers.rowid "
            f"WHERE {self._in_chunk(start)} AND error IS NULL ORDER BY input_rows.rowid"
        )
        query = f"SELECT event_id::VARCHAR, {self._file.match_id()} {sound}"
        ids = self._db.execute(query).fetchall()
        names = ["best", "confidence", "blocked", *self._shares()]
        found = self._db.execute(f"SELECT {', '.join(names)} {sound}").fetchnumpy()
        answers: dict[str, NDArray[Any]] = {name: np.asarray(found[name]) for name in names}
        answers["shares"] = np.column_stack([answers[name] for name in self._shares()])
        rows = list[EventRow]()
        for place, (event_id, match_id) in enumerate(ids):
            shares = inputs.shares[place].tolist()
            rows.append(
                self._row(
                    known=(event_id, match_id),
                    passed=inputs.logged(self._scorer, place),
                    incumbent=dict(zip(self._scorer.classes, shares, strict=False)),
                    answers=answers,
                    place=place,
                )
            )
            if len(rows) == LOGGED_AT_ONCE:
                self._engine.logger.write(rows)
                rows = []
        self._engine.logger.write(rows)

    def _row(
        self,
        *,
        known: tuple[str, str | None],
        passed: dict[str, object],
        incumbent: dict[str, float],
        answers: dict[str, NDArray[Any]],
        place: int,
    ) -> EventRow:
        scorer = self._scorer
        label = scorer.classes[int(answers["best"][place])]
        blocked = bool(answers["blocked"][place])
        shares = dict(zip(scorer.classes, answers["shares"][place].tolist(), strict=True))
        return prediction_row(
            event_id=known[0],
            timestamp=self.now,
            model_name=self._engine.settings.model_name,
            model_id=scorer.model_id,
            match_id=known[1],
            prediction=UNCERTAIN if blocked else label,
            confidence=min(float(answers["confidence"][place]), 1.0),
            features=passed,
            probabilities=shares,
            metadata=metadata_of(label if blocked else None, incumbent),
        )


def _spread(array: NDArray[Any], usable: NDArray[np.bool_]) -> NDArray[Any]:
    """Answers of usable rows among all rows; the others hold a number that is never shown."""
    wide = np.zeros(len(usable), dtype=np.float64 if array.dtype.kind == "f" else np.int32)
    wide[usable] = array
    return wide
