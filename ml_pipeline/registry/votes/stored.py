"""The vote in a model's stored bytes, read as data: nothing of it is imported or constructed."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from ml_pipeline.errors import ArtifactIncompatible
from ml_pipeline.registry.archive_schema import MAX_SCHEMA_BYTES, SCHEMA
from ml_pipeline.registry.models import fetch_model
from ml_pipeline.store.contract import ArtifactStore
from ml_pipeline.store.records import ModelVersion

_MOST_BYTES = 1_000_000
_UNREADABLE = (AttributeError, BadZipFile, LookupError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredVote:
    """The weights of a model's voters: the base, its heads, its `experts` in their order."""

    weights: tuple[float, ...]
    experts: tuple[str, ...]

    def __post_init__(self) -> None:
        # Written so that NaN fails.
        if not (self.weights and abs(sum(self.weights) - 1) < 1e-6 and min(self.weights) >= 0):  # noqa: PLR2004 - rounding
            raise ValueError("its weights do not sum to 1")


def stored_vote(store: ArtifactStore, version: ModelVersion) -> StoredVote:
    """Fetch a model's verified artifact, a zip of arrays and a JSON tree, and read its vote.

    Raises ArtifactMissing, ArtifactCorrupt and ArtifactIncompatible, as loading the model does.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = fetch_model(store, version, Path(folder))
        try:
            return _vote_of(path)
        except _UNREADABLE as error:
            message = f"The vote of {version.model_id} cannot be read: {error}."
            raise ArtifactIncompatible(
                message, hint="Update the package, or train and register the model again."
            ) from error


def _vote_of(path: Path) -> StoredVote:
    from numpy.lib.format import read_array

    with ZipFile(path) as archive:
        if archive.getinfo(SCHEMA).file_size > MAX_SCHEMA_BYTES:
            raise ValueError("its description is too long")
        model = json.loads(archive.read(SCHEMA))["content"]["content"]
        name = model["vote_"]["file"]
        if archive.getinfo(name).file_size > _MOST_BYTES:
            raise ValueError("its weights are too many")
        weights = read_array(BytesIO(archive.read(name)), allow_pickle=False)
    return StoredVote(
        weights=tuple(float(weight) for weight in weights),
        experts=tuple(
            str(json.loads(expert["content"]["name"]["content"]))
            for expert in model["experts_"]["content"]
        ),
    )
