"""The only place that names an adapter."""

from __future__ import annotations

from pathlib import Path

from ml_pipeline.config import StoreSettings
from ml_pipeline.errors import ConfigError
from ml_pipeline.store import Store


def open_store(settings: StoreSettings) -> Store:
    """Open the store the person chose."""
    if settings.local_dir is not None:
        from ml_pipeline.local_store import LocalStore

        return LocalStore.open(Path(settings.local_dir))
    raise ConfigError(
        "The Supabase store is not part of this version yet.",
        hint="Use --local DIR for an embedded store.",
    )
