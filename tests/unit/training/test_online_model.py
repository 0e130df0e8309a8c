"""The state is a function of the rows alone, and every row is scored before it is learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ml_pipeline.config.sections import AdaptiveSettings
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.datasets.fitted_rows import FittedRows
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.ledger import (
    FORMER_COLUMNS,
    LEDGER_COLUMNS,
    online_record,
    with_all_columns,
)
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.heads.newton import Lesson
from ml_pipeline.training.heads.rates import changed_rates
from ml_pipeline.training.learned_rows import OPEN_EVENTS, Champion
from ml_pipeline.training.online.rows import Rows, by_day, nightly_rows
from ml_pipeline.training.online.snapshots import SNAPSHOTS, Snapshot, with_newest
from ml_pipeline.training.online_model import Incumbent, NightScores, OnlineState, take_day, take_in
from ml_pipeline.training.online_training import adapt, by_settings
from ml_pipeline.training.strategies import Challenger
from tests.support import streams
from tests.support.properties import tries
from tests.support.streams import DAY_ONE, SETTINGS, draw, serving

Floats = NDArray[np.float64]
PROBES = draw(99, 50)[0]
UNEVEN = [40, 0, 12, 9, 0, 31, 55, 3, 30, 29, 1]
# What a ledger holds of model and anchor; who was champion depends on when the runs were.
OF_THE_LINE = [n for n, name in enumerate(LEDGER_COLUMNS) if not name.startswith("champion")]


@dataclass(kw_only=True)
class Loop:
    """Runs one after the other, each from the model that the one before left."""

    served: AdaptiveClassifier = field(default_factory=streams.model)
    runs: int = 0

    def run(
        self, data: Dataset, day: int, hour: float = 24.0, restart: int | None = None
    ) -> Challenger:
        """One run on the `day`th day that sees what was known by `hour`.

        It learns again what came after the day `restart`.
        """
        assert data.times is not None
        known = data.times < streams.moment_of(day, 60 * hour)
        today = DAY_ONE + timedelta(days=day)
        champion = Champion(model_id=f"model {self.runs}", model=self.served)
        result = adapt(
            self.served, champion, [data.take(np.flatnonzero(known))], today, SETTINGS,
            restart_night=None if restart is None else DAY_ONE.toordinal() + restart,
        )  # fmt: skip
        self.served, self.runs = result.model, self.runs + 1
        return result


def _line(result: Challenger) -> OnlineState:
    assert result.online is not None
    return result.online


def _settled(result: Challenger) -> OnlineState:
    assert result.model.line_ is not None
    return OnlineState.from_dict(result.model.line_)


def _assert_same(one: Challenger, other: Challenger) -> None:
    both = [result.model.predict_proba(PROBES) for result in (one, other)]
    assert both[0] == pytest.approx(both[1], abs=1e-12)
    assert one.training_digest == other.training_digest
    for of in (_line, _settled):
        left, right = of(one), of(other)
        assert left.rows_digest == right.rows_digest
        assert left.rows_seen == right.rows_seen
        assert (left.night, left.first_night) == (right.night, right.first_night)
        assert left.last_event_id == right.last_event_id
        assert left.waiting.event_ids == right.waiting.event_ids
        assert left.memory.vote == pytest.approx(right.memory.vote, abs=1e-12)
        assert left.entities.tolist() == right.entities.tolist()
        ledgers = [state.ledger[:, OF_THE_LINE] for state in (left, right)]
        assert ledgers[0] == pytest.approx(ledgers[1], abs=1e-9)


# ------------------------------------------------------------------- a function of the rows


def test_a_run_a_night_one_run_and_a_rebuild_end_in_the_same_state() -> None:
    data, last = streams.stream(UNEVEN, turn_per_day=0.1), len(UNEVEN) - 1
    nightly = Loop()
    for day in range(last + 1):
        every_night = nightly.run(data, day)
    at_once = Loop().run(data, last)
    rebuilt = Loop().run(data, last)
    _assert_same(every_night, at_once)
    _assert_same(rebuilt, at_once)
    assert at_once.rows_learned == sum(UNEVEN)
    assert _line(at_once).rows_seen == sum(UNEVEN)


@settings(max_examples=tries(8), deadline=None)
@given(
    sizes=st.lists(st.integers(0, 45), min_size=2, max_size=9),
    cuts=st.lists(st.tuples(st.integers(0, 8), st.floats(0, 24)), max_size=8),
    seed=st.integers(0, 50),
)
def test_it_does_not_matter_when_the_runs_were(
    sizes: list[int], cuts: list[tuple[int, float]], seed: int
) -> None:
    data, last = streams.stream(sizes, seed=seed, turn_per_day=0.1), len(sizes) - 1
    often = Loop()
    for day, hour in sorted((day, hour) for day, hour in cuts if day <= last):
        often.run(data, day, hour)
    _assert_same(often.run(data, last), Loop().run(data, last))


@pytest.mark.parametrize("days_late", [1, 2, 3])
def test_late_rows_learned_from_a_snapshot_end_in_the_state_of_all_rows(days_late: int) -> None:
    sizes = [40, 35, 12, 31, 9, 45, 33, 50]
    data, loop = streams.stream(sizes, turn_per_day=0.1), Loop()
    assert data.times is not None
    is_late = np.arange(len(data)) % 3 == 0
    for day in range(first := days_late + 2, len(sizes)):
        # Of every third row the outcome is imported so many days after that which it is dated.
        imported = (data.times < streams.moment_of(day - days_late)).to_numpy()
        known = data.take(np.flatnonzero(imported | ~is_late))
        restart = day - days_late - 2 if day > first else None
        again = loop.run(known, day, hour=0.1, restart=restart)
        _assert_same(again, Loop().run(known, day, hour=0.1))
    assert again.model.line_ is not None
    assert len(again.model.line_[SNAPSHOTS]) == 3


def test_of_large_states_the_last_one_alone_is_kept() -> None:
    state = OnlineState.fresh(streams.model())
    few = FittedRows.none()
    snapshots = [
        Snapshot(state=replace(state, night=night, entities=np.zeros(size, np.uint32)), fitted=few)
        for night, size in ((1, 0), (2, 0), (3, 0), (4, 0), (5, 100_000), (6, 300_000))
    ]
    kept: tuple[Snapshot, ...] = ()
    nights = []
    for snapshot in snapshots:
        kept = with_newest(kept, snapshot, snapshot.state)
        nights.append([one.night for one in kept])
    assert nights == [[1], [1, 2], [1, 2, 3], [2, 3, 4], [4, 5], [6]]


def test_a_night_of_which_no_state_was_kept_is_no_place_to_start_from() -> None:
    data, loop = streams.stream([40] * 6), Loop()
    loop.run(data, 5)
    with pytest.raises(DataError, match="no state as it was after day"):
        loop.run(data, 5, restart=0)


def test_a_week_without_runs_is_caught_up_with_day_by_day() -> None:
    data = streams.stream([35] * 9, turn_per_day=0.1)
    nightly, outage = Loop(), Loop()
    for day in range(9):
        every_night = nightly.run(data, day)
        if day in {0, 1, 8}:
            after_the_outage = outage.run(data, day)
    _assert_same(every_night, after_the_outage)
    assert _line(after_the_outage).ledger.shape == (9, len(LEDGER_COLUMNS))


def test_rows_of_an_open_day_are_learned_for_serving_but_not_settled() -> None:
    data, loop = streams.stream([40, 40]), Loop()
    morning = loop.run(data, 1, hour=0.25)
    assert (_line(morning).rows_seen, _settled(morning).rows_seen) == (55, 40)
    assert len(morning.evidence) == 55
    assert morning.model.line_ is not None
    assert len(morning.model.line_[OPEN_EVENTS]) == 15
    evening = loop.run(data, 1)
    assert (_line(evening).rows_seen, _settled(evening).rows_seen) == (80, 40)
    # What the morning's model learned cannot speak for or against the evening's.
    assert len(evening.evidence) == 25
    assert set(morning.evidence.event_ids).isdisjoint(evening.evidence.event_ids)


def test_days_too_small_to_learn_alone_wait_for_each_other() -> None:
    data = streams.stream([10, 10, 9, 10, 0, 0])
    result = Loop().run(data, 5)
    assert _settled(result).ledger[:, :2].tolist() == [[DAY_ONE.toordinal() + 3, 39]]
    assert len(_settled(result).waiting) == 0
    waiting = Loop().run(streams.stream([10, 10, 9, 0]), 3)
    assert _settled(waiting).ledger.shape[0] == 0
    assert len(_settled(waiting).waiting) == 29
    # The served model knows them all the same.
    assert _line(waiting).ledger[0, 1] == 29
    assert not np.array_equal(
        waiting.model.predict_proba(PROBES), streams.model().predict_proba(PROBES)
    )


@settings(max_examples=tries(4), deadline=None)
@given(order=st.permutations(range(75)))
def test_the_order_in_which_rows_come_does_not_matter(order: list[int]) -> None:
    data = streams.stream([40, 20, 15])
    shuffled = data.take(np.asarray(order))
    _assert_same(Loop().run(shuffled, 2), Loop().run(data, 2))


def test_a_row_is_learned_once_however_often_a_run_is_repeated() -> None:
    data, loop = streams.stream([40, 12, 20]), Loop()
    first = loop.run(data, 2)
    for _ in range(3):
        again = loop.run(data, 2)
        _assert_same(again, first)
        # The champion has learned every row by now: nothing can be said for or against it.
        assert again.evidence.champion is None
        assert _line(again).ledger[-1, LEDGER_COLUMNS.index("champion_rows")] == 0


def test_a_later_run_without_new_rows_serves_the_same_probabilities() -> None:
    data, loop = streams.stream([40, 12, 20]), Loop()
    first, later = loop.run(data, 2), loop.run(data, 6)
    assert later.model.predict_proba(PROBES) == pytest.approx(
        first.model.predict_proba(PROBES), abs=1e-12
    )


def test_rows_after_today_are_left_for_later() -> None:
    data = streams.stream([40, 40, 40])
    early = Loop().run(data, 0)
    today = adapt(streams.model(), serving(streams.model()), [data], DAY_ONE, SETTINGS)
    _assert_same(today, early)


def test_the_model_that_goes_in_is_left_as_it_was() -> None:
    head = streams.model()
    before = head.predict_proba(PROBES)
    adapt(head, serving(head), [streams.stream([40])], DAY_ONE, SETTINGS)
    assert np.array_equal(head.predict_proba(PROBES), before)
    assert head.line_ is not None
    assert head.line_["rows_seen"] == 0


def test_every_id_label_feature_and_day_is_in_the_digest() -> None:
    rows = _rows(streams.stream([5]))[1]
    changes = [
        replace(rows, event_ids=("x", *rows.event_ids[1:])),
        replace(rows, actual=(rows.actual + 1) % 3),
        replace(rows, features=rows.features + 1e-12),
    ]
    digests = [each.digest("", 1) for each in (rows, *changes)]
    digests += [rows.digest("", 2), rows.digest("before", 1)]
    assert len(set(digests)) == 6
    assert rows.digest("", 1) == digests[0]


def test_a_model_without_a_line_cannot_go_on() -> None:
    bare = AdaptiveClassifier().adopt(streams.base(), draw(7, 300)[0], streams.CLASSES)
    with pytest.raises(DataError, match="carries no record of the days"):
        adapt(bare, serving(bare), [streams.stream([40])], DAY_ONE, SETTINGS)


def test_rows_without_ids_or_times_have_no_nights() -> None:
    features, labels = draw(1, 40)
    for data in (
        streams.dataset(features, labels, event_id=range(40)),
        streams.dataset(features, labels, moments=[streams.moment_of(0)] * 40),
    ):
        with pytest.raises(DataError, match="nights cannot be told apart"):
            adapt(streams.model(), serving(streams.model()), [data], DAY_ONE, SETTINGS)


def test_a_label_that_the_model_does_not_know_stops_the_night() -> None:
    data = streams.stream([40])
    data.labels[3] = "V"
    with pytest.raises(DataError, match="does not know: V"):
        adapt(streams.model(), serving(streams.model()), [data], DAY_ONE, SETTINGS)


# --------------------------------------------------------------------------- day after day


def _rows(data: Dataset) -> tuple[NDArray[np.int64], Rows]:
    return nightly_rows(data, streams.model(), AdaptiveSettings())


def _replayed(
    data: Dataset, adaptive: AdaptiveSettings | None = None, incumbent: Incumbent | None = None
) -> tuple[OnlineState, list[NightScores]]:
    model = streams.model()
    state, scored = OnlineState.fresh(model), []
    incumbent = incumbent or Incumbent(model_id="anchor", memory=state.memory)
    adaptive = adaptive or AdaptiveSettings()
    for night, rows in by_day(*_rows(data)):
        state, scores = take_in(model, state, night, rows, incumbent, adaptive)
        scored += [scores] if scores else []
    return state, scored


@pytest.mark.parametrize("night", [4, 5])
def test_a_day_taken_in_twice_is_an_error(night: int) -> None:
    model = streams.model()
    state = take_day(OnlineState.fresh(model), 5, Rows.none(streams.model()))
    with pytest.raises(ValueError, match=f"day {night} comes after day 5 was taken in"):
        take_day(state, night, Rows.none(streams.model()))


def test_a_day_without_rows_moves_the_mark_and_nothing_else() -> None:
    state = OnlineState.fresh(streams.model())
    after = take_day(state, 7, Rows.none(streams.model()))
    assert (after.night, after.first_night, after.rows_digest, after.rows_seen) == (7, 7, "", 0)
    assert after.last_event_id is None
    assert after.memory is state.memory


def test_a_night_is_scored_before_it_is_learned() -> None:
    model, data = streams.model(), streams.stream([40, 40, 40], turn_per_day=0.5)
    state, scored = _replayed(data)
    assert np.array_equal(scored[0].live, model.predict_proba(scored[0].rows.features))
    learned = streams.model()
    for scores in scored:
        live = learned.predict_proba(scores.rows.features)
        assert scores.live == pytest.approx(live, abs=1e-12)
        assert scores.anchor == pytest.approx(model.base_proba(scores.rows.features), abs=1e-12)
        learned.partial_fit(scores.rows.features, np.asarray(streams.CLASSES)[scores.rows.actual])
    learned_by_line = streams.model().set_memory(state.memory).predict_proba(PROBES)
    assert learned_by_line == pytest.approx(learned.predict_proba(PROBES), abs=1e-12)


def test_the_sums_of_the_ledger_are_those_of_the_rows() -> None:
    data = streams.stream([40, 50, 33], turn_per_day=0.5)
    memory = streams.model().partial_fit(*draw(3, 200, turn=1.0)).memory()
    some = frozenset(data.frame["event_id"].astype(str).iloc[::4])
    state, scored = _replayed(data, incumbent=Incumbent(model_id="c", memory=memory, learned=some))
    assert len(scored) == 3
    for entry, scores in zip(state.ledger, scored, strict=True):
        row = dict(zip(LEDGER_COLUMNS, entry.tolist(), strict=True))
        actual, ids = scores.rows.actual, scores.rows.event_ids
        each = np.arange(len(actual))
        live = -np.log(scores.live[each, actual])
        anchor = -np.log(scores.anchor[each, actual])
        champion = -np.log(scores.champion[each, actual])
        unseen = np.array([event_id not in some for event_id in ids])
        assert 0 < unseen.sum() < len(ids)
        assert row == pytest.approx(
            {
                "night": scores.night,
                "rows": len(actual),
                "live_loss": live.sum(),
                "live_correct": (scores.live.argmax(axis=1) == actual).sum(),
                "anchor_loss": anchor.sum(),
                "anchor_correct": (scores.anchor.argmax(axis=1) == actual).sum(),
                "gain_sum": (anchor - live).sum(),
                "gain_squares": ((anchor - live) ** 2).sum(),
                "champion_rows": unseen.sum(),
                "champion_gain_sum": (champion - live)[unseen].sum(),
                "champion_gain_squares": ((champion - live)[unseen] ** 2).sum(),
                "quarantined": 0,
                "served_rows": 0,
                "units": len(actual),
                "weight": len(actual),
                "weight_squares": len(actual),
                "gain_weight": (anchor - live).sum(),
                "champion_units": unseen.sum(),
                "champion_weight": unseen.sum(),
                "champion_weight_squares": unseen.sum(),
                "champion_gain_weight": (champion - live)[unseen].sum(),
            },
            abs=1e-9,
        )
    assert state.champions == ("c", "c", "c")


@given(st.lists(st.integers(0, 6), max_size=30))
def test_rows_cut_by_day_are_all_there_and_in_order(days: list[int]) -> None:
    nights = sorted(days)
    rows = Rows(
        features=np.arange(len(nights), dtype=np.float64)[:, None],
        base=np.full((len(nights), 2), 0.5),
        actual=np.zeros(len(nights), dtype=np.int64),
        weights=np.ones(len(nights)),
        event_ids=tuple(map(str, range(len(nights)))),
    )
    cut = list(by_day(nights, rows))
    assert [night for night, _ in cut] == sorted(set(nights))
    assert [len(day) for _, day in cut] == [nights.count(night) for night, _ in cut]
    assert [event_id for _, day in cut for event_id in day.event_ids] == list(rows.event_ids)
    joined = rows.take(np.arange(0))
    for _, day in cut:
        joined = joined.followed_by(day)
    assert np.array_equal(joined.features, rows.features)
    assert joined.event_ids == rows.event_ids


def test_a_day_is_a_day_in_utc_and_its_rows_stand_by_event_id() -> None:
    features, labels = draw(1, 3)
    late = streams.moment_of(0, 23 * 60 + 59)
    moments = [streams.moment_of(1), late, streams.moment_of(0)]
    data = streams.dataset(features, labels, moments=moments, event_id=["a", "b", "c"])
    nights, rows = _rows(data)
    assert nights.tolist() == [DAY_ONE.toordinal()] * 2 + [DAY_ONE.toordinal() + 1]
    assert rows.event_ids == ("b", "c", "a")
    assert np.array_equal(rows.features, features[[1, 2, 0]])


def test_rows_weigh_one_over_the_probability_that_their_label_is_known() -> None:
    features, labels = draw(1, 4)
    predictions = [labels[0], "?", labels[2], "?"]
    data = streams.dataset(
        features,
        labels,
        moments=[streams.moment_of(0)] * 4,
        event_id=["1", "2", "3", "4"],
        prediction=predictions,
    )
    adaptive = AdaptiveSettings(label_probability_wrong=0.8, label_probability_right=0.1)
    assert nightly_rows(data, streams.model(), adaptive)[1].weights.tolist() == [
        10,
        1.25,
        10,
        1.25,
    ]
    assert _rows(data)[1].weights.tolist() == [1, 1, 1, 1]


# ----------------------------------------------------------------------------- quarantine


def _with_a_flipped_night(nights: Sequence[int], flipped: int, turn: float = 0.0) -> Dataset:
    data = streams.stream(nights, turn=turn)
    assert data.times is not None
    chosen = (data.times.dt.day == flipped + 1).to_numpy()
    swap = {"H": "A", "A": "H", "D": "D"}
    labels = [
        swap[label] if flip else label for label, flip in zip(data.labels, chosen, strict=True)
    ]
    return replace(data, labels=np.asarray(labels))


def test_a_night_of_flipped_labels_is_held_one_night_and_learned_with_the_next() -> None:
    data = _with_a_flipped_night([60] * 12, 9)
    adaptive, model = AdaptiveSettings(quarantine=True), streams.model()
    incumbent = Incumbent(model_id="anchor", memory=model.memory())
    state, states, scored = OnlineState.fresh(model), [], []
    for night, rows in by_day(*_rows(data)):
        state, scores = take_in(model, state, night, rows, incumbent, adaptive)
        states.append(state)
        scored.append(scores)
    quarantined = states[-1].ledger[:, LEDGER_COLUMNS.index("quarantined")]
    assert np.flatnonzero(quarantined).tolist() == [9]
    before, held, after = states[8:11]
    assert held.memory is before.memory
    assert len(held.held) == 60
    assert len(held.waiting) == len(after.held) == 0
    scores = scored[10]
    assert scores is not None
    both = held.held.followed_by(scores.rows)
    base = model.base_proba(both.features)
    opinions = before.memory.opinions(model.seen(both.features, base))
    lesson = Lesson(
        inputs=opinions.inputs,
        actual=both.actual,
        weights=both.weights,
        opinions=opinions.shares,
    )
    expected = before.memory.learn(lesson, scores.night, model.rates_())
    for learned, wanted in zip(after.memory.heads, expected.heads, strict=True):
        assert learned == pytest.approx(wanted, abs=1e-12)
    assert after.memory.vote == pytest.approx(expected.vote, abs=1e-12)


def test_the_night_after_a_flip_is_served_better_with_quarantine() -> None:
    data = _with_a_flipped_night([60] * 21, 19, turn=1.5)
    loss = LEDGER_COLUMNS.index("live_loss")
    careful = _replayed(data, AdaptiveSettings(quarantine=True))[0].ledger[20, loss]
    careless = _replayed(data, AdaptiveSettings(quarantine=False))[0].ledger[20, loss]
    assert careful < careless - 1


def test_no_night_is_quarantined_before_there_is_a_record() -> None:
    data = _with_a_flipped_night([60] * 7, 6)
    state, _ = _replayed(data, AdaptiveSettings(quarantine=True))
    assert np.flatnonzero(state.ledger[:, LEDGER_COLUMNS.index("quarantined")]).tolist() == []
    data = _with_a_flipped_night([60] * 8, 7)
    state, _ = _replayed(data, AdaptiveSettings(quarantine=True))
    assert np.flatnonzero(state.ledger[:, LEDGER_COLUMNS.index("quarantined")]).tolist() == [7]


def test_two_strange_nights_in_a_row_are_believed() -> None:
    data = _with_a_flipped_night([60] * 12, 8)
    twice = _with_a_flipped_night([60] * 12, 9)
    data = replace(data, labels=np.where(data.labels == twice.labels, data.labels, "A"))
    state, scored = _replayed(data, AdaptiveSettings(quarantine=True))
    assert [scores.quarantined for scores in scored][8:10] == [True, False]
    assert len(state.held) == 0


# ---------------------------------------------------------------------- keeping and judging


def test_a_state_survives_being_written_down() -> None:
    adaptive = AdaptiveSettings(quarantine=True)
    state, _ = _replayed(_with_a_flipped_night([60] * 9 + [60], 9), adaptive)
    state = take_day(state, DAY_ONE.toordinal() + 20, _rows(streams.stream([5]))[1])
    assert len(state.held) == 60
    assert len(state.waiting) == 5
    again = OnlineState.from_dict(state.as_dict())
    left, right = state.as_dict(), again.as_dict()
    assert left.keys() == right.keys()
    for name, value in left.items():
        kept = right[name]
        is_listed = name in {"memory_heads", "memory_precisions"}
        for one, other in zip(*((value, kept) if is_listed else ([value], [kept])), strict=True):
            assert np.array_equal(
                np.asarray(one), np.asarray(other), equal_nan=name.endswith("_served")
            ), name
    assert again.champions == state.champions


def test_a_state_that_has_learned_nothing_survives_as_well() -> None:
    again = OnlineState.from_dict(OnlineState.fresh(streams.model()).as_dict())
    assert (again.memory.precisions, again.night, again.rows_digest) == (None, None, "")
    assert again.ledger.shape == (0, len(LEDGER_COLUMNS))


def _entry(night: int, rows: int, gain: float, champion_rows: int = 0) -> list[float]:
    values = dict.fromkeys(FORMER_COLUMNS, 0.0)
    values |= {"night": night, "rows": rows, "gain_sum": gain, "gain_squares": gain**2}
    values |= {"champion_rows": champion_rows, "champion_gain_sum": -gain}
    return list(values.values())


def test_the_record_counts_from_approval_over_the_window_and_under_the_champion() -> None:
    nights = [
        _entry(70, 10, 1.0, 10),
        _entry(71, 20, 2.0, 20),
        _entry(100, 30, 4.0),
        _entry(101, 5, 8.0, 3),
    ]
    ledger = with_all_columns(np.array(nights))
    record = online_record(ledger, ["a", "b", "b", "b"], champion_id="b", today=101, window_days=30)
    everything, recent, over = record.since_approval, record.recent, record.over_champion
    assert (everything.nights, everything.rows, everything.total) == (4, 65, 15.0)
    assert everything.squares == 1 + 4 + 16 + 64
    assert (recent.nights, recent.rows, recent.total) == (2, 35, 12.0)
    # A night of which the champion had learned every row says nothing of the champion.
    assert (over.nights, over.rows, over.total) == (2, 23, -10.0)


def test_a_champion_that_never_served_a_night_has_no_record() -> None:
    ledger = with_all_columns(np.array([_entry(1, 10, 1.0, 10), _entry(2, 10, 1.0, 10)]))
    record = online_record(ledger, ["a", "a"], champion_id="b", today=2, window_days=30)
    assert (record.over_champion.nights, record.over_champion.rows) == (0, 0)
    assert record.over_champion.mean == record.over_champion.standard_error == 0


def test_an_empty_ledger_has_an_empty_record() -> None:
    state = OnlineState.fresh(streams.model())
    record = online_record(state.ledger, [], champion_id="a", today=1, window_days=30)
    assert record.since_approval.rows == record.recent.rows == 0
    assert math.isclose(record.since_approval.mean, 0.0)


def test_evidence_survives_being_written_down(tmp_path_factory: pytest.TempPathFactory) -> None:
    evidence = Loop().run(streams.stream([40, 5]), 1).evidence
    path = tmp_path_factory.mktemp("evidence") / "evidence.npz"
    for kept in (evidence, replace(evidence, champion=None)):
        kept.save(path)
        loaded = Evidence.load(path)
        assert (loaded.labels, loaded.event_ids) == (kept.labels, kept.event_ids)
        assert np.array_equal(loaded.challenger, kept.challenger)
        assert np.array_equal(loaded.nights, kept.nights)
        assert loaded.actual_labels().tolist() == kept.actual_labels().tolist()
        assert (loaded.champion is None) == (kept.champion is None)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("training.adaptive.half_lives", [2.0, 30.0]),
        ("training.adaptive.vote_rate", 0.4),
        ("training.adaptive.vote_share", 0.2),
        ("training.adaptive.ridge", 50.0),
        ("training.adaptive.initial_head_weight", 0.6),
        ("training.adaptive.prior_rows", 1.0),
        ("training.adaptive.rows_per_night", 400.0),
        ("training.epochs", 1),
    ],
)
def test_a_base_learns_by_the_settings_of_today_as_if_it_had_been_made_by_them(
    setting: str,
    value: Any,  # noqa: ANN401 - of a setting
) -> None:
    changed = SETTINGS.changed({setting: value})
    data, today = streams.stream([40] * 4, turn=1.0), DAY_ONE + timedelta(days=3)
    made = streams.model(changed)
    expected = adapt(made, serving(made), [data], today, changed).model
    old = streams.model()
    assert changed_rates(old.rates or {}, changed.training) == (setting,)
    base = by_settings(old, changed.training)
    learned = adapt(base, serving(base), [data], today, changed).model
    assert learned.predict_proba(PROBES) == pytest.approx(expected.predict_proba(PROBES), abs=1e-12)
    unchanged = adapt(old, serving(old), [data], today, SETTINGS).model
    apart = np.abs(unchanged.predict_proba(PROBES) - learned.predict_proba(PROBES)).max()
    assert apart > 1e-6


def test_heads_that_have_learned_cannot_become_more_or_fewer() -> None:
    loop = Loop()
    loop.run(streams.stream([40] * 2), 1)
    fewer = SETTINGS.changed({"training.adaptive.half_lives": [5.0]})
    with pytest.raises(DataError, match="has 12 heads that have learned"):
        by_settings(loop.served, fewer.training)
