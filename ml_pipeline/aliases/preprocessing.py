"""Where saved models find their class."""

from __future__ import annotations

from ml_pipeline.training.preprocessing import Clip

__all__ = ["Clip"]
