"""Whether the log holds other rows than a lineage has learned, told by counts alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import date, datetime, timedelta

from ml_pipeline.store.records import Lineage, day_start

log = logging.getLogger("auto_reinforcement")


def has_late_rows(
    lineage: Lineage,
    labelled_by_day: Mapping[date, int],
    counted_from: date | None = None,
    changes_by_day: Mapping[date, int] | None = None,
) -> bool:
    """Whether the log holds other rows of settled days than it did when they were learned.

    More of them, or changed ones. `counted_from` is the first day that was counted now, else that
    of the first rows learned.
    """
    first, settled, learned = lineage.first_night, lineage.settled_night, lineage.log_rows
    if first is None or settled is None or learned is None:
        return False
    days = {day.toordinal(): count for day, count in labelled_by_day.items()}
    changes = changes_by_day or {}
    # Where nobody counted before the first night, nothing was there: it would have been the first.
    start = first if counted_from is None else counted_from.toordinal()
    found = sum(count for day, count in days.items() if start <= day <= settled)
    is_changed = new_changes(lineage, changes, date.fromordinal(start))[0] > 0
    if found <= learned and not is_changed:
        return False
    whole = is_whole(lineage, labelled_by_day, changes)
    if is_changed and not whole:
        log.warning(
            "Results that were learned have changed since, and the log no longer goes back to the "
            "first one: `ml-pipeline train --from-table --register` trains a new base",
        )
    return whole


def restart_night(
    lineage: Lineage, labelled_by_day: Mapping[date, int], counted_from: date
) -> int | None:
    """The newest night of which the model keeps its state and since which all late rows are."""
    start = counted_from.toordinal()
    days = {day.toordinal(): count for day, count in labelled_by_day.items()}
    kept = {int(night): rows for night, rows in (lineage.snapshots or {}).items()}
    for night in sorted(kept, reverse=True):
        if lineage.counted_from == start and kept[night] == sum(
            count for day, count in days.items() if start <= day <= night
        ):
            return night
    return None


def is_whole(
    lineage: Lineage,
    labelled_by_day: Mapping[date, int],
    changes_by_day: Mapping[date, int] | None = None,
) -> bool:
    """Whether the log goes back to the first day that the lineage has learned.

    A log that forgets its oldest rows cannot be learned again. Rows that were erased, or corrected
    to another day, are no such loss.
    """
    if lineage.first_night is None:
        return True
    first = date.fromordinal(lineage.first_night)
    # One that moved a row to an earlier day is noted there.
    changes = sum(count for day, count in (changes_by_day or {}).items() if day <= first)
    found = labelled_by_day.get(first, 0) + changes
    return found >= (lineage.first_night_rows or 0)


def new_changes(
    lineage: Lineage, changes_by_day: Mapping[date, int], counted_from: date
) -> tuple[int, int]:
    """How many changes of settled days, and of later ones, were made since they were learned."""
    if lineage.first_night is None and lineage.log_changes is None:
        return 0, 0  # nothing of the log was learned, or nobody counted
    settled = lineage.settled_night or 0
    start = counted_from.toordinal() if lineage.first_night is not None else 0
    days = {day.toordinal(): count for day, count in changes_by_day.items()}
    before = sum(count for day, count in days.items() if start <= day <= settled)
    after = sum(count for day, count in days.items() if day > settled)
    return (
        max(0, before - (lineage.log_changes or 0)),
        max(0, after - (lineage.open_changes or 0)),
    )


def day_after(night: int | None) -> datetime | None:
    """When the day after a settled one begins; None when none is settled."""
    return None if night is None else day_start(date.fromordinal(night) + timedelta(days=1))
