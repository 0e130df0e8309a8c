"""Where saved models find the classes."""

from __future__ import annotations

from ml_pipeline.training.encoding.kind_features import LevelMeans, Levels, MomentParts

__all__ = ["LevelMeans", "Levels", "MomentParts"]
