"""Whether the monitoring page of this machine lets in whoever asks."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Final

from ml_pipeline.commands.checks.findings import Finding, fine, warning
from ml_pipeline.commands.monitor import PORT
from ml_pipeline.config.environment import (
    MONITOR_TOKEN_VARIABLE,
    load_monitor_token,
    load_serve_token,
)
from ml_pipeline.errors import ConfigError

_TIMEOUT_S: Final = 1
_NAME: Final = "monitor_page"
_TOKEN_NEEDED: Final = 401
# What the page's own overview always holds.
_OURS: Final = {"runs", "requests", "champion"}


def page(port: int = PORT) -> Finding:
    """Whether its token can be guessed, and whether the page at `port` asks for one."""
    try:
        load_monitor_token()
        load_serve_token()
    except ConfigError as error:
        return warning(_NAME, error.message, error.hint)
    address = f"http://127.0.0.1:{port}/"
    shown = _overview(address)
    if shown is None:
        return fine(_NAME, f"No monitoring page answers at {address}.")
    if not shown:
        return fine(_NAME, f"The monitoring page at {address} asks for its token.")
    what = (
        f"The monitoring page at {address} asks for no token: every account of this machine, and "
        "whoever a proxy in front of it lets in, reads it and presses its buttons."
    )
    do = (
        "Start it by `ml-pipeline monitor`, which makes a token, or give `Guard` one: "
        f"{MONITOR_TOKEN_VARIABLE}, at least 16 letters."
    )
    return warning(_NAME, what, do)


def _overview(address: str) -> bool | None:
    """Whether everything is shown without a token; None where no page of ours is."""
    # Whatever proxy the environment names, this machine is asked itself.
    ask = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with ask.open(f"{address}api/overview", timeout=_TIMEOUT_S) as answer:
            return set(json.load(answer)) >= _OURS or None
    except urllib.error.HTTPError as error:
        return False if error.code == _TOKEN_NEEDED and _is_ours(error) else None
    except (OSError, ValueError, TypeError):
        return None


def _is_ours(error: urllib.error.HTTPError) -> bool:
    return b"Authorization: Bearer TOKEN" in error.read(1000)
