"""Any store as a prediction needs it; the embedded one has a quicker way of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ml_pipeline.errors import NotFound
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import ArtifactRef, ModelVersion
from ml_pipeline.store.serving_view import ServedModel, ServingView


class StoreServingView(ServingView):
    """The serving view of a whole store; a fetched scoring file stays in a temporary folder."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._served: dict[str, ServedModel] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="ml_pipeline_")

    def champion(self, model_name: str) -> ServedModel | None:
        """The model that serves; None when there is none.

        Its row is read when another one serves than before: engines ask every second.
        """
        before = self._served.get(model_name)
        if before and before.model_id == self._store.champion_id(model_name=model_name):
            return before
        version = self._store.champion(model_name=model_name)
        if version is None:
            return None
        now = self._served[model_name] = served(version)
        return now

    def model(self, model_name: str, model_id: str) -> ServedModel:
        """A registered model. Raises NotFound."""
        return served(self._store.get_model(model_name, model_id))

    def scoring_path(self, model: ServedModel) -> str:
        """The fetched and verified scoring file."""
        if model.scoring is None:
            raise NotFound(f"{model.model_id} has no scoring file.")
        ref = ArtifactRef(**dict(model.scoring))  # type: ignore[arg-type]
        path = Path(self._folder.name) / ref.digest.removeprefix("sha256:")
        if not path.exists():
            self._store.fetch(ref, path)
        return str(path)

    def append_rows(self, rows: Sequence[Mapping[str, object]], *, durable: bool = True) -> int:  # noqa: ARG002
        """Add events; return how many were new."""
        return self._store.append_rows(rows)

    def close(self) -> None:
        """Let go of the store."""
        self._folder.cleanup()
        self._store.close()


def served(version: ModelVersion) -> ServedModel:
    """A registered model as a prediction sees it."""
    scoring, calibration = version.lineage.scoring, version.lineage.calibration
    return ServedModel(
        model_id=version.model_id,
        algorithm=version.algorithm,
        state=str(version.state),
        created_at=version.created_at.isoformat(),
        threshold=version.confidence_threshold,
        metrics=version.metrics,
        scoring=None if scoring is None else asdict(scoring),
        calibration=calibration,
    )
