"""The scoring file says what `predict_proba` says, for any model and any input."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from ml_pipeline.config.sections import TrainingSettings
from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import ArtifactCorrupt, ArtifactIncompatible, InputError, NotFound
from ml_pipeline.registry import scoring
from ml_pipeline.registry.heads.matrix import MatrixHeads
from ml_pipeline.registry.scoring_writer import scoring_bytes, write_scoring
from ml_pipeline.training import algorithms
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.heads.memory import Expert
from tests.support.properties import tries
from tests.support.scorers import scorers

ALGORITHMS = (
    "LogisticRegression", "SGDClassifier", "DecisionTree", "RandomForest",
    "HistGradientBoosting", "Ensemble",
)  # fmt: skip
EQUAL = 1e-9


def fit(algorithm: str, rows: Any, labels: Any, config: TrainingSettings) -> Any:  # noqa: ANN401
    # Threads of boosting that wait by spinning are slow beside other tests.
    with threadpool_limits(1):
        return algorithms.fit(algorithm, rows, labels, config)


@lru_cache
def train(  # noqa: PLR0913 - a random model
    algorithm: str, seed: int, *, classes: int, features: int, nights: int, wide: bool = False
) -> AdaptiveClassifier:
    """A random model whose heads have learned `nights` nights."""
    random = np.random.default_rng(seed)
    names = [f"c{number}" for number in range(classes)]
    rows = random.normal(size=(150, features)) * 10.0 ** random.integers(-3, 4, features)
    rows[random.random(rows.shape) < 0.05] = np.nan
    score = np.nan_to_num(rows) @ random.normal(size=(features, classes)) / np.nanstd(rows)
    labels = np.asarray(names)[(score + random.gumbel(size=score.shape)).argmax(axis=1)]
    labels[:classes] = names
    base = fit(algorithm, rows, labels, TrainingSettings(random_seed=seed % 1000))
    model = AdaptiveClassifier(base).adopt(base, rows, [*names[::-1], "unseen"] if wide else names)
    for _ in range(nights):
        model.partial_fit(rows[:40], random.choice(names, size=40))
    return model


def inputs_for(model: AdaptiveClassifier, seed: int) -> Any:  # noqa: ANN401 - an array
    random = np.random.default_rng(seed)
    width = model.n_features_in_
    near = model.mean_ + model.scale_ * random.normal(size=(30, width))
    far = model.mean_ + model.scale_ * 50 * random.normal(size=(10, width))
    rows = np.vstack([near, far, np.zeros((1, width))])
    rows[random.random(rows.shape) < 0.03] = np.nan
    return rows


def assert_equal(model: AdaptiveClassifier, rows: Any) -> None:  # noqa: ANN401 - an array
    for scorer in scorers(scoring_bytes(model)):
        answered = np.asarray([scorer.probabilities(row) for row in rows.tolist()])
        assert np.abs(answered - model.predict_proba(rows)).max() < EQUAL
    assert scorer.classes == [str(label) for label in model.classes_]


@settings(max_examples=tries(8), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    algorithm=st.sampled_from(["LogisticRegression", "SGDClassifier", "DecisionTree"]),
    seed=st.integers(0, 10**6),
    classes=st.integers(2, 4),
    features=st.integers(1, 6),
    nights=st.integers(0, 2),
    wide=st.booleans(),
)
def test_small_models_are_scored_as_scikit_learn_scores_them(  # noqa: PLR0913 - drawn
    *, algorithm: str, seed: int, classes: int, features: int, nights: int, wide: bool
) -> None:
    model = train(algorithm, seed, classes=classes, features=features, nights=nights, wide=wide)
    assert_equal(model, inputs_for(model, seed))


@settings(max_examples=tries(1), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 3))
@pytest.mark.parametrize("algorithm", ["RandomForest", "HistGradientBoosting", "Ensemble"])
def test_forests_boosting_and_votes_are_scored_as_scikit_learn_scores_them(
    algorithm: str, seed: int, classes: int
) -> None:
    model = train(algorithm, seed, classes=classes, features=4, nights=1)
    assert_equal(model, inputs_for(model, seed))


def test_values_on_a_threshold_and_beside_it_take_the_same_branch() -> None:
    model = train("DecisionTree", 3, classes=3, features=2, nights=0)
    scale = model.base_.named_steps["scale"]
    tree = model.base_.named_steps["classify"].tree_
    asked = tree.feature[0]
    on = tree.threshold[tree.feature == asked] * scale.scale_[asked] + scale.mean_[asked]
    rows = np.tile(model.mean_, (3 * len(on), 1))
    rows[:, asked] = np.concatenate([on, np.nextafter(on, np.inf), np.nextafter(on, -np.inf)])
    assert len(rows) >= 3
    assert_equal(model, rows)


def test_scores_beyond_what_e_can_be_raised_to_are_taken_alike() -> None:
    model = copy.deepcopy(train("LogisticRegression", 1, classes=3, features=2, nights=1))
    memory = model.memory()
    model.set_memory(replace(memory, heads=tuple(head * 1e5 for head in memory.heads)))
    rows = inputs_for(model, 1)
    heads = scoring.parse(scoring_bytes(model))._heads
    assert isinstance(heads, MatrixHeads)
    assert np.abs(heads._common).max() > 1000
    assert_equal(model, rows)


def test_heads_see_the_components_of_many_features() -> None:
    model = train("LogisticRegression", 1, classes=2, features=70, nights=1)
    assert_equal(model, inputs_for(model, 1))


@pytest.mark.parametrize(("classes", "has_second"), [(2, True), (3, True), (3, False)])
def test_heads_that_hear_experts_are_scored_alike(*, classes: int, has_second: bool) -> None:
    random = np.random.default_rng(4)
    rows = random.normal(size=(200, 3))
    labels = np.asarray([f"c{number}" for number in range(classes)])[
        np.digitize(rows[:, 0] * rows[:, 1], [0.0, 0.5][: classes - 1])
    ]
    config = TrainingSettings()
    base = algorithms.fit("LogisticRegression", rows, labels, config)
    model = AdaptiveClassifier(base).adopt(base, rows, heard=["boosting", "tree"])
    fitted = {
        "tree": algorithms.fit("DecisionTree", rows, labels, config),
        "boosting": algorithms.fit("HistGradientBoosting", rows, labels, config, max_iter=5),
    }
    experts = tuple(
        Expert(name=name, model=fitted[name], columns=np.arange(classes), night=1)
        for name in list(fitted)[: 1 + has_second]
    )
    model.set_memory(model.memory().with_experts(experts, weight=0.5))
    model.partial_fit(rows, labels)
    assert np.abs(model.memory().heads[0][:, -classes:]).max() > 1e-3
    assert_equal(model, inputs_for(model, 4))


def test_an_ensemble_says_what_each_member_says_and_weighs_as_configured() -> None:
    config = Settings().changed({"training.ensemble_weights": [3.0, 1.0, 1.0]}).training
    random = np.random.default_rng(0)
    rows = random.normal(size=(100, 3))
    labels = np.where(rows[:, 0] > 0, "H", "A")
    base = fit("Ensemble", rows, labels, config)
    model = AdaptiveClassifier(base).adopt(base, rows)
    scorer = scoring.parse(scoring_bytes(model))
    assert scorer.is_ensemble
    members = scorer.members(rows[0].tolist())
    assert [member.name for member in members] == config.ensemble
    assert [member.weight for member in members] == [3.0, 1.0, 1.0]
    prepared = base[:-1].transform(rows[:1])
    for member, fitted in zip(members, base.named_steps["classify"].estimators_, strict=True):
        assert member.probabilities == pytest.approx(fitted.predict_proba(prepared)[0], abs=EQUAL)
    assert_equal(model, rows)


def unclipped(algorithm: str) -> bytes:
    """A model of before numbers were clipped, which its trees may not be able to take."""
    model = copy.deepcopy(train(algorithm, 5, classes=2, features=2, nights=0))
    model.base_.steps = [step for step in model.base_.steps if step[0] != "clip"]
    return scoring_bytes(model)


def test_a_member_without_an_answer_is_left_out_and_the_others_are_weighed_anew() -> None:
    scorer = scoring.parse(unclipped("Ensemble"))
    # Too large for the single precision of a forest, not for the others.
    row = [1e60, 0.0]
    members = {member.name: member.probabilities for member in scorer.members(row)}
    assert members["RandomForest"] is None
    others = [answered for answered in members.values() if answered is not None]
    assert len(others) == 2
    assert sum(scorer.probabilities(row)) == pytest.approx(1)


def test_numbers_that_the_model_cannot_take_are_refused() -> None:
    scorer = scoring.parse(unclipped("RandomForest"))
    with pytest.raises(InputError, match="cannot take these numbers"):
        scorer.probabilities([1e60, 0.0])


def test_features_far_from_the_training_rows_are_named() -> None:
    model = train("LogisticRegression", 2, classes=2, features=2, nights=0)
    model.feature_names_ = ["form", "strength"]
    scorer = scoring.parse(scoring_bytes(model))
    assert scorer.far_out(model.mean_.tolist()) == []
    (warning,) = scorer.far_out([model.mean_[0] + 20 * model.scale_[0], model.mean_[1]])
    assert warning.startswith("form = ")
    assert "20 standard deviations" in warning


def test_the_digest_is_checked_before_a_byte_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "model.scoring"
    assert write_scoring(train("RandomForest", 5, classes=2, features=2, nights=0), path)
    digest = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert scoring.load(str(path), digest=digest).classes == ["c0", "c1"]
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(ArtifactCorrupt, match="expected was"):
        scoring.load(str(path), digest=digest)
    with pytest.raises(NotFound):
        scoring.load(str(tmp_path / "none"), digest=digest)


def test_what_the_format_cannot_express_has_no_scoring_file(tmp_path: Path) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    rows = np.random.default_rng(0).normal(size=(30, 2))
    base = KNeighborsClassifier().fit(rows, np.where(rows[:, 0] > 0, "H", "A"))
    model = AdaptiveClassifier(base).adopt(base, rows)
    assert write_scoring(model, tmp_path / "model.scoring") is False
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", ArtifactCorrupt),
        (b"{}\n", ArtifactCorrupt),
        (b'{"format": "ml_pipeline scoring 9"}\n', ArtifactIncompatible),
        (b'{"format": "ml_pipeline scoring 1", "features": 3}\n', ArtifactCorrupt),
    ],
)
def test_bytes_that_are_no_scoring_file_are_refused(content: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        scoring.parse(content)


def test_trees_that_lead_outside_their_arrays_are_refused() -> None:
    content = scoring_bytes(train("DecisionTree", 5, classes=2, features=2, nights=0))
    with pytest.raises(ArtifactCorrupt, match="outside the file"):
        scoring.parse(content[:-16])


def changed_trees(change: Any) -> bytes:  # noqa: ANN401 - a function of the header's part
    content = scoring_bytes(train("DecisionTree", 5, classes=2, features=2, nights=0))
    line, _, arrays = content.partition(b"\n")
    header, flat = json.loads(line), bytearray(arrays)
    change(header["base"]["last"], flat)
    return json.dumps(header).encode() + b"\n" + bytes(flat)


def set_number(flat: bytearray, place: list[Any], at: int, number: int) -> None:
    code, start, _ = place
    size = {"h": 2, "i": 4}[code]
    flat[start + at * size : start + (at + 1) * size] = number.to_bytes(size, "little", signed=True)


TREE_FAULTS = {
    "a feature that does not exist": lambda t, flat: set_number(flat, t["feature"], 0, 2),
    "a right child behind": lambda t, flat: set_number(flat, t["right"], 0, 0),
    "a right child outside": lambda t, flat: set_number(flat, t["right"], 0, 10**6),
    "a column that does not exist": lambda t, _: t.update(columns=[1]),
    "fewer columns than trees": lambda t, _: t.update(columns=[]),
    "leaves of no width": lambda t, _: t.update(width=0),
    "a divisor of nothing": lambda t, _: t.update(divisor=0),
    "a number without end": lambda t, _: t.update(divisor=10**400),
}


@pytest.mark.parametrize("fault", TREE_FAULTS)
def test_a_tree_that_leads_nowhere_is_refused_at_once(fault: str) -> None:
    content = changed_trees(TREE_FAULTS[fault])

    def ask() -> None:
        # On either side of the root's threshold.
        for value in (-1e9, 1e9):
            scoring.parse(content).probabilities([value, value])

    with pytest.raises((ArtifactCorrupt, InputError)):
        ask()


@pytest.mark.parametrize(
    "change",
    [
        {"families": [["plain", 4, [["d", 0, 3]]]]},
        {"families": [["plain", 4, []]]},
        {"heard": [0]},
        {"vote": [1.0]},
        {"head_inputs": {"scale": [0.0, 1.0]}},
        {"head_inputs": {"mean": [1.0]}},
        {"head_inputs": {"pairs": [[0, 2]]}},
        {"head_inputs": {"pairs": [[-1, 0]]}},
        {"head_inputs": {"phases": ["d", 0, 3]}},
        {"head_inputs": {"components": ["d", 0, 2]}},
        {"classes": ["c0", "c0"]},
        {"base_columns": [0, 0]},
        {"base_columns": [0, 7]},
        {"base_columns": [-1, 0]},
        {"base": {"kind": "linear", "coef": [[1.0]], "intercept": [0.0], "link": "sigmoid"}},
        {"base": {"kind": "linear", "coef": [], "intercept": [], "link": "none"}},
    ],
)
def test_parts_that_do_not_fit_one_another_are_refused(change: dict[str, Any]) -> None:
    content = scoring_bytes(train("LogisticRegression", 5, classes=2, features=2, nights=0))
    line, _, arrays = content.partition(b"\n")
    header = json.loads(line)
    if "head_inputs" in change:
        change = {"head_inputs": header["head_inputs"] | change["head_inputs"]}
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        scoring.parse(json.dumps(header | change).encode() + b"\n" + arrays)


def test_a_header_that_is_deep_is_refused() -> None:
    deep = b'{"format": "ml_pipeline scoring 1", "features": ' + b"[" * 50_000
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        scoring.parse(deep)
