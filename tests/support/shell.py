"""Commands as a person runs them: real processes, with nothing of ours in their environment."""

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
OURS = ("SUPABASE_", "ML_PIPELINE", "LOG_", "DEBUG")


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
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return clean | {"PYTHONPATH": str(ROOT)} | variables


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
