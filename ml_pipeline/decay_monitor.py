"""Watch the champion and act when it has decayed: `ml-pipeline decay`."""

from __future__ import annotations

import sys

from ml_pipeline.commands.decay import main
from ml_pipeline.decay.watching import RetrainMonitor, start_retrain_monitor

__all__ = ["RetrainMonitor", "main", "start_retrain_monitor"]

if __name__ == "__main__":
    sys.exit(main())
