"""Ctrl-C ends a command with one sentence, whatever it was in the middle of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import duckdb
import pytest

from ml_pipeline.cli import main
from ml_pipeline.commands.common import guarded
from ml_pipeline.errors import DataError
from tests.support.shell import PYTHON, environment

LONG = "select sum(sqrt(range)) from range(1000000000)"


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def in_a_query() -> int:
    # Signals are seen between small pieces of work: a query over rows has them.
    duckdb.execute(LONG).fetchall()
    return 0


def wrapped() -> int:
    try:
        return in_a_query()
    except RuntimeError as error:
        raise DataError(f"rows.csv cannot be read as CSV: {error}.") from error


def asleep() -> int:
    time.sleep(30)
    return 0


class PanicException(BaseException):
    """What a library written in Rust raises in the place of an interrupt while it loads."""


def in_rust() -> int:
    try:
        return asleep()
    except KeyboardInterrupt:
        raise PanicException from None


@pytest.mark.parametrize("work", [in_a_query, wrapped, asleep, in_rust])
def test_o7_ctrl_c_is_one_sentence_and_exit_code_130(
    work: object, capsys: pytest.CaptureFixture[str]
) -> None:
    duckdb.execute("select sum(sqrt(range)) from range(3000000)").fetchall()  # its threads start
    timer = Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    assert guarded(work) == 130  # type: ignore[arg-type]
    shown = capsys.readouterr()
    assert json.loads(shown.out.splitlines()[-1])["error_type"] == "Stopped"
    assert (shown.err.count("."), shown.err.count("\n")) == (1, 1), "one sentence"
    assert shown.err.startswith("Stopped by Ctrl-C: ")
    assert "Traceback" not in shown.err
    assert "CSV" not in shown.err


def test_o7_the_command_after_one_that_was_stopped_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Several in one process, as in a notebook."""
    timer = Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    assert guarded(asleep) == 130
    capsys.readouterr()
    assert main(["completion", "bash"]) == 0
    assert "promote" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["train", "backtest", "run --demo", "decay", "doctor"])
def test_o7_ctrl_c_while_a_command_starts_is_no_traceback(words: str, tmp_path: Path) -> None:
    code = (
        "import ml_pipeline.cli as c, sys; print('up', flush=True); sys.exit(c.main(sys.argv[1:]))"
    )
    command = [PYTHON, "-c", code, *words.split(), "--local", "store"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130, shown
    assert "Traceback" not in shown


# Sends itself SIGINT when that module is looked for; a library of Rust would panic then.
AT_AN_IMPORT = """
import os, signal, sys
class Panic(BaseException): pass
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000): pass
            except KeyboardInterrupt:
                if sys.argv[2] == "kept":
                    return None
                raise Panic(name) if sys.argv[2] == "panic" else KeyboardInterrupt
sys.meta_path.insert(0, Finder())
from ml_pipeline.cli import main
sys.exit(main(["reconcile", "--local", "none"]))
"""


@pytest.mark.parametrize("how", ["panic", "interrupt", "kept"])
@pytest.mark.parametrize("module", ["pydantic_core", "ml_pipeline.commands.reconcile"])
def test_o7_ctrl_c_while_libraries_load_is_one_sentence(
    tmp_path: Path, module: str, how: str
) -> None:
    done = subprocess.run(
        [PYTHON, "-c", AT_AN_IMPORT, module, how],
        cwd=tmp_path, env=environment(), text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode == 130, done.stderr
