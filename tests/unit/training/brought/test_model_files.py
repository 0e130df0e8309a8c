"""A model that a person brought along is given heads, or refused with what is wrong with it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, VotingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from ml_pipeline.config.data import DEFAULT_FEATURES
from ml_pipeline.datasets.dataset import Dataset, read_dataset
from ml_pipeline.errors import ArtifactCorrupt, ArtifactIncompatible, DataError
from ml_pipeline.registry import archive
from ml_pipeline.training.brought.model_files import load_any
from ml_pipeline.training.job import train
from ml_pipeline.training.request import NamedModel
from tests.support import league, mutated
from tests.unit.training.test_request import asked

PLAYED = league.play(3, 120)
FRAME = pd.DataFrame(PLAYED.features, columns=DEFAULT_FEATURES)
BOTH = np.column_stack([PLAYED.labels, PLAYED.labels])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    FRAME.assign(result=PLAYED.labels).to_csv(path, index=False)
    return read_dataset(str(path), league.settings_for().data)


def by_name(*columns: str) -> ColumnTransformer:
    return ColumnTransformer([("scale", StandardScaler(), list(columns))])


def logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=500)


def piped(*steps: Any) -> Pipeline:  # noqa: ANN401 - estimators
    return Pipeline([(f"step{place}", step) for place, step in enumerate(steps)])


OTHER = FRAME.rename(columns={DEFAULT_FEATURES[0]: "goals"})
SHAPES: dict[str, tuple[Any, str]] = {
    "columns by their names": (
        piped(by_name(*DEFAULT_FEATURES), logistic()).fit(FRAME, PLAYED.labels),
        "cannot answer the rows",
    ),
    "a column transformer alone": (by_name(*DEFAULT_FEATURES).fit(FRAME), "not a fitted"),
    "a pipeline that ends in a transformer": (piped(StandardScaler()).fit(FRAME), "not a fitted"),
    "a pipeline that was never fitted": (piped(StandardScaler(), logistic()), "not a fitted"),
    "a classifier that was never fitted": (logistic(), "not a fitted"),
    "a regressor": (LinearRegression().fit(FRAME, np.arange(120.0)), "not a fitted"),
    "a clustering": (KMeans(2, n_init=1).fit(PLAYED.features), "not a fitted"),
    "a vote by show of hands": (
        VotingClassifier([("a", logistic())]).fit(PLAYED.features, PLAYED.labels),
        "not a fitted",
    ),
    "two answers at once": (
        DecisionTreeClassifier(max_depth=2).fit(PLAYED.features, BOTH),
        "not a fitted",
    ),
    "other columns": (logistic().fit(OTHER, PLAYED.labels), "was fitted on the columns goals"),
    "fewer columns": (
        logistic().fit(PLAYED.features[:, :3], PLAYED.labels),
        "was fitted on 3 columns, the config names 5",
    ),
    "other classes": (
        logistic().fit(PLAYED.features, np.where(PLAYED.labels == "H", "yes", "no")),
        "knows the classes",
    ),
    "a dictionary": ({"model": 1}, "not a fitted"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_model_of_another_shape_is_refused_in_words(
    shape: str, data: Dataset, tmp_path: Path
) -> None:
    model, words = SHAPES[shape]
    joblib.dump(model, tmp_path / "brought.joblib")
    with pytest.raises(DataError, match=words):
        load_any(NamedModel(path=tmp_path / "brought.joblib"), league.settings_for(), data)


@pytest.mark.parametrize("suffix", ["joblib", "skops"])
def test_a_classifier_that_was_fitted_on_a_frame_is_given_heads(
    suffix: str, data: Dataset, tmp_path: Path
) -> None:
    fitted = piped(StandardScaler(), logistic()).fit(FRAME, PLAYED.labels)
    path = tmp_path / f"brought.{suffix}"
    dump = joblib.dump if suffix == "joblib" else skops.io.dump
    dump(fitted, path)
    model = load_any(NamedModel(path=path), league.settings_for(), data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answered = model.base_proba(data.features)
    assert np.array_equal(answered, fitted.predict_proba(FRAME))


def test_a_pickle_with_a_digest_is_held_to_it_before_it_is_loaded(
    data: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "brought.joblib"
    joblib.dump(logistic().fit(PLAYED.features, PLAYED.labels), path)
    with pytest.raises(ArtifactCorrupt, match="has the digest"):
        load_any(NamedModel(path=path, digest="sha256:" + "0" * 64), league.settings_for(), data)


def test_a_record_of_days_that_is_none_is_refused(tmp_path: Path, data: Dataset) -> None:
    model = mutated.small_model("DecisionTree")
    model.line_ = {"night": 7}
    archive.save_model(model, tmp_path / "m.skops")
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        load_any(NamedModel(path=tmp_path / "m.skops"), league.settings_for(), data)


def test_a_type_that_no_artifact_may_hold_is_refused_when_it_is_saved(tmp_path: Path) -> None:
    path, rows = tmp_path / "brought.joblib", tmp_path / "rows.csv"
    foreign = GradientBoostingClassifier(n_estimators=1).fit(PLAYED.features, PLAYED.labels)
    joblib.dump(foreign, path)
    FRAME.assign(result=PLAYED.labels).to_csv(rows, index=False)
    wanted = asked(
        "--fine_tune", "--model_path", str(path), "--dataset", str(rows),
        "--output_dir", str(tmp_path),
    )  # fmt: skip
    with pytest.raises(ArtifactIncompatible, match="types that are not allowed"):
        train(wanted)
