"""`python -m ml_pipeline.analytics` is `ml-pipeline analyse`."""

from __future__ import annotations

import sys

from ml_pipeline.commands.analyse import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
