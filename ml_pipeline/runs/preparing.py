"""The rows that a run has to learn, and the model from which it goes on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation_log.loading import LoadedLog, classes_of, load_log
from ml_pipeline.evaluation_log.rules import LogRequest
from ml_pipeline.registry.serving_state import ServingState, serving_models
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import Lineage, LookbackWindow, ModelVersion, day_start

log = logging.getLogger("auto_reinforcement")


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What a run works on. `counted_ids` are the models whose errors count; None is everybody's.

    `counted_from` is the first day of which the log's labelled rows were counted. `is_rebuilt`
    says that rows of settled days turned up, so that the lineage is learned again from its
    approved base on.
    """

    serving: ServingState
    counted_ids: tuple[str, ...] | None
    loaded: LoadedLog
    counted_from: date | None = None
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
    rows = unlearned_rows(store, settings, serving.head, folder, now=now, model_ids=counted_ids)
    return Prepared(
        serving=replace(serving, head=rows.head),
        counted_ids=counted_ids,
        loaded=rows.loaded,
        counted_from=rows.counted_from,
        is_rebuilt=rows.is_rebuilt,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class UnlearnedRows:
    """The rows that a lineage has to learn, and the `head` from which it goes on with them.

    The head is the lineage's base when it `is_rebuilt`.
    """

    head: ModelVersion | None
    loaded: LoadedLog
    counted_from: date
    is_rebuilt: bool


def unlearned_rows(  # noqa: PLR0913 - a lineage, its log and whose errors count
    store: Store,
    settings: Settings,
    head: ModelVersion | None,
    folder: Path,
    *,
    now: datetime,
    model_ids: tuple[str, ...] | None,
) -> UnlearnedRows:
    """Load what `head` has not learned; again from its base on when late rows are in the log."""
    count_from = _count_from(store, head)
    request = LogRequest(
        now=now,
        window=LookbackWindow.ending(now, days=settings.run.lookback_days),
        learn_from=_learn_from(head),
        model_ids=model_ids,
        count_from=count_from,
        classes=classes_of(head, settings),
    )
    loaded = load_log(store, settings, request, folder)
    counted_from = count_from.date()
    is_late = head is not None and has_late_rows(head.lineage, loaded.labelled_by_day, counted_from)
    if head is not None and is_late:
        log.warning(
            "Rows of days already learned have arrived: learning again from the base %s",
            head.anchor_id,
        )
        head = store.get_model(settings.model_name, head.anchor_id)
        again = replace(request, learn_from=_learn_from(head))
        loaded = load_log(store, settings, again, folder)
    return UnlearnedRows(head=head, loaded=loaded, counted_from=counted_from, is_rebuilt=is_late)


def _learn_from(head: ModelVersion | None) -> datetime | None:
    return None if head is None else day_after(head.lineage.settled_night)


def _count_from(store: Store, head: ModelVersion | None) -> datetime:
    """From when on labelled rows are counted by day: late ones show by the count.

    From the first day that the lineage could learn of, before which only its base knows rows: the
    late rows may be the first ones of their day.
    """
    if head is not None and head.lineage.counted_from is not None:
        return day_start(date.fromordinal(head.lineage.counted_from))
    base = head
    if head is not None and head.lineage.first_night is not None:
        base = store.get_model(head.model_name, head.anchor_id)
    settled = None if base is None else base.lineage.settled_night
    return day_after(settled) or day_start(date(1970, 1, 1))


def has_late_rows(
    lineage: Lineage, labelled_by_day: Mapping[date, int], counted_from: date | None = None
) -> bool:
    """Whether the log holds more rows of settled days than it did when they were learned.

    `counted_from` is the first day that was counted now, else that of the first rows learned.
    """
    first, settled, learned = lineage.first_night, lineage.settled_night, lineage.log_rows
    if first is None or settled is None or learned is None:
        return False
    days = {day.toordinal(): count for day, count in labelled_by_day.items()}
    # Where nobody counted before the first night, nothing was there: it would have been the first.
    start = first if counted_from is None else counted_from.toordinal()
    found = sum(count for day, count in days.items() if start <= day <= settled)
    # A log that forgets its oldest rows cannot be learned again.
    is_whole = days.get(first, 0) >= (lineage.first_night_rows or 0)
    return found > learned and is_whole


def day_after(night: int | None) -> datetime | None:
    """When the day after a settled one begins; None when none is settled."""
    return None if night is None else day_start(date.fromordinal(night) + timedelta(days=1))
