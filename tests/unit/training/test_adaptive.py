"""The heads start as the base, learn by the formula that is written down, and harm nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import approx_fprime, minimize
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.tree import DecisionTreeClassifier

from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.metrics import encode
from ml_pipeline.registry.archive import digest_file, load_model, save_model
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.heads.curvature import (
    MAX_WHOLE,
    moments_of,
    short_form,
    solved,
    times,
    unit_precision,
)
from ml_pipeline.training.heads.inputs import COMPONENTS, MIN_PROBABILITY
from ml_pipeline.training.heads.memory import Memory
from ml_pipeline.training.heads.newton import (
    Lesson,
    answers,
    fit_head,
    gradient,
    hessian,
)
from ml_pipeline.training.heads.rates import Rates
from tests.support import streams
from tests.support.properties import tries
from tests.support.streams import CLASSES, draw, loss

Floats = NDArray[np.float64]
LONG = 60
RIDGE = Rates().ridge
PLAIN = Rates(families=("plain",))
# Weights of heads of three classes: one column for each class, or all but the last.
FORMS = (3, 2)


def _lesson(seed: int = 3, *, rows: int = 40, voters: int = 5) -> Lesson:
    """Rows of five inputs and three classes, and what `voters` predict for them."""
    rng = np.random.default_rng(seed)
    return Lesson(
        inputs=(np.hstack([rng.normal(size=(rows, 4)), np.ones((rows, 1))]),),
        actual=rng.integers(0, 3, rows),
        weights=rng.uniform(0.5, 2.0, rows),
        opinions=rng.dirichlet(np.ones(3), size=(voters, rows)),
    )


def _problem(columns: int, seed: int = 3) -> tuple[Floats, Floats, Lesson]:
    """Weights before, penalty, lesson."""
    rng = np.random.default_rng(seed + 100)
    root = rng.normal(size=(5 * columns, 5 * columns))
    return rng.normal(size=(5, columns)), root @ root.T / 10, _lesson(seed)


def _answers_at(flat: Floats, lesson: Lesson) -> Floats:
    return answers(lesson.inputs[0], flat.reshape(-1, 5).T, 3)


def _loss_at(flat: Floats, lesson: Lesson) -> float:
    chosen = _answers_at(flat, lesson)[np.arange(len(lesson.actual)), lesson.actual]
    return float(-(lesson.weights * np.log(chosen)).sum())


def _gradient_at(flat: Floats, lesson: Lesson) -> Floats:
    return gradient(_answers_at(flat, lesson), lesson.inputs[0], lesson, len(flat) // 5)


def _hessian_at(flat: Floats, lesson: Lesson) -> Floats:
    return hessian(_answers_at(flat, lesson), lesson.inputs[0], lesson, len(flat) // 5)


def _inputs(model: AdaptiveClassifier, rows: Floats) -> Floats:
    """What the plain heads see."""
    return model.seen(rows, model.base_proba(rows)).inputs[0]


# ------------------------------------------------------------------------------------- heads


def test_fresh_heads_say_what_the_base_says() -> None:
    model, (features, _) = streams.model(), draw(2, 500)
    predicted = model.base_proba(features)
    plain = (predicted > MIN_PROBABILITY).all(axis=1)
    assert plain.sum() > 100
    assert model.predict_proba(features)[plain] == pytest.approx(predicted[plain], abs=1e-12)


def test_fresh_heads_soften_only_what_the_base_thinks_impossible() -> None:
    features = np.array([[0.0], [1.0]] * 30)
    base = DecisionTreeClassifier().fit(features, ["H", "D"] * 30)
    model = AdaptiveClassifier().adopt(base, features, ["H", "D", "A"])
    of_base = model.base_proba(features)
    clipped = np.clip(of_base, MIN_PROBABILITY, 1.0)
    clipped /= clipped.sum(axis=1, keepdims=True)
    assert model.predict_proba(features) == pytest.approx(0.9 * of_base + 0.1 * clipped, abs=1e-12)
    assert np.abs(model.predict_proba(features) - of_base).max() < MIN_PROBABILITY


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("columns", FORMS)
def test_a_head_ends_where_a_general_optimiser_ends(columns: int, seed: int) -> None:
    start, penalty, lesson = _problem(columns, seed)
    before = start.T.ravel()
    penalty = penalty + RIDGE * unit_precision(5, columns, 3)

    def goal(flat: Floats) -> float:
        moved = flat - before
        return _loss_at(flat, lesson) + 0.5 * float(moved @ penalty @ moved)

    def slope(flat: Floats) -> Floats:
        return np.asarray(_gradient_at(flat, lesson) + penalty @ (flat - before))

    found, _ = fit_head(start, penalty, lesson.inputs[0], lesson, LONG)
    best = minimize(goal, before, jac=slope, method="BFGS", options={"gtol": 1e-9}).x
    assert found.T.ravel() == pytest.approx(best, abs=1e-6)
    assert goal(found.T.ravel()) == pytest.approx(goal(best), rel=1e-9)


@pytest.mark.parametrize("columns", FORMS)
def test_the_gradient_agrees_with_finite_differences(columns: int) -> None:
    start, _, lesson = _problem(columns)
    flat = start.T.ravel()
    numeric = approx_fprime(flat, lambda at: _loss_at(at, lesson), 1e-7)
    assert _gradient_at(flat, lesson) == pytest.approx(numeric, abs=1e-4)


@pytest.mark.parametrize("columns", FORMS)
def test_the_curvature_agrees_with_finite_differences_of_the_gradient(columns: int) -> None:
    start, _, lesson = _problem(columns)
    flat = start.T.ravel()
    numeric = approx_fprime(flat, lambda at: _gradient_at(at, lesson), 1e-7)
    exact = _hessian_at(flat, lesson)
    assert exact == pytest.approx(numeric, abs=1e-4)
    assert exact == pytest.approx(exact.T, abs=1e-12)
    assert np.linalg.eigvalsh(exact).min() > -1e-9


def _short(seed: int, prior: float) -> Floats:
    """A curvature in short form, of heads of five inputs and two columns."""
    rng = np.random.default_rng(seed)
    rows, shares = rng.normal(size=(9, 5)), rng.uniform(1, 3, 2)
    return np.concatenate([(rows.T @ rows).ravel(), shares, [9.0, prior]])


def _written_out(short: Floats) -> Floats:
    moments, shares, (weight, prior) = np.split(short, [25, 27])
    block = unit_precision(5, 2, 3)[:5, :5]
    full = np.zeros((10, 10))
    for column, share in enumerate(shares):
        of_rows = share / weight * moments.reshape(5, 5)
        full[5 * column : 5 * column + 5, 5 * column : 5 * column + 5] = of_rows + prior * block
    return full


def test_a_short_curvature_multiplies_and_solves_as_the_matrix_that_it_means() -> None:
    delta = np.random.default_rng(2).normal(size=10)
    for short in (_short(1, 0.7), 0.5 * _short(1, 0.7) + _short(2, 0.0)):
        full = _written_out(short)
        assert times(short, delta, 2) == pytest.approx(full @ delta)
        assert solved(short, full @ delta, 2) == pytest.approx(delta)
    only_prior = np.append(np.zeros(28), 2.0)
    assert times(only_prior, delta, 2) == pytest.approx(
        _written_out(_short(1, 2.0)) @ delta - (_written_out(_short(1, 0.0)) @ delta)
    )
    assert solved(only_prior, times(only_prior, delta, 2), 2) == pytest.approx(delta)


def test_with_a_short_curvature_a_head_ends_at_the_same_place_as_with_a_whole_one() -> None:
    start, _, lesson = _problem(2)
    short = _short(1, RIDGE)
    ends, _ = zip(
        *(fit_head(start, p, lesson.inputs[0], lesson, 300) for p in (short, _written_out(short))),
        strict=True,
    )
    assert ends[0] == pytest.approx(ends[1], abs=0.005)


def test_of_rows_that_are_undecided_alike_a_short_curvature_has_the_columns_own_blocks() -> None:
    lesson = _lesson()
    inputs, flat = lesson.inputs[0], np.zeros(10)
    moments = moments_of(inputs, lesson.weights)
    short = short_form(moments, _answers_at(flat, lesson), lesson.weights, 2)
    whole = _hessian_at(flat, lesson)
    for own in (slice(0, 5), slice(5, 10)):
        assert _written_out(short)[own, own] == pytest.approx(whole[own, own])


def test_a_prior_against_the_last_class_is_the_one_over_all_classes() -> None:
    """On centred log probabilities, with a column for each class, whichever is the last."""
    rng = np.random.default_rng(1)
    against = np.hstack([np.eye(2), -np.ones((2, 1))])
    for _ in range(5):
        moved = rng.normal(size=(4, 2))
        # The same moves of scores, written for centred log probabilities and all classes.
        first = against.T @ moved[:2]
        inputs = np.vstack([first, moved[2:]])
        flat = moved.T.ravel()
        wide = np.hstack([inputs, np.zeros((5, 1))])
        wide -= wide.mean(axis=1, keepdims=True)
        assert flat @ unit_precision(4, 2, 3) @ flat == pytest.approx((wide**2).sum())


def test_the_curvature_that_is_handed_on_is_the_loss_alone_at_the_solution() -> None:
    start, penalty, lesson = _problem(2)
    found, curvature = fit_head(start, penalty, lesson.inputs[0], lesson, LONG)
    assert curvature == pytest.approx(_hessian_at(found.T.ravel(), lesson))


def test_more_epochs_never_end_higher() -> None:
    start, penalty, lesson = _problem(2)
    penalty = penalty + RIDGE * np.eye(10)

    def reached(epochs: int) -> float:
        found, _ = fit_head(10 * start, penalty, lesson.inputs[0], lesson, epochs)
        moved = (found - 10 * start).T.ravel()
        return _loss_at(found.T.ravel(), lesson) + 0.5 * float(moved @ penalty @ moved)

    values = [reached(epochs) for epochs in (1, 2, 3, 5, 20)]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1]


def test_a_row_of_weight_two_counts_as_two_rows() -> None:
    start, penalty, lesson = _problem(2)
    (inputs,) = lesson.inputs
    twice = Lesson(
        inputs=(np.vstack([inputs, inputs]),),
        actual=np.concatenate([lesson.actual, lesson.actual]),
        weights=np.concatenate([lesson.weights, lesson.weights]),
        opinions=np.concatenate([lesson.opinions, lesson.opinions], axis=1),
    )
    heavy = Lesson(
        inputs=lesson.inputs,
        actual=lesson.actual,
        weights=2 * lesson.weights,
        opinions=lesson.opinions,
    )
    one, two = (fit_head(start, penalty, e.inputs[0], e, LONG) for e in (twice, heavy))
    assert one[0] == pytest.approx(two[0], abs=1e-10)
    assert one[1] == pytest.approx(two[1], abs=1e-8)
    rates = Rates(families=("plain",), rows_per_night=40.0)
    memory = Memory.fresh([5], 2, rates)
    votes = [memory.learn(each, 1, rates).vote for each in (twice, heavy)]
    assert votes[0] == pytest.approx(votes[1], abs=1e-12)


# ------------------------------------------------------------------------------------ memory


def test_a_memory_halves_in_its_half_life() -> None:
    rates = Rates(half_lives=(5.0, 200.0))
    assert rates.decays ** np.array([5, 200]) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("half_lives", [(), (0.0,), (5.0, -1.0)])
def test_half_lives_that_are_not_positive_are_refused(half_lives: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="half_lives must be positive"):
        Rates(half_lives=half_lives)


def test_families_that_nobody_knows_are_refused() -> None:
    with pytest.raises(ValueError, match="families must be some of plain, pairs, waves"):
        Rates(families=("plain", "cubes"))


def test_the_vote_starts_with_nine_tenths_for_the_base_and_little_for_what_is_new() -> None:
    vote = Rates().initial_vote
    shares = [vote[0], *vote[1:].reshape(3, 4).sum(axis=1)]
    assert shares == pytest.approx([0.9, 0.08, 0.01, 0.01])
    assert PLAIN.initial_vote == pytest.approx([0.9, *[0.025] * 4])


def test_the_first_precision_weighs_the_base_as_the_formula_says() -> None:
    rates = Rates(families=("plain",), half_lives=(5.0,), rows_per_night=100.0)
    lesson = _lesson(voters=2)
    memory = Memory.fresh([5], 2, rates)
    unit = unit_precision(5, 2, 3)
    expected = rates.decays[0] * 0.02 * 100 / (1 - 0.5 ** (1 / 5)) * unit
    penalty = expected + rates.ridge * unit
    head, curvature = fit_head(memory.heads[0][0], penalty, lesson.inputs[0], lesson, rates.epochs)
    learned = memory.learn(lesson, 1, rates)
    assert learned.heads[0][0] == pytest.approx(head, abs=1e-12)
    assert learned.precisions is not None
    assert learned.precisions[0][0] == pytest.approx(expected + curvature)


def test_without_a_setting_the_first_night_tells_how_many_rows_a_night_has() -> None:
    lesson = _lesson(rows=40)
    memory = Memory.fresh([5], 2, PLAIN)
    unset = memory.learn(lesson, 1, PLAIN)
    configured = memory.learn(lesson, 1, Rates(families=("plain",), rows_per_night=40.0))
    assert np.array_equal(unset.heads[0], configured.heads[0])


@pytest.mark.parametrize(("night", "passed"), [(2, 1), (11, 10), (1, 1)])
def test_nights_without_rows_are_forgotten_as_well(night: int, passed: int) -> None:
    rates = Rates(families=("plain",), half_lives=(5.0,))
    first, second = _lesson(1, voters=2), _lesson(2, voters=2)
    before = Memory.fresh([5], 2, rates).learn(first, 1, rates)
    after = before.learn(second, night, rates)
    assert before.precisions is not None
    assert after.precisions is not None
    kept = rates.decays[0] ** passed * before.precisions[0][0]
    penalty = kept + rates.ridge * unit_precision(5, 2, 3)
    head, curvature = fit_head(before.heads[0][0], penalty, second.inputs[0], second, rates.epochs)
    assert after.heads[0][0] == pytest.approx(head, abs=1e-12)
    assert after.precisions[0][0] == pytest.approx(kept + curvature)
    assert after.last_night == night


def test_the_vote_is_exponential_in_the_losses_with_a_fixed_share() -> None:
    rates, lesson = Rates(families=("plain",), vote_rate=0.3, vote_share=0.05), _lesson()
    memory = Memory.fresh([5], 2, rates)
    chosen = lesson.opinions[:, np.arange(40), lesson.actual]
    expected = memory.vote * np.exp(0.3 * (np.log(chosen) @ lesson.weights))
    expected = 0.95 * expected / expected.sum() + 0.05 / 5
    assert memory.learn(lesson, 1, rates).vote == pytest.approx(expected)


@settings(max_examples=tries(12))
@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.floats(0.0, 1.0),
    rate=st.floats(1e-3, 10.0),
    sharpness=st.sampled_from([0.01, 1.0, 50.0]),
)
def test_votes_sum_to_one_and_nobody_falls_under_the_share(
    seed: int, share: float, rate: float, sharpness: float
) -> None:
    rng = np.random.default_rng(seed)
    rates = Rates(families=("plain",), vote_share=max(share, 1e-3), vote_rate=rate)
    memory = Memory.fresh([5], 2, rates)
    for night in (1, 2, 3):
        opinions = rng.dirichlet(np.full(3, sharpness), size=(5, 20))
        plain = _lesson(int(rng.integers(1000)), rows=20)
        lesson = Lesson(
            inputs=plain.inputs, actual=plain.actual, weights=plain.weights, opinions=opinions
        )
        memory = memory.learn(lesson, night, rates)
        assert memory.vote.sum() == pytest.approx(1.0, abs=1e-12)
        assert memory.vote.min() >= rates.vote_share / 5 - 1e-15


# ---------------------------------------------------------------------------------- learning


def test_each_further_night_of_the_same_rows_lowers_their_loss() -> None:
    model, (features, labels) = streams.model(), draw(5, 200, turn=1.0)
    losses = [loss(model.predict_proba(features), labels)]
    for _ in range(6):
        model.partial_fit(features, labels)
        losses.append(loss(model.predict_proba(features), labels))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.1


def test_learning_what_has_turned_helps_on_rows_not_seen() -> None:
    model, (features, labels) = streams.model(), draw(6, 1000, turn=1.0)
    frozen = loss(model.base_proba(features), labels)
    for night in range(10):
        model.partial_fit(*draw(100 + night, 60, turn=1.0))
    assert loss(model.predict_proba(features), labels) < frozen - 0.2


def test_a_class_missing_from_a_night_is_not_forgotten() -> None:
    model, (features, labels) = streams.model(), draw(6, 2000)
    draws = labels == "D"
    before = loss(model.predict_proba(features[draws]), labels[draws])
    everything = loss(model.predict_proba(features), labels)
    night = draw(8, 60)
    kept = night[1] != "D"
    model.partial_fit(night[0][kept], night[1][kept])
    assert model.predict_proba(features).shape == (2000, 3)
    assert loss(model.predict_proba(features[draws]), labels[draws]) < before + 0.05
    assert loss(model.predict_proba(features), labels) < everything + 0.01


def test_a_night_of_one_class_only_is_learned_without_harm() -> None:
    model, (features, labels) = streams.model(), draw(6, 2000)
    before = loss(model.predict_proba(features), labels)
    night = draw(8, 200)
    home = night[1] == "H"
    model.partial_fit(night[0][home], night[1][home])
    assert loss(model.predict_proba(features), labels) < before + 0.05


def test_an_unknown_label_is_refused_by_name_and_nothing_is_learned() -> None:
    model, (features, _) = streams.model(), draw(6, 3)
    before = model.predict_proba(features)
    with pytest.raises(DataError, match=r"does not know: V, X.*trained on H, D, A"):
        model.partial_fit(features, ["X", "V", "H"])
    assert np.array_equal(model.predict_proba(features), before)


def test_labels_are_encoded_by_their_place_in_the_class_set() -> None:
    assert encode(np.array(["A", "H"]), np.array(CLASSES)).tolist() == [2, 0]
    assert encode(np.array([], dtype=str), np.array(CLASSES)).shape == (0,)


# ---------------------------------------------------------------------------------- features


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, 1e6, -3e-5])
def test_a_constant_feature_neither_divides_by_zero_nor_shouts(constant: float) -> None:
    features, labels = draw(5, 301)
    features[:, 2] = constant
    base = LogisticRegression().fit(features, labels)
    model = AdaptiveClassifier().adopt(base, features)
    inputs = _inputs(model, features)
    # The log odds come first, then the features, then the intercept.
    assert inputs[:, 4] == pytest.approx(0, abs=1e-6)
    model.partial_fit(features, labels)
    assert np.isfinite(model.predict_proba(features)).all()


def test_features_are_standardised_by_the_rows_of_the_base_and_clipped() -> None:
    features, labels = draw(5, 300)
    features = 10 * features + 100
    base = LogisticRegression(max_iter=1000).fit(features, labels)
    model = AdaptiveClassifier().adopt(base, features)
    inputs = _inputs(model, features)[:, 2:5]
    assert inputs.mean(axis=0) == pytest.approx(0, abs=1e-9)
    assert inputs.std(axis=0) == pytest.approx(1)
    far = np.full((1, 3), 1e9)
    assert _inputs(model, far)[0, 2:].tolist() == [8, 8, 8, 1]


def test_a_missing_value_counts_as_the_mean() -> None:
    model, (features, labels) = streams.model(), draw(5, 100)
    model.partial_fit(features, labels)
    features[::3, 1] = np.nan
    inputs = _inputs(model, features)
    assert (inputs[::3, 3] == 0).all()
    assert np.isfinite(model.partial_fit(features, labels).predict_proba(features)).all()


def test_missing_values_in_the_training_rows_leave_mean_and_deviation_of_the_others() -> None:
    features, labels = draw(5, 300)
    holes = features.copy()
    holes[::2, 0] = np.nan
    holes[:, 2] = np.nan
    model = AdaptiveClassifier().adopt(streams.base(), holes)
    assert model.mean_[0] == pytest.approx(features[1::2, 0].mean())
    assert model.scale_[0] == pytest.approx(features[1::2, 0].std())
    assert (model.mean_[2], model.scale_[2]) == (0, 1)
    assert np.isfinite(model.partial_fit(holes, labels).predict_proba(holes)).all()


@pytest.mark.parametrize(("count", "seen"), [(64, 64), (65, COMPONENTS)])
def test_with_many_features_the_heads_see_their_components(count: int, seen: int) -> None:
    rng = np.random.default_rng(1)
    features, labels = rng.normal(size=(60, count)), np.array(CLASSES * 20)
    base = DummyClassifier(strategy="prior").fit(features, labels)
    model = AdaptiveClassifier().adopt(base, features, CLASSES)
    inputs = _inputs(model, features)
    assert inputs.shape == (60, 2 + seen + 1)
    assert [heads.shape for heads in model.memory().heads] == [
        (4, 2 + seen + further + 1, 2) for further in (0, 28, 40)
    ]
    assert inputs[:, 2:-1].std(axis=0) == pytest.approx(1, abs=0.01)
    skewed = rng.choice(CLASSES, 60, p=[0.8, 0.1, 0.1])
    before = loss(model.predict_proba(features), skewed)
    assert loss(model.partial_fit(features, skewed).predict_proba(features), skewed) < before


def test_with_many_classes_the_columns_share_one_curvature() -> None:
    labels = np.array([f"c{number:02d}" for number in range(30)] * 2)
    features = np.random.default_rng(1).normal(size=(60, 3))
    base = DummyClassifier(strategy="prior").fit(features, labels)
    model = AdaptiveClassifier().adopt(base, features)
    before = log_loss(labels, model.predict_proba(features))
    model.partial_fit(features, labels)
    precisions = model.memory().precisions
    assert precisions is not None
    assert MAX_WHOLE < 29 * 33
    assert precisions[0].shape == (4, 33 * 33 + 29 + 2)
    assert log_loss(labels, model.predict_proba(features)) < before


def test_pairs_are_of_the_numbers_that_move_the_base_the_most() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(400, 12))
    scores = features[:, :11] @ np.linspace(2, 1, 11)
    base = LogisticRegression().fit(features, np.where(scores > 0, "H", "A"))
    pairs = AdaptiveClassifier().adopt(base, features).inputs_().pairs
    weakest = np.argsort(np.abs(base.coef_[0]))[:2]
    assert len(pairs) == 55
    assert set(pairs.ravel()) == set(range(12)) - set(weakest.tolist())


def test_a_curved_concept_is_learned_by_the_new_heads_and_not_by_plain_ones() -> None:
    rng = np.random.default_rng(1)

    def rows(count: int) -> tuple[Floats, NDArray[np.str_]]:
        features = rng.normal(size=(count, 2))
        return features, np.where(features[:, 0] * features[:, 1] > 0, "H", "A")

    first, test = rows(200), rows(1000)
    right = []
    for families in (["plain"], ["plain", "pairs", "waves"]):
        model = AdaptiveClassifier(LogisticRegression(), {"families": families}).fit(*first)
        for _ in range(20):
            model.partial_fit(*rows(60))
        right.append(model.score(*test))
    assert right[0] < 0.6
    assert right[1] > 0.9


def test_waves_are_those_of_the_seed() -> None:
    features, labels = draw(5, 100)
    base = LogisticRegression().fit(features, labels)
    waves = [
        AdaptiveClassifier(random_state=seed).adopt(base, features).inputs_().frequencies
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(waves[0], waves[1])
    assert not np.array_equal(waves[0], waves[2])


# ----------------------------------------------------------------------------------- classes


def test_probabilities_stand_in_the_order_of_the_class_set_whatever_the_base_sorts() -> None:
    model, (features, labels) = streams.model(), draw(5, 400)
    base = streams.base()
    assert base.classes_.tolist() == ["A", "D", "H"]
    assert model.classes_.tolist() == ["H", "D", "A"]
    assert model.base_proba(features) == pytest.approx(base.predict_proba(features)[:, ::-1])
    agree = model.predict(features) == base.predict(features)
    assert agree.mean() > 0.99
    model.partial_fit(features, labels)
    assert (model.predict(features) == labels).mean() > 0.6


def test_the_order_of_the_class_set_changes_nothing_but_the_columns() -> None:
    (features, labels), (rows, _) = draw(5, 300), draw(6, 50)
    predicted = []
    for order in (["H", "D", "A"], ["A", "H", "D"], None):
        model = AdaptiveClassifier().adopt(streams.base(), features, order)
        model.partial_fit(features, labels)
        columns = [model.classes_.tolist().index(label) for label in CLASSES]
        predicted.append(model.predict_proba(rows)[:, columns])
    assert predicted[1] == pytest.approx(predicted[0], abs=1e-9)
    assert predicted[2] == pytest.approx(predicted[0], abs=1e-9)


def test_a_class_that_the_base_never_saw_is_improbable_until_it_is_learned() -> None:
    features, labels = draw(5, 600)
    seen = labels != "D"
    base = LogisticRegression().fit(features[seen], labels[seen])
    model = AdaptiveClassifier().adopt(base, features[seen], CLASSES)
    predicted = model.predict_proba(features)
    assert predicted.sum(axis=1) == pytest.approx(1)
    assert predicted[:, 1] == pytest.approx(MIN_PROBABILITY / (1 + MIN_PROBABILITY), rel=0.01)
    rest = np.delete(predicted, 1, axis=1)
    ratio = rest / rest.sum(axis=1, keepdims=True)
    assert ratio == pytest.approx(base.predict_proba(features)[:, ::-1], abs=1e-3)
    for night in range(5):
        model.partial_fit(*draw(50 + night, 100))
    assert model.predict_proba(features)[labels == "D", 1].mean() > 0.2


# ------------------------------------------------------------------------------- conventions


def test_a_clone_has_the_parameters_and_nothing_of_what_was_learned() -> None:
    rates = {"half_lives": [3.0], "epochs": 2}
    model = AdaptiveClassifier(LogisticRegression(C=0.5), rates).fit(*draw(5, 100))
    copy = clone(model)
    assert copy.get_params(deep=False)["rates"] == rates
    assert copy.get_params()["base__C"] == 0.5
    assert copy.set_params(base__C=2.0).base.C == 2.0
    assert not hasattr(copy, "base_")
    assert model.base_.C == 0.5
    with pytest.raises(NotFittedError):
        copy.predict_proba(np.zeros((1, 3)))


def test_fitting_trains_a_clone_of_the_base_and_leaves_the_original_alone() -> None:
    original = LogisticRegression()
    features, labels = draw(5, 100)
    model = AdaptiveClassifier(original, {"half_lives": [5, 15]}).fit(features, labels)
    assert not hasattr(original, "coef_")
    assert [heads.shape for heads in model.memory().heads] == [(2, p, 2) for p in (6, 12, 46)]
    assert model.classes_.tolist() == ["A", "D", "H"]
    assert model.score(features, labels) > 0.6


def test_an_unknown_rate_is_refused() -> None:
    with pytest.raises(TypeError, match="speed"):
        AdaptiveClassifier(LogisticRegression(), {"speed": 1}).fit(*draw(5, 100))


def _plain(value: Any) -> Any:  # noqa: ANN401 - an entry of the state
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def test_a_model_with_its_line_survives_its_artifact_to_the_last_bit(tmp_path: Path) -> None:
    from ml_pipeline.training.online_training import adapt

    data, today = streams.stream([40, 35, 12]), streams.moment_of(2).date()
    learned = adapt(
        streams.model(), streams.serving(streams.model()), [data], today, streams.SETTINGS
    ).model
    path = tmp_path / "model.skops"
    save_model(learned, path)
    loaded = load_model(path, expected_digest=digest_file(path))
    assert isinstance(loaded, AdaptiveClassifier)
    rows = draw(9, 200)[0]
    assert np.array_equal(loaded.predict_proba(rows), learned.predict_proba(rows))
    assert learned.line_ is not None
    assert loaded.line_ is not None
    assert {k: _plain(v) for k, v in loaded.line_.items()} == {
        k: _plain(v) for k, v in learned.line_.items()
    }
    # What is loaded goes on learning as what was saved.
    night = draw(10, 50)
    assert np.array_equal(
        loaded.partial_fit(*night).predict_proba(rows),
        learned.partial_fit(*night).predict_proba(rows),
    )
