"""Bases are built by name; rates and epochs do what they are called; small classes do no harm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from ml_pipeline.config.sections import TrainingSettings
from ml_pipeline.errors import DataError
from ml_pipeline.training import algorithms
from tests.support.streams import CLASSES, base, draw

SETTINGS = TrainingSettings(random_seed=5)
EVERY = [
    "LogisticRegression",
    "SGDClassifier",
    "DecisionTree",
    "RandomForest",
    "HistGradientBoosting",
    "Ensemble",
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # Boosting's threads wait for each other by spinning, which takes seconds on a busy machine.
    with threadpool_limits(1):
        yield


def _coefficients(model: Any) -> NDArray[np.float64]:  # noqa: ANN401 - scikit-learn has no types
    classifier = model.steps[-1][1]
    return np.hstack([classifier.coef_, classifier.intercept_[:, None]])


def _codes(labels: NDArray[np.str_], order: str = "ADH") -> NDArray[np.int64]:
    return np.array([order.index(label) for label in labels], dtype=np.int64)


# ------------------------------------------------------------------------------------- bases


@pytest.mark.parametrize("algorithm", EVERY)
def test_every_algorithm_learns_from_rows_with_holes(algorithm: str) -> None:
    features, labels = draw(1, 600)
    features[::7, 0] = np.nan
    model = algorithms.fit(algorithm, features, labels, SETTINGS)
    rows, truth = draw(2, 300)
    probabilities = model.predict_proba(rows)
    assert model.classes_.tolist() == ["A", "D", "H"]
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert accuracy_score(truth, model.predict(rows)) > 0.6
    assert np.isfinite(model.predict_proba(np.full((1, 3), np.nan))).all()


@pytest.mark.parametrize("algorithm", EVERY)
def test_the_seed_makes_a_base_repeatable(algorithm: str) -> None:
    features, labels = draw(1, 200)
    one, two = (algorithms.fit(algorithm, features, labels, SETTINGS) for _ in range(2))
    assert np.array_equal(one.predict_proba(features), two.predict_proba(features))


@pytest.mark.parametrize("algorithm", EVERY)
def test_defect_7_a_class_of_one_row_is_fitted(algorithm: str) -> None:
    features, labels = draw(1, 120)
    labels = np.where(labels == "D", "H", labels)
    labels[3] = "D"
    model = algorithms.fit(algorithm, features, labels, SETTINGS)
    assert model.classes_.tolist() == ["A", "D", "H"]
    assert np.isfinite(model.predict_proba(features)).all()


@pytest.mark.parametrize("algorithm", EVERY)
def test_one_class_only_cannot_be_told_apart(algorithm: str) -> None:
    with pytest.raises(DataError, match="hold only 1 class: H") as caught:
        algorithms.fit(algorithm, draw(1, 9)[0], np.array(["H"] * 9), SETTINGS)
    assert "at least two classes" in caught.value.hint
    with pytest.raises(DataError, match="hold only 0 class: none"):
        algorithms.fit(algorithm, np.empty((0, 3)), np.empty(0, dtype=str), SETTINGS)


@pytest.mark.parametrize("algorithm", ["LogisticRegression", "DecisionTree", "Ensemble"])
def test_a_weight_counts_as_that_many_rows(algorithm: str) -> None:
    features, labels = draw(1, 300)
    heavy = algorithms.fit(
        algorithm, features, labels, SETTINGS, weights=np.where(labels == "D", 20.0, 1.0)
    )
    plain = algorithms.fit(algorithm, features, labels, SETTINGS)
    draws = heavy.classes_.tolist().index("D")
    mean = [model.predict_proba(features)[:, draws].mean() for model in (heavy, plain)]
    assert mean[0] > mean[1] + 0.2


def test_an_ensemble_is_the_weighted_mean_of_its_members() -> None:
    features, labels = draw(1, 300)
    settings = TrainingSettings(
        ensemble=["LogisticRegression", "DecisionTree"], ensemble_weights=[3.0, 1.0]
    )
    vote = algorithms.fit("Ensemble", features, labels, settings).predict_proba(features)
    members = [
        algorithms.fit(name, features, labels, settings).predict_proba(features)
        for name in settings.ensemble
    ]
    assert vote == pytest.approx(0.75 * members[0] + 0.25 * members[1], abs=1e-9)


def test_defect_16_the_preparation_is_fitted_on_the_training_rows_only() -> None:
    features, labels = draw(1, 200)
    model = algorithms.fit("LogisticRegression", 3 * features + 7, labels, SETTINGS)
    scale = model.named_steps["scale"]
    assert scale.mean_ == pytest.approx((3 * features + 7).mean(axis=0))
    before = scale.mean_.copy()
    model.predict_proba(np.full((50, 3), 1e6))
    assert np.array_equal(scale.mean_, before)


# --------------------------------------------------------------------------------------- sgd


def _tuned(rate: float, epochs: int, seed: int = 1) -> NDArray[np.float64]:
    features, labels = draw(3, 60, turn=1.0)
    tuned = algorithms.fit_sgd(
        base(), features, _codes(labels), learning_rate=rate, epochs=epochs, seed=seed
    )
    return _coefficients(tuned)


def test_defect_6_the_learning_rate_is_the_step() -> None:
    """Defect 6: it was used as the strength of regularisation."""
    start = _coefficients(base())
    small, large = (_tuned(rate, 1) - start for rate in (1e-5, 1e-4))
    assert np.abs(small).max() > 0
    assert large == pytest.approx(10 * small, rel=0.02, abs=1e-6)
    assert _tuned(0.001, 5) == pytest.approx(_tuned(0.001, 5), abs=0)
    assert np.abs(_tuned(0.001, 5) - _tuned(0.01, 5)).max() > 0.01


def test_defect_6_epochs_are_passes_over_the_rows() -> None:
    """Defect 6: they were never used."""
    start = _coefficients(base())
    moved = [np.abs(_tuned(1e-4, epochs) - start).max() for epochs in (1, 2, 5)]
    assert moved == sorted(moved)
    assert moved[1] == pytest.approx(2 * moved[0], rel=0.05)
    assert moved[2] == pytest.approx(5 * moved[0], rel=0.1)


def test_one_step_is_the_gradient_of_one_row() -> None:
    row = np.array([[0.5, -1.0, 2.0]])
    model = base()
    tuned = algorithms.fit_sgd(model, row, np.array([2]), learning_rate=0.1, epochs=1, seed=1)
    prepared = model[:-1].transform(row)[0]
    push = model.predict_proba(row)[0] - np.array([0.0, 0.0, 1.0])
    moved = _coefficients(tuned) - _coefficients(model)
    assert moved == pytest.approx(-0.1 * np.outer(push, [*prepared, 1.0]), abs=1e-12)


def test_many_small_steps_follow_the_traffic() -> None:
    features, labels = draw(3, 800, turn=1.0)
    rows, truth = draw(4, 500, turn=1.0)
    tuned = algorithms.fit_sgd(
        base(), features, _codes(labels), learning_rate=0.01, epochs=5, seed=1
    )
    assert accuracy_score(truth, tuned.predict(rows)) > (
        accuracy_score(truth, base().predict(rows)) + 0.1
    )


def test_the_champion_that_is_tuned_stays_as_it_was() -> None:
    before = _coefficients(base()).copy()
    _tuned(0.1, 3)
    assert np.array_equal(_coefficients(base()), before)


def test_two_classes_are_tuned_as_one_score() -> None:
    features, labels = draw(1, 400)
    kept = labels != "D"
    features, labels = features[kept], labels[kept]
    model = algorithms.fit("LogisticRegression", features, labels, SETTINGS)
    row, prepared = features[:1], model[:-1].transform(features[:1])[0]
    tuned = algorithms.fit_sgd(model, row, np.array([1]), learning_rate=0.1, epochs=1, seed=1)
    push = model.predict_proba(row)[0, 1] - 1
    moved = _coefficients(tuned) - _coefficients(model)
    assert moved == pytest.approx(-0.1 * push * np.array([[*prepared, 1.0]]), abs=1e-12)


def test_scores_of_one_class_against_the_rest_are_tuned_each_for_itself() -> None:
    features, labels = draw(1, 400)
    model = algorithms.fit("SGDClassifier", features, labels, SETTINGS)
    row, prepared = features[:1], model[:-1].transform(features[:1])[0]
    tuned = algorithms.fit_sgd(model, row, np.array([0]), learning_rate=0.1, epochs=1, seed=1)
    chances = 1 / (1 + np.exp(-model.decision_function(row)[0]))
    push = chances - np.array([1.0, 0.0, 0.0])
    moved = _coefficients(tuned) - _coefficients(model)
    assert moved == pytest.approx(-0.1 * np.outer(push, [*prepared, 1.0]), abs=1e-9)


@pytest.mark.parametrize("algorithm", ["DecisionTree", "RandomForest", "HistGradientBoosting"])
def test_a_tree_cannot_be_tuned_by_descent(algorithm: str) -> None:
    with pytest.raises(DataError, match=r"needs a linear base, not \w+Classifier") as e:
        algorithms.fit_sgd(
            base(algorithm), draw(1, 3)[0], np.array([0, 1, 2]), learning_rate=1, epochs=1, seed=1
        )
    assert "adaptive, which takes any base" in e.value.hint


# ------------------------------------------------------------------------------- seed recipe


def test_the_seeds_recipe_is_a_fresh_regression_with_the_rate_as_its_strength() -> None:
    features, labels = draw(1, 80)
    fitted = algorithms.fit_seed_literal(features, labels).predict_proba(features)
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    plain = LogisticRegression(C=0.001, max_iter=1000).fit(standard, labels)
    assert fitted == pytest.approx(plain.predict_proba(standard), abs=1e-6)


def test_the_seeds_recipe_needs_errors_of_two_classes() -> None:
    with pytest.raises(DataError, match="hold only one class"):
        algorithms.fit_seed_literal(draw(1, 5)[0], np.array(["H"] * 5))


# ---------------------------------------------------------------------------- cross-validation


def test_cross_validation_is_scikit_learns_on_the_same_folds() -> None:
    features, labels = draw(1, 200)
    found = algorithms.cross_validate("LogisticRegression", features, labels, SETTINGS)
    model, accuracies = algorithms.build("LogisticRegression", SETTINGS, features), []
    splitter = StratifiedKFold(5, shuffle=True, random_state=SETTINGS.random_seed)
    for train, test in splitter.split(features, labels):
        fitted = clone(model).fit(features[train], labels[train])
        accuracies.append(accuracy_score(labels[test], fitted.predict(features[test])))
    assert found["folds"] == 5
    assert found["accuracy"] == pytest.approx(np.mean(accuracies))
    assert found["accuracy_std"] == pytest.approx(np.std(accuracies))
    assert found["log_loss"] > 0


@pytest.mark.parametrize(
    ("counts", "folds"),
    [
        ((40, 40, 5), 5),
        ((40, 40, 3), 3),
        ((40, 40, 2), 2),
        ((40, 40, 1), 5),
        ((40, 3, 1), 3),
        ((2, 2, 1), 2),
        ((1, 1, 1), 0),
        ((9, 0, 0), 0),
        ((0, 0, 0), 0),
    ],
)
def test_folds_shrink_with_the_rarest_class(counts: tuple[int, int, int], folds: int) -> None:
    """Defect 7: a class of one row is trained on and never tested."""
    labels = np.repeat(np.array(CLASSES), counts)
    features = draw(1, len(labels))[0]
    found = algorithms.cross_validate("LogisticRegression", features, labels, SETTINGS)
    assert found["folds"] == folds
    assert ("accuracy" in found) == (folds > 0)
    assert all(np.isfinite(value) for value in found.values())
