"""Predict a CSV of any size into a CSV: every cell as it came, and the predictions beside it.

DuckDB reads and writes; rows are scored in chunks, few of them from the scoring file, many by the
artifact's libraries. The output appears as a whole or not at all.
"""

# ruff: noqa: S608 - statements are made of constants, quoted names and quoted texts

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from ml_pipeline.errors import InputError
from ml_pipeline.serving.answering import HIGH_CONFIDENCE, LARGEST
from ml_pipeline.serving.artifact import BatchScorer
from ml_pipeline.serving.engine import LOGGED_AT_ONCE, PredictionEngine
from ml_pipeline.store.event_row import UNCERTAIN, EventRow, prediction_row, utc_text
from ml_pipeline.store.sql_text import identifier, literal


def default_output(path: str) -> str:
    """Where the predictions for a file go."""
    file = Path(path.removesuffix(".gz"))
    return str(file.with_name(f"{file.stem}_predictions{file.suffix or '.csv'}"))


# From (name, total) to the function that advances that bar by one.
Bars = Callable[[str, int], Callable[[], None]]

CHUNK = 50_000
# A text may have 100,000 characters.
CHUNK_OF_TEXTS = 5_000
MEMORY_MB = 160
ADDED = (
    "event_id", "prediction", "best_guess", "confidence", "confidence_level", "probabilities",
    "model_id", "timestamp", "status", "error",
)  # fmt: skip
_LEVELS = ("low", "medium", "high")


