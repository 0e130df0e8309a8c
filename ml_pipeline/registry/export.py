"""The registry as a file: `models export` and `models import`.

The table is the truth. The file is an export in the original documents' shape (champion,
challenger, performance history, promotion rules), with what an import needs beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import DataError, NotFound
from ml_pipeline.registry.archive import require_digest
from ml_pipeline.registry.champion import change_champion
from ml_pipeline.registry.models import MODEL_BUCKET, artifact_path, safe_name
from ml_pipeline.store import json_values
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import Lineage, ModelState, ModelVersion, PromotionKind, parse_utc

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
    models = store.list_models(model_name=name)
    events = store.promotion_events(model_name=name)
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
            store.fetch(model.artifact, _bytes_of(folder, model.model_id))
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


def _bytes_of(folder: Path, model_id: str) -> Path:
    path = folder / model_id / "model.skops"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def import_file(
    store: Store, settings: Settings, path: Path, *, now: datetime, event_id: str
) -> dict[str, Any]:
    """Register the models of an exported file that the store does not know.

    Their bytes must stand beside the file and have the digests it names. They come in as retired;
    the file's champion serves only where no model serves yet, after the usual verification.
    """
    content = _read(path)
    known = {model.model_id for model in store.list_models(model_name=settings.model_name)}
    entries = [entry for entry in content["models"].values() if entry["model_id"] not in known]
    # Everything is checked before anything is written.
    checked = [(_checked(entry, path, settings.model_name), entry) for entry in entries]
    for artifact, entry in sorted(checked, key=lambda pair: str(pair[1]["created_at"])):
        _register(store, settings, artifact, entry)
    champion = store.champion(model_name=settings.model_name)
    named = content.get("champion")
    if champion is None and named is not None:
        champion = change_champion(
            store,
            target=store.get_model(settings.model_name, named),
            expected=None,
            kind=PromotionKind.PROMOTION,
            reason=f"imported from {path.name} of {content['exported_at']}",
            actor="person",
            now=now,
            event_id=event_id,
        )
    return {
        "imported": len(entries),
        "known": len(content["models"]) - len(entries),
        "champion": None if champion is None else champion.model_id,
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not JSON: {error}.") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(
            f"{path} is no registry of format {FORMAT}.", hint="Write it with `models export`."
        )
    return content


def _checked(entry: Mapping[str, Any], path: Path, model_name: str) -> Path:
    """The artifact's bytes. Raises NotFound, ArtifactCorrupt, DataError."""
    model_id = str(entry.get("model_id"))
    if entry.get("model_name") != model_name:
        raise DataError(
            f"{model_id} is a model of {entry.get('model_name')}, the config says {model_name}."
        )
    safe_name(model_id)
    artifact = path.parent / model_id / "model.skops"
    if not artifact.is_file():
        raise NotFound(
            f"The bytes of {model_id} are not at {artifact}.",
            hint="Export with --with_artifacts, and keep the folders beside the file.",
        )
    require_digest(artifact, str(entry.get("artifact_digest")), source=path.name)
    return artifact


def _register(store: Store, settings: Settings, artifact: Path, entry: Mapping[str, Any]) -> None:
    name, model_id = settings.model_name, str(entry["model_id"])
    try:
        version = ModelVersion(
            model_name=name,
            model_id=model_id,
            algorithm=entry["algorithm"],
            artifact=store.put(MODEL_BUCKET, artifact_path(name, model_id), artifact),
            created_at=parse_utc(entry["created_at"]),
            state=ModelState.RETIRED,
            anchor_id=entry["anchor_id"],
            parent_id=entry["parent_id"],
            run_id=None,
            confidence_threshold=entry["confidence_threshold"],
            metrics=entry["metrics"],
            # The scoring file stays behind: the model is scored from its artifact.
            lineage=replace(Lineage.from_json(entry["lineage"]), scoring=None),
            library_versions=entry["library_versions"],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"The entry of {model_id} cannot be used: {error}.") from None
    store.register(version)
