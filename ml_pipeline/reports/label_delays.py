"""How late outcomes become known, and what a loop cannot do when that is long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation_log.loading import TABLE
from ml_pipeline.store.alerts import LabelDelays
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import LookbackWindow

LATE_DAYS: Final = 7.0
ROWS_READ: Final = 200_000
_DAY: Final = np.timedelta64(1, "D")


def delays(store: Store, settings: Settings, labelled: Path, *, now: datetime) -> LabelDelays:
    """Those of the last days as the table knows them, or those of the labelled rows of a file."""
    if settings.log.source != TABLE:
        return delays_of_file(labelled)
    days = settings.promotion.evaluation_window_days
    window = LookbackWindow(start=now - timedelta(days=days), end=now + timedelta(microseconds=1))
    return store.label_delays(window, model_name=settings.model_name)


def delays_of_file(labelled: Path) -> LabelDelays:
    """Those of rows as a run writes them, which say when they were predicted."""
    columns = ["predicted_at", "known_at"]
    rows = pd.read_csv(labelled, dtype=str, keep_default_na=False, usecols=columns, nrows=ROWS_READ)
    known, made = (
        pd.to_datetime(rows[name], utc=True, errors="coerce", format="ISO8601")
        for name in ("known_at", "predicted_at")
    )
    found = (known - made).dropna()
    taken = np.sort(found.to_numpy() / _DAY)
    taken = taken[taken > 0]
    if not len(taken):
        return LabelDelays(rows=0)
    middle, last = (len(taken) + 1) // 2, (9 * len(taken) + 9) // 10
    return LabelDelays(
        rows=len(taken), median=float(taken[middle - 1]), most=float(taken[last - 1])
    )


def delays_json(found: LabelDelays) -> dict[str, Any]:
    """As plain JSON values; `late` says that they are longer than `LATE_DAYS`."""
    return asdict(found) | {"late": is_late(found)}


def described(kept: Mapping[str, Any] | None) -> str | None:
    """What `delays_json` kept, for people; None where a run kept nothing of it."""
    if not kept or not kept["rows"]:
        return None
    found = LabelDelays(rows=kept["rows"], median=kept["median"], most=kept["most"])
    return " ".join(filter(None, (sentence(found), consequence(found))))


def is_late(found: LabelDelays) -> bool:
    """Whether half of the outcomes took longer than `LATE_DAYS`."""
    return found.median is not None and found.median > LATE_DAYS


def sentence(found: LabelDelays) -> str:
    """When outcomes come, for people."""
    if found.median is None or found.most is None:
        return "No outcome says how long after its prediction it was known."
    return (
        f"Half of the outcomes were known within {_days(found.median)} of the prediction, nine "
        f"tenths within {_days(found.most)}."
    )


def consequence(found: LabelDelays) -> str:
    """What the loop cannot do with outcomes that come so late; '' where they do not."""
    if not is_late(found) or found.median is None:
        return ""
    late = _days(found.median)
    return (
        f"So a change in the world is learned about {late} after it came, one that goes again "
        "sooner is learned when it is over, and a model that became worse is noticed as late."
    )


def _days(number: float) -> str:
    """Days, or hours where it is less than one."""
    if number < 1:
        hours = max(1, round(number * 24))
        return f"{hours} hour{'s' if hours > 1 else ''}"
    text = f"{number:.1f}".removesuffix(".0")
    return f"{text} day{'' if text == '1' else 's'}"
