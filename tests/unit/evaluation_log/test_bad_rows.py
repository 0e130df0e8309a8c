"""An error of too many bad rows names a list that stands there, or the first of the rows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ml_pipeline.commands import backtest, export
from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation_log.answering.logged_models import logged_models
from ml_pipeline.evaluation_log.exporting.rows import RowRequest, write_rows
from ml_pipeline.evaluation_log.frames import labelled_events, since
from ml_pipeline.evaluation_log.loading import load_known, read_labelled
from ml_pipeline.store.embedded.store import LocalStore
from tests.support.factories import MODEL_NAME, NOW, make_id
from tests.support.logs import Desk, fill_table, make_row, settings_for, write_log

Door = Callable[[LocalStore, Settings, Path], object]


def by_reading(store: LocalStore, settings: Settings, _folder: Path) -> object:
    with TemporaryDirectory() as folder:
        return read_labelled(store, settings, Path(folder), now=NOW)


def by_export(store: LocalStore, settings: Settings, folder: Path) -> object:
    request = RowRequest(now=NOW, row_format="csv", only="all")
    return write_rows(store, settings, request, folder / "rows.csv", work_dir=folder / "work")


def by_decay(store: LocalStore, settings: Settings, folder: Path) -> object:
    work = folder / "work"
    return labelled_events(store, settings, since(NOW, 30), model_ids=None, work_dir=work)


def by_status(store: LocalStore, settings: Settings, _folder: Path) -> object:
    return logged_models(store, settings, now=NOW, days=30)


def by_run(store: LocalStore, settings: Settings, folder: Path) -> object:
    return load_known(store, settings, None, folder / "work" / "1", now=NOW)


def bad_log(folder: Path, source: str) -> tuple[LocalStore, Settings]:
    """Twenty events, of which the 3rd has an unknown label and a line of a file is torn."""
    desk = Desk(folder)
    rows = [make_row(n, prediction="X") if n == 3 else make_row(n) for n in range(1, 21)]
    if source == "table":
        fill_table(desk.store, rows)
        return desk.store, settings_for("table", log__max_bad_rows=0.01)
    path = write_log(folder / "log.csv", rows)
    path.write_text(path.read_text() + "a,b\n")
    return desk.store, settings_for(path, log__max_bad_rows=0.01)


@pytest.mark.parametrize(
    ("door", "source"),
    [
        *product((by_reading, by_export, by_run), ("table", "csv")),
        (by_decay, "csv"),
        (by_status, "csv"),
    ],
)
def test_a_list_that_is_named_stands_there_and_else_the_rows_are_named(
    tmp_path: Path, door: Door, source: str
) -> None:
    store, settings = bad_log(tmp_path, source)
    with pytest.raises(DataError) as caught:
        door(store, settings, tmp_path)
    assert_found(str(caught.value), source, lists=door is by_run)


@pytest.mark.parametrize("command", ["backtest", "export"])
def test_commands_name_the_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    _, settings = bad_log(tmp_path, "csv")
    config = tmp_path / "settings.yaml"
    log = f"log: {{source: {settings.log.source}, max_bad_rows: 0.01}}"
    config.write_text(f"model_name: {MODEL_NAME}\n{log}\n", encoding="utf-8")
    words = {
        "backtest": (backtest, ("--init", "5")),
        "export": (export, ("rows", "--output", str(tmp_path / "rows.csv"))),
    }
    module, flags = words[command]
    where = ("--config", str(config), "--local", str(tmp_path / "store"))
    assert module.main([*flags, *where]) != 0
    assert_found(json.loads(capsys.readouterr().out)["error"], "csv", lists=False)


def assert_found(message: str, source: str, *, lists: bool) -> None:
    named = [Path(path) for path in re.findall(r"(/\S+?)\.? ", f"{message} ")]
    assert [path for path in named if not path.exists()] == []
    assert any(path.name.startswith("rejected_") for path in named) is lists, message
    if not lists:
        event = f"event {make_id(3)}"
        named_row = event if source == "table" else f"row 3 ({event})"
        assert f"The first of them: {named_row}: unknown prediction label" in message
        assert ("row 21: malformed" in message) is (source == "csv")
