"""What every part of a run works with, and how far the run has come."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from ml_pipeline.config.settings import Settings
from ml_pipeline.registry.serving_state import ServingState
from ml_pipeline.reports.review import Judged
from ml_pipeline.runs.preparing import Prepared
from ml_pipeline.runs.requests import ServedRequests
from ml_pipeline.runs.stopping import Stop
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import RetrainingRun
from ml_pipeline.training.trainer import Trainer

log = logging.getLogger("auto_reinforcement")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunContext:
    """One run at work: row, store and settings, folder, time, ids, requests, and who trains."""

    store: Store
    settings: Settings
    run: RetrainingRun
    folder: Path
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    requests: ServedRequests
    stop: Stop
    train: Trainer
    dry_run: bool

    @property
    def today(self) -> date:
        """The UTC day on which the run started."""
        return self.run.started_at.astimezone(UTC).date()

    def beat(self) -> None:
        """Tell the store that the run is alive. Raises Stopped when it was asked to end."""
        self.stop.check()
        if not self.dry_run:
            self.store.heartbeat(self.run.run_id, now=self.clock())
            self.requests.renew()


@dataclass(kw_only=True, slots=True)
class Progress:
    """How far a run has come: for its row and its report, also when it fails."""

    on_stage: Callable[[], None]
    beat: Callable[[], None]
    stage: str = "starting"
    serving: ServingState | None = None
    prepared: Prepared | None = None
    judged: Judged | None = None

    def enter(self, stage: str) -> None:
        """Begin the next stage, which completes the sentence "failed while …"."""
        self.stage = stage
        log.info("Now %s", stage)
        self.on_stage()
        self.beat()
