"""What a check of the champion is made with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ml_pipeline.config.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckContext:
    """The settings and the moment of a check. `new_id` makes the ids of alerts."""

    settings: Settings
    now: datetime
    new_id: Callable[[], str]
    work_dir: Path | None = None
