"""Commands as a person runs them: real processes, in an environment that is the same everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Some tests put another program in the place of `sys.executable`.
PYTHON = sys.executable
TIMEOUT_S = 120
# What a command needs of the machine. A person's other variables (keys, proxies, colours, a locale,
# a time zone, what a CI service sets) would change what it says.
KEPT = {"HOME", "PATH", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME", "PYTHONDONTWRITEBYTECODE"}
KEPT_PREFIXES = ("COVERAGE_", "COV_CORE_", "PIP_", "SSL_CERT_")
FOREIGN = ("SUPABASE_", "ML_PIPELINE", "LOG_", "DEBUG", "GITHUB_")
COLOURS = {"NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES", "TERM"}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
EVERYWHERE = {"LANG": "C.UTF-8", "TZ": "UTC", "PYTHONPATH": str(ROOT), **ONE_THREAD}


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command left."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The last line of stdout."""
        result: dict[str, Any] = json.loads(self.stdout.strip().splitlines()[-1])
        return result


def environment(**variables: str) -> dict[str, str]:
    """The environment of a person who set nothing of ours but `variables`."""
    return (
        {name: value for name, value in os.environ.items() if _is_kept(name)}
        | EVERYWHERE
        | variables
    )


def _is_kept(name: str) -> bool:
    return name in KEPT or name.startswith(KEPT_PREFIXES)


def shut_out() -> None:
    """Take a person's variables out of this process, for what is called without a new one."""
    for name in [name for name in os.environ if name.startswith(FOREIGN) or name in COLOURS]:
        del os.environ[name]


def run(command: Sequence[str | Path], *, cwd: Path, **variables: str) -> Finished:
    """Run a command to its end."""
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def python(*arguments: str | Path, cwd: Path, **variables: str) -> Finished:
    """Run this interpreter."""
    return run([PYTHON, *arguments], cwd=cwd, **variables)


def ml_pipeline(*arguments: str | Path, cwd: Path, **variables: str) -> Finished:
    """Run `python -m ml_pipeline …`."""
    return python("-m", "ml_pipeline", *arguments, cwd=cwd, **variables)
