"""Where saved models find their class."""

from __future__ import annotations

from ml_pipeline.training.adaptive import AdaptiveClassifier

__all__ = ["AdaptiveClassifier"]
