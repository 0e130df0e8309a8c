"""One run of the loop, from trigger to recorded outcome: `ml-pipeline run`."""

from __future__ import annotations

import sys

from ml_pipeline.commands.run import main, run_auto_reinforcement

__all__ = ["main", "run_auto_reinforcement"]

if __name__ == "__main__":
    sys.exit(main())
