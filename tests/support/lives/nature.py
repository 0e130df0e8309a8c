"""What stays the same throughout a life: classes, features, settings, and the first model."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.registry import archive
from ml_pipeline.training import algorithms
from ml_pipeline.training.strategies import new_model
from tests.support.league import FirstModel

CLASSES, FEATURES = ("no", "yes", "maybe"), ("age", "dose", "Day")
SHARES = {"guarded": 6, "nightly": 2, "evidence": 1, "approval": 1}


@dataclass(frozen=True, kw_only=True, slots=True)
class Nature:
    """How many classes and features there are, and what the settings say.

    Without a model at birth the first one is trained on the log.
    """

    classes: tuple[str, ...]
    features: tuple[str, ...]
    settings: Settings
    has_model: bool

    @property
    def first_model(self) -> FirstModel:
        """The model that a life begins with."""
        return _first_model(self.classes, self.features)

    @property
    def is_open(self) -> bool:
        """Whether the log may hold labels that nobody has named before."""
        return self.settings.data.classes is None


@cache
def _defaults() -> Settings:
    return load_settings(environment={})


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="first-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _data(classes: tuple[str, ...], features: tuple[str, ...]) -> dict[str, Any]:
    return {
        "data.classes": list(classes),
        "data.features": list(features),
        "data.ordered": False,
        "data.time_column": None,
        "data.group_column": None,
    }


@cache
def _first_model(classes: tuple[str, ...], features: tuple[str, ...]) -> FirstModel:
    settings = _defaults().changed(_data(classes, features))
    chance = np.random.default_rng(len(classes) * 10 + len(features))
    rows = chance.normal(size=(90, len(features)))
    labels = np.asarray(classes)[np.digitize(rows[:, 0] + chance.normal(size=90) / 2, [-0.4, 0.4])
                                 % len(classes)]  # fmt: skip
    base = algorithms.fit("LogisticRegression", rows, labels, settings.training)
    model = new_model(base, rows, list(classes), settings)
    path = _folder() / f"{len(classes)}-{len(features)}.skops"
    archive.save_model(model, path)
    return FirstModel(path=path, model=model)


def invent(chance: Random, model_name: str) -> Nature:
    """The nature of a life."""
    classes = CLASSES[: chance.choice((2, 3))]
    features = FEATURES[: chance.choice((2, 3))]
    has_model = chance.random() < 0.8
    changes = _data(classes, features) | {
        "model_name": model_name,
        "data.classes": None if has_model and chance.random() < 0.3 else list(classes),
        "run.trigger": "any",
        "log.max_bad_rows": 1.0,
        "training.adaptive.min_night_rows": chance.choice((1, 1, 2, 3, 5)),
        "promotion.policy": chance.choices(list(SHARES), list(SHARES.values()))[0],
        "promotion.min_evaluated_predictions": chance.choice((2, 100)),
        "promotion.min_nights": chance.choice((1, 3)),
        "promotion.min_skill": -9.0,
        "training.min_training_samples": 6,
    }
    settings = _defaults().changed(changes)
    return Nature(classes=classes, features=features, settings=settings, has_model=has_model)
