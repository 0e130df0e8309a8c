"""Of a file that a person names nothing is read that is no model, and nothing is loaded of it."""

from __future__ import annotations

import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.pipeline import Pipeline

from ml_pipeline.config.data import DEFAULT_FEATURES
from ml_pipeline.datasets.dataset import Dataset, read_dataset
from ml_pipeline.errors import ArtifactCorrupt, ArtifactIncompatible, DataError, NotFound
from ml_pipeline.errors import PipelineError as Refused
from ml_pipeline.registry import archive
from ml_pipeline.serving.artifact import ArtifactScorer
from ml_pipeline.training.brought.bases import Base, base_of, read_model_file
from ml_pipeline.training.strategies import new_model
from tests.support import league, mutated

PLAYED = league.play(3, 120)
CODES = np.array([league.CLASSES.index(label) for label in PLAYED.labels])
SETTINGS = league.settings_for()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    frame = pd.DataFrame(PLAYED.features, columns=DEFAULT_FEATURES).assign(result=PLAYED.labels)
    frame.to_csv(path, index=False)
    return read_dataset(str(path), SETTINGS.data)


def fitted(labels: Any = PLAYED.labels) -> LogisticRegression:  # noqa: ANN401 - an array
    return LogisticRegression(max_iter=300).fit(PLAYED.features, labels)


def brought(path: Path, data: Dataset) -> Base:
    return base_of(read_model_file(path, SETTINGS, data), f"The model {path}", data, SETTINGS)


def dumped(model: Any, path: Path) -> Path:  # noqa: ANN401 - an estimator
    path.write_bytes(skops.io.dumps(model))
    return path


# ----------------------------------------------------------------------------------- files


def _sparse(path: Path, head: bytes) -> None:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(2 * 1024**3 + 1)


def _pickled(path: Path, dump: Callable[[Any, Path], object]) -> None:
    dump(fitted(), path)


