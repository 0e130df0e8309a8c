"""Open the evaluation log that an application writes: `get_logger`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr

from ml_pipeline.config.environment import StoreSettings, chosen_store
from ml_pipeline.config.quick import evaluation_csv
from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.evaluation_log.logger import EvaluationLogger
from ml_pipeline.evaluation_log.recording.features import LoggedFeatures
from ml_pipeline.store.contract import Store
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.serving_view import ServingView


class MLLogger(EvaluationLogger):
    """The evaluation log with its comparison; `open_store` opens the whole store, if there is one.

    Use it as a context manager, or close it.
    """

    open_store: Callable[[], Store] | None = None

    def reconcile_logs(self, *, repair: bool = False) -> dict[str, Any]:
        """Compare the CSV with the store's table; `repair` adds what is missing on either side."""
        from ml_pipeline.evaluation_log.reconciling import reconcile

        if self.open_store is None:
            return reconcile(self, None, repair=repair)
        store = self.open_store()
        try:
            return reconcile(self, store, repair=repair)
        finally:
            store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def get_logger(
    supabase_url: str | None = None,
    supabase_key: str | None = None,
    *,
    local_dir: str | None = None,
    csv_path: str | Path | None = None,
    model_name: str | None = None,
) -> MLLogger:
    """Open the evaluation log of a store: the one named here, else the environment's.

    Without either the CSV stands alone, and a store that is chosen later takes in what it holds.
    Raises ConfigError for settings that cannot be used.
    """
    settings = load_settings(flags={"model_name": model_name})
    if csv_path is not None:
        settings = settings.changed({"log.csv_file": str(csv_path)})
    chosen: StoreSettings | None
    if supabase_url and supabase_key and not local_dir:
        chosen = StoreSettings(supabase_url=supabase_url, supabase_key=SecretStr(supabase_key))
    else:
        chosen = chosen_store(local_dir)
    return open_logger(settings, chosen)


def open_logger(settings: Settings, chosen: StoreSettings | None) -> MLLogger:
    """The evaluation log beside a store, or alone."""
    from ml_pipeline.store import opening

    folder = None if chosen is None else chosen.local_dir
    open_table: Callable[[], ServingView] | None = None
    if chosen is not None:
        open_table = lambda: opening.open_serving_view(chosen)  # noqa: E731 - or the type is lost
    logger = MLLogger(
        evaluation_csv(settings.log.csv_file, folder),
        model_name=settings.model_name,
        open_table=open_table,
        labels=lambda: Labels.of(settings.data),
    )
    logger.checked_features = LoggedFeatures.of(settings.data).checked
    if chosen is not None:
        logger.open_store = lambda: opening.open_store(chosen)
    return logger
