"""The registry as a file: `models export`; `importing` reads it.

The table is the truth. The file is an export in the original documents' shape (champion,
challenger, performance history, promotion rules), with what an import needs beside it.
"""

from __future__ import annotations

import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import ArtifactCorrupt, NotFound
from ml_pipeline.registry.models import fetch_model
from ml_pipeline.store import json_values
from ml_pipeline.store.contract import EVERYTHING, Store
from ml_pipeline.store.records import ModelState, ModelVersion

log = logging.getLogger("registry")

FILE_NAME: Final = "model_registry.json"
FORMAT: Final = 1
_STATUS: Final = {
    ModelState.CHAMPION: "champion",
    ModelState.AWAITING: "challenger",
    ModelState.SHADOW: "challenger",
    ModelState.CANDIDATE: "experimental",
    ModelState.RETIRED: "retired",
}


def export(
    store: Store, settings: Settings, folder: Path, *, now: datetime, with_artifacts: bool
) -> dict[str, Any]:
    """Write `model_registry.json` into `folder`, and the artifacts beside it if asked to."""
    name = settings.model_name
    models = store.list_models(model_name=name, limit=EVERYTHING)
    events = store.promotion_events(model_name=name, limit=EVERYTHING)
    by_state = {model.state: model.model_id for model in reversed(models)}
    content = {
        "format": FORMAT,
        "model_name": name,
        "exported_at": now.isoformat(),
        "champion": by_state.get(ModelState.CHAMPION),
        "challenger": by_state.get(ModelState.AWAITING) or by_state.get(ModelState.SHADOW),
        "models": {model.model_id: _entry(model) for model in models},
        "performance_history": [
            {"model_id": m.model_id, "timestamp": m.created_at.isoformat(), **m.metrics}
            for m in reversed(models)
        ],
        "promotion_history": [
            json_values.event_json(event) | {"to": event.to_model_id} for event in reversed(events)
        ],
        "promotion_rules": settings.promotion.model_dump(mode="json"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    if with_artifacts:
        for model in models:
            # The bytes of a pruned model are gone on purpose.
            if model.pruned_at is None:
                _export_bytes(store, model, folder)
    path = folder / FILE_NAME
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    scratch.replace(path)
    return {"path": str(path), "models": len(models), "champion": content["champion"]}


def _entry(model: ModelVersion) -> dict[str, Any]:
    return json_values.model_json(model) | {
        "status": _STATUS[model.state],
        "artifact_size": model.artifact.size,
        "lineage": model.lineage.as_json(),
    }


def _export_bytes(store: Store, model: ModelVersion, folder: Path) -> None:
    """Bring a model's files beside the registry's. Raises ArtifactMissing, ArtifactCorrupt."""
    artifact, scoring = files_of(folder, model.model_id)
    artifact.parent.mkdir(parents=True, exist_ok=True)
    fetch_model(store, model, artifact.parent).replace(artifact)
    if model.lineage.scoring is not None:
        try:
            store.fetch(model.lineage.scoring, scoring)
        except (NotFound, ArtifactCorrupt) as error:
            log.warning("The scoring file of %s is left out: %s", model.model_id, error)


def files_of(folder: Path, model_id: str) -> tuple[Path, Path]:
    """Where a model's artifact and scoring file stand beside the registry's file."""
    return folder / model_id / "model.skops", folder / model_id / "model.scoring"
