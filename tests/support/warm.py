"""Commands in processes of their own that start warm: forked from one that has the imports done.

For tests that start a command dozens of times; what a cold start does is for `tests.support.shell`.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from tests.support.shell import TIMEOUT_S, Finished, environment

_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(["tests.support.warm_imports"])


def ml_pipeline(*arguments: str | Path, cwd: Path, **variables: str) -> Finished:
    """Run `ml-pipeline …` in a process that is warm already."""
    return call(_command, [*map(str, arguments)], cwd=cwd, **variables)


def call(target: Callable[..., None], *arguments: object, cwd: Path, **variables: str) -> Finished:
    """Run a function of a module in a process that is warm already."""
    name = uuid4().hex
    files = (cwd / f".{name}.out", cwd / f".{name}.err")
    process = _FORKSERVER.Process(
        target=_within, args=(target, arguments, cwd, files, environment(**variables))
    )
    process.start()
    process.join(TIMEOUT_S)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(arguments)
    stdout, stderr = (path.read_text(encoding="utf-8") for path in files)
    return Finished(process.exitcode, stdout, stderr)


def _within(
    target: Callable[..., None],
    arguments: tuple[object, ...],
    cwd: Path,
    files: tuple[Path, Path],
    variables: dict[str, str],
) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
    for number, path in enumerate(files, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115 - until the end
    try:
        target(*arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _command(arguments: list[str]) -> None:
    from ml_pipeline.cli import main

    sys.exit(main(arguments))
