"""What a model has learned of an open day, in a row of a few kilobytes."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipeline.store.lineage.lineage import Lineage
from ml_pipeline.store.lineage.open_rows import KEPT, OpenRows


def ids(start: int, stop: int) -> list[str]:
    return [str(UUID(int=number)) for number in range(start, stop)]


@given(st.sets(st.text()), st.sets(st.text()))
def test_of_a_few_rows_every_one_is_known(learned: set[str], found: set[str]) -> None:
    assert OpenRows.of(learned).unlearned(found) == len(found - learned)


def test_of_many_rows_the_new_ones_of_a_log_that_only_grows_are_counted() -> None:
    learned = OpenRows.of(ids(0, 80_000))
    assert learned.unlearned(ids(0, 80_000)) == 0
    assert learned.unlearned(ids(0, 80_001)) == 1
    assert learned.unlearned([*ids(0, 80_000), *ids(90_000, 90_040)]) == 40


def test_of_many_rows_of_which_some_are_gone_the_new_ones_are_estimated() -> None:
    learned = OpenRows.of(ids(0, 20_000))
    # A tenth of them was erased, or belongs to the base and never stood in the log.
    assert learned.unlearned(ids(2_000, 30_000)) == pytest.approx(10_000, rel=0.05)
    assert learned.unlearned(ids(20_000, 25_000)) == pytest.approx(5_000, rel=0.05)


def test_a_row_of_a_model_stays_small_and_comes_back() -> None:
    learned = OpenRows.of(ids(0, 100_000))
    stored = json.dumps(Lineage(settled_night=1, open_rows=learned).as_json())
    assert len(stored) < 12_000
    assert Lineage.from_json(json.loads(stored)).learned_open_rows == learned
    assert len(learned.marks) == KEPT


def test_what_earlier_versions_wrote_is_read() -> None:
    old = Lineage.from_json({"open_event_ids": ["a", "b"]})
    assert old.learned_open_rows.unlearned(["a", "b", "c"]) == 1
    assert Lineage().learned_open_rows.unlearned(["a"]) == 1
