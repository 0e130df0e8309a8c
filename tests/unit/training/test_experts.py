"""Experts vote beside base and heads, and are a function of the labelled rows like all else."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.errors import ConfigError
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.registry import archive
from ml_pipeline.registry.scoring_writer import scoring_bytes
from ml_pipeline.training import backtest
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.heads.memory import Expert, Memory
from ml_pipeline.training.heads.rates import Rates, changed_rates
from ml_pipeline.training.learned_rows import Champion
from ml_pipeline.training.online.experts import MAX_ROWS, KnownRows, fit_experts, refreshed
from ml_pipeline.training.online.shadow_base import base_in_shadow
from ml_pipeline.training.online.snapshots import snapshots_of
from ml_pipeline.training.online_model import OnlineState
from ml_pipeline.training.online_training import adapt, by_settings
from ml_pipeline.training.policies import History
from ml_pipeline.training.strategies import Challenger
from tests.support import streams
from tests.support.properties import tries
from tests.support.scorers import scorers
from tests.support.streams import CLASSES, DAY_ONE, draw

# Trees learn in a moment; what is tested here is when, on what, and with what say.
TREE = {"algorithm": "DecisionTree", "half_life_days": None}
FADING = {"algorithm": "DecisionTree", "half_life_days": 2.0}
SETTINGS = streams.SETTINGS.changed(
    {
        "training.experts": [TREE, FADING],
        "training.experts_every_days": 3,
        "training.adaptive.min_night_rows": 10,
    }
)
WANTED = SETTINGS.training.experts_in_use
NIGHTLY = {"algorithm": "DecisionTree", "window_nights": 2, "every_nights": 1}
# Each with a clock of its own, and the last two on all rows.
CLOCKS = SETTINGS.changed({"training.experts": [NIGHTLY, FADING | {"every_nights": 2}, TREE]})
# The base, and four heads of three families.
VOTERS = 13
NAMES = ["DecisionTree", "DecisionTree, half-life 2 days"]
PROBES = draw(99, 50)[0]


@dataclass(kw_only=True)
class Loop:
    """Runs one after the other, each from the model that the one before left."""

    settings: Settings = field(default_factory=lambda: SETTINGS)
    served: AdaptiveClassifier = field(default_factory=lambda: streams.model(SETTINGS))

    def run(self, data: Dataset, day: int, hour: float = 24.0) -> Challenger:
        """One run on the `day`th day that sees what was known by `hour`."""
        assert data.times is not None
        known = data.take(np.flatnonzero(data.times < streams.moment_of(day, 60 * hour)))
        today = DAY_ONE + timedelta(days=day)
        champion = Champion(model_id="champion", model=self.served)
        result = adapt(self.served, champion, [known], today, self.settings, known=known)
        self.served = result.model
        return result


def _experts(model: AdaptiveClassifier) -> dict[str, int]:
    return {e.name: e.night - DAY_ONE.toordinal() for e in model.memory().experts}


def _known(data: Dataset) -> KnownRows:
    assert data.times is not None
    codes = np.asarray([CLASSES.index(label) for label in data.labels])
    return KnownRows(
        nights=data.times.map(lambda t: t.toordinal()).to_numpy(dtype=np.int64),
        features=data.features,
        actual=codes,
        weights=np.ones(len(codes)),
        classes=np.asarray(CLASSES),
    )


# ---------------------------------------------------------------------------------- the vote


@settings(max_examples=tries(12), deadline=None)
@given(
    vote=st.lists(st.floats(0.01, 1), min_size=5, max_size=5),
    first=st.lists(st.sampled_from("abcd"), unique=True),
    second=st.lists(st.sampled_from("abcd"), unique=True),
)
def test_a_vote_stays_a_vote_and_who_stays_keeps_the_share_of_it(
    vote: list[float], first: list[str], second: list[str]
) -> None:
    def named(names: list[str]) -> tuple[Expert, ...]:
        columns = np.arange(3)
        return tuple(Expert(name=name, model=None, columns=columns, night=1) for name in names)

    fresh = replace(
        Memory.fresh([7], 2, Rates(families=("plain",))), vote=np.asarray(vote) / sum(vote)
    )
    one = fresh.with_experts(named(first), weight=0.1)
    two = one.with_experts(named(second), weight=0.1)
    shares = [dict(zip(["base", *"1234", *n], m.vote, strict=True))
              for m, n in ((one, first), (two, second))]  # fmt: skip
    for memory, names in ((one, first), (two, second)):
        assert memory.vote.sum() == pytest.approx(1)
        assert [expert.name for expert in memory.experts] == names
    new = set(second) - set(first)
    assert sum(shares[1][name] for name in new) == pytest.approx(0.1 if new else 0)
    stayed = ["base", *"1234", *(set(first) & set(second))]
    ratios = [shares[1][name] / shares[0][name] for name in stayed]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))


def test_an_expert_learns_what_no_head_can_and_gets_the_say() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(1200, 2))
    is_odd = (features[:, 0] > 0) ^ (features[:, 1] > 0)
    history = History(
        features=features,
        labels=np.where(is_odd, "odd", "even"),
        nights=np.repeat(np.arange(30), 40),
        classes=["even", "odd"],
        names=["one", "two"],
        initial=200,
    )
    chosen = Settings().changed(
        {"data.features": ["one", "two"], "training.experts": [TREE],
         "training.experts_every_days": 5, "training.adaptive.families": ["plain"]}
    )  # fmt: skip
    replays = backtest.backtest(
        history, chosen, ["adaptive", "experts"], lambda _name, _total: lambda: None
    )
    accuracies = {name: replayed.hits.mean() for name, replayed in replays.items()}
    assert accuracies["adaptive"] < 0.65
    assert accuracies["experts"] > 0.85


# -------------------------------------------------------------------- a function of the rows


def test_experts_are_fitted_when_due_on_the_rows_of_settled_days() -> None:
    data, loop = streams.stream([60] * 9), Loop()
    fitted = [_experts(loop.run(data, day).model) for day in range(9)]
    # Day 0 is settled when day 1 runs; from then on every third day.
    dates = [0, 0, 0, 3, 3, 3, 6, 6]
    assert fitted == [{}, *(dict.fromkeys(NAMES, day) for day in dates)]
    expert = loop.served.memory().experts[1]
    before = _known(data).until(DAY_ONE.toordinal() + 6)
    assert len(before.nights) == 7 * 60
    same = fit_experts(before, DAY_ONE.toordinal() + 6, SETTINGS.training, WANTED)[1]
    assert expert.proba(PROBES, 3) == pytest.approx(same.proba(PROBES, 3), abs=1e-12)
    plain = loop.served.memory().experts[0].proba(PROBES, 3)
    assert not np.allclose(plain, same.proba(PROBES, 3))


def test_each_expert_is_fitted_by_its_own_clock_on_its_own_window() -> None:
    data, loop = streams.stream([60] * 8), Loop(settings=CLOCKS)
    nights = [list(_experts(loop.run(data, day).model).values()) for day in range(1, 8)]
    assert nights == [
        [0, 0, 0], [1, 0, 0], [2, 2, 0], [3, 2, 3], [4, 4, 3], [5, 4, 3], [6, 6, 6],
    ]  # fmt: skip
    nightly = loop.served.memory().experts[0]
    assert nightly.name == "DecisionTree, last 2 nights"
    some = _known(data.take(np.arange(5 * 60, 7 * 60)))
    (same,) = fit_experts(some, DAY_ONE.toordinal() + 6, SETTINGS.training, WANTED[:1])
    assert nightly.proba(PROBES, 3) == pytest.approx(same.proba(PROBES, 3), abs=1e-12)


def test_a_window_with_too_few_rows_leaves_its_expert_as_it_was() -> None:
    data = streams.stream([60, 60, 60, 0, 20, 20])
    fitted = _experts(Loop(settings=CLOCKS).run(data, 6).model)
    assert fitted == {"DecisionTree, last 2 nights": 2, NAMES[1]: 4, NAMES[0]: 4}


def test_of_many_rows_an_expert_learns_a_sample_that_depends_on_nothing_else() -> None:
    count = MAX_ROWS + 500
    rows = KnownRows(
        nights=np.arange(count) // 100,
        features=np.arange(count, dtype=np.float64)[:, None],
        actual=np.arange(count) % 2,
        weights=np.ones(count),
        classes=np.asarray(["a", "b"]),
    )
    one, other, next_night = (rows.sample(seed) for seed in ((1, 5), (1, 5), (1, 6)))
    assert len(one.nights) == len(one.actual) == MAX_ROWS
    assert (np.diff(one.features[:, 0]) > 0).all()
    assert np.array_equal(one.features, other.features)
    assert not np.array_equal(one.features, next_night.features)
    assert rows.first(MAX_ROWS).sample((1, 5)).features.shape == (MAX_ROWS, 1)


def test_rows_that_came_late_are_learned_from_the_night_before_as_from_the_base() -> None:
    """With a tree of every night each kept state has a tree of its own."""
    data, on_time = streams.stream([40] * 7), np.arange(7 * 40) % 7 != 0
    is_late = ~on_time & (np.arange(7 * 40) >= 5 * 40)
    loop = Loop(settings=CLOCKS, served=streams.model(CLOCKS))
    for day in range(1, 7):
        loop.run(data.take(np.flatnonzero(~is_late)), day)
    kept = [snapshot.night - DAY_ONE.toordinal() for snapshot in snapshots_of(loop.served)]
    assert kept == [3, 4]
    today, champion = DAY_ONE + timedelta(days=7), Champion(model_id="c", model=loop.served)
    again, rebuilt = (
        adapt(model, champion, [data], today, CLOCKS, known=data, restart_night=night).model
        for model, night in (
            (loop.served, DAY_ONE.toordinal() + 4),
            (streams.model(CLOCKS), None),
        )
    )
    assert _experts(again) == _experts(rebuilt)
    assert again.predict_proba(PROBES) == pytest.approx(rebuilt.predict_proba(PROBES), abs=1e-12)


@pytest.mark.parametrize(
    "experts", [[], [NIGHTLY], [NIGHTLY | {"window_nights": 3}], [NIGHTLY | {"every_nights": 2}]]
)
def test_a_base_whose_experts_were_changed_learns_as_if_it_had_been_made_with_them(
    experts: list[dict[str, Any]],
) -> None:
    data, changed = streams.stream([60] * 4), SETTINGS.changed({"training.experts": experts})
    old, made = streams.model(SETTINGS), streams.model(changed)
    assert changed_rates(old.rates or {}, changed.training) == ("training.experts",)
    base = by_settings(old, changed.training)
    assert changed_rates(base.rates or {}, changed.training) == ()
    one, other = (Loop(settings=changed, served=m).run(data, 3).model for m in (base, made))
    assert _experts(one) == _experts(other)
    assert list(one.heard_) == [expert.name for expert in changed.training.experts_in_use]
    assert one.predict_proba(PROBES) == pytest.approx(other.predict_proba(PROBES), abs=1e-12)


@pytest.mark.parametrize("chosen", [SETTINGS, CLOCKS])
@settings(max_examples=tries(5), deadline=None)
@given(
    sizes=st.lists(st.integers(0, 45), min_size=2, max_size=9),
    cuts=st.lists(st.tuples(st.integers(0, 8), st.floats(0, 24)), max_size=6),
)
def test_it_does_not_matter_when_the_runs_were(
    chosen: Settings, sizes: list[int], cuts: list[tuple[int, float]]
) -> None:
    data, last = streams.stream(sizes, turn_per_day=0.1), len(sizes) - 1
    often = Loop(settings=chosen, served=streams.model(chosen))
    for day, hour in sorted((day, hour) for day, hour in cuts if day <= last):
        often.run(data, day, hour)
    late = Loop(settings=chosen, served=streams.model(chosen))
    one, other = often.run(data, last), late.run(data, last)
    assert _experts(one.model) == _experts(other.model)
    assert one.model.predict_proba(PROBES) == pytest.approx(
        other.model.predict_proba(PROBES), abs=1e-12
    )
    assert one.online is not None
    assert other.online is not None
    assert one.online.votes == pytest.approx(other.online.votes, abs=1e-12)


def test_no_expert_learns_a_row_before_it_was_judged_on_it() -> None:
    """Days too small to learn alone wait, and so do the experts that are due meanwhile."""
    data = streams.stream([60, 60, 60, 3, 3, 3, 60, 5])
    model = Loop().run(data, 7).model
    assert _experts(model) == dict.fromkeys(NAMES, 6)
    waiting = Loop().run(data, 5).model
    assert _experts(waiting) == dict.fromkeys(NAMES, 0)


def test_late_rows_are_never_learned_beside_experts_that_came_after_them() -> None:
    data, loop = streams.stream([30] * 9), Loop()
    kept = 0
    for day in range(1, 9):
        loop.run(data, day, hour=1)
        for snapshot in snapshots_of(loop.served):
            experts = snapshot.state.memory.experts
            assert all(expert.night <= snapshot.night for expert in experts)
            assert len(snapshot.state.memory.vote) == VOTERS + len(experts)
            kept += 1
    assert kept >= 4


def test_no_expert_learns_a_night_in_quarantine() -> None:
    quiet, strange = streams.stream([60] * 9), streams.stream([60] * 9, turn=np.pi)
    is_last = np.arange(9 * 60) >= 8 * 60
    data = replace(quiet, labels=np.where(is_last, strange.labels, quiet.labels))
    due = {"training.adaptive.quarantine": True, "training.experts_every_days": 8}
    model = Loop(settings=SETTINGS.changed(due)).run(data, 9).model
    assert len(OnlineState.of(model).held) == 60
    assert _experts(model) == dict.fromkeys(NAMES, 0)


def test_the_evidence_is_what_the_experts_said_before_they_saw_it() -> None:
    data = streams.stream([80] * 3)
    champion = Loop()
    champion.run(data, 1)
    before = champion.served
    evidence: Evidence = champion.run(data, 2).evidence
    assert data.times is not None
    today = np.flatnonzero(data.times >= streams.moment_of(2))
    rows = data.take(today[np.argsort(data.frame["event_id"].to_numpy(dtype=str)[today])])
    assert list(evidence.event_ids) == rows.frame["event_id"].to_list()
    assert evidence.champion is not None
    assert evidence.champion == pytest.approx(before.predict_proba(rows.features), abs=1e-12)


@pytest.mark.parametrize("labels", [["H"] * 200, ["H", "D"] * 20])
def test_too_few_rows_or_one_class_leave_the_line_as_it_is(labels: list[str]) -> None:
    moments = [streams.moment_of(0, minute) for minute in range(len(labels))]
    data = streams.dataset(draw(3, len(labels))[0], labels, moments=moments)
    state = replace(OnlineState.fresh(streams.model(SETTINGS)), night=DAY_ONE.toordinal())
    assert refreshed(state, _known(data), SETTINGS.training) is state


def test_experts_that_the_config_no_longer_names_leave_the_vote() -> None:
    data, loop = streams.stream([60] * 9), Loop()
    loop.run(data, 4)
    assert len(loop.served.memory().vote) == VOTERS + 2
    loop.settings = SETTINGS.changed({"training.experts": []})
    after = loop.run(data, 8)
    memory = after.model.memory()
    assert (memory.experts, len(memory.vote)) == ((), VOTERS)
    assert memory.vote.sum() == pytest.approx(1)
    assert after.online is not None
    assert after.online.votes.shape[1] == VOTERS


def test_a_new_base_takes_the_experts_along_with_old_heads_or_fresh_ones() -> None:
    data, loop = streams.stream([60] * 6), Loop()
    loop.run(data, 5)
    for carry_heads in (True, False):
        born = base_in_shadow(
            data, loop.served, DAY_ONE + timedelta(days=6), SETTINGS, carry_heads=carry_heads
        ).model
        assert _experts(born) == _experts(loop.served)
        assert OnlineState.of(born).votes.shape == (0, VOTERS + 2)
        again = adapt(
            born,
            Champion(model_id="champion", model=loop.served),
            [streams.stream([60] * 8)],
            DAY_ONE + timedelta(days=7),
            SETTINGS,
            other_base=True,
        )
        assert again.rows_learned == 120


# ----------------------------------------------------------------------- saved and served


def _with_narrow_expert() -> AdaptiveClassifier:
    """A model whose expert has never seen an away win."""
    data = streams.stream([90] * 3)
    some = np.flatnonzero(data.labels != "A")
    rows = _known(data.take(some))
    settings_ = SETTINGS.changed(
        {"training.experts": [TREE, {"algorithm": "HistGradientBoosting", "half_life_days": 9.0}]}
    )
    model = streams.model(settings_)
    wanted = settings_.training.experts_in_use
    experts = fit_experts(rows, DAY_ONE.toordinal() + 2, settings_.training, wanted)
    model.set_memory(model.memory().with_experts(experts, weight=0.6))
    return model.partial_fit(*draw(5, 60))


def test_artifact_and_scoring_file_say_what_the_model_says(tmp_path: Path) -> None:
    model = _with_narrow_expert()
    expected = model.predict_proba(PROBES)
    assert expected.sum(axis=1) == pytest.approx(1)
    assert (expected > 0).all()
    path = tmp_path / "model.skops"
    archive.save_model(model, path)
    again = archive.load_model(path, expected_digest=archive.digest_file(path))
    assert isinstance(again, AdaptiveClassifier)
    assert again.predict_proba(PROBES) == pytest.approx(expected, abs=1e-15)
    assert [e.name for e in again.memory().experts] == [e.name for e in model.memory().experts]
    for scorer in scorers(scoring_bytes(model)):
        scored: Any = [scorer.probabilities(row) for row in PROBES.tolist()]
        assert np.abs(np.asarray(scored) - expected).max() < 1e-9
    assert model.predict_proba(np.empty((0, 3))).shape == (0, 3)


def test_a_preset_stands_for_experts_unless_they_are_named() -> None:
    full = Settings().changed({"training.preset": "full"})
    names = [expert.name for expert in full.training.experts_in_use]
    assert names == [
        "HistGradientBoosting, 30 iterations, last 60 nights",
        "HistGradientBoosting, 40 iterations",
        "DecisionTree, last 30 nights",
    ]
    assert [full.training.nights_between(e) for e in full.training.experts_in_use] == [7, 30, 1]
    named = full.changed({"training.experts": [TREE]}).training
    assert [expert.name for expert in named.experts_in_use] == ["DecisionTree"]
    assert not Settings().training.experts_in_use
    assert Settings.model_validate(full.model_dump()) == full
    with pytest.raises(ConfigError, match="cannot be read by HistGradientBoosting"):
        full.changed({"data.text_column": "question"})
    full.changed({"data.text_column": "question", "training.preset": "light"})


def test_one_expert_twice_and_an_expert_that_cannot_read_the_text_are_refused() -> None:
    with pytest.raises(ConfigError, match="experts holds DecisionTree twice"):
        Settings().changed({"training.experts": [TREE, TREE | {"every_nights": 2}]})
    with pytest.raises(ConfigError, match="max_iter is of HistGradientBoosting"):
        Settings().changed({"training.experts": [TREE | {"max_iter": 3}]})
    with pytest.raises(ConfigError, match="cannot be read by HistGradientBoosting"):
        Settings().changed(
            {"data.text_column": "question", "training.experts": [{"half_life_days": 60}]}
        )
