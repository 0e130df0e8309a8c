"""What holds rows or secrets is for its owner alone, from the moment it is there."""

from __future__ import annotations

import csv
import json
import logging
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import urllib3

from ml_pipeline.commands import doctor, init, models, predict
from ml_pipeline.commands.checks import machine
from ml_pipeline.commands.doctor import _server
from ml_pipeline.config.data import DEFAULT_FEATURES
from ml_pipeline.config.environment import LoggingSettings, child_environment
from ml_pipeline.decay.refresh.command import run_command
from ml_pipeline.ml_logging import get_logger
from ml_pipeline.private_files import for_owner_alone, make_file
from ml_pipeline.runs.run_log import RunLog, configure
from tests.conftest import FirstModel
from tests.support import league

SECRETS = ("DATABASE_URL", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "GH_TOKEN", "OPENAI_API_KEY")


@pytest.fixture(autouse=True)
def _usual_mask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> dict[str, str]:
    """What others could read or enter, with its mode."""
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}
    return {str(path.name): oct(mode) for path, mode in modes.items() if mode & 0o077}


def test_a_store_its_log_and_its_artifacts_are_private(
    first_model: FirstModel, tmp_path: Path
) -> None:
    store = league.open_league(tmp_path / "new" / "store", first_model.path, first_model.model, [])
    store.close()
    logger = get_logger(local_dir=str(tmp_path / "new" / "store"))
    logger.log_prediction("m", "1", "H", 0.8, features={"a": 1.0})
    logger.close()
    names = {path.name for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert {"store.db", "evaluation_log.csv", "model.skops"} <= names
    assert open_to_others(tmp_path / "new") == {}


def test_a_run_log_is_private(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "work" / "run" / "run.log")
    log.open()
    log.close()
    assert open_to_others(tmp_path / "work") == {}


def test_what_commands_write_is_private_and_the_mask_comes_back(
    first_model: FirstModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = ["--local", str(tmp_path / "store")]
    league.open_league(tmp_path / "store", first_model.path, first_model.model, []).close()
    (tmp_path / "rows.csv").write_text(
        ",".join(DEFAULT_FEATURES) + "\n0.1,0.2,0.3,0.4,0.5\n", encoding="utf-8"
    )
    out = tmp_path / "out"
    assert models.main(["export", "--output_dir", str(out), "--with_artifacts", *local]) == 0
    output = str(out / "predictions.csv")
    batch = ["--batch", str(tmp_path / "rows.csv"), "--output", output, *local]
    assert predict.main(batch) == 0
    capsys.readouterr()
    assert open_to_others(out) == {}
    assert os.umask(0o022) == 0o022


def test_cells_that_a_spreadsheet_would_calculate_are_text_where_that_is_asked_for(
    first_model: FirstModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    league.open_league(tmp_path / "store", first_model.path, first_model.model, []).close()
    note = "=HYPERLINK(1)"
    cells = [*DEFAULT_FEATURES, "=note", "-other"]
    lines = [",".join(cells), f"-0.5,0.2,0.3,0.4,0.5,{note},@x", "0.5,0.2,0.3,0.4,0.5,-1.5,plain"]
    (tmp_path / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
    flags = ["--batch", str(tmp_path / "rows.csv"), "--local", str(tmp_path / "store"), "--no_log"]
    for safe in ([], ["--spreadsheet"]):
        output = tmp_path / f"out{len(safe)}.csv"
        assert predict.main([*flags, *safe, "--output", str(output)]) == 0
    capsys.readouterr()
    as_it_was, as_text = (
        [row[:7] for row in csv.reader((tmp_path / f"out{n}.csv").read_text().splitlines())]
        for n in (0, 1)
    )
    assert as_it_was == [line.split(",") for line in lines]
    assert as_text[0][5:] == ["'=note", "'-other"]
    assert as_text[1] == ["-0.5", "0.2", "0.3", "0.4", "0.5", "'" + note, "'@x"]
    assert as_text[2] == as_it_was[2]


def test_settings_that_init_writes_are_for_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    repository = str(tmp_path / "repository")
    assert init.main(["--workflows", repository, "--package", "git+https://host/o/r@c0ffee"]) == 0
    capsys.readouterr()
    written = list((tmp_path / "repository").rglob("*.yml"))
    assert written
    assert all(path.stat().st_mode & stat.S_IROTH for path in written)


def test_a_command_of_a_person_gets_their_mask_and_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (*SECRETS, "OLLAMA_HOST"):
        monkeypatch.setenv(name, "s3cret")
    with for_owner_alone():
        done = run_command(["sh", "-c", "umask; env"], timeout_s=10, also=["OLLAMA_HOST"])
    mask, *variables = done.output.splitlines()
    assert mask == "0022"
    assert [line for line in variables if "s3cret" in line] == ["OLLAMA_HOST=s3cret"]
    assert any(line.startswith("PATH=") for line in variables)
    assert not set(SECRETS) & set(child_environment())
    assert set(SECRETS) <= set(child_environment(credentials=True))


def test_doctor_warns_of_a_store_that_others_can_read() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "store.db").touch(0o644)
        assert machine.private_store(folder).ok, "its folder is closed"
        folder.chmod(0o755)
        found = machine.private_store(folder)
    assert (found.ok, found.severity) == (False, "warning")
    assert f"chmod -R go= {folder}" in found.do


def test_doctor_warns_of_logs_that_others_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        settings = folder / "settings.yaml"
        settings.write_text(f"log: {{csv_file: {folder}/events.csv}}\n", encoding="utf-8")
        monkeypatch.setenv("LOG_FILE", f"{folder}/messages.log")
        for file in ("events.csv", "messages.log"):
            (folder / file).touch(0o644)
        doctor.main(["--config", str(settings), "--local", str(tmp_path / "store")])
        found = finding("log_files", capsys.readouterr().out)
        assert (found["ok"], found["severity"]) == (False, "warning")
        assert f"chmod go= {folder}/events.csv {folder}/messages.log" in found["do"]
        for file in ("events.csv", "messages.log"):
            (folder / file).chmod(0o600)
        doctor.main(["--config", str(settings), "--local", str(tmp_path / "store")])
        assert finding("log_files", capsys.readouterr().out)["ok"]


def finding(name: str, printed: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(printed)["findings"]
    return next(each for each in found if each["name"] == name)


def test_doctor_of_a_new_store_finds_its_files_closed(
    first_model: FirstModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = league.open_league(tmp_path / "store", first_model.path, first_model.model, [])
    store.close()
    doctor.main(["--quick", "--local", str(tmp_path / "store")])
    assert finding("store_files", capsys.readouterr().out)["ok"]


@pytest.mark.parametrize(
    ("url", "is_fine"),
    [
        ("https://x.supabase.co", True),
        ("http://x.supabase.co", False),
        ("http://8.8.8.8:8000", False),
        ("http://127.0.0.1:54321", True),
        ("http://gateway:8000", True),
        ("http://10.0.0.7", True),
    ],
)
def test_an_address_without_encryption_is_warned_of(url: str, *, is_fine: bool) -> None:
    found = _server(url)
    assert (found.name, found.ok) == ("server", is_fine)
    assert is_fine or found.severity == "warning"


@pytest.mark.parametrize(
    "flags",
    [
        ["--databse_url", "postgres://me:pa55@db/x"],
        ["--databse_url=postgres://me:pa55@db/x"],
        ["--databse-url", "host=db password=pa55"],
        ["--local", "x", "pa55"],
    ],
)
def test_a_mistyped_flag_shows_no_password(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        init.main(flags)
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert "pa55" not in shown
    assert "unrecognized arguments" in shown


def test_debugging_shows_nothing_of_libraries(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(LoggingSettings(level="DEBUG"))
    pool = urllib3.HTTPConnectionPool("127.0.0.1", port=9, retries=False)
    with pytest.raises(urllib3.exceptions.HTTPError):
        pool.request("POST", "/services/T000/s3cret")
    other = logging.getLogger("some.library")
    path = urllib3.__file__
    record = other.makeRecord(other.name, logging.DEBUG, path, 1, "POST /s3cret", (), None)
    other.handle(record)
    assert "s3cret" not in capsys.readouterr().err


def test_a_file_that_is_there_keeps_the_locks_that_this_process_has_on_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ask = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    with closing(sqlite3.connect(path, isolation_level=None)) as held:
        held.execute("CREATE TABLE one (x)")
        held.execute("BEGIN IMMEDIATE")
        make_file(path)
        other = subprocess.run(
            [sys.executable, "-c", ask], check=False, capture_output=True, text=True
        )
    assert "database is locked" in other.stderr
