"""The only place that names an adapter."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ml_pipeline.config import StoreSettings
    from ml_pipeline.serving import Serving
    from ml_pipeline.store import Store


def open_store(settings: StoreSettings) -> Store:
    """Open the store the person chose."""
    from ml_pipeline.errors import ConfigError

    if settings.local_dir is not None:
        from pathlib import Path

        from ml_pipeline.local_store import LocalStore

        return LocalStore.open(Path(settings.local_dir))
    if settings.supabase_url is not None and settings.supabase_key is not None:
        from ml_pipeline.supabase_client import SupabaseStore

        return SupabaseStore.open(settings.supabase_url, settings.supabase_key)
    raise ConfigError(
        "No store is configured.",
        hint="Set SUPABASE_URL and SUPABASE_SERVICE_KEY, or give --local DIR.",
    )


def open_local_serving(folder: str) -> Serving:
    """The embedded store's quick door; the folder must hold a store."""
    from ml_pipeline.local_serving import LocalServing

    return LocalServing(folder)


def open_serving(settings: StoreSettings) -> Serving:
    """The store the person chose, as a prediction needs it; an embedded one is made if need be."""
    store = open_store(settings)
    if settings.local_dir is not None:
        store.close()
        return open_local_serving(settings.local_dir)
    from ml_pipeline.store_serving import StoreServing

    return StoreServing(store)
