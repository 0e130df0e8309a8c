"""Write labelled rows of the log into one file: streamed, in the order in which they were known."""

# ruff: noqa: S608 - statements are made of constants, numbered columns and quoted texts

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from ml_pipeline.config.export import RowChoice, RowFormat
from ml_pipeline.config.kind import Kind
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.duckdb_session import connect, exact_file, written_path
from ml_pipeline.errors import InputError
from ml_pipeline.evaluation_log.exporting import lines
from ml_pipeline.evaluation_log.exporting.lines import Row
from ml_pipeline.evaluation_log.loading import load_log
from ml_pipeline.evaluation_log.rules import LogRequest
from ml_pipeline.store.contract import Store
from ml_pipeline.store.inputs.changes import id_hash
from ml_pipeline.store.records import UNCERTAIN, LookbackWindow
from ml_pipeline.store.sql_text import identifier, literal

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENT: Final = timedelta(microseconds=1)
# A cell of the log may be as long as that.
_LONGEST_CELL: Final = 1 << 30
_MEMORY: Final = "512MB"
# Folders in which rows stand while a command reads them; nobody else calls one so.
DATASET_PREFIX: Final = ".decay-dataset-"
# The same while they are exported.
ROWS_PREFIX: Final = ".rows-"
SUFFIXES: Final[dict[RowFormat, str]] = {
    "csv": ".csv",
    "parquet": ".parquet",
    "jsonl": ".jsonl",
    "chat": ".jsonl",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """How many labelled rows were written, of how many; `unusable` ones have no usable inputs."""

    rows: int
    labelled: int
    unusable: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RowRequest:
    """Which rows are asked for, and in which form: those known from `since` until `now`."""

    now: datetime
    row_format: RowFormat
    only: RowChoice
    since: datetime | None = None

    def of_log(self) -> LogRequest:
        """The same, asked of the log."""
        end = self.now + _MOMENT
        window = LookbackWindow(start=min(self.since or _EPOCH, end), end=end)
        return LogRequest(
            now=self.now,
            window=window,
            learn_from=self.since,
            model_ids=None,
            keeps_files=False,
        )


def write_rows(
    store: Store,
    settings: Settings,
    request: RowRequest,
    target: Path,
    *,
    work_dir: Path | None = None,
) -> Written:
    """Write labelled rows into `target`, whole or not at all.

    Erased rows are never written. Scratch files stand in `work_dir`, or beside the target. Raises
    DataError for a log that cannot be read, InputError for a target that cannot be written.
    """
    with _refusing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = work_dir or target.parent
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=ROWS_PREFIX, dir=folder) as scratch:
            return _write(store, settings, request, target, Path(scratch))


def _write(
    store: Store, settings: Settings, request: RowRequest, target: Path, scratch: Path
) -> Written:
    loaded = load_log(store, settings, request.of_log(), scratch)
    erased = store.erased_events()
    # Beside the target, so that it appears in one step.
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with _opened(loaded.labelled_path) as reader:
            kept = (row for row in reader if _is_wanted(row, settings, request.only, erased))
            named = settings.reading(_kinds(settings, reader))
            if request.row_format == "parquet":
                texts = set[str]()
                body = scratch / "body.csv"
                seen = _noting_texts(kept, named.data.number_features, texts)
                written = _write_csv(seen, named, body, is_safe=False)
                _as_parquet(body, draft, named, texts)
            elif request.row_format == "csv":
                written = _write_csv(kept, named, draft, is_safe=True)
            else:
                written = _write_lines(kept, named, draft, request.row_format)
        draft.replace(target)
    finally:
        with suppress(OSError):
            draft.unlink()
    report = loaded.report
    return Written(rows=written, labelled=report.labelled, unusable=report.unusable)


def _is_wanted(row: Row, settings: Settings, only: RowChoice, erased: Collection[str]) -> bool:
    if erased and id_hash(row["event_id"]) in erased:
        return False
    if only == "all":
        return True
    if only == "errors":
        return row["is_error"] == "true"
    is_right = row["prediction"] == row[settings.data.target]
    is_answer = row["prediction"] != UNCERTAIN
    return is_answer and is_right == (only == "accepted")


