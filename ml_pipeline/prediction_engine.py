"""Predict with a registered model: `ml-pipeline predict`, and `PredictionEngine` in Python."""

from __future__ import annotations

import sys

from ml_pipeline.commands.predict import main
from ml_pipeline.serving.engine import PredictionEngine

__all__ = ["PredictionEngine", "main"]

if __name__ == "__main__":
    sys.exit(main())
