"""Each way to a challenger learns what it says, and is judged on rows that nobody has learned."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.datasets.splits import Split, without_shared_groups
from ml_pipeline.errors import DataError
from ml_pipeline.training import strategies
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.algorithms import fit, fit_seed_literal, fit_sgd
from ml_pipeline.training.online.shadow_base import base_in_shadow
from ml_pipeline.training.online_training import adapt
from ml_pipeline.training.strategies import Challenger, new_model
from tests.support import streams
from tests.support.streams import (
    CLASSES,
    DAY_ONE,
    SETTINGS,
    accuracy,
    dataset,
    draw,
    loss,
    model,
    serving,
)

LAST = DAY_ONE + timedelta(days=29)


def _traffic(*, turn: float = 0.0, days: int = 30) -> Dataset:
    """What the champion served: its answers beside the outcomes."""
    data = streams.stream([40] * days, turn=turn)
    probabilities = model().predict_proba(data.features)
    predictions = np.asarray(CLASSES)[probabilities.argmax(axis=1)]
    is_error = (predictions != data.labels) & (probabilities.max(axis=1) > 0.7)
    return replace(data, frame=data.frame.assign(prediction=predictions, is_error=is_error))


def _coefficients(of: AdaptiveClassifier) -> NDArray[np.float64]:
    return np.asarray(of.base_.steps[-1][1].coef_)


def _day(night: int | None) -> date | None:
    return None if night is None else date.fromordinal(night)


# --------------------------------------------------------------------------------- new bases


def test_a_base_is_trained_on_the_past_and_judged_on_the_last_fifth() -> None:
    data = streams.stream([40] * 10)
    challenger = strategies.train_base(data, SETTINGS, algorithm="LogisticRegression")
    assert (challenger.rows_learned, len(challenger.evidence)) == (320, 80)
    assert set(challenger.evidence.nights) == {DAY_ONE.toordinal() + 8, DAY_ONE.toordinal() + 9}
    expected = fit("LogisticRegression", data.features[:320], data.labels[:320], SETTINGS.training)
    assert _coefficients(challenger.model) == pytest.approx(expected.steps[-1][1].coef_)
    assert challenger.model.mean_ == pytest.approx(data.features[:320].mean(axis=0))
    assert challenger.evidence.champion is None
    assert challenger.online is None
    assert challenger.cross_validation["folds"] == 5
    assert challenger.training_digest == data.take(np.arange(320)).digest()
    assert challenger.evidence.challenger == pytest.approx(
        challenger.model.predict_proba(data.features[320:]), abs=0
    )


def test_no_day_counts_as_learned_because_a_base_was_trained_on_its_rows() -> None:
    """Others of that day may still come; those of the base are known by their ids."""
    data = streams.stream([40] * 10)
    challenger = strategies.train_base(
        data, SETTINGS, algorithm="LogisticRegression", today=DAY_ONE + timedelta(days=10)
    )
    assert serving(challenger.model).settled_night() is None
    assert len(serving(challenger.model).fitted_rows()) == 320


@pytest.mark.parametrize("sizes", [[100], [60, 40], [0, 30, 70], [40] * 10])
def test_every_row_is_learned_by_the_base_or_after_it_and_none_by_both(sizes: list[int]) -> None:
    """A day that was cut, and the day that is not over, are taken up again."""
    data = streams.stream(sizes)
    today = DAY_ONE + timedelta(days=len(sizes) - 1)
    base = strategies.train_base(data, SETTINGS, algorithm="LogisticRegression", today=today)
    champion, later = serving(base.model), today + timedelta(days=1)
    grown = adapt(base.model, champion, [data], later, SETTINGS)
    assert base.rows_learned + grown.rows_learned == len(data)
    held = set(base.evidence.event_ids)
    assert set(grown.evidence.event_ids) == held
    # The days are over by now: nothing is kept of them.
    assert grown.model.line_ is not None
    assert len(serving(grown.model).fitted_rows()) == 0
    again = adapt(grown.model, serving(grown.model), [data], later, SETTINGS)
    assert again.rows_learned == 0


def test_a_refit_learns_the_training_data_and_the_whole_log() -> None:
    log = streams.stream([50] * 8)
    past = dataset(*draw(5, 300))
    champion = serving(adapt(model(), serving(model()), [log], _on(5), SETTINGS).model)
    challenger = strategies.refit(
        log, champion, SETTINGS, algorithm="LogisticRegression", past=past, today=_on(7)
    )
    # Five settled days, and what was open when the champion learned it.
    assert challenger.rows_learned == 300 + 300
    assert len(challenger.evidence) == 100
    both = (past.features, log.features[:300]), (past.labels, log.labels[:300])
    same = fit("LogisticRegression", np.vstack(both[0]), np.concatenate(both[1]), SETTINGS.training)
    assert _coefficients(challenger.model) == pytest.approx(same.steps[-1][1].coef_)


def test_a_group_of_the_training_data_is_not_judged_on() -> None:
    log = streams.stream([50] * 8)
    groups = [f"team {row % 10}" for row in range(400)]
    log = replace(log, groups=np.asarray(groups))
    past = dataset(*draw(5, 300), groups=["team 3"] * 300)
    parts = without_shared_groups(
        log.groups, Split(train=np.arange(0), holdout=np.arange(400)), past.groups
    )
    assert len(parts.holdout) == 360
    assert "team 3" not in np.asarray(groups)[parts.holdout]


def _on(day: int) -> date:
    return DAY_ONE + timedelta(days=day)


def test_the_rows_of_the_open_day_stay_known_to_the_next_run() -> None:
    data = streams.stream([40, 60])
    today = DAY_ONE + timedelta(days=1)
    base = strategies.train_base(data, SETTINGS, algorithm="LogisticRegression", today=today)
    champion = serving(base.model)
    grown = adapt(base.model, champion, [data], today, SETTINGS)
    assert grown.rows_learned == 20
    assert serving(grown.model).learned_event_ids() == set(data.frame["event_id"][40:])
    assert len(serving(grown.model).fitted_rows()) == 40


def test_heads_that_are_carried_over_have_not_learned_the_open_day() -> None:
    data = streams.stream([60] * 4, turn_per_day=0.2)
    today = DAY_ONE + timedelta(days=3)
    yesterday = adapt(model(), serving(model()), [data], today - timedelta(days=1), SETTINGS)
    first = model()
    served = adapt(first, serving(first), [data], today, SETTINGS).model
    settled = data.take(np.arange(180))
    first = model()
    clean = adapt(first, serving(first), [settled], today, SETTINGS).model
    assert yesterday.rows_learned == 180
    carried = base_in_shadow(data, served, today, SETTINGS, carry_heads=True).model
    for place, heads in enumerate(carried.heads_):
        assert heads == pytest.approx(clean.heads_[place])
        assert not np.allclose(heads, served.heads_[place])
    # They see what they saw, so that they mean what they meant.
    assert carried.inputs_().frequencies == pytest.approx(served.inputs_().frequencies)
    assert carried.inputs_().mean == pytest.approx(served.inputs_().mean)


def test_the_prior_of_a_base_is_that_of_its_training_rows() -> None:
    features = draw(1, 100)[0]
    labels = ["H"] * 50 + ["D"] * 30 + ["H"] * 20
    moments = [streams.moment_of(day) for day in range(100)]
    data = dataset(features, labels, moments=moments)
    challenger = strategies.train_base(data, SETTINGS, algorithm="LogisticRegression")
    # 50 H, 30 D, no A among the first 80, and one more of each.
    assert challenger.prior == pytest.approx(np.array([51, 31, 1]) / 83)


def test_a_base_has_the_configured_classes_though_one_never_happened() -> None:
    data = streams.stream([40] * 5)
    data = replace(data, labels=np.where(data.labels == "D", "H", data.labels))
    challenger = strategies.train_base(data, SETTINGS, algorithm="LogisticRegression")
    assert challenger.model.classes_.tolist() == ["H", "D", "A"]
    assert challenger.evidence.labels == ("H", "D", "A")
    assert challenger.evidence.challenger[:, 1].max() < 0.01
    free = SETTINGS.changed({"data.classes": None})
    found = strategies.train_base(data, free, algorithm="LogisticRegression")
    assert found.model.classes_.tolist() == ["A", "H"]


def test_one_class_only_trains_nothing() -> None:
    data = dataset(draw(1, 50)[0], ["H"] * 50)
    with pytest.raises(DataError, match="hold only 1 class: H"):
        strategies.train_base(data, SETTINGS, algorithm="LogisticRegression")


@pytest.mark.parametrize("rows", [1, 2])
def test_too_few_rows_train_nothing(rows: int) -> None:
    data = dataset(draw(1, rows)[0], ["H", "A"][:rows])
    with pytest.raises(DataError, match="too few"):
        strategies.train_base(data, SETTINGS, algorithm="LogisticRegression")


def test_defect_7_a_class_of_one_row_trains_all_the_same() -> None:
    """Defect 7."""
    features, labels = draw(1, 120)
    labels = np.where(labels == "D", "H", labels)
    labels[60] = "D"
    data = dataset(features, labels)
    challenger = strategies.train_base(data, SETTINGS, algorithm="LogisticRegression")
    assert challenger.model.base_.classes_.tolist() == ["A", "D", "H"]
    assert challenger.cross_validation["folds"] == 5


def test_rows_without_times_are_named_by_their_number_in_the_evidence() -> None:
    features, labels = draw(1, 50)
    challenger = strategies.train_base(
        dataset(features, labels), SETTINGS, algorithm="LogisticRegression"
    )
    assert len(set(challenger.evidence.event_ids)) == len(challenger.evidence)
    assert set(challenger.evidence.nights) == {0}


# ------------------------------------------------------------------------------------- refit


def test_a_refit_has_the_champions_classes_though_one_is_missing_from_the_rows() -> None:
    data = _traffic()
    data = replace(data, labels=np.where(data.labels == "D", "A", data.labels))
    challenger = strategies.refit(data, serving(model()), SETTINGS, algorithm="DecisionTree")
    assert challenger.model.base_.classes_.tolist() == ["A", "H"]
    assert challenger.model.classes_.tolist() == ["H", "D", "A"]
    probabilities = challenger.model.predict_proba(data.features)
    assert probabilities.shape == (1200, 3)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert challenger.model.partial_fit(*draw(1, 60)).predict_proba(data.features).shape[1] == 3


def test_defect_16_a_refit_and_the_champion_are_judged_on_the_same_rows() -> None:
    data, champion = _traffic(turn=1.0), serving(model())
    challenger = strategies.refit(data, champion, SETTINGS, algorithm="LogisticRegression")
    evidence = challenger.evidence
    assert challenger.rows_learned + len(evidence) == len(data)
    rows = [data.frame["event_id"].tolist().index(event) for event in evidence.event_ids]
    assert evidence.champion == pytest.approx(
        champion.model.predict_proba(data.features[rows]), abs=0
    )
    assert evidence.actual_labels().tolist() == data.labels[rows].tolist()
    assert evidence.champion is not None
    actual = evidence.actual_labels()
    assert loss(evidence.challenger, actual) < loss(evidence.champion, actual) - 0.2


def test_rows_of_open_days_that_the_champion_has_learned_do_not_judge_it() -> None:
    data, today = _traffic(days=1), DAY_ONE
    learned = data.take(np.arange(25))
    served = adapt(model(), serving(model()), [learned], today, SETTINGS).model
    assert len(serving(served).learned_event_ids()) == 25
    challenger = strategies.errors_only(
        replace(data, frame=data.frame.assign(is_error=True)), serving(served), SETTINGS
    )
    judged = set(challenger.evidence.event_ids)
    assert len(judged) == 3
    assert judged.isdisjoint(learned.frame["event_id"])


@pytest.mark.parametrize("strategy", ["refit", "sgd", "errors_only"])
def test_a_champion_with_settled_days_is_judged_on_later_days_only(strategy: str) -> None:
    data = streams.stream([40] * 10)
    assert data.times is not None
    data.frame["is_error"] = True
    seen = data.take(np.flatnonzero(data.times < streams.moment_of(7)))
    today = DAY_ONE + timedelta(days=7)
    champion = serving(adapt(model(), serving(model()), [seen], today, SETTINGS).model)
    assert champion.settled_night() == DAY_ONE.toordinal() + 6
    challenger = {
        "refit": lambda: strategies.refit(data, champion, SETTINGS, algorithm="LogisticRegression"),
        "sgd": lambda: strategies.sgd(data, champion, SETTINGS, dataset(*draw(7, 300))),
        "errors_only": lambda: strategies.errors_only(data, champion, SETTINGS),
    }[strategy]()
    assert challenger.evidence.nights.min() >= DAY_ONE.toordinal() + 7


def test_there_is_nothing_to_judge_on_when_the_champion_has_learned_everything() -> None:
    data = _traffic(days=1)
    served = adapt(model(), serving(model()), [data], DAY_ONE, SETTINGS).model
    with pytest.raises(DataError, match="none is left to judge on"):
        strategies.sgd(data, serving(served), SETTINGS, data)


# --------------------------------------------------------------------------------------- sgd


def _sgd(data: Dataset, **changes: Any) -> Challenger:  # noqa: ANN401 - settings
    settings = SETTINGS.changed({f"training.{name}": value for name, value in changes.items()})
    old = dataset(*draw(7, 300))
    return strategies.sgd(data, serving(model()), settings, old)


def test_descent_starts_from_the_champion_and_takes_rate_and_epochs() -> None:
    """Defect 6."""
    data, start = _traffic(turn=1.0), _coefficients(model())
    still = _coefficients(_sgd(data, learning_rate=1e-9).model)
    assert still == pytest.approx(start, abs=1e-4)
    slow, fast = (_coefficients(_sgd(data, learning_rate=rate).model) for rate in (1e-4, 1e-3))
    short, long = (_coefficients(_sgd(data, epochs=epochs).model) for epochs in (1, 5))
    assert np.abs(fast - start).max() > 2 * np.abs(slow - start).max()
    assert np.abs(long - start).max() > np.abs(short - start).max()
    assert fast == pytest.approx(long, abs=0)


def test_descent_learns_all_new_rows_and_some_old_ones() -> None:
    data = _traffic(turn=1.0)
    challenger = _sgd(data, replay_rows=0)
    rows = np.arange(960)
    expected = fit_sgd(
        streams.base(),
        data.features[rows],
        np.array(["ADH".index(label) for label in data.labels[rows]]),
        learning_rate=0.001,
        epochs=5,
        seed=42,
    )
    assert _coefficients(challenger.model) == pytest.approx(expected.steps[-1][1].coef_, abs=1e-12)
    assert challenger.rows_learned == 960
    assert challenger.evidence.nights.min() == DAY_ONE.toordinal() + 24
    with_old = _coefficients(_sgd(data, replay_rows=300).model)
    assert np.abs(with_old - _coefficients(challenger.model)).max() > 1e-4


def test_descent_refuses_a_tree() -> None:
    tree = new_model(streams.base("DecisionTree"), draw(7, 300)[0], CLASSES, SETTINGS)
    with pytest.raises(DataError, match="needs a linear base, not DecisionTreeClassifier"):
        strategies.sgd(_traffic(), serving(tree), SETTINGS, dataset(*draw(7, 300)))


# ------------------------------------------------------------------------------- errors only


def test_errors_only_is_the_documents_recipe_to_the_letter() -> None:
    data = _traffic()
    challenger = strategies.errors_only(data, serving(model()), SETTINGS)
    errors = np.flatnonzero(data.frame["is_error"].to_numpy()[:960])
    expected = fit_seed_literal(data.features[errors], data.labels[errors])
    assert challenger.rows_learned == len(errors)
    assert _coefficients(challenger.model) == pytest.approx(expected.steps[-1][1].coef_)
    assert len(challenger.evidence) == 240


@pytest.mark.parametrize("spelling", [True, "True", "true", "1", 1, 1.0])
def test_an_error_is_marked_in_any_spelling(spelling: str | float) -> None:
    data = _traffic(days=5)
    marks = [spelling if is_error else "False" for is_error in data.frame["is_error"]]
    marked = replace(data, frame=data.frame.assign(is_error=marks))
    challenger = strategies.errors_only(marked, serving(model()), SETTINGS)
    assert challenger.rows_learned == data.frame["is_error"].to_numpy()[:160].sum()


def test_errors_that_are_all_held_out_train_nothing() -> None:
    data = _traffic(days=5)
    frame = data.frame.assign(is_error=[False] * 190 + [True] * 10)
    with pytest.raises(DataError, match="all are held out"):
        strategies.errors_only(replace(data, frame=frame), serving(model()), SETTINGS)


@pytest.mark.parametrize("turn", [0.0, 0.7])
def test_defect_5_learning_every_row_beats_learning_the_errors_alone(turn: float) -> None:
    """Defect 5: on held-out traffic the errors alone make a good model a bad one."""
    data, (rows, truth) = _traffic(turn=turn), draw(500, 2000, turn=turn)
    champion = model()
    adaptive = adapt(champion, serving(champion), [data], LAST, SETTINGS).model
    errors = strategies.errors_only(data, serving(champion), SETTINGS).model
    frozen = accuracy(champion.predict_proba(rows), truth)
    learned = accuracy(adaptive.predict_proba(rows), truth)
    assert learned > frozen - 0.01
    assert learned > accuracy(errors.predict_proba(rows), truth) + 0.2
    assert loss(adaptive.predict_proba(rows), truth) < loss(errors.predict_proba(rows), truth)


def test_learning_every_row_repairs_a_champion_that_the_world_has_left_behind() -> None:
    data, (rows, truth) = _traffic(turn=1.2), draw(500, 2000, turn=1.2)
    adaptive = adapt(model(), serving(model()), [data], LAST, SETTINGS).model
    gained = accuracy(adaptive.predict_proba(rows), truth)
    assert gained > accuracy(model().predict_proba(rows), truth) + 0.1


# -------------------------------------------------------------------------------- adaptation


def test_labels_that_come_mainly_for_errors_are_weighed_back() -> None:
    """Every wrong row has its label, a fifth of the right ones: the weights undo the choice."""
    settings = SETTINGS.changed(
        {
            "training.adaptive.label_probability_wrong": 1.0,
            "training.adaptive.label_probability_right": 0.2,
        }
    )
    traffic, (rows, truth) = _traffic(days=60), draw(500, 2000)
    wrong = (traffic.frame["prediction"] != traffic.labels).to_numpy()
    kept = np.flatnonzero(wrong | (np.random.default_rng(1).random(len(wrong)) < 0.2))
    chosen, last = traffic.take(kept), DAY_ONE + timedelta(days=59)
    losses = {
        name: loss(
            adapt(model(), serving(model()), [chosen], last, used).model.predict_proba(rows),
            truth,
        )
        for name, used in {"weighed": settings, "as they come": SETTINGS}.items()
    }
    assert losses["weighed"] < losses["as they come"] - 0.05
    assert losses["weighed"] < loss(model().predict_proba(rows), truth) + 0.05


def test_rows_without_nights_are_learned_as_one_and_judged_on_the_rest() -> None:
    features, labels = draw(1, 200, turn=1.0)
    head = model()
    before = head.predict_proba(features)
    challenger = strategies.fine_tune_rows(head, dataset(features, labels), SETTINGS, today=DAY_ONE)
    assert (challenger.rows_learned, len(challenger.evidence)) == (160, 40)
    rows = [int(event) for event in challenger.evidence.event_ids]
    evidence = challenger.evidence
    assert evidence.champion is not None
    actual = evidence.actual_labels()
    assert loss(evidence.challenger, actual) < loss(evidence.champion, actual)
    assert len(rows) == 40
    assert np.array_equal(head.predict_proba(features), before)

    # The log brings the same rows, and the model goes on from what it has learned.
    moments = [streams.moment_of(0, minute) for minute in range(200)]
    event_ids = [f"{number:04d}" for number in range(200)]
    log = dataset(features, labels, moments=moments, event_id=event_ids)
    tuned = challenger.model
    again = adapt(tuned, serving(tuned), [log], DAY_ONE, SETTINGS)
    assert (again.rows_known, again.rows_learned) == (160, 40)
    assert again.evidence.challenger == pytest.approx(tuned.predict_proba(features[_held(again)]))


def _held(challenger: Challenger) -> list[int]:
    return [int(event_id) for event_id in challenger.evidence.event_ids]


def test_a_refit_is_not_judged_on_rows_that_the_champions_base_was_fitted_on() -> None:
    log = streams.stream([50] * 4)
    table = dataset(log.features[:120], log.labels[:120])
    first = strategies.train_base(
        table, SETTINGS, algorithm="LogisticRegression", today=_on(3), is_log=False
    )
    known = first.rows_learned
    assert known == 96
    refitted = strategies.refit(
        log, serving(first.model), SETTINGS, algorithm="LogisticRegression", today=_on(3)
    )
    assert len(refitted.evidence) == 200 - known
    assert refitted.rows_learned == known


def test_the_settings_of_the_heads_reach_the_model() -> None:
    settings = SETTINGS.changed({"training.adaptive.half_lives": [3.0, 9.0], "training.epochs": 2})
    made = model(settings)
    assert made.rates_().half_lives == (3.0, 9.0)
    assert made.rates_().epochs == 2
    assert made.feature_names_ == SETTINGS.data.features
    assert [len(heads) for heads in made.heads_] == [2, 2, 2]
