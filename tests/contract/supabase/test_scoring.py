"""The database answers what the scoring file says, for any model and any row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_pipeline.config.sections import TrainingSettings
from ml_pipeline.errors import InputError
from ml_pipeline.registry import scoring
from ml_pipeline.registry.in_database import compiling
from ml_pipeline.registry.in_database.compiling import compile_scoring
from ml_pipeline.registry.in_database.program import Inexpressible
from ml_pipeline.registry.scoring_writer import scoring_bytes
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.heads.memory import Expert
from tests.support.properties import tries
from tests.support.supabase.project import SupabaseProject
from tests.unit.registry.test_scoring import ALGORITHMS, fit, inputs_for, train, unclipped
from tests.unit.training import test_kind_features as kinds
from tests.unit.training.brought import test_incumbent as incumbents

EQUAL = 1e-9
# Where products and exponents of doubles end, and what has no place in single precision.
ODD = (0.0, -0.0, 5e-324, -1e-300, 1e-160, 7e-46, 3.4028235677973366e38, 1e39, -1e150, 1e150)
SQL = Path(scoring.__file__).parents[1] / "sql" / "supabase"
SLOW = [HealthCheck.too_slow]


class Database:
    """What scores programs."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def score(self, content: bytes, rows: Any) -> Any:  # noqa: ANN401 - arrays
        """What the program of a scoring file answers for each row."""
        program = compile_scoring(content)
        (found,) = self._connection.execute(
            "select ml_pipeline_score(%s::integer[], %s::float8[], %s::float8[])",
            [program.places, program.numbers, np.asarray(rows).ravel().tolist()],
        ).fetchone() or [None]
        return np.asarray(found).reshape(len(rows), -1)

    def assert_equal(self, content: bytes, rows: Any) -> None:  # noqa: ANN401 - an array
        """Compare with the scorer in Python; what it refuses is no answer here either."""
        scorer = scoring.parse(content)
        for row, found in zip(rows.tolist(), self.score(content, rows), strict=True):
            try:
                expected = scorer.probabilities(row)
            except InputError:
                assert np.isnan(found[: len(scorer.classes)]).any()
            else:
                assert found[: len(expected)] == pytest.approx(expected, abs=EQUAL)


@pytest.fixture(scope="module")
def database(supabase: SupabaseProject) -> Iterator[Database]:
    supabase.blank()
    with psycopg.connect(supabase.dsn) as connection:
        for name in ("0001_ground.sql", "0042_scoring.sql"):
            connection.execute((SQL / name).read_bytes())
        yield Database(connection)
    supabase.blank()


def odd_rows(width: int, values: list[float]) -> Any:  # noqa: ANN401 - an array
    rows = [np.roll([*values, *[1.0] * width][:width], turn) for turn in range(width)]
    return np.asarray(rows)


@settings(max_examples=tries(2), deadline=None, suppress_health_check=SLOW)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(2, 4),
    features=st.integers(1, 6),
    nights=st.integers(0, 2),
    wide=st.booleans(),
    odd=st.lists(st.sampled_from(ODD) | st.floats(-1e150, 1e150), min_size=1, max_size=3),
)
@pytest.mark.parametrize("algorithm", ["LogisticRegression", "SGDClassifier", "DecisionTree"])
def test_small_models_answer_in_the_database_what_their_scoring_files_say(  # noqa: PLR0913 - drawn
    database: Database, algorithm: str, *, seed: int, classes: int, features: int, nights: int,
    wide: bool, odd: list[float],
) -> None:  # fmt: skip
    model = train(algorithm, seed, classes=classes, features=features, nights=nights, wide=wide)
    content = scoring_bytes(model)
    database.assert_equal(content, inputs_for(model, seed))
    database.assert_equal(content, odd_rows(features, odd))


