"""What is learned and what is held out: splits in time, by chance, by id, never across groups."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import ALONE, Dataset
from ml_pipeline.datasets.entities import Entities, entities_of
from ml_pipeline.datasets.features import SHOWN
from ml_pipeline.datasets.times import days_of
from ml_pipeline.errors import DataError

_BUCKETS: Final = 10_000
# The share of a class's rows from which on it is new.
_MOST: Final = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Row numbers to train on and to hold out; no group is in both parts."""

    train: NDArray[np.int64]
    holdout: NDArray[np.int64]


def split(data: Dataset, *, test_size: float, seed: int) -> Split:
    """Hold out the last rows in time, or a stratified random part when there is no time.

    Whole groups move together. Raises DataError when one part would be empty.
    """
    count = max(1, round(len(data) * test_size))
    if len(data) - count < 1:
        raise DataError(f"{data.source} has {len(data)} rows: too few to hold any out.")
    held = np.zeros(len(data), dtype=bool)
    if data.times is not None:
        order = np.argsort(data.times.to_numpy(), kind="stable")
        held[order[-count:]] = True
    else:
        held = _drawn(data, count, seed)
    if data.groups is not None:
        held = _whole_groups(data.groups, held)
    parts = Split(train=np.flatnonzero(~held), holdout=np.flatnonzero(held))
    if not len(parts.train) or not len(parts.holdout):
        raise DataError(f"{data.source}: all rows belong to one group, none can be held out.")
    assert_disjoint(data.groups, parts)
    return parts


