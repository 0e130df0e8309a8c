"""Where saved models find their class."""

from __future__ import annotations

from ml_pipeline.training.text_features import TextStatistics

__all__ = ["TextStatistics"]
