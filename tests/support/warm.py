"""An interpreter that starts warm: its processes are forked from one that has the imports done.

Three of four seconds of a nightly run are imports of its trainer. `interpreter()` is a program to
call like Python: `-m ml_pipeline …`, the trainer's module and `call` below come out of the warm
process, with arguments, environment, folder, standard files, exit code and signals as any other
process; all else becomes a plain interpreter. The tests under `acceptance/` start their trainers
so (`tests/acceptance/conftest.py`); what a cold start does is for `tests.support.shell`.
"""

from __future__ import annotations

import atexit
import base64
import os
import pickle
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tests.support.shell import PYTHON, ROOT, Finished, environment, run

MODULES = (
    "ml_pipeline",
    "ml_pipeline.auto_reinforcement",
    "ml_pipeline.train_model",
    "tests.support.warm_call",
)


@cache
def interpreter() -> Path:
    """Start this process's warm server; return the program whose processes come from it."""
    # Short, because a socket's path has to be.
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    program, address = folder / "python", folder / "socket"
    text = Path(__file__).with_name("warm_python.py").read_text(encoding="utf-8")
    call = f"start({PYTHON!r}, {str(address)!r}, {MODULES!r}, {str(ROOT)!r})\n"
    program.write_text(f"#!{PYTHON} -IS\n{text}\n{call}", encoding="utf-8")
    program.chmod(0o755)
    # As `child_environment` has it for a trainer; libraries read it when they are loaded.
    server = subprocess.Popen(
        [PYTHON, "-m", "tests.support.warm_server", str(address), str(program)],
        env=environment(OMP_WAIT_POLICY="PASSIVE"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdout.readline()

    def end() -> None:
        server.communicate()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return program


def on_path(folder: Path) -> str:
    """A PATH on which `ml-pipeline` is the warm one; its program is made in the folder."""
    program = folder / "ml-pipeline"
    program.write_text(f'#!/bin/sh\nexec "{interpreter()}" -m ml_pipeline "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return os.pathsep.join((str(folder), str(Path(PYTHON).parent), os.environ["PATH"]))


def python(*arguments: str | Path, cwd: Path, **variables: str) -> Finished:
    """Run the warm interpreter."""
    return run([interpreter(), *arguments], cwd=cwd, **variables)


def ml_pipeline(*arguments: str | Path, cwd: Path, **variables: str) -> Finished:
    """Run `python -m ml_pipeline …` in a process that is warm already."""
    return python("-m", "ml_pipeline", *arguments, cwd=cwd, **variables)


def call(target: Callable[..., None], *arguments: object, cwd: Path, **variables: str) -> Finished:
    """Run a function of a module in a process that is warm already."""
    wanted = base64.b64encode(pickle.dumps((target, arguments))).decode()
    return python("-m", MODULES[-1], wanted, cwd=cwd, **variables)
