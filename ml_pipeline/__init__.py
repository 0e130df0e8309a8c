"""The loop that keeps a deployed classifier good.

Public names are looked up on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "AdaptiveClassifier": "ml_pipeline.adaptive",
    "PredictionEngine": "ml_pipeline.prediction_engine",
    "get_logger": "ml_pipeline.ml_logging",
    "prepare_retraining_data": "ml_pipeline.data_loader",
    "run_auto_reinforcement": "ml_pipeline.auto_reinforcement",
}

__all__ = [
    "AdaptiveClassifier",
    "PredictionEngine",
    "__version__",
    "get_logger",
    "prepare_retraining_data",
    "run_auto_reinforcement",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the public name is
    if name not in _PUBLIC:
        message = f"module 'ml_pipeline' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_PUBLIC[name]), name)
