"""Registered models: their names and files, fetched, checked and loaded."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from pathlib import Path
from typing import Any

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import (
    ArtifactCorrupt,
    ArtifactIncompatible,
    ArtifactMissing,
    DataError,
    NotFound,
    PipelineError,
    StoreError,
)
from ml_pipeline.registry import scoring
from ml_pipeline.registry.scoring import Scorer
from ml_pipeline.registry.trained import Sample
from ml_pipeline.store.contract import ArtifactStore
from ml_pipeline.store.records import ModelVersion

log = logging.getLogger("registry")

MODEL_BUCKET = "ml-models"
REPRODUCED_WITHIN = 1e-12
SCORED_WITHIN = 1e-9


def artifact_path(model_name: str, model_id: str) -> str:
    """Where a model's artifact stands in its bucket."""
    return f"{model_name}/{model_id}/model.skops"


def scoring_path(model_name: str, model_id: str) -> str:
    """Where a model's scoring file stands in its bucket, beside the artifact."""
    return f"{model_name}/{model_id}/model.scoring"


def fetch_model(store: ArtifactStore, version: ModelVersion, folder: Path) -> Path:
    """Bring a verified artifact into `folder`.

    Raises ArtifactMissing and ArtifactCorrupt, which say what may serve instead.
    """
    try:
        return store.fetch(version.artifact, folder / f"{version.model_id}.skops")
    except NotFound as error:
        message = f"The bytes of the model {version.model_id} are gone: {error.message}"
        raise ArtifactMissing(message, hint=ways_out(store, version)) from error
    except ArtifactCorrupt as error:
        message = f"The bytes of the model {version.model_id} are not those that were registered: "
        raise ArtifactCorrupt(message + error.message, hint=ways_out(store, version)) from error


def ways_out(store: ArtifactStore, version: ModelVersion) -> str:
    """What can be done about a model whose bytes are lost."""
    others: list[str] = []
    with contextlib.suppress(StoreError):
        others = [i for i in store.names(MODEL_BUCKET, version.model_name) if i != version.model_id]
    named = f" (there are bytes of {', '.join(others[-3:])})" if others else ""
    return (
        "Put them back from an export or a backup of it: `ml-pipeline models import FILE`. Or let "
        "another version serve: `ml-pipeline models promote ID --force --reason "
        f'"bytes lost"`{named}. Or train a new one: `ml-pipeline train --register`.'
    )


def fetch_to_train(store: ArtifactStore, version: ModelVersion, folder: Path) -> Path:
    """Bring a verified artifact into `folder` that the libraries installed here can load.

    Raises ArtifactCorrupt, ArtifactIncompatible.
    """
    from ml_pipeline.registry import archive

    archive.check_library_versions(version.library_versions)
    return fetch_model(store, version, folder)


