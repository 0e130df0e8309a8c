"""Where a life takes place: a store, its serving view, and a first champion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ml_pipeline.config.environment import StoreSettings
from ml_pipeline.registry import archive
from ml_pipeline.registry.models import MODEL_BUCKET, artifact_path
from ml_pipeline.store.contract import Store
from ml_pipeline.store.opening import open_serving_view, open_store
from ml_pipeline.store.records import (
    Lineage,
    ModelState,
    ModelVersion,
    PromotionEvent,
    PromotionKind,
)
from ml_pipeline.store.serving_view import ServingView
from tests.support.league import FIRST_MODEL
from tests.support.lives.nature import Nature


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A store that lives may share, each under a model name of its own, and a folder for files."""

    store: Store
    open_view: Callable[[], ServingView]
    folder: Path

    @classmethod
    def at(cls, settings: StoreSettings, folder: Path) -> Site:
        """The store that the settings name."""
        return cls(
            store=open_store(settings),
            open_view=lambda: open_serving_view(settings),
            folder=folder,
        )

    @classmethod
    def embedded(cls, folder: Path) -> Site:
        """An embedded store in the folder."""
        return cls.at(StoreSettings(local_dir=str(folder / "store")), folder)


def enthrone(store: Store, nature: Nature, *, now: datetime, event_id: str) -> None:
    """Register the nature's first model and make it champion."""
    name = nature.settings.model_name
    path = artifact_path(name, FIRST_MODEL)
    store.register(
        ModelVersion(
            model_name=name,
            model_id=FIRST_MODEL,
            algorithm="LogisticRegression",
            artifact=store.put(MODEL_BUCKET, path, nature.first_model.path),
            created_at=now,
            state=ModelState.CANDIDATE,
            anchor_id=FIRST_MODEL,
            lineage=Lineage(classes=nature.classes),
            library_versions=archive.library_versions(),
        )
    )
    store.promote(
        PromotionEvent(
            event_id=event_id,
            model_name=name,
            kind=PromotionKind.PROMOTION,
            to_model_id=FIRST_MODEL,
            from_model_id=None,
            reason="first champion",
            actor="test",
            created_at=now,
        )
    )
