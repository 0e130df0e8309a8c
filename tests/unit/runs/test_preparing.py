"""Rows that turn up for days already learned are noticed by their count."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.runs.late_rows.counting import has_late_rows, is_whole, restart_night
from ml_pipeline.runs.preparing import changed_settings
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import Lineage
from ml_pipeline.training.heads.rates import rates_of
from tests.support.factories import make_model

FIRST = date(2026, 3, 1)
LINEAGE = Lineage(
    first_night=FIRST.toordinal(),
    settled_night=(FIRST + timedelta(days=2)).toordinal(),
    log_rows=30,
    first_night_rows=10,
)


@pytest.mark.parametrize(
    ("counts", "is_late"),
    [
        ([10, 10, 10], False),
        ([10, 11, 10], True),
        ([10, 10, 10, 40], False),
        # The log has forgotten rows of the first day: it cannot be learned again from there.
        ([5, 10, 40], False),
    ],
)
def test_more_rows_of_settled_days_than_were_learned_are_late(
    counts: list[int],
    is_late: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    days = {FIRST + timedelta(days=number): count for number, count in enumerate(counts)}
    assert has_late_rows(LINEAGE, days) is is_late


def test_a_base_that_has_learned_no_day_has_no_late_rows() -> None:
    assert not has_late_rows(Lineage(), {FIRST: 10})


def test_rows_of_days_before_the_first_one_are_late_where_nobody_counted_them() -> None:
    counted = {FIRST + timedelta(days=number): 10 for number in range(3)}
    early = FIRST - timedelta(days=4)
    assert has_late_rows(LINEAGE, counted | {early: 1}, early)
    known = replace(LINEAGE, log_rows=31)
    assert not has_late_rows(known, counted | {early: 1}, early)


@pytest.mark.parametrize(
    ("counts", "days_after_the_first"),
    [
        ([10, 10, 10, 11], 2),
        ([10, 10, 11, 10], 1),
        ([10, 11, 10, 11], 0),
        ([11, 10, 10, 10], None),
        # Rows are gone as well: no state is what the log makes of the base.
        ([9, 10, 10, 12], None),
    ],
)
def test_it_is_learned_again_from_the_newest_state_before_the_late_rows(
    counts: list[int], days_after_the_first: int | None
) -> None:
    first = FIRST.toordinal()
    lineage = Lineage(
        first_night=first,
        settled_night=first + 3,
        log_rows=40,
        counted_from=first,
        snapshots={str(first + number): 10 * (number + 1) for number in range(3)},
    )
    days = {FIRST + timedelta(days=number): count for number, count in enumerate(counts)}
    night = restart_night(lineage, days, FIRST)
    assert (None if night is None else night - first) == days_after_the_first
    assert restart_night(lineage, days, FIRST - timedelta(days=1)) is None
    assert restart_night(replace(lineage, snapshots=None), days, FIRST) is None


@pytest.mark.parametrize(
    ("counts", "days_after_the_first"),
    [
        ([0, 10, 10, 11], 2),
        ([0, 0, 11, 11], 1),
        ([0, 0, 0, 10], None),
        # Before the first state that is kept nobody can tell.
        ([0, 0, 0, 0], None),
    ],
)
def test_rows_that_are_gone_hide_none_that_have_come_since_a_state_that_is_kept(
    counts: list[int], days_after_the_first: int | None
) -> None:
    first = FIRST.toordinal()
    lineage = replace(
        LINEAGE,
        settled_night=first + 3,
        log_rows=40,
        counted_from=first,
        snapshots={str(first + number): 10 * (number + 1) for number in range(3)},
    )
    days = {FIRST + timedelta(days=number): count for number, count in enumerate(counts)}
    assert has_late_rows(lineage, days, FIRST) is (days_after_the_first is not None)
    night = restart_night(lineage, days, FIRST, is_forgetful=True)
    assert (None if night is None else night - first) == days_after_the_first
    # Nor where rows of other days than the first are gone.
    some_gone = days | {FIRST: 10, FIRST + timedelta(days=1): 1}
    assert has_late_rows(lineage, some_gone, FIRST) is (days_after_the_first is not None)


def test_a_result_that_was_moved_from_the_first_day_to_an_earlier_one_is_no_forgotten_row() -> None:
    first = date(2026, 3, 2)
    lineage = Lineage(first_night=first.toordinal(), first_night_rows=3)
    before = first - timedelta(days=1)
    assert is_whole(lineage, {before: 1, first: 2}, {before: 1})
    assert not is_whole(lineage, {first: 1}, {before: 1})


@pytest.mark.parametrize(
    ("kept", "named", "changed"),
    [
        ({}, {"Heim": "H"}, ("data.labels",)),
        ({"1": "H"}, {"1": "A"}, ("data.labels",)),
        ({"Heim": "H"}, {"Heim": "H"}, ()),
        # What was learned by a spelling stays learned.
        ({"Heim": "H"}, None, ()),
        # A record of an earlier version says nothing of them.
        (None, {"Heim": "H"}, ()),
    ],
)
def test_a_spelling_that_was_named_since_is_a_changed_setting(
    tmp_path: Path,
    kept: dict[str, str] | None,
    named: dict[str, str] | None,
    changed: tuple[str, ...],
) -> None:
    settings = Settings().changed({"data.labels": named})
    learned = replace(LINEAGE, rates=rates_of(settings.training), labels=kept)
    store = LocalStore.open(tmp_path / "store")
    assert changed_settings(store, replace(make_model("m"), lineage=learned), settings) == changed
    base = replace(make_model("m"), lineage=replace(learned, first_night=None))
    assert changed_settings(store, base, settings) == ()
    store.close()
