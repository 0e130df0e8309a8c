"""Whether the project's API sees what `init` has just made in the database."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Final, Literal

from ml_pipeline.config.environment import StoreSettings, load_store_settings
from ml_pipeline.errors import ConfigError, StoreRefused, StoreUnavailable
from ml_pipeline.store.opening import inspect_project
from ml_pipeline.store.project_facts import RELOAD_HINT

log = logging.getLogger("init")

_WAIT_S: Final = 10
_PAUSE_S: Final = 0.2


def check(version: int) -> Literal["ready", "not asked"]:
    """Ask the API of SUPABASE_URL, where the environment names one, for the schema's version.

    The API reads the new schema a moment after it was told to: it is asked for up to ten seconds.
    Raises StoreRefused when it does not know the version by then, and what `inspect_project`
    raises: the database has its schema all the same, but nothing could work with it.
    """
    try:
        settings = load_store_settings(None)
    except ConfigError:
        settings = None
    if settings is None or settings.supabase_url is None or settings.supabase_key is None:
        log.info("SUPABASE_URL and its key are not set: `ml-pipeline doctor` asks the API later")
        return "not asked"
    until = time.monotonic() + _WAIT_S
    while True:
        is_last = time.monotonic() > until
        seen = _version(settings, is_last=is_last)
        if seen == version:
            return "ready"
        if is_last:
            break
        time.sleep(_PAUSE_S)
    known = "none" if seen is None else f"version {seen}"
    raise StoreRefused(
        f"The database has schema version {version}, but the API at SUPABASE_URL knows {known}: "
        "its copy of the schema is stale, or it belongs to another database.",
        hint=f"Compare SUPABASE_URL with the database's URL. {RELOAD_HINT}",
    )


def _version(settings: StoreSettings, *, is_last: bool) -> int | None:
    try:
        facts = inspect_project(settings, buckets=(), clock=lambda: datetime.now(UTC), quick=True)
    except StoreUnavailable:
        if is_last:
            raise
        return None
    return facts.version
