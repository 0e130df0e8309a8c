"""HTTP endpoints: the monitoring page.

Public names are looked up on first use.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PUBLIC = {
    "Guard": "ml_pipeline.web.guard",
    "Proxies": "ml_pipeline.web.proxies",
    "create_app": "ml_pipeline.web.app",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the public name is
    if name not in _PUBLIC:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_PUBLIC[name]), name)
