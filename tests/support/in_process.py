"""A trainer without a process of its own: the flags of a job, read and done as `train` does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import date
from functools import cache

from ml_pipeline.commands import train as command
from ml_pipeline.commands.usage import parsed
from ml_pipeline.registry.trained import TrainerAnswer
from ml_pipeline.store.records import day_start
from ml_pipeline.training.job import train
from ml_pipeline.training.trainer import TrainingJob, answer_of, flags_of


@cache
def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser


def train_here(job: TrainingJob, *, heartbeat: Callable[[], None]) -> TrainerAnswer:
    """Train in this process; what it costs to start one is nine tenths of a small training."""
    heartbeat()
    args = parsed(_parser(), flags_of(job, job.folder / "settings.yaml"))
    args.output_dir = str(job.folder / args.output_dir)
    now = day_start(date.fromisoformat(job.today))
    train(command.request_from(args, job.settings, now=now, new_id=""))
    return answer_of(job)
