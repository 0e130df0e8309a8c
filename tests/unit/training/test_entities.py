"""Entities with several rows are learned every time and judged on once; weights of labels."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml_pipeline.config.data import DataSettings
from ml_pipeline.config.sections import AdaptiveSettings
from ml_pipeline.datasets import splits
from ml_pipeline.datasets.dataset import ALONE, Dataset, from_frame
from ml_pipeline.datasets.entities import (
    MOST_REMEMBERED,
    NO_ENTITY,
    are_known,
    entities_of,
    remembered,
)
from ml_pipeline.datasets.labelled_file import LabelledFile, read_labelled
from ml_pipeline.evaluation.ledger import COLUMN, online_record
from ml_pipeline.evaluation.metrics import row_losses
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.learned_rows import Champion, unseen_rows
from ml_pipeline.training.online.rows import by_day, nightly_rows
from ml_pipeline.training.online.shadow_base import base_in_shadow
from ml_pipeline.training.online_model import Incumbent, OnlineState, take_in
from ml_pipeline.training.online_training import adapt
from ml_pipeline.training.strategies import Challenger, train_base
from tests.support import streams
from tests.support.streams import DAY_ONE, draw

SETTINGS = streams.SETTINGS.changed({"training.adaptive.min_night_rows": 10})


def matches(weeks: int, *, count: int = 30, days: int = 7, first: int = 0) -> Dataset:
    """New matches each week, each evaluated on every day of it with the same outcome."""
    features, labels, moments, names = [], [], [], []
    for week in range(weeks):
        of_week, results = draw(500 + first + week, count)
        rng = np.random.default_rng(first + week)
        for day in range(days):
            features.append(of_week + rng.normal(scale=0.05, size=of_week.shape))
            labels.append(results)
            moments += [streams.moment_of(7 * week + day, minute) for minute in range(count)]
            names += [f"match {first + week}-{number}" for number in range(count)]
    data = streams.dataset(
        np.vstack(features),
        np.concatenate(labels),
        moments=moments,
        groups=names,
        event_id=[f"{number:06d}" for number in range(len(names))],
    )
    return replace(data, frame=data.frame.assign(match_id=names))


def without_groups(data: Dataset) -> Dataset:
    """The same rows, each taken for an entity of its own."""
    return replace(data, groups=None)


def learned(data: Dataset, days: int, model: AdaptiveClassifier | None = None) -> Challenger:
    """The line over so many days, all of them settled, from a fresh model on."""
    start = model or streams.model(SETTINGS)
    today = DAY_ONE + timedelta(days=days)
    return adapt(start, Champion(model_id="c", model=start), [data], today, SETTINGS)


def gain_said(result: Challenger) -> float:
    """The gain on the anchor that the guard is told, in nats."""
    assert result.online is not None
    today = (DAY_ONE + timedelta(days=99)).toordinal()
    record = online_record(result.online.ledger, [], champion_id="c", today=today, window_days=1000)
    return record.since_approval.mean


def gain_on_strangers(result: Challenger) -> float:
    """What the served model gains on the anchor on matches that nobody has seen, in nats."""
    features, labels = draw(99_999, 20_000)
    actual = np.array([streams.CLASSES.index(label) for label in labels])
    served, anchor = result.model.predict_proba(features), result.model.base_proba(features)
    return float((row_losses(actual, anchor) - row_losses(actual, served)).mean())


def test_matches_that_were_learned_are_no_evidence_the_second_time() -> None:
    """Thirty matches, each on seven days: the gate was told of a gain that strangers never see."""
    data = matches(1)
    blind, result = learned(without_groups(data), 8), learned(data, 8)
    assert gain_said(blind) > gain_on_strangers(blind) + 0.01
    assert result.online is not None
    ledger = result.online.ledger
    assert ledger[:, COLUMN["rows"]].tolist() == [30, 0, 0, 0, 0, 0, 0]
    assert result.rows_learned == 210
    assert len(result.evidence) == 30
    # Both have learned the same rows the same way; only the votes differ, judged on strangers.
    assert blind.online is not None
    for one, other in zip(result.online.memory.heads, blind.online.memory.heads, strict=True):
        assert one == pytest.approx(other, abs=1e-12)


def test_the_vote_is_judged_on_strangers_alone() -> None:
    data = matches(1)
    result, first_night = learned(data, 8), learned(data.take(np.arange(30)), 1)
    assert result.online is not None
    assert first_night.online is not None
    assert result.online.memory.vote.tolist() == first_night.online.memory.vote.tolist()
    blind = learned(without_groups(data), 8)
    assert blind.online is not None
    assert blind.online.memory.vote[0] < result.online.memory.vote[0] - 0.02


def test_over_weeks_the_gate_is_told_what_strangers_get() -> None:
    data = matches(12)
    result, blind = learned(data, 90), learned(without_groups(data), 90)
    assert result.online is not None
    counted = result.online.ledger[:, COLUMN["rows"]]
    assert counted.sum() == 12 * 30
    assert abs(gain_said(result) - gain_on_strangers(result)) < 0.05
    assert gain_said(blind) - gain_on_strangers(blind) > 0.05


def test_the_state_is_the_same_in_one_run_and_in_many() -> None:
    data = matches(2)
    served, at_once = streams.model(SETTINGS), learned(data, 15)
    assert data.times is not None
    for day in range(16):
        known = np.flatnonzero((data.times < pd.Timestamp(streams.moment_of(day, 600))).to_numpy())
        served = learned(data.take(known), day, served).model
    nightly = OnlineState.from_dict(served.line_ or {})
    assert at_once.online is not None
    assert nightly.entities.tolist() == at_once.online.entities.tolist()
    assert nightly.memory.vote == pytest.approx(at_once.online.memory.vote, abs=1e-12)
    assert nightly.ledger[:, COLUMN["rows"]].tolist() == (
        at_once.online.ledger[:, COLUMN["rows"]].tolist()
    )


def test_rows_of_one_match_on_one_night_are_one_result() -> None:
    data = matches(1, days=1)
    thrice = data.take(np.repeat(np.arange(30), 3))
    thrice = replace(
        thrice, frame=thrice.frame.assign(event_id=[f"{number:06d}" for number in range(90)])
    )
    model, adaptive = streams.model(SETTINGS), SETTINGS.training.adaptive
    state = OnlineState.fresh(model)
    incumbent = Incumbent(model_id="c", memory=model.memory())
    for night, rows in by_day(*nightly_rows(thrice, model, adaptive)):
        state, _ = take_in(model, state, night, rows, incumbent, adaptive)
    entry = state.ledger[0]
    assert [entry[COLUMN[name]] for name in ("rows", "units", "weight")] == [90, 30, 90]


def test_a_night_of_known_matches_only_leaves_no_evidence_and_no_report() -> None:
    data = matches(1)
    first = learned(data.take(np.arange(30)), 1)
    second = learned(data, 2, first.model)
    assert (len(second.evidence), second.rows_learned) == (0, 60)


def test_the_champion_s_own_matches_are_not_held_against_it() -> None:
    """What it learned of an open day counts as well: a later row of the match is no stranger's."""
    data = matches(1)
    today = DAY_ONE
    start = streams.model(SETTINGS)
    morning = data.take(np.arange(15))
    served = adapt(start, Champion(model_id="c", model=start), [morning], today, SETTINGS).model
    champion = Champion(model_id="served", model=served)
    assert set(entities_of(morning).tolist()) == set(champion.entities().tolist())
    assert unseen_rows(data, champion).sum() == 0 + 15 * 7


