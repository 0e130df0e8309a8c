"""A base in the shadow is proven against the base that serves, not against one before it."""

from __future__ import annotations

import numpy as np

from ml_pipeline.config.sections import AdaptiveSettings
from ml_pipeline.evaluation.ledger import ChampionRecord, champion_record
from ml_pipeline.training.online.rows import by_day, nightly_rows
from ml_pipeline.training.online_model import Incumbent, OnlineState, take_in
from tests.support import streams
from tests.support.streams import DAY_ONE

SIZES = [40, 35, 45, 31]
FIRST = DAY_ONE.toordinal()


def recorded(state: OnlineState, compared_from: int | None) -> ChampionRecord:
    return champion_record(
        state.ledger, state.wealth, today=FIRST + len(SIZES), window_days=30,
        compared_from=compared_from,
    )  # fmt: skip


def taken_on(start: OnlineState, compared_from: int | None, first: int = 0) -> OnlineState:
    """The state after the nights from `first` on."""
    model, state, rules = streams.model(), start, AdaptiveSettings(quarantine=False)
    incumbent = Incumbent(
        model_id="champion", memory=model.memory(), compared_from=compared_from
    )  # fmt: skip
    for night, rows in by_day(*nightly_rows(streams.stream(SIZES), model, rules)):
        if night >= FIRST + first:
            state, _ = take_in(model, state, night, rows, incumbent, rules)
    return state


def test_nights_before_another_base_served_prove_nothing_against_it() -> None:
    fresh = OnlineState.fresh(streams.model())
    cut = taken_on(fresh, FIRST + 2)
    assert len(cut.ledger) == len(SIZES)
    record, whole = recorded(cut, FIRST + 2), recorded(taken_on(fresh, None), None)
    assert whole.everything.rows == sum(SIZES)
    assert record.everything.rows == record.everything.proof().units == sum(SIZES[2:])
    assert record.recent.rows == sum(SIZES[2:])
    wealths = [taken_on(fresh, since).wealth for since in (None, FIRST, FIRST - 9)]
    assert wealths[0] == wealths[1] == wealths[2]
    assert whole.everything.proof() == wealths[0]


def test_results_that_come_late_are_no_new_proof_of_the_nights_before() -> None:
    fresh = OnlineState.fresh(streams.model())
    model, rules = streams.model(), AdaptiveSettings(quarantine=False)
    (night, rows), *_ = by_day(*nightly_rows(streams.stream(SIZES), model, rules))
    incumbent = Incumbent(model_id="former", memory=model.memory())
    snapshot, _ = take_in(model, fresh, night, rows, incumbent, rules)
    again = taken_on(snapshot, FIRST + 2, first=1)
    assert recorded(again, FIRST + 2).everything.proof().units == sum(SIZES[2:])
    straight = taken_on(fresh, FIRST + 2).wealth
    assert np.allclose(again.wealth.as_list(), straight.as_list())


def test_before_the_first_night_against_it_nothing_is_proven() -> None:
    state = taken_on(OnlineState.fresh(streams.model()), None)
    record = recorded(state, FIRST + len(SIZES))
    assert record.everything.rows == record.everything.proof().units == 0
