"""Commands in processes of their own that start warm: forked from one that has the imports done.

For tests that start a command dozens of times; what a cold start does is for `tests.support.shell`.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

from tests.support.shell import PATIENCE, Finished, environment

_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(["tests.support.warm_imports"])


def ml_pipeline(*arguments: str | Path, cwd: Path, **variables: str) -> Finished:
    """Run `ml-pipeline …` in a process that is warm already."""
    files = (cwd / ".stdout", cwd / ".stderr")
    process = _FORKSERVER.Process(
        target=_command, args=([*map(str, arguments)], cwd, files, environment(**variables))
    )
    process.start()
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(arguments)
    stdout, stderr = (path.read_text(encoding="utf-8") for path in files)
    return Finished(process.exitcode, stdout, stderr)


def _command(
    arguments: list[str], cwd: Path, files: tuple[Path, Path], variables: dict[str, str]
) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
    for number, path in enumerate(files, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115 - until the end
    from ml_pipeline.cli import main

    code = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)
