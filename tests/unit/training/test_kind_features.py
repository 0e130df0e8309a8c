"""A model of numbers, levels, truths and instants: prepared, saved, scored and read alike."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from threadpoolctl import threadpool_limits

from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets.dataset import Dataset, from_frame
from ml_pipeline.datasets.features import matrix
from ml_pipeline.datasets.reference import kinds_of
from ml_pipeline.errors import ConfigError, DataError, InputError
from ml_pipeline.registry import archive, scoring
from ml_pipeline.registry.inputs import kind_columns
from ml_pipeline.registry.scoring_parts import Reader
from ml_pipeline.registry.scoring_writer import scoring_bytes
from ml_pipeline.serving.answering import read_values
from ml_pipeline.serving.artifact import ArtifactScorer
from ml_pipeline.store.inputs.cells import level_code
from ml_pipeline.training import algorithms
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.encoding.columns import head_columns
from ml_pipeline.training.encoding.kind_features import LevelMeans, Levels, MomentParts
from ml_pipeline.training.strategies import new_model
from tests.support import mixed
from tests.support.scorers import scorers
from tests.support.served import loaded_by_scoring

KINDS = {
    "spend": Kind.NUMBER,
    "city": Kind.CATEGORY,
    "shop": Kind.CATEGORY,
    "member": Kind.BOOLEAN,
    "at": Kind.DATETIME,
}
ALGORITHMS = ("LogisticRegression", "SGDClassifier", "DecisionTree", "Ensemble")


@cache
def data() -> Dataset:
    return from_frame(mixed.frame(), mixed.settings().data, source="the shop")


@cache
def model(algorithm: str = "LogisticRegression") -> AdaptiveClassifier:
    settings, rows = mixed.settings().reading(KINDS), data()
    # Threads of boosting that wait by spinning are slow beside other tests.
    with threadpool_limits(1):
        base = algorithms.fit(
            algorithm, rows.features, rows.labels, settings.training, kinds=rows.column_kinds
        )
    return new_model(base, rows.features, mixed.CLASSES, settings).partial_fit(
        rows.features[:200], rows.labels[:200]
    )


def odd_rows() -> Any:  # noqa: ANN401 - an array
    """Rows of the data, rows with levels that nobody has seen, and rows with gaps."""
    rows = data().features[:60].copy()
    rows[:20, 1], rows[10:30, 2] = level_code("Atlantis"), level_code("a new shop")
    rows[25:35, 1], rows[30:40, 2], rows[35:45, 3], rows[40:50, 4] = (np.nan,) * 4
    rows[50] = np.nan
    return rows


def test_levels_that_training_had_not_are_named_by_scoring_file_and_artifact_alike() -> None:
    rows = data().features[:5].copy()
    rows[0, 1], rows[1, 1], rows[2, 2] = level_code("Atlantis"), np.nan, level_code("shop 999")
    for scorer in (scoring.parse(scoring_bytes(model())), ArtifactScorer(model())):
        found = [scorer.new_levels(row) for row in rows.tolist()]
        # There are 120 shops, all of them listed.
        assert found == [["city"], [], ["shop"], [], []]


def test_a_list_of_names_takes_its_kinds_from_the_data_and_the_model_keeps_them() -> None:
    assert data().kinds == KINDS
    assert kinds_of(model()) == KINDS


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@threadpool_limits.wrap(limits=1)  # type: ignore[untyped-decorator]
def test_a_model_of_every_kind_is_saved_and_scored_as_it_answers(
    algorithm: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.skops"
    archive.save_model(model(algorithm), path)
    loaded: Any = archive.load_model(path, expected_digest=archive.digest_file(path))
    expected = model(algorithm).predict_proba(odd_rows())
    assert np.array_equal(loaded.predict_proba(odd_rows()), expected)
    assert kinds_of(loaded) == KINDS
    for scorer in scorers(scoring_bytes(model(algorithm))):
        assert scorer.kinds == [str(kind) for kind in KINDS.values()]
        scored = [scorer.probabilities(row) for row in odd_rows().tolist()]
        assert np.abs(np.asarray(scored) - expected).max() < 1e-9


def test_a_row_of_every_kind_is_scored_without_the_large_libraries(tmp_path: Path) -> None:
    row = data().features[0].tolist()
    assert loaded_by_scoring(scoring_bytes(model()), row, None, tmp_path) == ""


def test_heads_see_the_same_columns_in_the_model_and_in_its_scoring_file() -> None:
    content = scoring_bytes(model())
    line = content.partition(b"\n")[0]
    arrays = Reader(memoryview(content)[len(line) + 1 :]).array
    read, width = kind_columns.head_columns(json.loads(line)["base"], len(KINDS), arrays)
    seen = head_columns(model().base_, odd_rows())
    assert seen.shape == (len(odd_rows()), width)
    in_file = [read(row) for row in odd_rows().tolist()]
    assert np.array_equal(np.asarray(in_file), seen, equal_nan=True)
    # Numbers and truths as they are, three parts of an instant, the cities, what a shop adds.
    assert np.array_equal(seen[:, :2], odd_rows()[:, [0, 3]], equal_nan=True)
    assert np.isnan(seen[40, 2:5]).all()
    assert set(np.unique(seen[:, 5:-1])) == {0.0, 1.0}


def test_a_model_of_numbers_alone_is_what_it_was() -> None:
    rows = data().features[:, :1]
    base = algorithms.fit("LogisticRegression", rows, data().labels, mixed.settings().training)
    also = algorithms.fit(
        "LogisticRegression", rows, data().labels, mixed.settings().training, kinds=[Kind.NUMBER]
    )
    assert [name for name, _ in also.steps] == ["impute", "scale", "clip", "classify"]
    assert np.array_equal(base.predict_proba(rows), also.predict_proba(rows))
    assert np.array_equal(head_columns(base, rows), rows, equal_nan=True)


def test_every_kind_makes_the_model_better() -> None:
    held = from_frame(mixed.frame(600, seed=0), mixed.settings().data, source="the shop")
    losses = {}
    for names in (("spend",), mixed.FEATURES):
        settings = mixed.settings(features=list(names))
        rows = from_frame(mixed.frame(), settings.data, source="the shop")
        found = algorithms.cross_validate(
            "LogisticRegression", rows.features, rows.labels, settings.training, rows.column_kinds
        )
        losses[names] = found["log_loss"]
    assert losses[mixed.FEATURES] < losses["spend",] - 0.06
    assert len(held) == 600


# ---------------------------------------------------------------------------------- encoders


def test_rare_levels_share_a_column_and_an_unknown_one_joins_them() -> None:
    rows = np.asarray([[1.0]] * 30 + [[2.0]] * 20 + [[3.0]] + [[np.nan]] * 3)
    encoder = Levels().fit(rows)
    seen = encoder.transform([[1.0], [2.0], [3.0], [9.0], [np.nan]])
    assert seen.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 1, 0]]
    # Nothing was missing or rare: what is now belongs to no level.
    plain = Levels().fit(rows[:50]).transform([[3.0], [np.nan]])
    assert plain.tolist() == [[0, 0], [0, 0]]


def test_a_row_is_not_encoded_by_its_own_label() -> None:
    random = np.random.default_rng(3)
    levels = random.integers(0, 400, (800, 1)).astype(float)
    labels = random.choice(["a", "b"], 800)
    encoder = LevelMeans()
    inside = encoder.fit_transform(levels, labels)[:, 0]
    is_b = labels == "b"
    # By chance alone: a level says nothing of the next row.
    assert abs(inside[is_b].mean() - inside[~is_b].mean()) < 0.05
    assert encoder.transform(levels)[is_b, 0].mean() > 0.1
    assert encoder.transform([[1e9]]).tolist() == [[0.0]]


def test_three_classes_take_a_column_each_and_a_missing_level_is_one() -> None:
    levels = np.asarray([[1.0], [2.0], [np.nan]] * 60)
    labels = np.asarray(["a", "b", "c"] * 60)
    seen = LevelMeans().fit(levels, labels).transform([[1.0], [2.0], [np.nan]])
    assert seen.shape == (3, 3)
    assert seen.argmax(axis=1).tolist() == [0, 1, 2]


def test_an_instant_is_its_hour_weekday_and_day() -> None:
    # A Saturday.
    moment = pd.Timestamp("2026-03-14T15:30:00Z").timestamp()
    assert MomentParts().fit([[moment]]).transform([[moment]]).tolist() == [
        [15.5, 5.0, moment / 86_400]
    ]
    before = pd.Timestamp("1969-12-31T23:00:00Z").timestamp()
    assert MomentParts().transform([[before]])[0, :2].tolist() == [23.0, 2.0]


# ------------------------------------------------------------------------------------- cells

SPELLINGS: dict[Kind, list[tuple[object, ...]]] = {
    Kind.CATEGORY: [("a", " a ", "a"), ("1", "1.0", 1, 1.0, np.int64(1)), ("true", "True", True),
                    ("é", "e\u0301"), ("", "nan", "None", "NULL", None, float("nan"))],
    Kind.BOOLEAN: [("true", "True", "YES", "y", "t", "on", "1", 1, 1.0, True, np.True_),
                   ("false", "False", "No", "n", "f", "off", "0", 0, False), ("", "nan", None)],
    Kind.DATETIME: [("2026-03-14T15:00:00Z", "2026-03-14 16:00+01:00", "2026-03-14T10:00-05:00",
                     "2026-03-14T15:00", pd.Timestamp("2026-03-14T15:00Z"),
                     pd.Timestamp("2026-03-14T15:00").to_pydatetime()), ("", "none", None)],
}  # fmt: skip


@pytest.mark.parametrize("kind", SPELLINGS)
def test_a_cell_is_read_alike_in_python_and_in_a_frame(kind: Kind) -> None:
    seen = []
    for spellings in SPELLINGS[kind]:
        one_by_one = [
            read_values([value], ["x"], imputes=True, kinds=[kind])[0][0] for value in spellings
        ]
        frame = pd.DataFrame({"x": ["" if v is None else str(v) for v in spellings]})
        in_frame = matrix(frame, ["x"], {"x": kind})[:, 0]
        assert len(set(map(str, one_by_one))) == 1
        assert np.array_equal(in_frame, one_by_one, equal_nan=True)
        seen.append(str(one_by_one[0]))
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (Kind.CATEGORY, "x" * 1_000_000, "has 1,000,000 characters"),
        (Kind.CATEGORY, "a\0b", "NUL"),
        (Kind.CATEGORY, "\ud800", "Unicode"),
        (Kind.CATEGORY, ["a"], "list"),
        (Kind.BOOLEAN, "perhaps", "neither true nor false"),
        (Kind.BOOLEAN, 2, "neither true nor false"),
        (Kind.DATETIME, "03/04/2026", "not an ISO 8601 time"),
        (Kind.DATETIME, 1_700_000_000, "not an ISO 8601 time"),
    ],
)
def test_a_cell_that_is_not_of_its_kind_is_refused_by_name(
    kind: Kind, value: object, words: str
) -> None:
    with pytest.raises(InputError, match=words) as refused:
        read_values([value], ["the column"], kinds=[kind])
    assert len(str(refused.value)) < 300
    if isinstance(value, str) and "\ud800" not in value:
        frame = pd.DataFrame({"the column": ["", value]})
        with pytest.raises(DataError, match=r"the column holds .* in row 2 \(1 such rows\)"):
            matrix(frame, ["the column"], {"the column": kind})


def test_a_missing_value_is_refused_where_nothing_is_filled_in() -> None:
    for kind in KINDS.values():
        with pytest.raises(InputError, match="x is missing"):
            read_values([""], ["x"], kinds=[kind])


def test_ten_thousand_levels_are_learned_and_scored() -> None:
    random = np.random.default_rng(5)
    names = [f"level {n}" for n in range(10_000)]
    frame = pd.DataFrame({"shop": random.choice(names, 20_000), "y": "no"})
    frame.loc[::2, "y"] = "yes"
    settings = mixed.settings(features=["shop"], time_column=None)
    rows = from_frame(frame, settings.data, source="many")
    base = algorithms.fit(
        "LogisticRegression", rows.features, rows.labels, settings.training,
        kinds=rows.column_kinds,
    )  # fmt: skip
    settings = settings.reading(rows.kinds)
    content = scoring_bytes(new_model(base, rows.features, mixed.CLASSES, settings))
    assert len(content) < 300_000
    scored = scoring.parse(content).probabilities(rows.features[0].tolist())
    assert scored == pytest.approx(base.predict_proba(rows.features[:1])[0], abs=1e-9)


# ---------------------------------------------------------------------------------- names, ids

NAMES = ("with 'quotes' \"two\"", "a.b", "Ünïcode 😀", "n" * 300, "Age", "tail ", "a/b~c")


def test_features_of_any_name_are_read_by_their_kind() -> None:
    kinds = dict.fromkeys(NAMES, Kind.CATEGORY)
    settings = mixed.settings(features=dict.fromkeys(NAMES, "category"))
    frame = pd.DataFrame({name: ["x", "y"] * 40 for name in NAMES} | {"y": ["no", "yes"] * 40})
    rows = from_frame(frame, settings.changed({"data.time_column": None}).data, source="odd")
    assert rows.kinds == kinds
    assert rows.features.shape == (80, len(NAMES))
    again = yaml.safe_load(settings.as_yaml())["data"]["features"]
    assert again == [{name: "category"} for name in NAMES]


def test_names_that_differ_in_case_alone_are_two_features() -> None:
    settings = mixed.settings(features=["Age", "age"], time_column=None)
    frame = pd.DataFrame({"Age": ["x", "y"] * 40, "age": ["1", "2"] * 40, "y": ["no", "yes"] * 40})
    rows = from_frame(frame, settings.data, source="twins")
    assert rows.kinds == {"Age": Kind.CATEGORY, "age": Kind.NUMBER}


def test_auto_takes_every_column_that_is_nothing_else() -> None:
    settings = mixed.settings(features="auto", id_column="client")
    frame = mixed.frame(200).assign(client="c", constant="1", key=[f"k{n}" for n in range(200)])
    rows = from_frame(frame, settings.data, source="the shop")
    assert rows.kinds == KINDS
    # The rows of one id belong together.
    by_id = mixed.settings(id_column="client", group_column="match_id")
    groups = from_frame(frame, by_id.data, source="the shop").groups
    assert groups is not None
    assert set(groups) == {"c"}
    nothing = frame[["known", "y", "client"]]
    with pytest.raises(DataError, match="no column that could be a feature"):
        from_frame(nothing, settings.data, source="the shop")


def test_a_kind_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="city is 'colour', not one of number, category"):
        mixed.settings(features={"city": "colour"})


def test_a_column_with_one_value_does_no_harm() -> None:
    frame = mixed.frame(300).assign(city="Oslo", member="yes", at="2026-01-01T00:00:00Z")
    settings = mixed.settings()
    rows = from_frame(frame, settings.data, source="the shop")
    base = algorithms.fit(
        "LogisticRegression", rows.features, rows.labels, settings.training,
        kinds=rows.column_kinds,
    )  # fmt: skip
    assert np.isfinite(base.predict_proba(odd_rows())).all()
