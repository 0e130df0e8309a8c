"""`python -m ml_pipeline.monitor` is `ml-pipeline monitor`."""

from __future__ import annotations

import sys

from ml_pipeline.commands.monitor import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