def load_model_version(store: ArtifactStore, version: ModelVersion) -> Any:  # noqa: ANN401
    """Fetch, verify and load a registered model.

    Raises ArtifactCorrupt, ArtifactIncompatible.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = fetch_to_train(store, version, Path(folder))
        return load_classifier(path, version.artifact.digest, source=source_of(version))


def source_of(version: ModelVersion) -> str:
    """What errors call a registered artifact: the copy that is read is gone by then."""
    return f"The artifact of {version.model_id}"


def load_classifier(path: Path, digest: str, *, source: str = "") -> Any:  # noqa: ANN401 - AdaptiveClassifier
    """Load an artifact that our training made, and see it answer a row; `source` as in `archive`.

    Raises NotFound, ArtifactCorrupt, ArtifactIncompatible.
    """
    from ml_pipeline.registry import archive, archive_schema

    source = source or f"The artifact {path}"
    model = archive.load_model(path, expected_digest=digest, source=source)
    if archive.type_name(type(model)) != archive_schema.CLASSIFIER:
        message = f"The model {path.stem} holds a {type(model).__name__}."
        raise ArtifactIncompatible(message, hint="Train and register it with this program.")
    with archive.reading(source):
        see_it_answer(model)
    return model


def see_it_answer(model: Any) -> None:  # noqa: ANN401 - AdaptiveClassifier
    """Raise ValueError, or what Python raises, for parts that do not fit one another.

    To be called inside of `archive.reading`.
    """
    import numpy as np

    from ml_pipeline.datasets.features import joined

    _check_columns(model)
    classes = [str(label) for label in model.classes_]
    if len(set(classes)) != len(classes) or len(classes) < 2:  # noqa: PLR2004 - a choice
        raise ValueError("its classes are not two and more")
    row = model.mean_.reshape(1, -1).astype(np.float64)
    answers = model.predict_proba(joined(row, ["one text"] if model.reads_text_ else None))
    scoring.check_shares(answers.ravel().tolist(), len(classes))


def _check_columns(model: Any) -> None:  # noqa: ANN401 - AdaptiveClassifier
    import numpy as np

    width, names, scale = model.n_features_in_, model.feature_names_, model.scale_
    if type(width) is not int or model.mean_.shape != (width,) or scale.shape != (width,):
        raise ValueError("its features differ in number")
    if names and (len(names) != width or not all(type(name) is str for name in names)):
        raise ValueError("its features are not named one by one")
    if not (np.isfinite(model.mean_).all() and np.isfinite(scale).all() and (scale > 0).all()):
        raise ValueError("the means or scales of its features are no numbers")
    if model.text_column_ is not None and type(model.text_column_) is not str:
        raise ValueError("its text column has no name")


def verify(store: ArtifactStore, version: ModelVersion, sample: Sample | None) -> None:
    """Load the stored bytes again and compare what artifact and scoring file predict.

    Raises ArtifactCorrupt when the stored model answers otherwise than the trained one did. A
    scoring file that was lost since then keeps no model from serving: it is scored from its
    artifact.
    """
    import numpy as np

    model = load_model_version(store, version)
    try:
        scorer = load_scorer(store, version)
    except (NotFound, ArtifactCorrupt) as error:
        if sample is not None:
            raise
        log.warning("%s is scored from its artifact, more slowly: %s", version.model_id, error)
        return
    if sample is None:
        return
    _require_same(version, model.predict_proba(sample.features), sample, REPRODUCED_WITHIN)
    if scorer is not None:
        answers = [scorer.probabilities(values, text) for values, text in sample.rows()]
        _require_same(version, np.asarray(answers), sample, SCORED_WITHIN)


def load_scorer(store: ArtifactStore, version: ModelVersion) -> Scorer | None:
    """Fetch, verify and read a model's scoring file; None when it has none."""
    ref = version.lineage.scoring
    if ref is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = store.fetch(ref, Path(folder) / "model.scoring")
        return scoring.load(str(path), digest=ref.digest, size=ref.size)


def _require_same(version: ModelVersion, answers: Any, sample: Sample, within: float) -> None:  # noqa: ANN401
    import numpy as np

    if answers.shape != sample.probabilities.shape:
        raise ArtifactCorrupt(f"The stored model {version.model_id} answers in another shape.")
    worst = float(np.abs(answers - sample.probabilities).max(initial=0.0))
    if worst > within:
        raise ArtifactCorrupt(
            f"The stored model {version.model_id} differs from the trained one by {worst:.3g}.",
            hint="It was not promoted. Run again; if it happens twice, report it.",
        )


def safe_name(model_id: str) -> str:
    """The id, if it can be the name of a folder. Raises PipelineError."""
    if not model_id.replace("-", "").replace("_", "").replace(".", "").isalnum() or (
        model_id.startswith(".")
    ):
        raise PipelineError(
            f"{model_id!r} is no name for a model.", hint="Use letters, digits, - _ and dots."
        )
    return model_id


def check_fits(model: Any, settings: Settings) -> None:  # noqa: ANN401 - AdaptiveClassifier
    """Raise DataError when a model expects other features or classes than the config names."""
    from ml_pipeline.datasets.reference import kinds_of

    wanted, reads = settings.data.text_column, model.text_column_
    if wanted != reads:
        raise DataError(
            f"The model reads {_text_words(reads)}, the config names {_text_words(wanted)}.",
            hint="Set data.text_column to the model's, or train a new base.",
        )
    expected = list(model.feature_names_) or settings.data.features
    if expected != settings.data.features or model.n_features_in_ != len(settings.data.features):
        raise DataError(
            f"The model was trained on the features {', '.join(expected)} "
            f"({model.n_features_in_}), the config names {', '.join(settings.data.features)}.",
            hint="Set data.features to the model's, or train a new base.",
        )
    kinds, wanted_kinds = kinds_of(model), settings.data.kinds
    others = [name for name, kind in wanted_kinds.items() if kinds.get(name, kind) is not kind]
    if others:
        name = others[0]
        raise DataError(
            f"The model reads {name} as a {kinds[name]}, the config as a {wanted_kinds[name]}.",
            hint="Set its kind in data.features to the model's, or train a new base.",
        )
    classes = [str(label) for label in model.classes_]
    if settings.data.classes is not None and set(classes) != set(settings.data.classes):
        raise DataError(
            f"The model knows the classes {', '.join(classes)}, "
            f"the config names {', '.join(settings.data.classes)}.",
            hint="Set data.classes to the model's, or train a new base.",
        )


def _text_words(column: str | None) -> str:
    return "no text" if column is None else f"the text column {column}"
