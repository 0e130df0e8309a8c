"""A run of a life in a process of its own, which is really killed."""

from __future__ import annotations

import os
import signal
from datetime import datetime
from pathlib import Path
from random import Random
from uuid import uuid4

from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Order
from tests.support.in_process import train_here
from tests.support.lives.door import Door, Fault, Trouble, behind
from tests.support.lives.nature import invent
from tests.support.lives.place import Site


def killed_run(folder: Path, seed: int, now: datetime, fault: Fault, at: int) -> None:
    """Run a life's loop on its embedded store until the signal at the `at`-th call."""
    name = f"life-{seed}"
    site = Site.embedded(folder)
    door = Door(
        site.store,
        Trouble(fault=fault, at=at),
        die=lambda: os.kill(os.getpid(), signal.SIGKILL),
    )
    order = Order(
        settings=invent(Random(seed), name).settings,
        work_dir=folder / "work",
        place="a machine",
        clock=lambda: now,
        new_id=lambda: str(uuid4()),
        train=train_here,
    )
    recording.run(behind(door), order)
