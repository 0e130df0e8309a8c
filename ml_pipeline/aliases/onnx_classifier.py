"""Where saved models find their class."""

from __future__ import annotations

from ml_pipeline.registry.onnx_models.classifier import OnnxClassifier

__all__ = ["OnnxClassifier"]
