"""`models import`: the models of an exported file enter a store, and lost bytes come back.

The file and what stands beside it may come from anybody. It is read and checked whole before
anything is written; what is told apart by a digest in the store's own rows is trusted no further
than that digest.
"""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Never

import pydantic
from pydantic import Field

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import ArtifactCorrupt, DataError, NotFound
from ml_pipeline.registry import archive
from ml_pipeline.registry.champion import change_champion
from ml_pipeline.registry.exchange.export import FORMAT, files_of
from ml_pipeline.registry.models import (
    MODEL_BUCKET,
    artifact_path,
    load_classifier,
    safe_name,
    source_of,
)
from ml_pipeline.registry.scoring_writer import write_scoring
from ml_pipeline.store.contract import EVERYTHING, ArtifactStore, Store
from ml_pipeline.store.records import (
    ArtifactRef,
    Lineage,
    ModelState,
    ModelVersion,
    PromotionKind,
    parse_utc,
)

log = logging.getLogger("registry")

MAX_BYTES: Final = 64 * 1024**2
_SHOWN: Final = 3
_EXPORT: Final = "Write it with `ml-pipeline models export --with-artifacts`."
_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Day = Annotated[int, Field(ge=0, le=date.max.toordinal())]


class _Lineage(pydantic.BaseModel):
    """What is gone on from; a newer version may keep more."""

    model_config = pydantic.ConfigDict(strict=True)

    settled_night: _Day | None = None
    first_night: _Day | None = None
    counted_from: _Day | None = None
    open_event_ids: list[str] | None = None
    experts: dict[str, _Day] | None = None
    calibration: dict[str, Any] | None = None
    classes: list[str] | None = None
    shadow_heads: str | None = None


class _Entry(pydantic.BaseModel):
    """A model in the file."""

    model_config = pydantic.ConfigDict(strict=True, allow_inf_nan=False)

    model_id: _Name
    model_name: _Name
    algorithm: _Name
    artifact_digest: str
    created_at: str
    anchor_id: _Name
    parent_id: _Name | None
    confidence_threshold: Annotated[float, Field(ge=0, le=1)]
    metrics: dict[str, float | dict[str, Any] | list[Any] | None]
    lineage: dict[str, Any]
    library_versions: dict[str, str]
    artifact_size: Annotated[int, Field(ge=0)] = 0
    pruned_at: str | None = None

    @pydantic.field_validator("lineage")
    @classmethod
    def _is_lineage(cls, value: dict[str, Any]) -> dict[str, Any]:
        _Lineage.model_validate(value)
        return value


class _Registry(pydantic.BaseModel):
    """The parts of the file that an import needs."""

    model_config = pydantic.ConfigDict(strict=True)

    exported_at: str
    champion: _Name | None
    models: dict[str, _Entry]


def import_file(
    store: Store, settings: Settings, path: Path, *, now: datetime, event_id: str
) -> dict[str, Any]:
    """Register the models of an exported file that the store does not know.

    Their bytes must stand beside the file and have the digests it names, but for those of models
    that were pruned, which come in as pruned. They come in as retired;
    the file's champion serves only where no model serves yet, after the usual verification. Bytes
    of known models that are gone or damaged are put back, when those beside the file are the
    registered ones.
    """
    content, name = _read(path), settings.model_name
    registered = store.list_models(model_name=name, limit=EVERYTHING)
    there = {model.model_id: model for model in registered}
    new = [entry for model_id, entry in content.models.items() if model_id not in there]
    serves = store.champion(model_name=name)
    # Everything is checked before anything is written.
    versions = [_checked(entry, path, name) for entry in new]
    _check_names(content, {*there, *(version.model_id for version in versions)}, versions, path)
    if serves is None and content.champion is not None and content.champion not in there:
        _check_loads(content.models[content.champion], path)
    known = [there[model_id] for model_id in content.models if model_id in there]
    restored = [model.model_id for model in known if _put_back(store, model, path)]
    for version in sorted(versions, key=lambda version: version.created_at):
        _register(store, version, path)
    if serves is None and content.champion is not None:
        target = store.get_model(name, content.champion)
        serves = _let_serve(store, settings, target, content, path, now=now, event_id=event_id)
    return {
        "imported": len(versions),
        "known": len(known),
        "restored": restored,
        "champion": None if serves is None else serves.model_id,
    }


def _register(store: Store, version: ModelVersion, path: Path) -> None:
    if version.pruned_at is not None:
        store.register(replace(version, pruned_at=None))
        store.prune_model(version.model_name, version.model_id, now=version.pruned_at)
        return
    artifact, _ = files_of(path.parent, version.model_id)
    ref = store.put(version.artifact.bucket, version.artifact.path, artifact)
    store.register(replace(version, artifact=ref))


def _let_serve(  # noqa: PLR0913 - one event has that many parts
    store: Store,
    settings: Settings,
    target: ModelVersion,
    content: _Registry,
    path: Path,
    *,
    now: datetime,
    event_id: str,
) -> ModelVersion:
    return change_champion(
        store,
        settings,
        target=target,
        expected=None,
        kind=PromotionKind.PROMOTION,
        reason=f"imported from {path.name} of {content.exported_at}",
        actor="person",
        now=now,
        event_id=event_id,
    )


# ------------------------------------------------------------------------------ the file


def _read(path: Path) -> _Registry:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    if len(text) > MAX_BYTES:
        raise DataError(f"{path} has over {MAX_BYTES:,} bytes: no registry is that large.")
    try:
        content = json.loads(text, parse_constant=_no_number)
        # Half a character of UTF-16 stands in no store.
        json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}.", hint=_EXPORT) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{path} is no registry of format {FORMAT}.", hint=_EXPORT)
    try:
        return _Registry.model_validate(content)
    except pydantic.ValidationError as error:
        raise DataError(f"{path} cannot be used: {_faults(error)}.", hint=_EXPORT) from None