# ------------------------------------------------------------------------------ what a base knows


def test_a_base_remembers_the_matches_that_it_was_fitted_on() -> None:
    data = matches(8)
    parts = splits.split(data, test_size=0.2, seed=1)
    trained = train_base(data, SETTINGS, algorithm="LogisticRegression", parts=parts)
    champion = Champion(model_id="c", model=trained.model)
    known = are_known(entities_of(data), champion.entities())
    assert known[parts.train].all()
    assert not known[parts.holdout].any()
    assert trained.evidence.entities.tolist() == entities_of(data)[parts.holdout].tolist()


def test_a_base_in_the_shadow_is_not_judged_on_matches_that_it_has_learned() -> None:
    data = matches(8)
    today = DAY_ONE + timedelta(days=10)
    champion = streams.model(SETTINGS)
    shadow = base_in_shadow(
        data.take(np.arange(300)), champion, today, SETTINGS, carry_heads=False
    ).model
    result = learned(data, 60, shadow)
    assert result.online is not None
    names = np.unique(entities_of(data))
    strangers = names[~np.isin(names, entities_of(data)[:300])]
    assert result.online.ledger[:, COLUMN["rows"]].sum() == len(strangers)


# ------------------------------------------------------------------------------ what is remembered


def test_an_entity_is_its_name_whatever_file_it_stands_in() -> None:
    one = streams.dataset(np.zeros((3, 3)), ["H"] * 3, groups=["a", "b", f"{ALONE}0"])
    other = streams.dataset(np.zeros((2, 3)), ["H"] * 2, groups=[f"{ALONE}0", "b"])
    assert entities_of(one)[1] == entities_of(other)[1]
    assert entities_of(one)[2] == entities_of(other)[0] == NO_ENTITY
    assert len(set(entities_of(one).tolist())) == 3
    assert not are_known(entities_of(other)[:1], entities_of(one)).any()


