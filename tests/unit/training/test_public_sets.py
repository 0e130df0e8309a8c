"""On public data with levels, gaps and days a model is as good as a pipeline fitted by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import from_frame
from ml_pipeline.evaluation.metrics import Floats
from ml_pipeline.training import algorithms

WITHIN = 0.01


def folder() -> Path:
    """Where the package `vega-datasets` keeps its files, which it need not be loaded for."""
    spec = find_spec("vega_datasets")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "_data"


def cars() -> tuple[pd.DataFrame, str, list[str], list[str]]:
    """Where a car comes from: numbers with gaps, a day, and its make."""
    frame = pd.DataFrame(json.loads((folder() / "cars.json").read_text(encoding="utf-8")))
    frame["make"] = frame["Name"].str.split().str[0]
    frame["Cylinders"] = "c" + frame["Cylinders"].astype(str)
    numbers = ["Miles_per_Gallon", "Displacement", "Horsepower", "Weight_in_lbs", "Acceleration"]
    return frame, "Origin", numbers, ["make", "Cylinders"]


def airports() -> tuple[pd.DataFrame, str, list[str], list[str]]:
    """Whether an airport is north of the fortieth degree: its state, its city, its longitude."""
    frame = pd.read_csv(folder() / "airports.csv", dtype=str, keep_default_na=False)
    frame["north"] = np.where(frame["latitude"].astype(float) > 40, "north", "south")
    return frame, "north", ["longitude"], ["state", "city"]


def weather() -> tuple[pd.DataFrame, str, list[str], list[str]]:
    """Rain or not from the day's temperatures and wind; the weekday is a level."""
    frame = pd.read_csv(folder() / "seattle-weather.csv", dtype=str)
    frame["rain"] = np.where(frame["weather"] == "rain", "yes", "no")
    days = pd.to_datetime(frame["date"])
    frame["month"] = days.dt.month_name()
    return frame, "rain", ["temp_max", "temp_min", "wind"], ["month"]


SETS: list[Callable[[], tuple[pd.DataFrame, str, list[str], list[str]]]] = [cars, airports, weather]


def by_hand(numbers: list[str], levels: list[str]) -> Pipeline:
    """What somebody who knows scikit-learn writes."""
    scaled = Pipeline([("fill", SimpleImputer(strategy="median")), ("scale", StandardScaler())])
    one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5)
    parts = ColumnTransformer([("numbers", scaled, numbers), ("levels", one_hot, levels)])
    return Pipeline([("parts", parts), ("classify", LogisticRegression(max_iter=1000))])


def scores(labels: Any, shares: Floats, classes: list[str]) -> tuple[float, float]:  # noqa: ANN401
    if len(classes) == 2:
        auc = roc_auc_score(labels == classes[1], shares[:, 1])
    else:
        auc = roc_auc_score(labels, shares, multi_class="ovr", labels=classes)
    return float(auc), float(log_loss(labels, shares, labels=classes))


@pytest.mark.parametrize("read", SETS)
def test_levels_are_learned_as_well_as_by_hand(
    read: Callable[[], tuple[pd.DataFrame, str, list[str], list[str]]],
) -> None:
    frame, target, numbers, levels = read()
    classes = sorted(set(frame[target]))
    split = np.random.default_rng(0).permutation(len(frame))
    train, held = split[len(frame) // 3 :], split[: len(frame) // 3]
    settings = Settings().changed(
        {"data.features": [*numbers, *levels], "data.target": target, "data.classes": classes,
         "data.time_column": None, "data.group_column": None}
    )  # fmt: skip
    data = from_frame(frame.astype(object).fillna("").astype(str), settings.data, source="the set")
    ours = algorithms.fit(
        "LogisticRegression", data.features[train], data.labels[train], settings.training,
        kinds=data.column_kinds,
    )  # fmt: skip
    theirs = by_hand(numbers, levels)
    plain = frame.astype(dict.fromkeys(numbers, float))
    theirs.fit(plain.iloc[train], data.labels[train])
    assert [str(name) for name in theirs.classes_] == [str(name) for name in ours.classes_]
    found = scores(data.labels[held], ours.predict_proba(data.features[held]), classes)
    wanted = scores(data.labels[held], theirs.predict_proba(plain.iloc[held]), classes)
    print(read.__name__, found, wanted)  # noqa: T201
    assert found[0] >= wanted[0] * (1 - WITHIN)
    assert found[1] <= wanted[1] * (1 + WITHIN)
