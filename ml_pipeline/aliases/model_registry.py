"""`python -m ml_pipeline.model_registry` is `ml-pipeline models`."""

from __future__ import annotations

import sys

from ml_pipeline.commands.models import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
