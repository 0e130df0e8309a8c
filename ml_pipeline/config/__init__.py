"""Settings: read, joined, checked; `quick` for predictions.

Public names are looked up on first use.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PUBLIC = {
    "Settings": "ml_pipeline.config.settings",
    "load_monitor_token": "ml_pipeline.config.environment",
    "load_settings": "ml_pipeline.config.settings",
    "load_store_settings": "ml_pipeline.config.environment",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the public name is
    if name not in _PUBLIC:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_PUBLIC[name]), name)
