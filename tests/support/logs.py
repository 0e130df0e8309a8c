"""Evaluation logs for tests: rows of text, written as files or kept in a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ml_pipeline.config.data import DEFAULT_FEATURES
from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation_log.loading import LoadedLog, load_log
from ml_pipeline.evaluation_log.rules import LogRequest
from ml_pipeline.store.contract import Store
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import EVENT_COLUMNS, LookbackWindow
from tests.support.factories import MODEL_NAME, NOW, frame_of, make_id

FEATURES = {name: number + 0.5 for number, name in enumerate(DEFAULT_FEATURES)}


def make_row(number: int = 1, **changes: str | None) -> dict[str, str]:
    """A confident error that became known `number` hours before NOW, as text."""
    known = NOW - timedelta(hours=number)
    row: dict[str, str | None] = {
        "timestamp": (known - timedelta(hours=2)).isoformat(),
        "event_id": make_id(number),
        "event_type": "prediction",
        "model_id": "m-1",
        "match_id": f"match-{number}",
        "prediction": "H",
        "actual_result": "A",
        "confidence": "0.9",
        "status": "evaluated",
        "model_name": MODEL_NAME,
        "features": json.dumps(FEATURES),
        "evaluated_at": known.isoformat(),
    }
    row.update(changes)
    return {name: value for name, value in row.items() if value is not None}


def without_outcome(number: int = 1, **changes: str | None) -> dict[str, str]:
    """The prediction of `make_row`, its outcome still open."""
    values: dict[str, str | None] = {"actual_result": "", "evaluated_at": "", "status": "pending"}
    return make_row(number, **(values | changes))


def outcome_only(number: int = 1, **changes: str | None) -> dict[str, str]:
    """The outcome of `make_row` as a row of its own."""
    row = make_row(number)
    kept = {name: row[name] for name in ("event_id", "actual_result", "evaluated_at")}
    return kept | {name: value for name, value in changes.items() if value is not None}


def write_log(
    path: Path, rows: Sequence[Mapping[str, str]], header: Sequence[str] = EVENT_COLUMNS
) -> Path:
    """Write rows as a CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def settings_for(source: Path | str, **changes: Any) -> Settings:  # noqa: ANN401 - settings
    """Settings that read that log and tolerate bad rows; `__` in a name stands for a dot."""
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    fixed = {"model_name": MODEL_NAME, "log.source": str(source), "log.max_bad_rows": 1.0}
    return Settings().changed(fixed | dotted)


def make_log_request(**changes: Any) -> LogRequest:  # noqa: ANN401 - fields
    """Errors of the last seven days, everything to learn."""
    window = LookbackWindow.ending(NOW, days=7)
    values: dict[str, Any] = {"now": NOW, "window": window, "learn_from": None, "model_ids": None}
    return LogRequest(**(values | changes))


def open_local(folder: Path) -> LocalStore:
    """An embedded store in that folder."""
    return LocalStore.open(folder / "store")


def fill_table(store: Store, rows: Sequence[Mapping[str, str]]) -> None:
    """Append rows of text as events, and what stands in them."""

    def moment(row: Mapping[str, str], name: str) -> datetime | None:
        return datetime.fromisoformat(row[name]) if row.get(name) else None

    store.append_events(
        frame_of(
            [
                {name: row.get(name) or None for name in EVENT_COLUMNS}
                | {
                    "timestamp": moment(row, "timestamp"),
                    "evaluated_at": moment(row, "evaluated_at"),
                    "confidence": float(row["confidence"]),
                    "accuracy": None,
                }
                for row in rows
            ]
        )
    )


class Desk:
    """A folder with a store, where logs are written and loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.store = open_local(folder)

    def load(
        self,
        rows: Sequence[Mapping[str, str]],
        *,
        header: Sequence[str] = EVENT_COLUMNS,
        request: LogRequest | None = None,
        **changes: Any,  # noqa: ANN401 - settings
    ) -> LoadedLog:
        """Write rows as a CSV and load it."""
        path = write_log(self.folder / "log.csv", rows, header)
        return self.load_file(path, request=request, **changes)

    def load_text(self, text: str | bytes, name: str = "log.csv") -> LoadedLog:
        """Load a log that stands there byte for byte."""
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return self.load_file(path)

    def load_file(
        self,
        path: Path | str,
        *,
        request: LogRequest | None = None,
        **changes: Any,  # noqa: ANN401 - settings
    ) -> LoadedLog:
        """Load a file, or the table."""
        settings = settings_for(path, **changes)
        return load_log(self.store, settings, request or make_log_request(), self.work)


def csv_text(rows: Sequence[Mapping[str, str]], *, end: str = "\n") -> str:
    """Rows as the text of a CSV."""
    lines = [list(EVENT_COLUMNS), *([row.get(name, "") for name in EVENT_COLUMNS] for row in rows)]
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines]
    return end.join(quoted) + end
