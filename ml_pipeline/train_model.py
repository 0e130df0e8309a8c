"""Train a base, or fine-tune a model on new rows: `ml-pipeline train`."""

from __future__ import annotations

import sys

from ml_pipeline.commands.train import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
