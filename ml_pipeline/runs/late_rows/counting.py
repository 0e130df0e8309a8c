"""Whether the log holds other rows than a lineage has learned, told by counts alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from itertools import pairwise

from ml_pipeline.store.records import Lineage, day_start

log = logging.getLogger("auto_reinforcement")


def has_late_rows(
    lineage: Lineage,
    labelled_by_day: Mapping[date, int],
    counted_from: date | None = None,
    changes_by_day: Mapping[date, int] | None = None,
) -> bool:
    """Whether the log holds other rows of settled days than it did, and they can be learned.

    More of them, or changed ones. `counted_from` is the first day that was counted now, else that
    of the first rows learned. Where the log has forgotten its first day, only what has come since
    a night of which the model keeps its state can be.
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
    # Rows that are gone must not hide others that have come.
    is_late_lately = _late_since(lineage, labelled_by_day, start) is not None
    if found <= learned and not is_changed and not is_late_lately:
        return False
    if is_whole(lineage, labelled_by_day, changes):
        return True
    if is_changed or not is_late_lately:
        log.warning(
            "Results of learned days have arrived or were changed, and the log no longer goes back "
            "to the first one: `ml-pipeline train --from-table --register` trains a new base",
        )
    return is_late_lately


def restart_night(
    lineage: Lineage,
    labelled_by_day: Mapping[date, int],
    counted_from: date,
    *,
    is_forgetful: bool = False,
) -> int | None:
    """The newest night of which the model keeps its state and since which all late rows are.

    Of a log that `is_forgetful`, those that can still be told: what it has forgotten stays learned.
    """
    start = counted_from.toordinal()
    if is_forgetful:
        return _late_since(lineage, labelled_by_day, start)
    days = {day.toordinal(): count for day, count in labelled_by_day.items()}
    kept = {int(night): rows for night, rows in (lineage.snapshots or {}).items()}
    for night in sorted(kept, reverse=True):
        if lineage.counted_from == start and kept[night] == sum(
            count for day, count in days.items() if start <= day <= night
        ):
            return night
    return None


def _late_since(lineage: Lineage, labelled_by_day: Mapping[date, int], start: int) -> int | None:
    """The night of a kept state after which, until the next one, more rows stand than then did.

    The earliest one. Rows of earlier days that are gone do not matter.
    """
    settled, learned = lineage.settled_night, lineage.log_rows
    if lineage.counted_from != start or settled is None or learned is None:
        return None
    days = {day.toordinal(): count for day, count in labelled_by_day.items()}
    kept = {int(night): rows for night, rows in (lineage.snapshots or {}).items()}
    for (night, before), (until, rows) in pairwise(sorted((kept | {settled: learned}).items())):
        if sum(count for day, count in days.items() if night < day <= until) > rows - before:
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
