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
    if settings.supabase_url is not None and settings.supabase_key is not None:
        from ml_pipeline.supabase_client import SupabaseStore

        return SupabaseStore.open(settings.supabase_url, settings.supabase_key)
    raise ConfigError(
        "No store is configured.",
        hint="Set SUPABASE_URL and SUPABASE_SERVICE_KEY, or give --local DIR.",
    )
