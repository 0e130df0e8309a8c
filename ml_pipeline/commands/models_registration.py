"""`models register`: the rows to judge a person's own model on, and a folder to do it in."""

from __future__ import annotations

import argparse
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import Settings, work_dir
from ml_pipeline.errors import ConfigError, DataError
from ml_pipeline.evaluation_log.answering.asking import why_a_person_decides
from ml_pipeline.evaluation_log.loading import load_known
from ml_pipeline.runs.run_log import folder_for_rows
from ml_pipeline.store.contract import Store
from ml_pipeline.store.inputs.times import read_time
from ml_pipeline.training.brought.registering import Registering
from ml_pipeline.training.brought.registering import register as register_model
from ml_pipeline.training.request import TrainingRequest


def register(
    store: Store, settings: Settings, args: argparse.Namespace, *, now: datetime, new_id: str
) -> dict[str, Any]:
    """Check, judge and register the model of `args.file`; returns what is printed."""
    kind = Path(args.file).suffix.lstrip(".").lower() or "model"
    with tempfile.TemporaryDirectory() as folder:
        rows = args.dataset or _rows_of_log(store, settings, args.local, now=now)
        request = TrainingRequest(
            dataset=str(rows),
            settings=settings,
            output_dir=Path(folder),
            model_id=args.model_id or f"{kind}_{now:%Y%m%d_%H%M%S}_{new_id[:8]}",
            now=now,
            today=now.date(),
        )
        wanted = Registering(
            request=request,
            path=Path(args.file),
            rows_from=args.dataset or "the log",
            fitted_until=_time(args.fitted_until),
            dry_run=args.dry_run,
            held=why_a_person_decides(store, settings, now=now),
        )
        return register_model(store, wanted)


def _rows_of_log(store: Store, settings: Settings, local: str | None, *, now: datetime) -> Path:
    """Every result of the log that the settings can read, as a file. Raises DataError for none."""
    folder = folder_for_rows(work_dir(settings, load_store_settings(local).local_dir))
    known = load_known(store, settings, None, folder, now=now)
    if known.labelled_rows:
        return known.labelled_path
    raise DataError(
        "The log holds no result that has every feature of the settings: there is nothing to "
        "judge the model on.",
        hint="Name a file of labelled rows that it was not fitted on with --dataset.",
    )


def _time(text: str | None) -> datetime | None:
    """A moment, the last one of a day that is named alone. Raises ConfigError."""
    if text is None:
        return None
    try:
        moment = read_time(text)
    except ValueError as error:
        raise ConfigError(f"--fitted-until: {error}.") from None
    return moment + _DAY if ":" not in text and "T" not in text.upper() else moment


_DAY = timedelta(days=1) - timedelta(microseconds=1)
