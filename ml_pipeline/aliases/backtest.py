"""`python -m ml_pipeline.backtest` is `ml-pipeline backtest`."""

from __future__ import annotations

import sys

from ml_pipeline.commands.backtest import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
