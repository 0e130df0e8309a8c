"""Before labels arrive: the expected accuracy holds, and inputs that drift are found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets.drift.inputs import input_drift
from ml_pipeline.datasets.drift.measures import (
    Drift,
    label_drift,
    level_drift,
    new_levels_sentence,
    numeric_drift,
)
from ml_pipeline.datasets.features import matrix
from ml_pipeline.datasets.reference import ColumnSummary, LevelSummary, reference_of
from ml_pipeline.decay.drift import expected_accuracy
from ml_pipeline.store.inputs.cells import level_code


def drift_of(column: str, reference: np.ndarray, recent: np.ndarray) -> Drift | None:
    """The drift of recent values from what is kept of others."""
    summary = ColumnSummary.of(reference)
    assert summary is not None
    kept = ColumnSummary.from_json(json.loads(json.dumps(asdict(summary))))
    return numeric_drift(column, kept, recent)


def answers(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Confidences that say 0.1 more than is true, and whether the answers are right."""
    draw = np.random.default_rng(seed)
    confidence = draw.uniform(0.5, 1.0, rows)
    return confidence, draw.random(rows) < confidence - 0.1


def test_the_interval_holds_what_turns_out() -> None:
    known, right = answers(2000, 1)
    held = 0
    for seed in range(2, 102):
        waiting, turned_out = answers(300, seed)
        found = expected_accuracy(waiting, known, right)
        assert found is not None
        held += found.low <= turned_out.mean() <= found.high
    assert held >= 90
    assert found is not None
    assert found.accuracy == pytest.approx(0.65, abs=0.03)
    assert waiting.mean() > 0.72


def test_without_labels_enough_or_answers_there_is_no_estimate() -> None:
    known, right = answers(99, 1)
    assert expected_accuracy(known, known, right) is None
    known, right = answers(200, 1)
    assert expected_accuracy(known[:0], known, right) is None


def test_inputs_that_stand_still_have_no_drift_and_moved_ones_have() -> None:
    draw = np.random.default_rng(1)
    reference = draw.normal(0, 1, 5000)
    still = drift_of("form", reference, draw.normal(0, 1, 500))
    after = draw.normal(0.8, 1, 500)
    moved = drift_of("form", reference, after)
    assert still is not None
    assert moved is not None
    assert still.psi < 0.1
    assert moved.psi > 0.25
    assert still.p_value is not None
    assert still.p_value > 0.01
    assert moved.p_value is not None
    assert moved.p_value < 1e-9
    whole = stats.ks_2samp(reference, after, method="asymp").statistic
    assert whole - 0.01 <= moved.ks <= whole


def test_constant_and_missing_features_are_compared_as_well() -> None:
    same = drift_of("home", np.ones(100), np.array([1.0, np.nan, 1.0]))
    assert same is not None
    assert same.psi == pytest.approx(0)
    assert same.rows == 2
    other = drift_of("home", np.ones(100), np.full(50, 2.0))
    assert other is not None
    assert other.psi > 1
    assert drift_of("home", np.ones(9), np.array([np.nan])) is None
    assert ColumnSummary.of(np.array([np.nan])) is None


def test_a_mix_of_predictions_moves_when_a_label_vanishes() -> None:
    mix = label_drift("prediction", ["H", "D", "A"] * 100, ["H"] * 100)
    assert mix is not None
    assert mix.psi > 1
    same = label_drift("prediction", ["H", "D", "A"] * 100, ["H", "D", "A"] * 30)
    assert same is not None
    assert same.psi == pytest.approx(0)
    assert label_drift("prediction", [], ["H"]) is None


def _levels(values: Sequence[float]) -> LevelSummary:
    """A summary of a category after a way through JSON."""
    summary = LevelSummary.of(np.asarray(values))
    assert summary is not None
    return LevelSummary.from_json(json.loads(json.dumps(asdict(summary))))


def test_a_category_drifts_by_its_levels_and_new_ones_are_named() -> None:
    oslo, rome = level_code("Oslo"), level_code("Rome")
    summary = _levels([oslo] * 60 + [rome] * 38 + [np.nan] * 2)
    same = level_drift("city", summary, ["Oslo"] * 60 + ["Rome"] * 38 + [None] * 2)
    assert same is not None
    assert same.psi == pytest.approx(0.0)
    assert (same.new_share, same.rows) == (0.0, 100)
    assert "new_levels" not in same.as_json()
    moved = level_drift("city", summary, ["Oslo"] * 50 + ["Atlantis"] * 40 + ["Thule"] * 10)
    assert moved is not None
    assert moved.psi > 1
    assert moved.as_json()["new_levels"] == ["Atlantis", "Thule"]
    assert moved.new_share == pytest.approx(0.5)
    said = new_levels_sentence(moved, "result")
    assert said.startswith("city has levels that training had not ('Atlantis', 'Thule') in 50 ")
    assert "50 results of 100: each is answered as a rare one" in said
    assert new_levels_sentence(same) == ""
    assert level_drift("city", summary, []) is None


def test_of_many_levels_the_rare_ones_are_counted_together() -> None:
    summary = _levels(np.arange(1000.0).repeat(2).tolist())
    assert len(summary.levels) == 200
    assert summary.others == pytest.approx(0.8)
    found = level_drift("shop", summary, ["of no list"] * 10)
    assert found is not None
    # Whether it is new cannot be told.
    assert found.new_levels == ()


ODD = ("[1]", "null", "3", '"x"', '{"form": [1]}', '{"form": {"x": 1}}', '{"league": [1]}',
       '{"league": {"x": 1}}', '{"home": [1]}', '{"home": {"x": 1}}', '{"home": "zz"}',
       '{"form": 1e400}', '{"form": %s}' % ("9" * 400), None)  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_n7_one_odd_row_of_the_table_does_not_stop_the_watchdog(odd: str | None) -> None:
    kinds = {"form": Kind.NUMBER, "league": Kind.CATEGORY, "home": Kind.BOOLEAN}
    codes = [12345678901234567890, 2]
    rows = [{"form": n, "league": codes[n % 2], "home": n % 2 == 0} for n in range(50)]
    frame = pd.DataFrame([{name: str(value) for name, value in row.items()} for row in rows])
    reference = reference_of(matrix(frame, list(kinds), kinds), list(kinds), None, kinds)
    recent = pd.DataFrame({"features": [*map(json.dumps, rows), odd]}, dtype=object)
    found = {drift.column: drift for drift in input_drift(reference, recent)}
    assert set(found) == set(kinds)
    assert found["form"].psi < 0.1
    assert found["league"].new_share <= 1 / 51
