"""Outcomes by day and learning cycles of whoever is watched.

That is the champion with its versions, or a classifier of the person's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from ml_pipeline.config.settings import Settings
from ml_pipeline.decay import measures
from ml_pipeline.decay.context import CheckContext
from ml_pipeline.evaluation_log.frames import sum_file
from ml_pipeline.evaluation_log.loading import TABLE
from ml_pipeline.store.alerts import TOGETHER, DailyAccuracy, LearningCycle
from ml_pipeline.store.contract import Store
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.records import LookbackWindow, ModelVersion, day_start


def days_of(days: Sequence[DailyAccuracy], model_ids: frozenset[str] | None) -> list[DailyAccuracy]:
    """The days of those models; of all of them together for None."""
    if model_ids is None:
        return [day for day in days if day.model_id == TOGETHER]
    return [day for day in days if day.model_id in model_ids]


def all_days(store: Store, context: CheckContext) -> list[DailyAccuracy]:
    """Everybody's days; `prediction_accuracy_daily` is brought up to date first."""
    settings, today = context.settings, context.now.date()
    first = measures.horizon(settings.decay, today)
    kept = store.list_days(model_name=settings.model_name, since=first)
    start = first if settings.log.source != TABLE else _stale_from(store, context, kept, first)
    window = LookbackWindow(start=day_start(start), end=context.now + timedelta(microseconds=1))
    threshold = settings.run.confidence_threshold
    if settings.log.source == TABLE:
        summed = store.sum_days(
            window,
            model_name=settings.model_name,
            confidence_threshold=threshold,
            labels=Labels.of(settings.data),
        )
    else:
        summed = sum_file(store, settings, window, work_dir=context.work_dir)
    fresh = [*summed, *_together(summed)]
    found = {(day.day, day.model_id) for day in fresh}
    # Whose last outcome was erased, or taken back, stands there with nothing.
    fresh += [_nothing_of(day) for day in kept if _is_gone(day, found, start)]
    known = {(day.day, day.model_id): day for day in kept}
    new = [day for day in fresh if known.get((day.day, day.model_id)) != day]
    if new:
        store.keep_days(new, now=context.now)
    return [*(day for day in kept if day.day < start), *fresh]


def _stale_from(
    store: Store, context: CheckContext, kept: Sequence[DailyAccuracy], first: date
) -> date:
    """The first day whose sums may have changed: yesterday, or an earlier one that was imported.

    Earlier days are counted once a day only: outcomes become known on the day they are written. A
    day of which outcomes were corrected or erased is summed each time: its count does not show it.
    """
    changes = store.count_changes(model_name=context.settings.model_name)
    changed = [day for day in changes if day >= first]
    return min([_uncounted_from(store, context, kept, first), *changed])


def _uncounted_from(
    store: Store, context: CheckContext, kept: Sequence[DailyAccuracy], first: date
) -> date:
    today = context.now.date()
    seen = {day.day: day.evaluated for day in kept if day.model_id == TOGETHER}
    yesterday = today - timedelta(days=1)
    if today in seen or not seen:
        return max(first, yesterday) if seen else first
    window = LookbackWindow(start=day_start(first), end=context.now + timedelta(microseconds=1))
    counted = store.count_labelled(window, model_name=context.settings.model_name)
    changed_days = [day for day, count in counted.items() if seen.get(day) != count]
    return min([*changed_days, yesterday])


def _is_gone(day: DailyAccuracy, found: set[tuple[date, str]], start: date) -> bool:
    return day.day >= start and day.evaluated > 0 and (day.day, day.model_id) not in found


def _nothing_of(day: DailyAccuracy) -> DailyAccuracy:
    return DailyAccuracy(
        model_name=day.model_name, day=day.day, model_id=day.model_id, evaluated=0, correct=0
    )


def _together(days: Sequence[DailyAccuracy]) -> list[DailyAccuracy]:
    """Every model's sums of a day as one."""
    found: dict[date, list[DailyAccuracy]] = {}
    for day in days:
        found.setdefault(day.day, []).append(day)
    return [measures.added(parts, model_id=TOGETHER) for parts in found.values()]


def lineage_cycles(
    store: Store,
    settings: Settings,
    champion: ModelVersion | None,
    lineage: frozenset[str] | None,
) -> list[LearningCycle]:
    """The learning cycles of the lineage; one that names no model counts by its time."""
    limit = settings.decay.accept_rate_window
    cycles = store.learning_cycles(
        model_name=settings.model_name,
        limit=limit,
        model_ids=None if lineage is None else sorted(lineage),
    )
    if champion is None or lineage is None or not cycles:
        return cycles
    began = champion.created_at
    if any(cycle.model_id is None and cycle.at < began for cycle in cycles):
        began = _lineage_start(store, champion)
    return [cycle for cycle in cycles if cycle.model_id is not None or cycle.at >= began]


def _lineage_start(store: Store, champion: ModelVersion) -> datetime:
    """When the lineage of the champion began to serve."""
    events = store.promotion_events(model_name=champion.model_name)
    first = [e.created_at for e in events if e.to_model_id == champion.anchor_id]
    return min(first, default=champion.created_at)
