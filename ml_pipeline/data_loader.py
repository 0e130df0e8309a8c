"""Load the evaluation log: the confident errors, and every labelled row to learn.

Errors are the trigger, the seeds' CSV and the diagnosis; what is learned is every labelled row.
The log is the store's table or a file (`log.source`); both pass the same validation.
"""

from __future__ import annotations

from datetime import UTC, datetime

from ml_pipeline.config.defaults import DEFAULT_LOOKBACK_DAYS, ERROR_CONFIDENCE_THRESHOLD
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import load_settings, work_dir
from ml_pipeline.evaluation_log.known.report import LoadReport
from ml_pipeline.evaluation_log.loading import LoadedLog, load_log
from ml_pipeline.evaluation_log.rules import LogRequest
from ml_pipeline.runs.incumbent.answering import counted_ids
from ml_pipeline.store.records import LookbackWindow

__all__ = ["LoadReport", "LoadedLog", "LogRequest", "load_log", "prepare_retraining_data"]


def prepare_retraining_data(
    lookback_days: float = DEFAULT_LOOKBACK_DAYS,
    confidence_threshold: float = ERROR_CONFIDENCE_THRESHOLD,
) -> tuple[str | None, int]:
    """Write the error samples of the environment's store; return the CSV's path and their number.

    `(None, 0)` says that there are none, never that reading failed: faults are raised.
    """
    from ml_pipeline.store.opening import open_store

    flags = {"run.lookback_days": lookback_days, "run.confidence_threshold": confidence_threshold}
    settings = load_settings(flags=flags)
    store_settings = load_store_settings()
    now = datetime.now(UTC)
    window = LookbackWindow.ending(now, days=settings.run.lookback_days)
    store = open_store(store_settings)
    work = work_dir(settings, store_settings.local_dir)
    try:
        request = LogRequest(
            now=now,
            window=window,
            learn_from=window.start,
            model_ids=counted_ids(store, settings, now=now, work_dir=work),
        )
        loaded = load_log(store, settings, request, work)
    finally:
        store.close()
    count = loaded.report.errors
    return (str(loaded.errors_path), count) if count else (None, 0)
