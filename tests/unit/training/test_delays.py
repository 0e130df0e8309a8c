"""Outcomes that come late are judged by what people were answered, and learned all the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ml_pipeline.config.data import DataSettings
from ml_pipeline.config.sections import AdaptiveSettings
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.datasets.served.answers import Answers
from ml_pipeline.evaluation.ledger import COLUMN
from ml_pipeline.evaluation.metrics import Floats, row_losses
from ml_pipeline.registry.archive import digest_file, load_model, save_model
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.heads.memory import Memory
from ml_pipeline.training.learned_rows import Champion
from ml_pipeline.training.online.past import LONGEST
from ml_pipeline.training.online.rows import AT_ONCE, Rows
from ml_pipeline.training.online_model import Incumbent, OnlineState, take_day, take_night
from ml_pipeline.training.online_training import adapt
from ml_pipeline.training.strategies import Challenger
from tests.support import streams
from tests.support.properties import tries
from tests.support.streams import CLASSES, DAY_ONE, SETTINGS, draw

FIRST = DAY_ONE.toordinal()
PROBES, _ = draw(99, 50)


def delayed(data: Dataset, delays: NDArray[np.int64]) -> Dataset:
    """The rows, predicted so many days before their outcomes."""
    assert data.times is not None
    known = data.times.map(lambda moment: moment.date().toordinal()).to_numpy(dtype=np.int64)
    return replace(data, predicted=known - delays)


class Nights:
    """Nights of one model, and its memory after each."""

    def __init__(self) -> None:
        self.model = streams.model()
        self.state = OnlineState.fresh(self.model)
        self.memories = [(0, self.state.memory)]

    def take(self, day: int, delay: int, *, rows: int = 40, served: Floats | None = None) -> Rows:
        """A night on which the outcomes of `delay` days ago become known."""
        features, labels = draw(100 + day, rows, turn=0.1 * day)
        night = FIRST + day
        taken = Rows(
            features=features,
            base=self.model.base_proba(features),
            actual=np.asarray([CLASSES.index(label) for label in labels]),
            weights=np.ones(rows),
            event_ids=tuple(f"{day}-{number}" for number in range(rows)),
            predicted=np.full(rows, night - delay),
            served=np.empty((0, 0)) if served is None else served,
        )
        incumbent = Incumbent(model_id="champion", memory=self.state.memory)
        state = take_day(self.state, night, taken)
        self.state, _ = take_night(self.model, state, night, incumbent, AdaptiveSettings())
        self.memories.append((night, self.state.memory))
        return taken

    def answered_on(self, day: int) -> Memory:
        """What had learned the nights before that day."""
        return [memory for night, memory in self.memories if night < FIRST + day][-1]


def losses_of(model: AdaptiveClassifier, memory: Memory, rows: Rows) -> Floats:
    """Log losses of everything that votes, (V,), and of the vote last."""
    opinions = memory.opinions(model.seen(rows.features, rows.base))
    chosen = opinions.shares[:, np.arange(len(rows)), rows.actual]
    voted = row_losses(rows.actual, memory.vote_on(opinions)).sum()
    return np.append(-np.log(chosen).sum(axis=1), voted)


@pytest.mark.parametrize("delay", [1, 3, 7])
def test_the_vote_and_the_ledger_are_about_what_was_answered_when_the_row_was_predicted(
    delay: int,
) -> None:
    nights = Nights()
    rates = nights.model.rates_()
    for day in range(15):
        before = nights.state.memory
        rows = nights.take(day, delay)
        losses = losses_of(nights.model, nights.answered_on(day - delay), rows)
        entry = nights.state.ledger[-1]
        # Heads of before are kept in single precision.
        assert entry[COLUMN["live_loss"]] == pytest.approx(losses[-1], rel=1e-5)
        scores = np.log(before.vote) - rates.vote_rate * losses[:-1]
        vote = np.exp(scores - scores.max())
        vote = (1 - rates.vote_share) * vote / vote.sum() + rates.vote_share / len(vote)
        assert nights.state.memory.vote == pytest.approx(vote, rel=1e-4)
    now = losses_of(nights.model, nights.memories[-2][1], rows)[-1]
    assert abs(now - entry[COLUMN["live_loss"]]) > 0.1


def test_rows_of_one_night_are_each_judged_by_the_day_of_their_prediction() -> None:
    nights = Nights()
    for day in range(8):
        nights.take(day, 4)
    features, _ = draw(7, 6)
    days = np.asarray([8, 7, 6, 5, 4, AT_ONCE - FIRST])
    seen = nights.model.seen(features, nights.model.base_proba(features))
    _, voted = nights.state.past.answers(nights.state.memory, seen, FIRST + days)
    for row, day in enumerate(days):
        then = nights.answered_on(int(min(day, 20)))
        expected = then.vote_on(then.opinions(seen.take(np.asarray([row]))))
        assert voted[row] == pytest.approx(expected[0], abs=1e-6)


def test_without_late_outcomes_nothing_of_the_past_is_kept() -> None:
    nights = Nights()
    for day in range(5):
        nights.take(day, 0)
    assert (len(nights.state.past.nights), nights.state.past.heads) == (0, ())
    assert nights.state.as_dict()["past_reach"] == 0


def test_of_the_past_is_kept_what_an_outcome_may_ask_for_and_no_more() -> None:
    nights = Nights()
    for day in range(12):
        nights.take(day, 3, rows=5)
    assert nights.state.past.nights.tolist() == [FIRST + 8, FIRST + 9, FIRST + 10]
    nights.take(12, 300, rows=5)
    assert nights.state.past.reach == LONGEST
    for day in range(13, 80):
        nights.take(day, 3, rows=5)
    assert len(nights.state.past.nights) == LONGEST


@settings(max_examples=tries(6), deadline=None)
@given(
    sizes=st.lists(st.integers(0, 45), min_size=3, max_size=9),
    cuts=st.lists(st.tuples(st.integers(0, 8), st.floats(0, 24)), max_size=6),
    seed=st.integers(0, 50),
)
def test_it_does_not_matter_when_the_runs_were(
    sizes: list[int], cuts: list[tuple[int, float]], seed: int
) -> None:
    data, last = streams.stream(sizes, seed=seed, turn_per_day=0.1), len(sizes) - 1
    data = delayed(data, np.random.default_rng(seed).integers(0, 6, len(data)))

    def run(served: AdaptiveClassifier, day: int, hour: float) -> Challenger:
        assert data.times is not None
        known = np.flatnonzero(data.times < streams.moment_of(day, 60 * hour))
        champion = Champion(model_id="champion", model=served)
        return adapt(served, champion, [data.take(known)], DAY_ONE + timedelta(days=day), SETTINGS)

    served = streams.model()
    for day, hour in sorted((day, hour) for day, hour in cuts if day <= last):
        served = run(served, day, hour).model
    often, once = run(served, last, 24), run(streams.model(), last, 24)
    probabilities = [one.model.predict_proba(PROBES) for one in (often, once)]
    assert probabilities[0] == pytest.approx(probabilities[1], abs=1e-12)
    assert often.online is not None
    assert once.online is not None
    assert often.online.past.nights.tolist() == once.online.past.nights.tolist()
    live = [state.ledger[:, COLUMN["live_loss"]] for state in (often.online, once.online)]
    assert live[0] == pytest.approx(live[1], abs=1e-9)


def test_the_ledger_takes_what_people_were_answered_by_the_line_before_what_they_would_have() -> (
    None
):
    nights = Nights()
    nights.take(0, 0)
    served = np.full((40, 3), np.nan)
    served[:25] = [0.2, 0.3, 0.5]
    before = nights.state.memory
    rows = nights.take(1, 0, served=served)
    entry = nights.state.ledger[-1]
    opinions = before.opinions(nights.model.seen(rows.features, rows.base))
    expected = np.where(np.isfinite(served), served, before.vote_on(opinions))
    assert entry[COLUMN["live_loss"]] == pytest.approx(row_losses(rows.actual, expected).sum())
    assert entry[COLUMN["served_rows"]] == 25
    # What is learned is the same.
    other = Nights()
    other.take(0, 0)
    other.take(1, 0)
    assert other.state.memory.vote == pytest.approx(nights.state.memory.vote, abs=1e-15)


def test_only_answers_of_the_line_itself_are_evidence_of_it() -> None:
    data = streams.stream([40, 40])
    answers = Answers(
        texts=np.asarray(['{"H": 0.5, "D": 0.3, "A": 0.2}'] * 80, dtype=object),
        labels=Labels.of(DataSettings()),
        source="the test",
    )
    of_line = np.arange(80) % 4 == 0
    data = replace(data, answers=answers, of_line=of_line)
    served = streams.model()
    today = DAY_ONE + timedelta(days=1)
    champion = Champion(model_id="champion", model=served)
    for other_base, counted in ((False, [10, 10]), (True, [0, 0])):
        learned = adapt(served, champion, [data], today, SETTINGS, other_base=other_base)
        assert learned.online is not None
        assert learned.online.ledger[:, COLUMN["served_rows"]].tolist() == counted


def test_the_past_survives_the_artifact(tmp_path: Path) -> None:
    data = delayed(streams.stream([40] * 6), np.full(240, 2))
    served = streams.model()
    champion = Champion(model_id="champion", model=served)
    learned = adapt(served, champion, [data], DAY_ONE + timedelta(days=6), SETTINGS).model
    path = tmp_path / "model.skops"
    save_model(learned, path)
    loaded = load_model(path, expected_digest=digest_file(path))
    assert isinstance(loaded, AdaptiveClassifier)
    before, after = OnlineState.of(learned).past, OnlineState.of(loaded).past
    assert before.reach == after.reach == 2
    assert before.nights.tolist() == after.nights.tolist()
    assert np.array_equal(before.votes, after.votes)
    for one, other in zip(before.heads, after.heads, strict=True):
        assert np.array_equal(one, other)
