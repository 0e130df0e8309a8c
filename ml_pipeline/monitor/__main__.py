"""`python -m ml_pipeline.monitor`."""

from __future__ import annotations

import sys

from ml_pipeline.monitor import main

if __name__ == "__main__":
    sys.exit(main())