@settings(max_examples=tries(1), deadline=None, suppress_health_check=SLOW)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 3))
@pytest.mark.parametrize("algorithm", ["RandomForest", "HistGradientBoosting", "Ensemble"])
def test_forests_boosting_and_votes_answer_alike(
    database: Database, algorithm: str, seed: int, classes: int
) -> None:
    model = train(algorithm, seed, classes=classes, features=4, nights=1)
    content = scoring_bytes(model)
    database.assert_equal(content, inputs_for(model, seed))
    database.assert_equal(content, odd_rows(4, list(ODD)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_numbers_that_no_step_clips_answer_alike_or_not_at_all(
    database: Database, algorithm: str
) -> None:
    rows = np.asarray([[value, other] for value in ODD for other in (0.3, -1e60, np.nan)])
    database.assert_equal(unclipped(algorithm), rows)


def test_a_value_on_a_threshold_takes_the_same_branch(database: Database) -> None:
    model = train("DecisionTree", 3, classes=3, features=2, nights=0)
    scale = model.base_.named_steps["scale"]
    tree = model.base_.named_steps["classify"].tree_
    asked = tree.feature[0]
    on = tree.threshold[tree.feature == asked] * scale.scale_[asked] + scale.mean_[asked]
    rows = np.tile(model.mean_, (3 * len(on), 1))
    rows[:, asked] = np.concatenate([on, np.nextafter(on, np.inf), np.nextafter(on, -np.inf)])
    database.assert_equal(scoring_bytes(model), rows)


@pytest.mark.parametrize("algorithm", kinds.ALGORITHMS)
def test_levels_truths_and_instants_answer_alike(database: Database, algorithm: str) -> None:
    rows = kinds.odd_rows()
    day = 86_400.0
    # At the ends of days, where the quotient is rounded, and before 1970.
    rows[:6, 4] = [20_000 * day, np.nextafter(20_000 * day, 0), -1.0, -day, -1e-7, 0.5]
    database.assert_equal(scoring_bytes(kinds.model(algorithm)), rows)


@pytest.mark.parametrize("features", [["a", "b"], incumbents.SEVERAL], ids=["numbers", "kinds"])
def test_the_corrected_answers_of_an_incumbent_are_alike(
    database: Database, features: list[str] | dict[str, str]
) -> None:
    is_of_kinds = isinstance(features, dict)
    own = incumbents.kinds_of_every_sort(80) if is_of_kinds else incumbents.numbers(80, 2)
    model, rows = incumbents.learned(incumbents.settings_for(features), own)
    rows = np.asarray(rows)
    odd = rows[:2].copy()
    odd[:, -3:] = [[1.0, 0.0, 0.0], [3.0, 1.0, 2.0]]  # sure, and what its sum divides
    database.assert_equal(scoring_bytes(model), np.vstack([rows, odd]))


def test_heads_of_components_pairs_and_waves_answer_alike(database: Database) -> None:
    model = train("LogisticRegression", 1, classes=2, features=70, nights=1)
    content = scoring_bytes(model)
    database.assert_equal(content, inputs_for(model, 1))
    assert model.inputs_().components is not None
    names = set(model.rates_().families)
    assert {"plain", "pairs", "waves"} <= names


@pytest.mark.parametrize("classes", [2, 3])
def test_heads_that_hear_experts_answer_alike(database: Database, classes: int) -> None:
    content, rows = hearing(classes)
    database.assert_equal(content, np.vstack([rows[:20], odd_rows(3, list(ODD))]))


@cache
def hearing(classes: int) -> tuple[bytes, Any]:
    """A model whose heads hear two experts, and rows."""
    random = np.random.default_rng(4)
    rows = random.normal(size=(200, 3))
    labels = np.asarray([f"c{number}" for number in range(classes)])[
        np.digitize(rows[:, 0] * rows[:, 1], [0.0, 0.5][: classes - 1])
    ]
    config = TrainingSettings()
    base = fit("LogisticRegression", rows, labels, config)
    model = AdaptiveClassifier(base).adopt(base, rows, heard=["boosting", "tree"])
    experts = tuple(
        Expert(
            name=name, model=fit(kind, rows, labels, config), columns=np.arange(classes), night=1
        )
        for name, kind in (("tree", "DecisionTree"), ("boosting", "SGDClassifier"))
    )
    model.set_memory(model.memory().with_experts(experts, weight=0.5))
    model.partial_fit(rows, labels)
    return scoring_bytes(model), rows


def test_heads_of_before_there_were_families_answer_alike(database: Database) -> None:
    content = scoring_bytes(train("LogisticRegression", 4, classes=3, features=2, nights=0))
    line, _, arrays = content.partition(b"\n")
    header = json.loads(line)
    heads = np.random.default_rng(1).normal(size=(2, 6, 3))
    now = {"families", "head_inputs", "heard", "experts"}
    former = {name: value for name, value in header.items() if name not in now} | {
        "format": scoring.FORMATS[0], "vote": [0.5, 0.3, 0.2], "sees_features": True,
        "heads": heads.tolist(),
    }  # fmt: skip
    rows = inputs_for(train("LogisticRegression", 4, classes=3, features=2, nights=0), 4)
    database.assert_equal(json.dumps(former).encode() + b"\n" + arrays, rows)


def test_members_of_a_vote_answer_by_themselves(database: Database) -> None:
    content = unclipped("Ensemble")
    scorer = scoring.parse(content)
    program = compile_scoring(content)
    rows = np.asarray([[0.1, 0.2], [1e60, 0.0]])
    for row, found in zip(rows.tolist(), database.score(content, rows), strict=True):
        members = scorer.members(row)
        total = sum(one.weight for one in members if one.probabilities is not None)
        assert program.members == [one.name for one in members]
        for one, (weight, *shares) in zip(members, found[2:].reshape(-1, 3), strict=True):
            if one.probabilities is None:
                assert np.isnan(weight)
            else:
                assert weight == pytest.approx(one.weight / total)
                assert shares == pytest.approx(one.probabilities, abs=EQUAL)


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("text_column", "t", "a text"),
        ("format", "ml_pipeline scoring 99", "the format 'ml_pipeline scoring 99'"),
    ],
)
def test_what_no_program_says_is_named(key: str, value: str, what: str) -> None:
    content = scoring_bytes(train("LogisticRegression", 2, classes=2, features=2, nights=0))
    line, _, arrays = content.partition(b"\n")
    changed = json.dumps({**json.loads(line), key: value}).encode()
    with pytest.raises(Inexpressible, match=what):
        compile_scoring(changed + b"\n" + arrays)


def test_a_program_that_is_too_large_to_read_for_each_answer_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = scoring_bytes(train("LogisticRegression", 2, classes=2, features=2, nights=0))
    monkeypatch.setattr(compiling, "LARGEST_BYTES", 1000)
    with pytest.raises(Inexpressible, match="take too long to read"):
        compile_scoring(content)
