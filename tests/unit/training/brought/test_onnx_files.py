"""An ONNX file becomes a base whose classes and inputs are the config's, or is refused in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import skops.io

from ml_pipeline.config.data import DEFAULT_FEATURES
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import Dataset, read_dataset
from ml_pipeline.errors import ArtifactCorrupt, ArtifactIncompatible, DataError, PipelineError
from ml_pipeline.registry import archive
from ml_pipeline.registry.onnx_models.classifier import OnnxClassifier
from ml_pipeline.training.brought.bases import Base, base_of, read_model_file
from ml_pipeline.training.brought.model_files import load_any
from ml_pipeline.training.heads.newton import softmax
from ml_pipeline.training.request import NamedModel
from ml_pipeline.training.strategies import new_model
from tests.support import league, onnx_files
from tests.support.onnx_files import linear, network

PLAYED = league.play(3, 120)
FRAME = pd.DataFrame(PLAYED.features, columns=DEFAULT_FEATURES)
TRUTH = softmax(PLAYED.features @ league.TRUTH.T)
BY_NAME = tuple(DEFAULT_FEATURES[::-1])
SETTINGS = league.settings_for()


def rows_of(frame: pd.DataFrame, folder: Path) -> Dataset:
    path = folder / "rows.csv"
    frame.assign(result=PLAYED.labels).to_csv(path, index=False)
    return read_dataset(str(path), SETTINGS.data)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return rows_of(FRAME, tmp_path_factory.mktemp("rows"))


def brought(
    model: Any,  # noqa: ANN401 - a model, or bytes that are none
    data: Dataset,
    folder: Path,
    settings: Settings = SETTINGS,
) -> Base:
    path = folder / "own.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return base_of(read_model_file(path, settings, data), f"The model {path}", data, settings)


def in_order(base: Base, shares: Any) -> Any:  # noqa: ANN401 - arrays
    """Probabilities in the order of the league's classes."""
    return shares[:, [base.classes.index(label) for label in league.CLASSES]]


