"""The rows that a run has to learn, and the model from which it goes on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation_log.loading import LoadedLog, load_log
from ml_pipeline.evaluation_log.rules import LogRequest
from ml_pipeline.registry.serving_state import ServingState, serving_models
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import Lineage, LookbackWindow, day_start

log = logging.getLogger("auto_reinforcement")


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What a run works on. `counted_ids` are the models whose errors count; None is everybody's.

    `is_rebuilt` says that rows of settled days turned up, so that the lineage is learned again
    from its approved base on.
    """

    serving: ServingState
    counted_ids: tuple[str, ...] | None
    loaded: LoadedLog
    is_rebuilt: bool = False

    def fresh_rows(self) -> int:
        """Labelled rows that have not been learned yet."""
        head = self.serving.head
        open_ids = None if head is None else head.lineage.open_event_ids
        return self.loaded.fresh_rows(frozenset(open_ids or ()))

    def details(self) -> dict[str, Any]:
        """What the run's row says of the rows."""
        rebuilt = {"rebuilt": True} if self.is_rebuilt else {}
        return {
            "load_report": self.loaded.report.as_json(),
            "dataset_path": str(self.loaded.errors_path),
            "training_path": str(self.loaded.labelled_path),
            **rebuilt,
        }


def prepare(
    store: Store, settings: Settings, serving: ServingState, folder: Path, *, now: datetime
) -> Prepared:
    """Load the evaluation log; again from the approved base on when late rows are in it."""
    counted_ids = serving_models(store, settings.model_name)
    request = LogRequest(
        now=now,
        window=LookbackWindow.ending(now, days=settings.run.lookback_days),
        learn_from=day_after(serving.settled_night),
        model_ids=counted_ids,
        count_from=_count_from(serving),
    )
    loaded = load_log(store, settings, request, folder)
    prepared = Prepared(serving=serving, counted_ids=counted_ids, loaded=loaded)
    if serving.champion is None or serving.head is None:
        return prepared
    if not has_late_rows(serving.head.lineage, loaded.labelled_by_day):
        return prepared
    log.warning("Rows of days already learned have arrived: learning again from the approved base")
    base = store.get_model(settings.model_name, serving.champion.anchor_id)
    rebuilt = serving.rebuilt_from(base)
    again = replace(request, learn_from=day_after(rebuilt.settled_night))
    return replace(
        prepared,
        serving=rebuilt,
        loaded=load_log(store, settings, again, folder),
        is_rebuilt=True,
    )


def _count_from(serving: ServingState) -> datetime:
    """From when on labelled rows are counted by day: late ones show by the count."""
    first = None if serving.head is None else serving.head.lineage.first_night
    if first is not None:
        return day_start(date.fromordinal(first))
    return day_after(serving.settled_night) or day_start(date(1970, 1, 1))


def has_late_rows(lineage: Lineage, labelled_by_day: Mapping[date, int]) -> bool:
    """Whether the log holds more rows of settled days than it did when they were learned."""
    first, settled, learned = lineage.first_night, lineage.settled_night, lineage.log_rows
    if first is None or settled is None or learned is None:
        return False
    days = {day.toordinal(): count for day, count in labelled_by_day.items()}
    found = sum(count for day, count in days.items() if first <= day <= settled)
    # A log that forgets its oldest rows cannot be learned again.
    is_whole = days.get(first, 0) >= (lineage.first_night_rows or 0)
    return found > learned and is_whole


def day_after(night: int | None) -> datetime | None:
    """When the day after a settled one begins; None when none is settled."""
    return None if night is None else day_start(date.fromordinal(night) + timedelta(days=1))
