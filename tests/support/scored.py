"""Champions with a scoring file, for a database that answers with them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ml_pipeline.config.settings import Settings
from ml_pipeline.registry import archive
from ml_pipeline.registry.champion import change_champion
from ml_pipeline.registry.models import MODEL_BUCKET, artifact_path, scoring_path
from ml_pipeline.registry.scoring_writer import write_scoring
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import Lineage, ModelState, ModelVersion, PromotionKind
from tests.support.factories import NOW, make_id


@dataclass(frozen=True, kw_only=True, slots=True)
class Registry:
    """A store and settings, and how models get there."""

    store: Store
    settings: Settings

    def register(
        self,
        model_id: str,
        model: Any,  # noqa: ANN401 - AdaptiveClassifier
        *,
        has_scoring: bool = True,
    ) -> ModelVersion:
        """Register a fitted model with its artifact, and with its scoring file."""
        name, store = self.settings.model_name, self.store
        with tempfile.TemporaryDirectory() as folder:
            path, scoring = Path(folder) / "model.skops", Path(folder) / "model.scoring"
            archive.save_model(model, path)
            artifact = store.put(MODEL_BUCKET, artifact_path(name, model_id), path)
            ref = None
            if has_scoring and write_scoring(model, scoring):
                ref = store.put(MODEL_BUCKET, scoring_path(name, model_id), scoring)
        version = ModelVersion(
            model_name=name,
            model_id=model_id,
            algorithm="LogisticRegression",
            artifact=artifact,
            created_at=NOW,
            state=ModelState.CANDIDATE,
            anchor_id=model_id,
            lineage=Lineage(scoring=ref),
            library_versions=archive.library_versions(),
        )
        store.register(version)
        return version

    def promote(
        self,
        version: ModelVersion,
        number: int,
        *,
        clock: Callable[[], datetime] = lambda: NOW,
    ) -> ModelVersion:
        """Make it champion in the place of whoever serves, as the gate does."""
        return change_champion(
            self.store,
            self.settings,
            target=version,
            expected=self.store.champion_id(model_name=self.settings.model_name),
            kind=PromotionKind.PROMOTION,
            reason="the test says so",
            actor="gate",
            now=clock(),
            event_id=make_id(number),
        )
