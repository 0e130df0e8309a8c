"""A night of very many rows is learned by pieces, and every row of it still counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier

from ml_pipeline.config.sections import AdaptiveSettings
from ml_pipeline.datasets.times import days_of
from ml_pipeline.evaluation.metrics import encode
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.heads import curvature, large
from ml_pipeline.training.heads.curvature import unit_precision
from ml_pipeline.training.heads.large import ROWS_AT_ONCE, LargeLesson, parts_of
from ml_pipeline.training.heads.memory import Expert
from ml_pipeline.training.heads.newton import Lesson, answers
from ml_pipeline.training.online.rows import Rows
from ml_pipeline.training.online_model import Incumbent, OnlineState, take_day, take_night
from tests.support import streams
from tests.unit.training.test_online_model import Loop, _assert_same, _settled

Floats = NDArray[np.float64]
NIGHT = 739_000


def _lesson(rows: int, n_classes: int = 3, width: int = 4) -> LargeLesson:
    rng = np.random.default_rng(5)
    inputs = np.hstack([rng.normal(size=(rows, width)), np.ones((rows, 1))])
    truth = rng.normal(size=(width + 1, n_classes))
    return LargeLesson(
        inputs=lambda places: (inputs[places],),
        actual=(inputs @ truth + rng.gumbel(size=(rows, n_classes))).argmax(axis=1),
        weights=rng.uniform(0.5, 2.0, rows),
        n_classes=n_classes,
        losses=None,
    )


def _whole(lesson: LargeLesson) -> Lesson:
    return Lesson(
        inputs=lesson.inputs(slice(None)), actual=lesson.actual, weights=lesson.weights,
        opinions=np.empty((0, len(lesson), lesson.n_classes)),
    )  # fmt: skip


def test_heads_of_a_large_night_end_where_all_of_its_rows_put_them() -> None:
    lesson = _lesson(ROWS_AT_ONCE + 20_000)
    whole, starts = _whole(lesson), (np.repeat(np.eye(5, 2)[None], 2, axis=0),)
    penalties = (np.multiply.outer([5.0, 500.0], unit_precision(5, 2, 3)),)
    (found,), (expected,) = (one.fitted(starts, penalties, 5) for one in (lesson, whole))
    sample = lesson._sample().fitted(starts, penalties, 5)[0]
    for (head, bend), (exact, hessian), (guess, _) in zip(found, expected, sample, strict=True):
        assert np.abs(head - exact).max() < 1e-3
        assert np.abs(head - exact).max() < 0.1 * np.abs(guess - exact).max()
        assert np.abs(bend - hessian).max() < 0.05 * np.abs(hessian).max()
        shares = answers(whole.inputs[0], np.stack([head, exact]), 3)
        losses = -np.log(shares[:, np.arange(len(lesson)), lesson.actual]) @ lesson.weights
        assert abs(losses[0] - losses[1]) < 1e-5 * lesson.weights.sum()


def test_a_step_that_would_make_it_worse_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "ROWS_AT_ONCE", 40)  # a curvature of 40 rows says little
    lesson = _lesson(4000, n_classes=2)
    starts = (np.eye(5, 1)[None],)
    penalties = (unit_precision(5, 1, 2)[None],)

    def goal(head: Floats) -> float:
        delta = (head - starts[0][0]).T.ravel()
        shares = answers(lesson.inputs(slice(None))[0], head, 2)
        chosen = shares[np.arange(len(lesson)), lesson.actual]
        return float(-np.log(chosen) @ lesson.weights + delta @ penalties[0][0] @ delta / 2)

    guess = goal(lesson._sample().fitted(starts, penalties, 5)[0][0][0])
    found = goal(lesson.fitted(starts, penalties, 20)[0][0][0])
    best = goal(_whole(lesson).fitted(starts, penalties, 20)[0][0][0])
    assert best <= found < best + 0.01 * (guess - best)


def test_of_many_classes_fewer_rows_are_asked_at_once_and_all_are_fitted_at_once() -> None:
    assert max(part.stop - part.start for part in parts_of(10_000, 100)) == 1310
    assert list(parts_of(ROWS_AT_ONCE, 3)) == [slice(0, ROWS_AT_ONCE)]
    lesson = _lesson(5000, n_classes=30)
    assert len(list(parts_of(len(lesson), 30))) == 2
    starts = (np.eye(5, 29)[None],)
    penalties = (unit_precision(5, 29, 30)[None],)
    (found,), (expected,) = (one.fitted(starts, penalties, 3) for one in (lesson, _whole(lesson)))
    for one, other in zip(found[0], expected[0], strict=True):
        assert one == pytest.approx(other, abs=1e-12)


@pytest.fixture(name="model")
def _model() -> AdaptiveClassifier:
    settings = streams.SETTINGS.changed({"training.adaptive.half_lives": [5, 60]})
    model = streams.model(settings)
    model.heard_ = ["tree"]
    return model.set_memory(model.fresh_memory())


def _scored(model: AdaptiveClassifier, rows: Rows) -> tuple[OnlineState, Any]:
    features, labels = streams.draw(8, 300)
    tree = DecisionTreeClassifier(max_depth=4, random_state=0).fit(features, labels)
    columns = encode(np.asarray(tree.classes_), model.classes_)
    expert = Expert(name="tree", model=tree, columns=columns, night=NIGHT)
    state = OnlineState.fresh(model).with_experts((expert,), weight=0.1)
    incumbent = Incumbent(model_id="base", memory=model.fresh_memory())
    state = take_day(state, NIGHT, rows)
    state, _ = take_night(model, state, NIGHT, incumbent, AdaptiveSettings())
    later = replace(rows, predicted=np.full(len(rows), NIGHT - 1))
    state = take_day(state, NIGHT + 2, later)
    return take_night(model, state, NIGHT + 2, incumbent, AdaptiveSettings())


def test_a_night_asked_by_pieces_is_scored_as_one_asked_at_once(
    model: AdaptiveClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, labels = streams.draw(3, 500)
    rows = Rows(
        features=features, base=model.base_proba(features), actual=encode(labels, model.classes_),
        weights=np.linspace(0.5, 1, 500), event_ids=tuple(f"{n:03d}" for n in range(500)),
        entities=np.r_[np.zeros(300, np.uint32), np.arange(200, dtype=np.uint32) // 2],
    )  # fmt: skip
    expected, at_once = _scored(model, rows)
    monkeypatch.setattr(large, "_ANSWERS_AT_ONCE", 300)
    found, by_pieces = _scored(model, rows)
    for one, other in ((by_pieces, at_once), (found, expected)):
        names = ("live", "champion") if one is by_pieces else ("ledger", "votes")
        for name in names:
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-12)
    for heads, others in zip(found.memory.heads, expected.memory.heads, strict=True):
        assert heads == pytest.approx(others, abs=1e-12)


def test_large_nights_learned_in_one_late_run_end_in_the_same_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(large, "ROWS_AT_ONCE", 50)
    data = streams.stream([40, 140, 10, 90], turn_per_day=0.2)
    nightly, late = Loop(), Loop()
    for day in range(1, 5):
        by_night = nightly.run(data, day)
    _assert_same(late.run(data, 4), by_night)
    assert _settled(by_night).rows_seen == 280


def test_with_short_curvatures_one_late_run_ends_in_the_same_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(curvature, "MAX_WHOLE", 0)
    data = streams.stream([40, 10, 60], turn_per_day=0.2)
    nightly, late = Loop(), Loop()
    for day in range(1, 4):
        by_night = nightly.run(data, day)
    _assert_same(late.run(data, 3), by_night)
    precisions = _settled(by_night).memory.precisions
    assert precisions is not None
    assert [len(one.shape) for one in precisions] == [2, 2, 2]


def test_the_day_of_a_moment_is_that_of_utc() -> None:
    east = timezone(timedelta(hours=5))
    moments = pd.Series(pd.to_datetime([datetime(2026, 1, 2, 3, tzinfo=east)] * 2))
    first = datetime(2026, 1, 1, tzinfo=UTC).toordinal()
    assert days_of(moments).tolist() == [first, first]
    assert days_of(moments.iloc[:0]).tolist() == []
    with pytest.raises(ValueError, match="missing moment"):
        days_of(pd.Series([pd.NaT, moments[0]]))
