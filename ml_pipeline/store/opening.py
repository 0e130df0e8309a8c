"""The only place that names an adapter."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ml_pipeline.config.environment import StoreSettings
    from ml_pipeline.store.backup.folder import Manifest
    from ml_pipeline.store.contract import Store
    from ml_pipeline.store.project_facts import ProjectFacts
    from ml_pipeline.store.serving_view import ServingView
    from ml_pipeline.store.supabase.store import SupabaseStore


def open_store(settings: StoreSettings) -> Store:
    """Open the store the person chose."""
    from ml_pipeline.errors import ConfigError

    if settings.local_dir is not None:
        from pathlib import Path

        from ml_pipeline.store.embedded.store import LocalStore

        return LocalStore.open(Path(settings.local_dir))
    if settings.supabase_url is not None and settings.supabase_key is not None:
        from ml_pipeline.store.supabase.store import SupabaseStore

        return SupabaseStore.open(
            settings.supabase_url,
            settings.supabase_key,
            public_url=settings.supabase_public_url,
        )
    raise ConfigError(
        "No store is configured.",
        hint="Set SUPABASE_URL and SUPABASE_SERVICE_KEY, or give --local DIR.",
    )


def inspect_project(
    settings: StoreSettings, *, buckets: tuple[str, ...], clock: Callable[[], datetime], quick: bool
) -> ProjectFacts:
    """Ask a Supabase project about itself.

    Raises Refused, StoreUnavailable, and ConfigError where no project is configured.
    """
    from ml_pipeline.errors import ConfigError

    if settings.supabase_url is None or settings.supabase_key is None:
        raise ConfigError("No Supabase project is configured.")
    from ml_pipeline.store.supabase.facts import inspect

    return inspect(
        settings.supabase_url, settings.supabase_key, buckets=buckets, clock=clock, quick=quick
    )


def missing_of_file_system(folder: str) -> list[str]:
    """What the file system of an embedded store's folder lacks. Raises OSError."""
    from pathlib import Path

    from ml_pipeline.store.embedded.file_system import missing

    return missing(Path(folder))


def open_local_serving_view(folder: str) -> ServingView:
    """The embedded store as a prediction needs it; the folder must hold a store."""
    from ml_pipeline.store.embedded.serving_view import LocalServingView

    return LocalServingView(folder)


def open_serving_view(settings: StoreSettings) -> ServingView:
    """The store the person chose, as a prediction needs it; an embedded one is made if need be."""
    store = open_store(settings)
    if settings.local_dir is not None:
        store.close()
        return open_local_serving_view(settings.local_dir)
    from ml_pipeline.store.store_serving_view import StoreServingView

    return StoreServingView(store)


def back_up_local(directory: str, csv: str, target: str, *, now: datetime) -> Manifest:
    """Copy an embedded store into a new folder. Raises ConfigError, StoreError."""
    from pathlib import Path

    from ml_pipeline.store.embedded.backup import back_up

    return back_up(Path(directory), Path(csv), Path(target), now=now)


def restore_local(folder: str, directory: str, csv: str) -> Manifest:
    """Make an embedded store of a backup. Raises ConfigError, StoreError."""
    from pathlib import Path

    from ml_pipeline.store.embedded.backup import restore

    return restore(Path(folder), Path(directory), Path(csv))


def back_up_project(
    settings: StoreSettings, database_url: str | None, target: str, *, now: datetime
) -> Manifest:
    """Copy what is ours in a Supabase project into a new folder. Raises ConfigError, StoreError."""
    from pathlib import Path

    from ml_pipeline.store.supabase.backup import back_up

    url, store = _project(settings, database_url)
    try:
        return back_up(store, url, Path(target), now=now)
    finally:
        store.close()


def restore_project(settings: StoreSettings, database_url: str | None, folder: str) -> Manifest:
    """Fill a Supabase project with a backup. Raises ConfigError, StoreError."""
    from pathlib import Path

    from ml_pipeline.store.supabase.backup import restore

    url, store = _project(settings, database_url)
    try:
        return restore(store, url, Path(folder))
    finally:
        store.close()


def _project(settings: StoreSettings, database_url: str | None) -> tuple[str, SupabaseStore]:
    from ml_pipeline.errors import ConfigError

    if database_url is None:
        raise ConfigError(
            "The rows of a Supabase project are copied from its database.",
            hint="Give --database-url, as for `ml-pipeline init`; --local DIR is for an embedded "
            "store.",
        )
    if settings.supabase_url is None or settings.supabase_key is None:
        raise ConfigError("No Supabase project is configured.")
    from ml_pipeline.store.supabase.store import SupabaseStore

    return database_url, SupabaseStore.open(settings.supabase_url, settings.supabase_key)
