"""An invented league with a clock: a store whose champion has predicted real-looking matches.

Labels follow a softmax of the five features; from a given day on the truth turns, so that a model
trained before is confidently wrong afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.config.data import DEFAULT_FEATURES
from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.datasets.reference import reference_of
from ml_pipeline.registry import archive
from ml_pipeline.registry.models import MODEL_BUCKET, artifact_path
from ml_pipeline.store.contract import Store
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import (
    EVENT_COLUMNS,
    Lineage,
    ModelState,
    ModelVersion,
    PromotionEvent,
    PromotionKind,
    day_start,
)
from ml_pipeline.training import algorithms
from ml_pipeline.training.heads.newton import softmax
from ml_pipeline.training.strategies import new_model

CLASSES = ["H", "D", "A"]
TRUTH = np.array(
    [[1.2, -1.0, 1.5, -1.4, 0.8], [0.0, 0.0, 0.0, 0.0, 0.0], [-1.2, 1.0, -1.5, 1.4, -0.8]]
)
FIRST_MODEL = "first"
# An id as runs give them, of a model that no store of a test knows.
OF_ANOTHER_STORE = "adaptive-20260101-020000-0f3a5c7e"


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstModel:
    """The league's first model and its saved artifact."""

    path: Path
    model: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Matches:
    """Standardised features (n, 5) and what happened."""

    features: NDArray[np.float64]
    labels: NDArray[np.str_]


def play(seed: int, count: int, *, turned: bool = False) -> Matches:
    """Play matches; `turned` swaps home and away in the truth."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, len(DEFAULT_FEATURES)))
    chances = softmax(features @ (-TRUTH if turned else TRUTH).T)
    drawn = (random.random((count, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    return Matches(features=features, labels=np.asarray(CLASSES)[np.minimum(drawn, 2)])


def settings_for(**changes: Any) -> Settings:  # noqa: ANN401 - setting values
    """Default settings with some changed; a double underscore stands for the dot."""
    settings = load_settings(environment={})
    return settings.changed({name.replace("__", "."): value for name, value in changes.items()})


def train_first(path: Path, settings: Settings) -> Any:  # noqa: ANN401 - AdaptiveClassifier
    """Train the league's first model and save it."""
    past = play(1, 600)
    base = algorithms.fit("LogisticRegression", past.features, past.labels, settings.training)
    model = new_model(base, past.features, CLASSES, settings)
    archive.save_model(model, path)
    return model


def first_reference() -> dict[str, Any]:
    """The summary of what the league's first model was trained on, as `train` keeps it."""
    return reference_of(play(1, 600).features, list(DEFAULT_FEATURES), None)


def enthrone(  # noqa: PLR0913 - what a registered model consists of
    store: Store,
    path: Path,
    settings: Settings,
    *,
    now: datetime,
    library_versions: Mapping[str, str] | None = None,
    reference: Mapping[str, Any] | None = None,
) -> ModelVersion:
    """Register the saved model and make it champion."""
    version = ModelVersion(
        model_name=settings.model_name,
        model_id=FIRST_MODEL,
        algorithm="LogisticRegression",
        artifact=store.put(MODEL_BUCKET, artifact_path(settings.model_name, FIRST_MODEL), path),
        created_at=now,
        state=ModelState.CANDIDATE,
        anchor_id=FIRST_MODEL,
        lineage=Lineage.from_json(
            {"settled_night": None, "first_night": None, "reference": reference}
        ),
        library_versions=library_versions or archive.library_versions(),
    )
    store.register(version)
    return store.promote(
        PromotionEvent(
            event_id=event_id("first promotion"),
            model_name=settings.model_name,
            kind=PromotionKind.PROMOTION,
            to_model_id=FIRST_MODEL,
            from_model_id=None,
            reason="first champion",
            actor="test",
            created_at=now,
        )
    )


def event_id(name: object) -> str:
    """A repeatable uuid."""
    return str(uuid5(NAMESPACE_URL, f"league/{name}"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Night:
    """One UTC day of the league: how many matches, and whether the truth has turned."""

    day: date
    matches: int = 40
    turned: bool = True
    hour: int = 20


def events_of(
    model: Any,  # noqa: ANN401 - AdaptiveClassifier
    night: Night,
    *,
    model_id: str = FIRST_MODEL,
    tag: str = "",
) -> pd.DataFrame:
    """The night's predictions by `model`, with the outcomes known on the same evening."""
    played = play(night.day.toordinal(), night.matches, turned=night.turned)
    answered = model.predict_proba(played.features)
    known = day_start(night.day) + timedelta(hours=night.hour)
    rows = [
        {
            "timestamp": known - timedelta(hours=3),
            "event_id": event_id(f"{tag}{night.day}/{number}"),
            "event_type": "prediction",
            "model_name": "default",
            "model_id": model_id,
            "match_id": f"match-{tag}{night.day}-{number}",
            "prediction": str(model.classes_[chances.argmax()]),
            "confidence": float(chances.max()),
            "features": json.dumps(dict(zip(DEFAULT_FEATURES, features.tolist(), strict=True))),
            "actual_result": str(label),
            "evaluated_at": known,
            "accuracy": float(model.classes_[chances.argmax()] == label),
            "status": "evaluated",
            "metadata": "{}",
        }
        for number, (chances, features, label) in enumerate(
            zip(answered, played.features, played.labels, strict=True)
        )
    ]
    return pd.DataFrame(rows, columns=list(EVENT_COLUMNS))


def nights_before(now: datetime, count: int, **changes: Any) -> list[Night]:  # noqa: ANN401
    """The `count` whole UTC days before `now`, oldest first."""
    today = now.astimezone(UTC).date()
    return [Night(day=today - timedelta(days=ago), **changes) for ago in range(count, 0, -1)]


def before_first(nights: Sequence[Night]) -> datetime:
    """When the model was made that predicted those nights."""
    first = min((night.day for night in nights), default=date(2026, 1, 1))
    return day_start(first) - timedelta(days=30)


def open_league(
    folder: Path,
    model_path: Path,
    model: Any,  # noqa: ANN401 - AdaptiveClassifier
    nights: Sequence[Night],
    *,
    reference: Mapping[str, Any] | None = None,
) -> LocalStore:
    """A store in `folder` with a champion that has predicted the nights."""
    store = LocalStore.open(folder)
    enthrone(store, model_path, settings_for(), now=before_first(nights), reference=reference)
    for night in nights:
        store.append_events(events_of(model, night))
    return store


def ids() -> Callable[[], str]:
    """Repeatable uuids, one after the other."""
    count = iter(range(1_000_000))
    return lambda: event_id(f"id {next(count)}")
