"""Rows of a base are recognised in the log: once each, by id or by content, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.datasets.fitted_rows import FittedRows
from tests.support.streams import dataset, draw

FEATURES, LABELS = draw(3, 50)
IDS = [f"event {n}" for n in range(50)]
UNTIL = 100


def fitted(data: Dataset) -> FittedRows:
    return FittedRows.of(data, until=UNTIL, id_column="id")


def rows(**columns: Any) -> Dataset:  # noqa: ANN401 - columns of a frame
    return dataset(FEATURES, LABELS, **columns)


def test_rows_are_recognised_by_their_event_ids_whenever_they_come() -> None:
    found, left = fitted(rows(event_id=IDS)).find(UNTIL + 900, IDS, FEATURES + 1, LABELS)
    assert found.all()
    assert len(left) == 0


def test_without_event_ids_inputs_and_label_tell_until_the_day_of_training() -> None:
    known = fitted(rows())
    assert known.find(UNTIL, IDS, FEATURES, LABELS)[0].all()
    assert not known.find(UNTIL + 1, IDS, FEATURES, LABELS)[0].any()
    assert not known.find(UNTIL, IDS, FEATURES, np.roll(LABELS, 1))[0].all()


def test_the_id_of_a_table_tells_later_as_well_if_inputs_and_label_are_the_same() -> None:
    known = fitted(rows(id=IDS))
    assert known.find(UNTIL + 1, IDS, FEATURES, LABELS)[0].all()
    assert not known.find(UNTIL + 1, IDS, FEATURES + 1, LABELS)[0].any()


def test_a_row_of_the_base_stands_for_one_row_of_the_log() -> None:
    data = rows().take(np.asarray([0, 0, 1]))
    same = np.repeat(FEATURES[:1], 5, axis=0)
    labels = np.repeat(LABELS[:1], 5)
    found, left = fitted(data).find(UNTIL, IDS[:5], same, labels)
    assert found.tolist() == [True, True, False, False, False]
    assert len(left) == 1


def test_missing_values_and_zeros_are_the_same_however_they_are_written() -> None:
    features = np.asarray([[np.nan, 0.0, 1.0]])
    data = rows().take(np.asarray([0]))
    known = fitted(replace(data, features=features))
    other = np.asarray([[-np.nan, -0.0, 1.0]])
    assert known.find(UNTIL, IDS[:1], other, LABELS[:1])[0].all()


def test_what_is_kept_is_read_back_and_only_ids_outlive_the_day_of_training() -> None:
    known = FittedRows.from_dict(fitted(rows(id=IDS)).as_dict())
    assert len(known.settled(UNTIL - 1)) == len(known.settled(UNTIL)) == 50
    assert len(fitted(rows()).settled(UNTIL)) == 0
    assert len(FittedRows.from_dict({})) == 0
