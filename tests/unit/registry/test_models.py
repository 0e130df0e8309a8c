"""Where a model's bytes stand, and what is said of a registered model."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pytest

from ml_pipeline.errors import ArtifactCorrupt
from ml_pipeline.registry.archive import library_versions
from ml_pipeline.registry.models import MODEL_BUCKET, artifact_path, load_model_version
from ml_pipeline.registry.trained import Sample
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.json_values import model_json
from ml_pipeline.store.records import ModelState
from tests.support.factories import DIGEST, NOW, make_model


def test_an_artifact_stands_under_its_models_name_and_id() -> None:
    assert artifact_path("football", "m-1") == "football/m-1/model.skops"


def test_a_model_is_told_as_plain_json() -> None:
    model = make_model("m-2", parent_id="m-1", anchor_id="m-1", state=ModelState.SHADOW)
    reported = json.loads(json.dumps(model_json(model), allow_nan=False))
    assert reported == {
        "model_id": "m-2",
        "model_name": "football",
        "state": "shadow",
        "algorithm": "LogisticRegression",
        "created_at": NOW.isoformat(),
        "parent_id": "m-1",
        "anchor_id": "m-1",
        "run_id": None,
        "confidence_threshold": 0.1 + 0.2,
        "artifact_path": "ml-models/football/m-2/model.skops",
        "artifact_digest": DIGEST,
        "metrics": {"accuracy": 2 / 3},
        "library_versions": {"scikit-learn": "1.8.0"},
        "pruned_at": None,
    }


def test_a_registered_artifact_that_cannot_be_read_is_named_by_its_model(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"no archive")
    store = LocalStore.open(tmp_path / "store")
    ref = store.put(MODEL_BUCKET, artifact_path("football", "m-2"), tmp_path / "bytes")
    model = make_model("m-2", artifact=ref, library_versions=library_versions())
    with pytest.raises(ArtifactCorrupt, match=r"^The artifact of m-2 ") as caught:
        load_model_version(store, model)
    assert gettempdir() not in str(caught.value)


def test_a_sample_is_read_as_it_was_written(tmp_path: Path) -> None:
    features, probabilities = np.array([[1.0, np.nan]]), np.array([[0.1, 0.2, 0.7]])
    np.savez_compressed(tmp_path / "s.npz", features=features, probabilities=probabilities)
    sample = Sample.load(tmp_path / "s.npz")
    assert np.array_equal(sample.features, features, equal_nan=True)
    assert np.array_equal(sample.probabilities, probabilities)


def test_a_sample_that_holds_objects_is_not_read(tmp_path: Path) -> None:
    objects = np.array([{"code": 1}], dtype=object)
    np.savez_compressed(tmp_path / "s.npz", features=objects, probabilities=objects)
    with pytest.raises(ValueError, match="allow_pickle"):
        Sample.load(tmp_path / "s.npz")
