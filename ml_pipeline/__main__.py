"""`python -m ml_pipeline` is the same program as `ml-pipeline`."""

from __future__ import annotations

import sys

from ml_pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main())