def predict_csv(
    engine: PredictionEngine, path: str, output: str | None, *, log: bool, bars: Bars
) -> dict[str, Any]:
    """Predict every row of a CSV; returns the counts. `bars` shows how far it is.

    A row that cannot be used gets its `error` and no prediction. Raises InputError when the file
    as a whole cannot be used.
    """
    target = Path(output or default_output(path))
    scorer = engine.batch_scorer()
    header = _header(path)
    _check(path, header, scorer)
    with TemporaryDirectory(prefix="ml_pipeline_") as folder, _database(Path(folder)) as db:
        _read(db, path, header, scorer)
        total = db.execute("SELECT count(*) FROM given").fetchall()[0][0]
        job = _Job(db=db, engine=engine, scorer=scorer, log=log, total=total)
        advance = bars("rows", -(-total // job.chunk))
        for start in range(0, total, job.chunk):
            job.predict(start)
            advance()
        _write(db, target, header, scorer, job.timestamp)
        return job.counts() | {"output": str(target), "unreadable_lines": _rejected(db)}


class _Job:
    """The chunks of one file, and what became of their rows."""

    def __init__(
        self,
        *,
        db: duckdb.DuckDBPyConnection,
        engine: PredictionEngine,
        scorer: BatchScorer,
        log: bool,
        total: int,
    ) -> None:
        self._db, self._engine, self._scorer, self._log, self._total = (
            db,
            engine,
            scorer,
            log,
            total,
        )
        self.chunk = CHUNK_OF_TEXTS if scorer.text_column else CHUNK
        self._predicted = self._uncertain = 0
        self.now = engine.now()
        self.timestamp = utc_text(self.now)

    def predict(self, start: int) -> None:
        """Score the rows from `start` on, and keep what is said of them."""
        wanted = ["error IS NULL AS good", *map(_value, self._scorer.features)]
        wanted += [identifier(self._scorer.text_column)] if self._scorer.text_column else []
        columns = self._db.execute(
            f"SELECT {', '.join(wanted)} FROM given "
            f"WHERE rowid >= {start} AND rowid < {start + self.chunk} ORDER BY rowid"
        ).fetchnumpy()
        good = np.asarray(columns["good"], dtype=bool)
        arrays = list(columns.values())
        width = len(self._scorer.features)
        values = np.column_stack([
            np.ma.filled(array, np.nan).astype(np.float64)[good] for array in arrays[1 : width + 1]
        ]) if width else np.empty((int(good.sum()), 0))  # fmt: skip
        texts: list[str] | None = None
        if self._scorer.text_column:
            texts = np.asarray(arrays[-1], dtype=object)[good].tolist()
        shares, faults = self._scorer.score(values, texts)
        answers = self._answers(shares)
        everywhere = {
            name: _spread(array, good) for name, array in answers.items() if name != "shares"
        }
        for place in range(len(self._scorer.classes)):
            everywhere[f"p{place}"] = _spread(answers["shares"][:, place], good)
        self._keep(everywhere, start)
        for place, fault in faults.items():
            row = start + int(np.flatnonzero(good)[place])
            self._db.execute("UPDATE given SET error = ? WHERE rowid = ?", [fault, row])
        self._count(answers, faults)
        if self._log:
            self._write_log(start, values, texts, answers, good)

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

    def _keep(self, columns: dict[str, NDArray[Any]], start: int) -> None:
        names = ", ".join(columns)
        self._db.register("said", columns)
        verb = "CREATE TABLE answers AS" if start == 0 else "INSERT INTO answers"
        self._db.execute(f"{verb} SELECT {names}, uuid() AS event_id FROM said")
        self._db.unregister("said")

    def _count(self, answers: dict[str, NDArray[Any]], faults: dict[int, str]) -> None:
        self._predicted += len(answers["best"]) - len(faults)
        counted = np.ones(len(answers["blocked"]), dtype=bool)
        counted[list(faults)] = False
        self._uncertain += int(np.asarray(answers["blocked"], dtype=bool)[counted].sum())

    def counts(self) -> dict[str, Any]:
        """The counts as JSON."""
        predicted = self._predicted
        return {
            "status": "completed",
            "model_id": self._scorer.model_id,
            "rows": self._total,
            "predicted": predicted,
            "errors": self._total - predicted,
            "uncertain": self._uncertain,
            "abstention_rate": self._uncertain / predicted if predicted else None,
            "logged": predicted if self._log else 0,
        }

    def _write_log(
        self,
        start: int,
        values: NDArray[np.float64],
        texts: list[str] | None,
        answers: dict[str, NDArray[Any]],
        good: NDArray[np.bool_],
    ) -> None:
        """One event for each row that has a prediction."""
        known = self._db.execute(
            "SELECT a.event_id::VARCHAR, g.match_id, g.error FROM given g "
            "JOIN answers a ON g.rowid = a.rowid "
            f"WHERE g.rowid >= {start} AND g.rowid < {start + self.chunk} ORDER BY g.rowid"
        ).fetchall()
        ids = [known[place] for place in np.flatnonzero(good)]
        rows = list[EventRow]()
        for place, (event_id, match_id, error) in enumerate(ids):
            if error is not None:
                continue
            text = None if texts is None else texts[place]
            features = values[place].tolist()
            rows.append(
                self._row(
                    known=(event_id, match_id),
                    features=features,
                    text=text,
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
        features: list[float],
        text: str | None,
        answers: dict[str, NDArray[Any]],
        place: int,
    ) -> EventRow:
        scorer = self._scorer
        label = scorer.classes[int(answers["best"][place])]
        blocked = bool(answers["blocked"][place])
        shares = dict(zip(scorer.classes, answers["shares"][place].tolist(), strict=True))
        given: dict[str, object] = dict(zip(scorer.features, features, strict=True))
        if scorer.text_column and text is not None:
            given[scorer.text_column] = text
        return prediction_row(
            event_id=known[0],
            timestamp=self.now,
            model_name=self._engine.settings.model_name,
            model_id=scorer.model_id,
            match_id=known[1],
            prediction=UNCERTAIN if blocked else label,
            confidence=min(float(answers["confidence"][place]), 1.0),
            features=given,
            metadata={"probabilities": shares} | ({"best_guess": label} if blocked else {}),
        )


def _spread(array: NDArray[Any], good: NDArray[np.bool_]) -> NDArray[Any]:
    """Answers of good rows among all rows; the others hold a number that is never shown."""
    wide = np.zeros(len(good), dtype=np.float64 if array.dtype.kind == "f" else np.int32)
    wide[good] = array
    return wide


@contextmanager
def _database(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(folder / "batch.duckdb")) as db:
        db.execute(
            f"SET memory_limit = '{MEMORY_MB}MB'; SET preserve_insertion_order = true; "
            "SET enable_progress_bar = false"
        )
        yield db


def _value(column: str) -> str:
    return f"TRY_CAST(trim({identifier(column)}) AS DOUBLE)"


def _opened(path: str) -> IO[str]:
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return Path(path).open(encoding="utf-8-sig", newline="")


def _header(path: str) -> list[str]:
    try:
        with _opened(path) as file:
            return next(csv.reader(file))
    except StopIteration:
        raise InputError(f"{path} is empty.", hint="Give a CSV with a header line.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error


def _check(path: str, header: Sequence[str], scorer: BatchScorer) -> None:
    needed = [*scorer.features, *([scorer.text_column] if scorer.text_column else [])]
    missing = [name for name in needed if name not in header]
    if missing:
        raise InputError(
            f"{path} lacks the columns {', '.join(missing)}.",
            hint=f"It has: {', '.join(header[:20])}.",
        )
    twice = [name for name in header if name in ADDED or header.count(name) > 1]
    if twice:
        raise InputError(
            f"{path} has the columns {', '.join(dict.fromkeys(twice))}: twice, or ours.",
            hint="Rename them; the predictions are added under these names.",
        )


def _read(
    db: duckdb.DuckDBPyConnection, path: str, header: Sequence[str], scorer: BatchScorer
) -> None:
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in header)
    faults = " ".join(_faults(name) for name in scorer.features)
    if scorer.text_column:
        cell = identifier(scorer.text_column)
        faults += f" WHEN {cell} IS NULL THEN {literal(scorer.text_column + ' is missing.')}"
    extra = "" if "match_id" in header else ", NULL::VARCHAR AS match_id"
    try:
        db.execute(
            f"CREATE TABLE given AS SELECT *{extra}, CASE {faults} END AS error "
            f"FROM read_csv({literal(path)}, columns = {{{columns}}}, header = true, "
            "auto_detect = false, delim = ',', quote = '\"', escape = '\"', null_padding = true, "
            "ignore_errors = true, store_rejects = true, parallel = false)"
        )
    except duckdb.Error as error:
        raise InputError(f"{path} cannot be read as CSV: {error}.") from error


def _faults(feature: str) -> str:
    cell, value = identifier(feature), _value(feature)
    shown = f"{literal(f'{feature} = ')} || {cell}"
    return (
        f"WHEN {cell} IS NULL OR trim({cell}) = '' THEN {literal(f'{feature} is missing.')} "
        f"WHEN {value} IS NULL THEN {shown} || ' is not a number.' "
        f"WHEN NOT isfinite({value}) THEN {shown} || ' is not a finite number.' "
        f"WHEN abs({value}) > {LARGEST} THEN {shown} || ' is out of range.'"
    )


def _rejected(db: duckdb.DuckDBPyConnection) -> int:
    return int(db.execute("SELECT count(DISTINCT line) FROM reject_errors").fetchall()[0][0])


def _write(
    db: duckdb.DuckDBPyConnection,
    target: Path,
    header: Sequence[str],
    scorer: BatchScorer,
    timestamp: str,
) -> None:
    labels = f"[{', '.join(map(literal, scorer.classes))}]"
    pairs = " || ', ' || ".join(
        f"{literal(json.dumps(label, ensure_ascii=False) + ': ')} || p{place}"
        for place, label in enumerate(scorer.classes)
    )
    good = "g.error IS NULL"
    said = f"""
        CASE WHEN {good} THEN a.event_id END AS event_id,
        CASE WHEN NOT {good} THEN NULL WHEN blocked = 1 THEN '{UNCERTAIN}'
        ELSE {labels}[best::INT + 1] END AS prediction,
        CASE WHEN {good} AND blocked = 1 THEN {labels}[best::INT + 1] END AS best_guess,
        CASE WHEN {good} THEN confidence END AS confidence,
        CASE WHEN {good} THEN [{", ".join(map(literal, _LEVELS))}][level::INT + 1] END
        AS confidence_level,
        CASE WHEN {good} THEN '{{' || {pairs} || '}}' END AS probabilities,
        CASE WHEN {good} THEN {literal(scorer.model_id)} END AS model_id,
        {literal(timestamp)} AS timestamp,
        CASE WHEN {good} THEN 'completed' ELSE 'failed' END AS status, g.error AS error"""
    columns = ", ".join(f"g.{identifier(name)}" for name in header)
    source = "given g POSITIONAL JOIN answers a"
    if not db.execute("SELECT count(*) FROM given").fetchall()[0][0]:
        source = "given g"
        said = ", ".join(f"NULL AS {name}" for name in ADDED)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        db.execute(
            f"COPY (SELECT {columns}, {said} FROM {source}) TO {literal(draft)} "
            "(FORMAT csv, HEADER true, DELIMITER ',')"
        )
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
