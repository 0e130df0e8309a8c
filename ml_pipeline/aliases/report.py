"""`python -m ml_pipeline.report` is `ml-pipeline report`."""

from __future__ import annotations

import sys

from ml_pipeline.commands.report import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