FILES: dict[str, tuple[str, Callable[[Path], object], type[Refused], str]] = {
    "no file": ("m.onnx", str, NotFound, "cannot be opened: No such file"),
    "a link to nothing": (
        "m.onnx", lambda path: path.symlink_to(path.with_name("gone")), NotFound, "No such file",
    ),
    "a link to itself": ("m.skops", lambda path: path.symlink_to(path), NotFound, "cannot be op"),
    "a folder": ("m.skops", Path.mkdir, ArtifactIncompatible, "is a folder"),
    "a pipe": ("m.onnx", os.mkfifo, ArtifactIncompatible, "a device or a pipe"),
    "a device": (
        "m.onnx", lambda path: path.symlink_to("/dev/zero"), ArtifactIncompatible, "a device",
    ),
    "two gigabytes of onnx": (
        "m.onnx", lambda path: _sparse(path, b"\x08\x09"), ArtifactIncompatible, "over the limit",
    ),
    "two gigabytes of skops": (
        "m.skops", lambda path: _sparse(path, b"PK\x03\x04"), ArtifactIncompatible, "over the lim",
    ),
    "two gigabytes of nothing": (
        "m.onnx", lambda path: _sparse(path, b""), ArtifactIncompatible, "neither a skops",
    ),
    "a joblib": (
        "m.joblib", lambda path: _pickled(path, joblib.dump), ArtifactIncompatible, "is a pickle",
    ),
    "a joblib by another name": (
        "m.skops", lambda path: _pickled(path, joblib.dump), ArtifactIncompatible, "is a pickle",
    ),
    "a packed joblib by another name": (
        "m.onnx", lambda path: joblib.dump(fitted(), path, compress=3),
        ArtifactIncompatible, "is a pickle",
    ),
    "a pickle": (
        "m.pkl", lambda path: path.write_bytes(pickle.dumps(fitted())),
        ArtifactIncompatible, "is a pickle",
    ),
    "a text": ("m.txt", lambda path: path.write_text("model"), ArtifactIncompatible, "neither a"),
    "half of an archive": (
        "m.skops", lambda path: path.write_bytes(skops.io.dumps(fitted())[:900]),
        ArtifactCorrupt, "cannot be read",
    ),
    "another archive": (
        "m.skops", lambda path: zipfile.ZipFile(path, "w").writestr("a", "b"),
        ArtifactCorrupt, "cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_model_is_refused_in_words(
    name: str, data: Dataset, tmp_path: Path
) -> None:
    place, make, kind, words = FILES[name]
    path = tmp_path / place
    make(path)
    with pytest.raises(kind, match=words) as refused:
        read_model_file(path, SETTINGS, data)
    assert str(path) in refused.value.message


def test_the_way_out_of_a_pickle_is_two_lines_that_work(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joblib.dump(fitted(), tmp_path / "own.joblib")
    with pytest.raises(ArtifactIncompatible) as refused:
        read_model_file(tmp_path / "own.joblib", SETTINGS, data)
    _, *lines = refused.value.hint.splitlines()
    assert len(lines) == 2
    monkeypatch.chdir(tmp_path)
    exec("\n".join(line.strip() for line in lines), {})  # noqa: S102 - what a person would do
    assert brought(tmp_path / "own.skops", data).classes == ["A", "D", "H"]


def test_a_link_to_a_model_is_followed(data: Dataset, tmp_path: Path) -> None:
    dumped(fitted(), tmp_path / "own.skops")
    (tmp_path / "latest.skops").symlink_to("own.skops")
    assert brought(tmp_path / "latest.skops", data).classes == ["A", "D", "H"]


# ---------------------------------------------------------------------------------- models


def test_types_that_are_not_on_the_list_are_named_and_nothing_is_loaded(
    data: Dataset, tmp_path: Path
) -> None:
    foreign = GradientBoostingClassifier(n_estimators=1).fit(PLAYED.features, PLAYED.labels)
    with pytest.raises(ArtifactIncompatible, match=r"_gb\.GradientBoostingClassifier") as refused:
        brought(dumped(foreign, tmp_path / "m.skops"), data)
    assert "Nothing of it was run" in refused.value.hint


def test_a_model_of_another_scikit_learn_is_refused_before_it_is_made(
    data: Dataset, tmp_path: Path
) -> None:
    content = skops.io.dumps(Pipeline([("classify", fitted())]))
    here = archive.installed_version("scikit-learn")
    schema = json.loads(json.dumps(mutated.schema_of(content)).replace(here, "0.24.2"))
    path = tmp_path / "m.skops"
    path.write_bytes(mutated.with_members(content, schema=schema))
    with pytest.raises(ArtifactIncompatible, match=r"saved with scikit-learn 0\.24\.2") as refused:
        brought(path, data)
    assert 'Install "scikit-learn==0.24.*"' in refused.value.hint


MODELS: dict[str, tuple[Callable[[], Any], str]] = {
    "a regressor": (
        lambda: Pipeline([("classify", LinearRegression().fit(PLAYED.features, CODES))]),
        "types that are not allowed",
    ),
    "fewer features": (
        lambda: LogisticRegression().fit(PLAYED.features[:, :3], PLAYED.labels),
        "fitted on 3 columns, the config names 5",
    ),
    "two names of one class": (
        lambda: fitted(np.where(PLAYED.labels == "D", "home", PLAYED.labels)), "the same label",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_another_kind_is_refused_in_words(
    name: str, data: Dataset, tmp_path: Path
) -> None:
    make, words = MODELS[name]
    with pytest.raises(Refused, match=words):
        brought(dumped(make(), tmp_path / "m.skops"), data)


@pytest.mark.parametrize("make", [RidgeClassifier, LinearRegression])
def test_what_has_no_probabilities_is_no_classifier(make: Any, data: Dataset) -> None:  # noqa: ANN401
    with pytest.raises(DataError, match="not a fitted classifier"):
        base_of(make().fit(PLAYED.features, CODES), "The model", data, SETTINGS)


class Odd(LogisticRegression):  # type: ignore[misc]
    """What it answers is no probability."""

    answer: Any = None

    def predict_proba(self, X: Any) -> Any:  # noqa: ANN401, N803
        return self.answer(super().predict_proba(X))


ANSWERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "twice as much": (lambda shares: 2 * shares, "no probabilities"),
    "negative": (lambda shares: shares - [[0.5, 0, 0]] + [[0, 0.5, 0]], "no probabilities"),
    "no number": (lambda shares: shares * np.nan, "no probabilities"),
    "one of them": (lambda shares: shares[:, 1], "another shape"),
    "by chance": (
        lambda shares: np.random.default_rng().dirichlet([1, 1, 1], len(shares)), "differently",
    ),
    "nothing": (lambda shares: shares / None, "cannot answer the rows of"),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_that_are_no_probabilities_are_refused(name: str, data: Dataset) -> None:
    answer, words = ANSWERS[name]
    odd = Odd(max_iter=300).fit(PLAYED.features, PLAYED.labels)
    odd.answer = answer
    with pytest.raises(DataError, match=words) as refused:
        base_of(odd, "The model", data, SETTINGS)
    assert refused.value.message.startswith("The model")


@pytest.mark.parametrize(
    "make",
    [
        lambda: fitted(CODES),
        lambda: RandomForestClassifier(3, max_depth=3, random_state=1).fit(PLAYED.features, CODES),
        lambda: Pipeline([("classify", fitted(CODES))]),
        lambda: VotingClassifier([("a", LogisticRegression())], voting="soft").fit(
            PLAYED.features, CODES
        ),
    ],
)
def test_classes_by_number_become_the_labels_that_they_mean(
    make: Callable[[], Any], data: Dataset, tmp_path: Path
) -> None:
    model = make()
    base = brought(dumped(model, tmp_path / "m.skops"), data)
    assert base.classes == [str(label) for label in base.classifier.classes_] == league.CLASSES
    answered = base.classifier.predict_proba(PLAYED.features)
    assert np.allclose(answered, model.predict_proba(PLAYED.features), atol=1e-12)


def test_a_model_that_cannot_do_without_a_value_gets_its_median(
    data: Dataset, tmp_path: Path
) -> None:
    base = brought(dumped(fitted(), tmp_path / "m.skops"), data)
    assert base.fills == "median"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shares = base.classifier.predict_proba(np.full((1, 5), np.nan))
    medians = np.median(data.features, axis=0, keepdims=True)
    assert np.allclose(shares, base.classifier.predict_proba(medians))


def test_a_type_that_no_archive_may_hold_is_refused_before_anything_is_saved(
    data: Dataset, tmp_path: Path
) -> None:
    calibrated = CalibratedClassifierCV(LogisticRegression(), cv=2).fit(
        PLAYED.features, PLAYED.labels
    )
    base = base_of(calibrated, "The model", data, SETTINGS)
    with pytest.raises(ArtifactIncompatible, match="types that are not allowed"):
        archive.save_model(base.classifier, tmp_path / "model.skops")
    assert not (tmp_path / "model.skops").exists()


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomForestClassifier(3, max_depth=3, random_state=1),
        lambda: VotingClassifier(
            [("forest", RandomForestClassifier(3, max_depth=3, random_state=1))], voting="soft"
        ),
    ],
)
def test_a_base_without_a_pipeline_is_scored_from_its_artifact(
    make: Callable[[], Any], data: Dataset, tmp_path: Path
) -> None:
    path = dumped(make().fit(PLAYED.features, PLAYED.labels), tmp_path / "m.skops")
    base = brought(path, data)
    assert base.fills is None
    model = new_model(base.classifier, data.features, league.CLASSES, SETTINGS)
    scorer, row = ArtifactScorer(model), PLAYED.features[0].tolist()
    assert scorer.is_ensemble == (type(base.classifier).__name__ == "VotingClassifier")
    assert scorer.probabilities(row) == pytest.approx(model.predict_proba([row])[0].tolist())
    if scorer.is_ensemble:
        assert [member.name for member in scorer.members(row)] == ["forest"]


def test_a_feature_that_is_no_number_is_not_given_to_a_persons_model(tmp_path: Path) -> None:
    frame = pd.DataFrame(PLAYED.features, columns=DEFAULT_FEATURES).assign(result=PLAYED.labels)
    frame[DEFAULT_FEATURES[0]] = ["north", "south"] * 60
    frame.to_csv(tmp_path / "rows.csv", index=False)
    kinds = dict.fromkeys(DEFAULT_FEATURES, "number") | {DEFAULT_FEATURES[0]: "category"}
    settings = league.settings_for(data__features=kinds)
    data = read_dataset(str(tmp_path / "rows.csv"), settings.data)
    with pytest.raises(DataError, match=r"it would read home_team_form \(category\)"):
        base_of(fitted(), "The model", data, settings)
