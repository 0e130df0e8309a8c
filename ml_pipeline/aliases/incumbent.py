"""Where saved models find the class."""

from __future__ import annotations

from ml_pipeline.training.brought.incumbent import IncumbentClassifier

__all__ = ["IncumbentClassifier"]