SHAPES: dict[str, Callable[[], Any]] = {
    "labels as texts, a map for each row": linear,
    "labels as numbers, a map for each row": lambda: linear([0, 1, 2]),
    "labels as numbers, a tensor": lambda: linear([0, 1, 2], zipmap=False),
    "labels in another order": lambda: linear(
        ["A", "D", "H"], weights=onnx_files.WEIGHTS[::-1], zipmap=False
    ),
    "an input for each feature, in another order": lambda: linear(
        names=BY_NAME, weights=onnx_files.WEIGHTS[:, ::-1]
    ),
    "doubles": lambda: linear(kind=onnx.TensorProto.DOUBLE),
    "probabilities alone, classes in its metadata": lambda: network('["H", "D", "A"]'),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_exporters_write_answers_as_the_model_did(
    shape: str, data: Dataset, tmp_path: Path
) -> None:
    base = brought(SHAPES[shape](), data, tmp_path)
    assert sorted(base.classes) == sorted(league.CLASSES)
    answered = in_order(base, base.classifier.predict_proba(PLAYED.features))
    assert np.abs(answered - TRUTH).max() < 1e-6
    assert np.allclose(answered.sum(axis=1), 1, atol=1e-12)


def test_it_answers_the_same_out_of_an_artifact_as_a_part_of_a_model(
    data: Dataset, tmp_path: Path
) -> None:
    base = brought(linear(names=BY_NAME), data, tmp_path)
    model = new_model(base.classifier, data.features, league.CLASSES, SETTINGS)
    model.partial_fit(PLAYED.features, PLAYED.labels)
    path = tmp_path / "model.skops"
    archive.save_model(model, path)
    found: Any = archive.load_model(path, expected_digest=archive.digest_file(path))
    assert np.array_equal(
        found.predict_proba(PLAYED.features), model.predict_proba(PLAYED.features)
    )
    assert found.predict_proba(np.empty((0, 5))).shape == (0, 3)


def test_missing_values_are_filled_in_where_it_cannot_do_without(tmp_path: Path) -> None:
    holed = FRAME.copy()
    holed.iloc[::7, 1] = np.nan
    data = rows_of(holed, tmp_path)
    base = brought(linear(), data, tmp_path)
    assert base.fills == "median"
    median = float(np.nanmedian(data.features[:, 1]))
    row = PLAYED.features[:1].copy()
    row[0, 1] = np.nan
    filled = np.where(np.isnan(row), median, row)
    assert np.array_equal(base.classifier.predict_proba(row), base.classifier.predict_proba(filled))


def test_whole_numbers_are_taken_as_such_and_filled_in_as_such(tmp_path: Path) -> None:
    whole = FRAME.round()
    whole.iloc[::9, 2] = np.nan
    data = rows_of(whole, tmp_path)
    model = linear(names=BY_NAME, kind=onnx.TensorProto.INT64)
    base = brought(model, data, tmp_path)
    assert base.fills in {"median", "most frequent value"}
    assert np.isfinite(base.classifier.predict_proba(data.features)).all()
    with pytest.raises(ValueError, match="takes whole numbers alone"):
        base.classifier.predict_proba(PLAYED.features)


def test_numbers_out_of_its_range_are_its_largest(data: Dataset, tmp_path: Path) -> None:
    base = brought(linear(), data, tmp_path)
    row = PLAYED.features[:1].copy()
    row[0, 0] = 1e100
    assert base.classifier.predict_proba(row).max() == 1


BAD: dict[str, tuple[Callable[[], Any], type[PipelineError], str]] = {
    "weights in another file": (
        onnx_files.with_external_data, ArtifactIncompatible, r"another file \(weights\.bin\)",
    ),
    "operators of somebody's own": (
        lambda: onnx_files.with_operator("Rank", "com.acme"),
        ArtifactIncompatible, r"not ONNX's own: com\.acme\.Rank",
    ),
    "operators of somebody's own in a branch": (
        lambda: onnx_files.inside_of_a_branch(
            onnx.helper.make_node("Rank", ["X"], ["out"], domain="com.acme")
        ),
        ArtifactIncompatible, r"com\.acme\.Rank",
    ),
    "weights in another file in a branch": (
        lambda: onnx_files.inside_of_a_branch(
            onnx.helper.make_node(
                "Constant", [], ["out"],
                value=onnx_files.with_external_data().graph.initializer[0],
            )
        ),
        ArtifactIncompatible, "another file",
    ),
    "a loop": (lambda: onnx_files.with_operator("Loop"), ArtifactIncompatible, "may never end"),
    "chance": (
        lambda: onnx_files.with_operator("RandomNormalLike"), ArtifactIncompatible, "by chance",
    ),
    "an operator that is none": (
        lambda: onnx_files.with_operator("Softmaximum"), ArtifactIncompatible, "broken ONNX model",
    ),
    "half of a file": (
        lambda: linear().SerializeToString()[:200], ArtifactIncompatible, "ONNX model",
    ),
    "a text": (lambda: b"hello, this is a model", ArtifactIncompatible, "ONNX"),
    "nothing": (lambda: b"", ArtifactIncompatible, "neither a skops archive nor an ONNX file"),
    "zeros": (lambda: bytes(1000), ArtifactIncompatible, "neither a skops archive nor an ONNX"),
    "raw scores": (
        lambda: linear(transform="NONE"), DataError, r"probabilities of row \d+ sum to",
    ),
    "other input names": (
        lambda: linear(names=["f0", "f1", "f2", "f3", "f4"]),
        DataError, "reads f0, f1, f2, f3, f4; the config names home_team_form",
    ),
    "fewer inputs": (
        lambda: linear(weights=onnx_files.WEIGHTS[:, :3], names=DEFAULT_FEATURES[:3]),
        DataError, "reads home_team_form, away_team_form, home_team_strength; the config",
    ),
    "another number of features": (
        lambda: resized(linear(), 1, 4), DataError, "reads 4 numbers a row, and the config names 5",
    ),
    "a row at a time": (lambda: resized(linear(), 0, 1), DataError, "takes 1 rows at a time"),
    "texts": (
        lambda: linear(kind=onnx.TensorProto.STRING, names=DEFAULT_FEATURES),
        DataError, "as text, and the features are numbers",
    ),
    "other classes": (
        lambda: linear(["YES", "NO", "MAYBE"]), DataError, "knows the class MAYBE, NO, YES",
    ),
    "two names of one class": (
        lambda: linear(["H", "home", "A"]), DataError, "two mean the same label",
    ),
    "classes without names": (network, DataError, "does not say what its classes are called"),
    "more names than classes": (
        lambda: network('["H", "D", "A", "X"]'), DataError, "names 4 classes",
    ),
    "a regressor": (onnx_files.regressor, DataError, "a regressor"),
}  # fmt: skip


def resized(model: Any, place: int, size: int) -> Any:  # noqa: ANN401 - a model
    model.graph.input[0].type.tensor_type.shape.dim[place].dim_value = size
    return model


@pytest.mark.parametrize("fault", BAD)
def test_what_cannot_be_registered_is_refused_in_words(
    fault: str, data: Dataset, tmp_path: Path
) -> None:
    make, kind, words = BAD[fault]
    with pytest.raises(kind, match=words) as refused:
        brought(make(), data, tmp_path)
    assert refused.value.hint
    assert str(tmp_path / "own.onnx") in refused.value.message


def test_a_model_that_does_not_know_a_class_of_the_config_is_refused(
    data: Dataset, tmp_path: Path
) -> None:
    model = linear(["H", "A"], weights=onnx_files.WEIGHTS[::2])
    path = onnx_files.saved(model, tmp_path / "m.onnx")
    with pytest.raises(DataError, match="knows the classes A, H, the config names H, D, A"):
        load_any(NamedModel(path=path), SETTINGS, data)


def test_a_model_of_texts_is_told_that_onnx_reads_numbers(data: Dataset, tmp_path: Path) -> None:
    settings = league.settings_for(data__text_column="query")
    with pytest.raises(DataError, match="reads numbers alone"):
        brought(linear(), data, tmp_path, settings)


def test_bytes_that_were_changed_in_an_artifact_are_checked_again_before_they_are_run(
    data: Dataset, tmp_path: Path
) -> None:
    base = brought(linear(), data, tmp_path)
    own: OnnxClassifier = base.classifier.steps[-1][1]
    own.model = np.frombuffer(onnx_files.with_external_data().SerializeToString(), dtype=np.uint8)
    path = tmp_path / "model.skops"
    path.write_bytes(skops.io.dumps(base.classifier))
    with pytest.raises(ArtifactCorrupt, match=r"OnnxClassifier that keeps weights in another file"):
        archive.load_model(path, expected_digest=archive.digest_file(path))