def test_the_entities_seen_last_are_remembered() -> None:
    def numbers(*values: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        return np.array(values, dtype=np.uint32)

    known = remembered(numbers(), numbers(5, 6, 0, 7, 5))
    assert known.tolist() == [6, 7, 5]
    assert remembered(known, numbers(6)).tolist() == [7, 5, 6]
    assert remembered(known, numbers(0, 0)).tolist() == known.tolist()
    many = np.arange(1, MOST_REMEMBERED + 11, dtype=np.uint32)
    assert remembered(known, many).tolist() == many[10:].tolist()


def test_rows_without_a_group_of_another_file_hide_nothing_from_judging() -> None:
    parts = splits.Split(train=np.arange(0), holdout=np.arange(2))
    groups = np.array([f"{ALONE}0", "m"])
    kept = splits.without_shared_groups(groups, parts, np.array([f"{ALONE}0", "m"]))
    assert kept.holdout.tolist() == [0]


# ------------------------------------------------------------------------------ which column it is

LOGGED = pd.DataFrame(
    {
        "event_id": ["e1", "e2", "e3"],
        "match_id": ["m", "m", ""],
        "known_at": ["2025-01-01T00:00:00Z"] * 3,
        "player": ["1", "2", "2"],
        "form": ["1", "2", "3"],
        "result": ["H", "D", "A"],
    }
)


@pytest.mark.parametrize(
    ("group_column", "same"),
    [
        ("match_id", [(0, 1)]),
        (None, [(0, 1)]),
        ("club", [(0, 1)]),
        ("player", [(1, 2)]),
        ("event_id", []),
    ],
)
def test_a_log_is_grouped_by_the_named_column_else_by_match(
    group_column: str | None, same: list[tuple[int, int]], tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    LOGGED.to_csv(path, index=False)
    settings = SETTINGS.changed({"data.features": ["form"], "data.group_column": group_column})
    for data in (read_labelled(str(path), settings), LabelledFile.read(path, settings.data).last):
        numbers = entities_of(data).tolist()
        pairs = [(a, b) for a in range(3) for b in range(a) if numbers[a] == numbers[b] != 0]
        assert sorted((b, a) for a, b in pairs) == same


def test_a_training_file_needs_no_event_id_where_every_row_is_its_own_group() -> None:
    settings = DataSettings(features=["form"], group_column="event_id", time_column=None)
    data = from_frame(LOGGED.drop(columns=["event_id"]), settings, source="the file")
    assert data.groups is None


# ----------------------------------------------------------------------- rows that stand for others


def biased(days: int) -> Dataset:
    """A stream of which every error got a label, and a tenth of the right answers."""
    whole = streams.stream([300] * days, turn=0.9)
    answers = np.asarray(streams.CLASSES)[
        streams.model().predict_proba(whole.features).argmax(axis=1)
    ]
    right = answers == whole.labels
    kept = np.flatnonzero(~right | (np.random.default_rng(2).random(len(whole)) < 0.1))
    return replace(whole, frame=whole.frame.assign(prediction=answers)).take(kept)


def test_the_ledger_counts_answers_not_labels() -> None:
    """Label probabilities weighed what is learned, and not what it was judged on."""
    data = biased(8)
    adaptive = {"training.adaptive.label_probability_right": 0.1}
    settings = SETTINGS.changed(adaptive)
    model = streams.model(settings)
    today = DAY_ONE + timedelta(days=9)
    result = adapt(model, Champion(model_id="c", model=model), [data], today, settings)
    assert result.online is not None
    record = online_record(
        result.online.ledger, [], champion_id="c", today=today.toordinal(), window_days=1000
    ).since_approval
    assert record.rows == len(data)
    assert record.weight == pytest.approx(8 * 300, rel=0.1)
    # What everybody's rows say: the same states judged on all of them.
    state, everything = OnlineState.fresh(model), []
    incumbent = Incumbent(model_id="c", memory=model.memory())
    whole = streams.stream([300] * 8, turn=0.9)
    unbiased = dict(by_day(*nightly_rows(whole, model, AdaptiveSettings())))
    for night, rows in by_day(*nightly_rows(data, model, settings.training.adaptive)):
        everybody = unbiased[night]
        before = streams.model(settings).set_memory(state.memory)
        gains = row_losses(everybody.actual, everybody.base) - row_losses(
            everybody.actual, before.predict_proba(everybody.features)
        )
        everything.append(gains)
        state, _ = take_in(model, state, night, rows, incumbent, settings.training.adaptive)
    assert record.mean == pytest.approx(np.concatenate(everything).mean(), abs=0.05)
    assert record.right is not None
    frozen = streams.accuracy(model.base_proba(whole.features), whole.labels)
    assert record.right[0] == pytest.approx(frozen, abs=0.05)
    assert result.evidence.weights.max() == pytest.approx(10.0)
