"""The command of `decay.command`: its placeholders filled, run, and what it says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from ml_pipeline.config import placeholders
from ml_pipeline.config.environment import child_environment
from ml_pipeline.decay.context import CheckContext
from ml_pipeline.evaluation_log.exporting.rows import (
    DATASET_PREFIX,
    SUFFIXES,
    RowRequest,
    write_rows,
)
from ml_pipeline.printable import printable
from ml_pipeline.private_files import mask_of_others
from ml_pipeline.registry.model_inputs import inputs_of
from ml_pipeline.store.contract import Store

KEPT_OUTPUT: Final = 4000
LONGEST_ID: Final = 200


@contextmanager
def filled_command(store: Store, context: CheckContext, run_id: str) -> Iterator[list[str]]:
    """The command with its placeholders filled; the file of `{dataset}` is gone afterwards.

    The rows are those of the settings' `export`. Raises DataError, InputError, StoreError.
    """
    settings = context.settings
    command = settings.decay.command
    values = {placeholders.RUN_ID: run_id}
    if placeholders.DATASET not in {name for each in command for name in placeholders.named(each)}:
        yield placeholders.filled(command, values)
        return
    work_dir = context.work_dir or Path.cwd()
    work_dir.mkdir(parents=True, exist_ok=True)
    # Other models are watched from here as well, and their commands may be at work.
    prefix = f"{DATASET_PREFIX}{settings.model_name}."
    for left in work_dir.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)  # of a watchdog that was killed
    with TemporaryDirectory(prefix=prefix, dir=work_dir) as folder:
        row_format = settings.export.format
        target = Path(folder).absolute() / f"rows{SUFFIXES[row_format]}"
        request = RowRequest(now=context.now, row_format=row_format, only=settings.export.only)
        inputs = inputs_of(store, store.champion(model_name=settings.model_name))
        settings = settings if inputs is None else inputs.completing(settings)
        write_rows(store, settings, request, target)
        yield placeholders.filled(command, {**values, placeholders.DATASET: str(target)})


def named_version(result: CommandResult) -> str | None:
    """The `model_id` in the JSON object on the last line of what a successful command printed."""
    if result.exit_code != 0:
        return None
    try:
        found = json.loads(result.last_line)
    except ValueError:
        return None
    name = found.get("model_id") if isinstance(found, dict) else None
    if not isinstance(name, str) or printable(name.strip()) != name or len(name) > LONGEST_ID:
        return None
    return name or None


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandResult:
    """How a command ended; `exit_code` is None when it was stopped or could not start."""

    exit_code: int | None
    output: str
    duration_s: float
    sentence: str

    @property
    def last_line(self) -> str:
        """The last line of the output that is not empty."""
        lines = self.output.strip().splitlines()
        return lines[-1].strip() if lines else ""

    def as_json(self) -> dict[str, Any]:
        """What an alert keeps of it."""
        return {
            "exit_code": self.exit_code,
            "output": self.output,
            "duration_s": round(self.duration_s, 3),
        }


def run_command(
    command: Sequence[str], *, timeout_s: float, also: Sequence[str] = ()
) -> CommandResult:
    """Run a program without our credentials; the end of its output is kept.

    Of the variables here it gets those that every program needs, and `also`.

    At the time-out the whole process group is killed, so that nothing of it lives on.
    """
    began = time.monotonic()
    name = printable(" ".join(command))
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=child_environment(also=also),
            umask=mask_of_others(),
            start_new_session=True,
        )
    except OSError as error:
        sentence = f"`{name}` could not be started: {error.strerror or error}."
        return CommandResult(exit_code=None, output="", duration_s=0.0, sentence=sentence)
    code: int | None = None
    try:
        output, _ = process.communicate(timeout=timeout_s)
        code = process.returncode
        sentence = f"`{name}` ended with exit code {code}."
    except subprocess.TimeoutExpired:
        # macOS refuses to signal a group of which nobody is alive.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        sentence = f"`{name}` was stopped after {timeout_s:g} s."
    text = printable(output.decode("utf-8", "replace"), lines=True)[-KEPT_OUTPUT:]
    return CommandResult(
        exit_code=code, output=text, duration_s=time.monotonic() - began, sentence=sentence
    )