def _whole_groups(groups: NDArray[np.str_], held: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows of a group that is in both parts go where its first row is: to the past."""
    trained = set(groups[~held].tolist())
    return np.asarray(held & [group not in trained for group in groups])


def _drawn(data: Dataset, count: int, seed: int) -> NDArray[np.bool_]:
    """A random part of about `count` rows: single rows, or whole groups by their first label."""
    if data.groups is None:
        drawn = _stratified(data.labels, count, seed)
        return np.isin(np.arange(len(data)), drawn)
    names, first = np.unique(data.groups, return_index=True)
    share = max(1, round(count * len(names) / len(data)))
    drawn = _stratified(data.labels[first], share, seed)
    return np.isin(data.groups, names[drawn])


def _stratified(labels: NDArray[np.str_], count: int, seed: int) -> NDArray[np.int64]:
    """Row numbers of a random part of about `count` rows with every class in proportion.

    At least one row of each class stays outside.
    """
    chosen: list[NDArray[np.int64]] = []
    random = np.random.default_rng(seed)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        share = min(round(count * len(rows) / len(labels)), len(rows) - 1)
        chosen.append(rows[:share])
    picked = np.concatenate(chosen)
    if len(picked):
        return picked
    largest = max(np.unique(labels), key=lambda label: int((labels == label).sum()))
    return np.flatnonzero(labels == largest)[-1:]


def split_stable(data: Dataset, settings: Settings) -> Split:
    """Hold out the last rows in time; of a class that is new then, its own last rows.

    Without times a row is held out by its id, or by its content, so that data that grows keeps
    what it held out: the champion of today was not trained on it either.
    """
    training, key = settings.training, settings.ground_truth.id_column
    if data.times is not None:
        parts = split(data, test_size=training.test_size, seed=training.random_seed)
        return _with_new_classes(data, parts, training.test_size)
    if key in data.frame.columns:
        names = data.frame[key].astype(str).tolist()
    else:
        names = [f"{row.tolist()}" for row in data.features]
    share = np.asarray([zlib.crc32(name.encode()) % _BUCKETS / _BUCKETS for name in names])
    held = share < training.test_size
    parts = Split(train=np.flatnonzero(~held), holdout=np.flatnonzero(held))
    if not len(parts.train) or not len(parts.holdout):
        raise DataError(f"{data.source}: its {len(data)} rows leave nothing to hold out.")
    return without_shared_groups(data.groups, parts)


def _with_new_classes(data: Dataset, parts: Split, test_size: float) -> Split:
    """Hold out the last rows of each class of which most would be held out, and of the others.

    A class that came up lately could not be learned otherwise, and a base would be judged on what
    it was never shown.
    """
    if data.times is None:
        return parts
    is_held = np.zeros(len(data), dtype=bool)
    is_held[parts.holdout] = True
    new = [c for c in np.unique(data.labels) if is_held[data.labels == c].mean() > _MOST]
    kinds = np.where(np.isin(data.labels, new), data.labels, "")
    held: list[NDArray[np.int64]] = []
    for kind in np.unique(kinds) if new else ():
        rows = np.flatnonzero(kinds == kind)
        rows = rows[np.argsort(data.times.iloc[rows].to_numpy(), kind="stable")]
        held.append(rows[len(rows) - min(max(1, round(len(rows) * test_size)), len(rows) - 1) :])
    if not held or not sum(map(len, held)):
        return parts
    holdout = np.sort(np.concatenate(held))
    train = np.setdiff1d(np.arange(len(data)), holdout)
    return without_shared_groups(data.groups, Split(train=train, holdout=holdout))


def unlearned(data: Dataset, parts: Split, until: datetime | None) -> Split:
    """Without held-out rows that the champion may have been trained on."""
    if until is None or data.times is None:
        return parts
    later = (data.times.iloc[parts.holdout] > pd.Timestamp(until)).to_numpy()
    return Split(train=parts.train, holdout=parts.holdout[later])


def learned_until(data: Dataset, rows: Any) -> datetime | None:  # noqa: ANN401 - row numbers
    """The time of the last of those rows, for the model's lineage."""
    if data.times is None or not len(rows):
        return None
    latest: datetime = data.times.iloc[rows].max().to_pydatetime()
    return latest


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenIn:
    """What a base has learned of the log: every row up to day `night`, and rows of later days.

    `open_events` are those rows with their days, ordinals both; `entities` are those of everything
    that it has learned.
    """

    night: int | None = None
    open_events: Mapping[str, int] = field(default_factory=dict)
    entities: Entities = field(default_factory=lambda: np.empty(0, dtype=np.uint32))


def taken_in(data: Dataset, learned: NDArray[np.int64], today: date | None) -> TakenIn:
    """Which days of the log were learned whole; data that is not the log's has none.

    Rows of `today` may still come, so it is not over.
    """
    entities = entities_of(data)[learned]
    if data.times is None or "event_id" not in data.frame.columns or not len(learned):
        return TakenIn(entities=entities)
    nights = days_of(data.times)
    missed = np.delete(nights, learned)
    # The next run takes up every day after the last one, also the rest of a day that was cut.
    ends = [int(nights[learned].max()), *(missed - 1).tolist()]
    last = min(ends if today is None else [*ends, today.toordinal() - 1])
    event_ids = data.frame["event_id"].astype(str).to_numpy()
    later = [row for row in learned if nights[row] > last]
    open_events = {str(event_ids[r]): int(nights[r]) for r in later}
    return TakenIn(night=last, open_events=open_events, entities=entities)


def without_shared_groups(
    groups: NDArray[np.str_] | None, parts: Split, others: NDArray[np.str_] | None = None
) -> Split:
    """Take rows of a group that is learned out of the holdout; `others` are learned beside."""
    if groups is None:
        return parts
    learned = groups[parts.train]
    if others is not None:
        # Rows without a group are numbered in each file.
        learned = np.asarray([*learned, *(n for n in others if not n.startswith(ALONE))], dtype=str)
    kept = parts.holdout[~np.isin(groups[parts.holdout], learned)]
    cleaned = Split(train=parts.train, holdout=kept)
    assert_disjoint(groups, cleaned)
    return cleaned


def assert_disjoint(groups: NDArray[np.str_] | None, parts: Split) -> None:
    """Raise DataError when a row or a group is both learned and judged on."""
    shared = set(parts.train.tolist()) & set(parts.holdout.tolist())
    if groups is not None:
        shared |= set(groups[parts.train].tolist()) & set(groups[parts.holdout].tolist())
    if shared:
        shown = ", ".join(map(str, sorted(map(str, shared))[:SHOWN]))
        raise DataError(f"Leakage: {shown} would be both learned and judged on.")