def _no_number(text: str) -> Never:
    message = f"{text} is no number of JSON"
    raise ValueError(message)


def _faults(error: pydantic.ValidationError) -> str:
    """Where the first faults are, and what."""
    found = error.errors(include_url=False, include_input=False)
    shown = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in found[:_SHOWN]]
    rest = len(found) - len(shown)
    return "; ".join(shown) + (f"; and {rest} more" if rest else "")


def _checked(entry: _Entry, path: Path, model_name: str) -> ModelVersion:
    """The row to register. Raises NotFound, ArtifactCorrupt, DataError."""
    if entry.model_name != model_name:
        raise DataError(
            f"{entry.model_id} is a model of {entry.model_name}, the config says {model_name}."
        )
    artifact, _ = files_of(path.parent, safe_name(entry.model_id))
    size = entry.artifact_size
    if entry.pruned_at is None:
        if not artifact.is_file():
            raise NotFound(
                f"The bytes of {entry.model_id} are not at {artifact}.",
                hint="Export with --with-artifacts, and keep the folders beside the file.",
            )
        archive.require_digest(artifact, entry.artifact_digest, source=str(artifact))
        size = artifact.stat().st_size
    try:
        return _version(entry, size)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"The entry of {entry.model_id} cannot be used: {error}.") from None


def _version(entry: _Entry, size: int) -> ModelVersion:
    return ModelVersion(
        model_name=entry.model_name,
        model_id=entry.model_id,
        algorithm=entry.algorithm,
        artifact=ArtifactRef(
            bucket=MODEL_BUCKET,
            path=artifact_path(entry.model_name, entry.model_id),
            digest=entry.artifact_digest,
            size=size,
        ),
        created_at=parse_utc(entry.created_at),
        pruned_at=None if entry.pruned_at is None else parse_utc(entry.pruned_at),
        state=ModelState.RETIRED,
        anchor_id=entry.anchor_id,
        parent_id=entry.parent_id,
        confidence_threshold=entry.confidence_threshold,
        metrics=entry.metrics,
        # The scoring file stays behind: nobody here has seen that it says what the model says.
        lineage=replace(Lineage.from_json(entry.lineage), scoring=None),
        library_versions=entry.library_versions,
    )


def _check_names(
    content: _Registry, known: set[str], versions: list[ModelVersion], path: Path
) -> None:
    """Raise DataError for models that are named and not there."""
    for place, entry in content.models.items():
        if place != entry.model_id:
            raise DataError(f"{path} names the model {entry.model_id} at {place}.")
    for version in versions:
        if version.anchor_id not in known:
            raise DataError(f"{version.model_id} goes on from {version.anchor_id}, which is lost.")
    if content.champion is not None and content.champion not in known:
        raise DataError(f"The champion {content.champion} is not among the models of {path}.")
    if any(version.pruned_at and version.model_id == content.champion for version in versions):
        raise DataError(f"The champion {content.champion} of {path} was pruned.")


def _check_loads(entry: _Entry, path: Path) -> None:
    """Raise what a promotion would raise afterwards."""
    archive.check_library_versions(entry.library_versions)
    load_classifier(files_of(path.parent, entry.model_id)[0], entry.artifact_digest)


# ------------------------------------------------------------------------------ lost bytes


def _put_back(store: Store, model: ModelVersion, path: Path) -> bool:
    """Put a known model's lost or damaged files back; whether there were any.

    Raises ArtifactCorrupt, and changes nothing then, when the bytes beside the file are others.
    """
    if model.pruned_at is not None:
        return False
    artifact, scoring = files_of(path.parent, model.model_id)
    lost = not _is_whole(store, model.artifact)
    if lost and not artifact.is_file():
        log.warning("The bytes of %s are lost, and are not at %s either", model.model_id, artifact)
        return False
    if lost:
        archive.require_digest(artifact, model.artifact.digest, source=str(artifact))
        _replace(store, model.artifact, artifact)
    return _put_back_scoring(store, model, scoring) or lost


def _put_back_scoring(store: Store, model: ModelVersion, exported: Path) -> bool:
    """From the file, else written again from the artifact; it has to be the registered one."""
    ref = model.lineage.scoring
    if ref is None or _is_whole(store, ref):
        return False
    with tempfile.TemporaryDirectory() as folder:
        found = exported
        if not exported.is_file() or archive.digest_file(exported) != ref.digest:
            found = Path(folder) / "model.scoring"
            artifact = store.fetch(model.artifact, Path(folder) / "model.skops")
            source = source_of(model)
            write_scoring(load_classifier(artifact, model.artifact.digest, source=source), found)
        if not found.is_file() or archive.digest_file(found) != ref.digest:
            log.warning(
                "The scoring file of %s is lost; it is scored from its artifact", model.model_id
            )
            return False
        _replace(store, ref, found)
    return True


def _is_whole(store: ArtifactStore, ref: ArtifactRef) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        try:
            store.fetch(ref, Path(folder) / "bytes")
        except (NotFound, ArtifactCorrupt):
            return False
    return True


def _replace(store: ArtifactStore, ref: ArtifactRef, source: Path) -> None:
    # Removed first, though it may be gone: damaged bytes are in the way, and so is what a restored
    # database still says of an object without bytes.
    store.remove(ref.bucket, ref.path)
    store.put(ref.bucket, ref.path, source)
