"""Take erased events out of what a run keeps of rows: its details, texts, and CSV files."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ml_pipeline.evaluation_log.exporting.rows import DATASET_PREFIX, ROWS_PREFIX
from ml_pipeline.evaluation_log.stage import SCAN_PREFIX
from ml_pipeline.private_files import keep_access
from ml_pipeline.runs.run_log import is_run_folder

ERASED: Final = "(erased)"
# Shorter ids may stand in a text by chance; as a cell or a value of their own they are found.
_LONG_ENOUGH: Final = 8
# Among them what a process that was killed had begun to write.
_TEXTS: Final = {".html", ".md", ".txt", ".json", ".log", ".part", ".whole", ".tmp"}
_BINARIES: Final = {".npz", ".skops", ".parquet"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """By what an event is recognised: ids of events, and of the matches that were erased."""

    event_ids: frozenset[str]
    match_ids: frozenset[str]

    @property
    def everything(self) -> frozenset[str]:
        """Both kinds of ids."""
        return self.event_ids | self.match_ids

    def has(self, row: Mapping[Any, Any]) -> bool:
        """Whether a row with those columns, or with the text of a line, is one of the events."""
        if row.get("event_id") in self.event_ids or row.get("match_id") in self.match_ids:
            return True
        line = row.get("text")
        cells = next(csv.reader([line]), []) if isinstance(line, str) and "reason" in row else []
        return not self.everything.isdisjoint(cells)

    def in_text(self, text: str) -> bool:
        """Whether one of the ids stands in a text, as a word of its own."""
        return any(name in text and _word(name).search(text) for name in self.everything)

    def out_of(self, text: str) -> str:
        """The text without the ids that are long enough to stand for nothing else."""
        for name in self.everything:
            if len(name) >= _LONG_ENOUGH and name in text:
                text = _word(name).sub(ERASED, text)
        return text


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")


def redacted(value: Any, names: Names) -> Any:  # noqa: ANN401 - JSON
    """A JSON value without the events."""
    if isinstance(value, Mapping):
        return {key: redacted(item, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, names) for item in value if not _is_erased(item, names)]
    return names.out_of(value) if isinstance(value, str) else value


def _is_erased(item: object, names: Names) -> bool:
    if isinstance(item, Mapping):
        return names.has(item)
    return isinstance(item, str) and item in names.event_ids


def redacted_text(text: str, names: Names) -> str:
    """A text without the ids, line by line where one of them is short."""
    kept = (
        line for line in text.splitlines(keepends=True) if not names.in_text(names.out_of(line))
    )
    return names.out_of("".join(kept))


def clean_folder(folder: Path, names: Names, *, dry_run: bool) -> dict[str, int]:
    """Take the events out of the files of runs; return how many rows and files went.

    CSVs are written anew, whole or not at all. Other files of a run that names one of the events
    are removed: the store has what is needed of them. They go first, since the rows tell which.
    """
    counts = {"work_rows": 0, "work_files": 0}
    if not folder.is_dir():
        return counts
    scratch = _clear_scratch(folder, dry_run=dry_run)
    counts["work_files"] += len(scratch)
    places: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in scratch:
            places.setdefault(_place_of(path, folder), []).append(path)
    for files in places.values():
        rows = {path: _count_rows(path, names) for path in files if path.suffix == ".csv"}
        has_rows = any(rows.values())
        removed = [path for path in files if _is_named(path, names, has_rows=has_rows)]
        if not dry_run:
            for path in removed:
                path.unlink()
            for path in filter(rows.get, rows):
                _write_without(path, names)
        counts["work_rows"] += sum(rows.values())
        counts["work_files"] += len(removed)
    return counts


def _place_of(path: Path, folder: Path) -> Path:
    """The folder of the run that a file is of, at whatever depth, else the one it stands in."""
    name = path.relative_to(folder).parts[0]
    return folder / name if is_run_folder(folder / name) else path.parent


def _clear_scratch(folder: Path, *, dry_run: bool) -> set[Path]:
    """Remove what a command, a scan or an export that was killed read its rows from; the files.

    A conversation and a database among them name no id. Raises OSError for one that stays.
    """
    prefixes = (DATASET_PREFIX, ROWS_PREFIX, SCAN_PREFIX)
    left = [path for prefix in prefixes for path in folder.rglob(f"{prefix}*")]
    files = {path for each in left for path in each.rglob("*") if path.is_file()}
    for each in () if dry_run else left:
        # One inside of another went with it, and who works in one removes it at the end.
        with suppress(FileNotFoundError):
            shutil.rmtree(each)
    return files


def _is_named(path: Path, names: Names, *, has_rows: bool) -> bool:
    if path.suffix in _BINARIES:
        return has_rows
    if path.suffix not in _TEXTS:
        return False
    return names.in_text(path.read_text(encoding="utf-8", errors="replace"))


def _count_rows(path: Path, names: Names) -> int:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return sum(is_named for _, is_named in _rows(file, names))


def _rows(file: Iterable[str], names: Names) -> Iterator[tuple[list[str], bool]]:
    """The lines of a CSV, the header first, and whether each is one of the events."""
    reader = csv.reader(file)
    header = next(reader, [])
    yield header, False
    for cells in reader:
        yield cells, names.has(dict(zip(header, cells, strict=False)))


def _write_without(path: Path, names: Names) -> None:
    path = path.resolve()
    draft = path.with_name(f".{path.name}.part")
    try:
        with (
            path.open(encoding="utf-8", errors="surrogateescape", newline="") as old,
            draft.open("w", encoding="utf-8", errors="surrogateescape", newline="") as new,
        ):
            writer = csv.writer(new, lineterminator="\n")
            writer.writerows(cells for cells, is_named in _rows(old, names) if not is_named)
            keep_access(path, new.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