def _kinds(settings: Settings, reader: csv.DictReader[str]) -> dict[str, Kind]:
    """The kinds of the features; those that nobody named are the columns of the file."""
    if settings.data.features:
        return dict(settings.data.kinds)
    known = {*lines.KNOWN, "of_line", settings.data.text_column, settings.data.target}
    found = [name for name in reader.fieldnames or () if name not in known]
    return dict.fromkeys(found, Kind.CATEGORY)


def _columns(settings: Settings) -> list[str]:
    return [*lines.KNOWN, *settings.data.inputs, settings.data.target]


def _write_csv(rows: Iterator[Row], settings: Settings, target: Path, *, is_safe: bool) -> int:
    names, count = _columns(settings), 0
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(lines.csv_cells(dict(zip(names, names, strict=True)), names))
        for row in rows:
            cells = lines.csv_cells(row, names) if is_safe else [row[name] for name in names]
            writer.writerow(cells)
            count += 1
    return count


def _write_lines(
    rows: Iterator[Row], settings: Settings, target: Path, row_format: RowFormat
) -> int:
    data, prompt, count = settings.data, settings.export.system_prompt, 0
    with target.open("w", encoding="utf-8", newline="") as file:
        for row in rows:
            is_chat = row_format == "chat"
            line = lines.chat_line(row, data, prompt) if is_chat else lines.json_line(row, data)
            file.write(line + "\n")
            count += 1
    return count


def _noting_texts(rows: Iterator[Row], names: Collection[str], texts: set[str]) -> Iterator[Row]:
    """The rows as they are; which of the columns turn out to be no numbers goes into `texts`."""
    for row in rows:
        texts |= {name for name in names if row[name] and lines.number(row[name]) is None}
        yield row


def _as_parquet(body: Path, target: Path, settings: Settings, texts: Collection[str]) -> None:
    """Numbers as doubles, times with their zone, everything else as text."""
    names, data = _columns(settings), settings.data
    if len({name.lower() for name in names}) < len(names):
        raise InputError(
            "Parquet cannot tell columns apart whose names differ in case alone.",
            hint="Export them with --format csv or jsonl.",
        )
    types = {"known_at": "TIMESTAMPTZ", "predicted_at": "TIMESTAMPTZ", "is_error": "BOOLEAN"}
    numbers = [name for name in data.number_features if name not in texts]
    types |= dict.fromkeys(["confidence", *numbers], "DOUBLE")
    cells = [
        f"CAST(nullif(c{place}, '') AS {types.get(name, 'VARCHAR')}) AS {identifier(name)}"
        for place, name in enumerate(names)
    ]
    raw = ", ".join(f"{literal(f'c{place}')}: 'VARCHAR'" for place in range(len(names)))
    session = connect()
    try:
        spill = written_path(body.parent / "spill")
        session.execute(f"SET memory_limit = '{_MEMORY}'; SET temp_directory = {spill}; "
                        "SET TimeZone = 'UTC'; SET threads = 2")  # fmt: skip
        session.execute(
            f"COPY (SELECT {', '.join(cells)} FROM read_csv({exact_file(body)}, header = true, "
            f"delim = ',', quote = '\"', escape = '\"', auto_detect = false, columns = {{{raw}}}, "
            f"max_line_size = 1000000000, parallel = false)) TO {written_path(target)} "
            "(FORMAT parquet)"
        )
    finally:
        session.close()


@contextmanager
def _opened(path: Path) -> Iterator[csv.DictReader[str]]:
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield csv.DictReader(file)
    finally:
        csv.field_size_limit(limit)


@contextmanager
def _refusing(target: Path) -> Iterator[None]:
    """Raise InputError for what the system does not let be written."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{target} cannot be written: {error.strerror or error}.",
            hint="Nothing of it was left behind. Choose another --output.",
        ) from error
