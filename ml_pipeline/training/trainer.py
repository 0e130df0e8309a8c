"""The trainer as a child process: limits, heartbeats while it works, and its answer as a record.

A run starts `run_trainer`; `end_with_parent` and `limit_memory` are what the child does with
itself.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

import ml_pipeline
from ml_pipeline.config.defaults import SETTING_PREFIX
from ml_pipeline.config.environment import child_environment
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import BUILTIN, LOG
from ml_pipeline.errors import TrainingError
from ml_pipeline.registry.trained import RESULT_FILE, SAMPLE_FILE, TrainerAnswer
from ml_pipeline.store.records import ModelVersion

log = logging.getLogger("trainer")

BEAT_SECONDS = 20.0
SHOWN_CHARACTERS = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFile:
    """A fetched model and the digest it must have."""

    version: ModelVersion
    path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingJob:
    """What the trainer is asked: rows to learn, and the models they are learned on top of.

    Without a `parent` a base is trained from scratch. `known` are all labelled rows when experts
    are due; what the parent learned after `restart_night` is learned again. `extra` are flags
    beside the usual ones.
    """

    dataset: Path
    folder: Path
    model_id: str
    settings: Settings
    today: str
    parent: ModelFile | None = None
    champion: ModelFile | None = None
    known: Path | None = None
    restart_night: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


class Trainer(Protocol):
    """How a job is done: `run_trainer`, or something that does as it does."""

    def __call__(self, job: TrainingJob, *, heartbeat: Callable[[], None]) -> TrainerAnswer:
        """Train and return what was written. Raises PipelineError."""
        ...


def run_trainer(job: TrainingJob, *, heartbeat: Callable[[], None]) -> TrainerAnswer:
    """Run `train` as a child process under the config's limits.

    Raises TrainingError with the child's own messages when it fails, hangs or is killed.
    """
    config_path = job.folder / "settings.yaml"
    config_path.write_text(_settings_of(job).as_yaml(), encoding="utf-8")
    with (job.folder / "trainer.log").open("w+", encoding="utf-8") as stderr:
        code = _wait(_start(job, config_path, stderr), job.settings, heartbeat)
        stderr.seek(0)
        messages = stderr.read()
    for line in messages.splitlines():
        log.info("trainer: %s", line)
    if code != 0:
        raise TrainingError(_complaint(code, messages))
    return answer_of(job)


def answer_of(job: TrainingJob) -> TrainerAnswer:
    """What a trainer that did the job has written."""
    folder = job.folder / "trained" / job.model_id
    result = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
    return TrainerAnswer(
        result=result,
        model_path=job.folder / result["model_path"],
        evidence_path=job.folder / result["evidence_path"],
        sample_path=folder / SAMPLE_FILE,
    )


def _settings_of(job: TrainingJob) -> Settings:
    """The settings with the training data's whole path: the child works in the job's folder."""
    dataset = job.settings.data.training_dataset
    if dataset in {BUILTIN, LOG}:
        return job.settings
    return job.settings.changed({"data.training_dataset": str(Path(dataset).resolve())})


def flags_of(job: TrainingJob, config_path: Path) -> list[str]:
    """The flags of `train` that ask for the job."""
    arguments = {
        "dataset": job.dataset.resolve(),
        "config": config_path.resolve(),
        "output_dir": "trained",
        "model_id": job.model_id,
        "today": job.today,
        "memory_limit_mb": job.settings.training.memory_limit_mb,
        "parent_watch": "true",
    }
    if job.parent is not None:
        arguments |= {
            "fine_tune": "true",
            "model_path": job.parent.path.resolve(),
            "model_digest": job.parent.version.artifact.digest,
        }
    if job.champion is not None:
        arguments |= {
            "champion_path": job.champion.path.resolve(),
            "champion_digest": job.champion.version.artifact.digest,
            "champion_id": job.champion.version.model_id,
        }
    if job.known is not None:
        arguments["known"] = job.known.resolve()
    if job.restart_night is not None:
        arguments["restart_night"] = job.restart_night
    arguments |= job.extra
    return [part for name, value in arguments.items() for part in (f"--{name}", str(value))]


def _start(job: TrainingJob, config_path: Path, stderr: IO[str]) -> subprocess.Popen[str]:
    environment = child_environment()
    home = str(Path(ml_pipeline.__file__).resolve().parent.parent)
    environment["PYTHONPATH"] = home
    # The file of settings has them all; a path among the variables would be another one there.
    environment = {k: v for k, v in environment.items() if not k.startswith(SETTING_PREFIX)}
    return subprocess.Popen(
        [sys.executable, "-m", "ml_pipeline.train_model", *flags_of(job, config_path)],
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        # The parent watch: it breaks when this process ends, however it ends. The session of its
        # own keeps a terminal's Ctrl-C from reaching the trainer before the run can say why.
        stdin=subprocess.PIPE,
        start_new_session=True,
        cwd=job.folder,
        env=environment,
        text=True,
    )


def _wait(child: subprocess.Popen[str], settings: Settings, heartbeat: Callable[[], None]) -> int:
    left = settings.training.time_limit_s
    try:
        while True:
            try:
                return child.wait(timeout=min(BEAT_SECONDS, left))
            except subprocess.TimeoutExpired:
                left -= BEAT_SECONDS
                if left <= 0:
                    limit = settings.training.time_limit_s
                    raise TrainingError(
                        f"Training ran past its time limit of {limit:g} s and was stopped.",
                        hint="Raise training.time_limit_s or train on less.",
                    ) from None
                heartbeat()
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        if child.stdin is not None:
            child.stdin.close()


def _complaint(code: int, messages: str) -> str:
    last = messages.strip()[-SHOWN_CHARACTERS:] or "it left no message"
    if code < 0:
        return f"The trainer was killed by signal {-code} (out of memory?): {last}"
    return f"The trainer stopped with exit code {code}: {last}"


def end_with_parent() -> None:
    """End this process when the one that holds the other end of standard input is gone."""
    os.read(0, 1)
    os._exit(1)


def limit_memory(megabytes: int) -> None:
    """Make allocations past the limit fail in this process instead of taking the machine.

    Where the system sets no such limit, as macOS does not, a line on stderr says so.
    """
    size = megabytes * 1024 * 1024
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        size = min(size, hard)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (size, hard))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"training.memory_limit_mb has no effect on this system: {error}.\n")
