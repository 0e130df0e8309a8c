"""The loop that keeps a deployed classifier good.

Public names are looked up on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

# See `aliases`: further names by which modules are called.
__path__.append(f"{__path__[0]}/aliases")

_PUBLIC = {
    "AdaptiveClassifier": "ml_pipeline.training.adaptive",
    "PredictionEngine": "ml_pipeline.serving.engine",
    "get_logger": "ml_pipeline.evaluation_log.opening",
    "prepare_retraining_data": "ml_pipeline.data_loader",
    "run_auto_reinforcement": "ml_pipeline.commands.run",
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
