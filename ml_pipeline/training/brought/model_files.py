"""Models that are named by their files: what a run fetched, and what a person brought along."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.errors import DataError
from ml_pipeline.registry import archive
from ml_pipeline.registry.models import check_fits, see_it_answer
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.online_model import OnlineState
from ml_pipeline.training.request import NamedModel
from ml_pipeline.training.strategies import new_model

# By so many rows a model that was brought along is seen to answer.
TRIED_ROWS: Final = 20


def load_any(named: NamedModel, settings: Settings, data: Dataset) -> AdaptiveClassifier:
    """Load a model a person or a run names; a plain classifier is given heads.

    Raises ArtifactError for what cannot be trusted, DataError for what does not fit the data.
    """
    path, source = named.path, f"The model {named.path}"
    if path.suffix.lower() in archive.PICKLE_SUFFIXES:
        if named.digest is not None:
            archive.require_digest(path, named.digest, source=source)
        loaded = archive.load_local_pickle(path)
    else:
        digest = named.digest or archive.digest_file(path)
        loaded = archive.load_model(path, expected_digest=digest)
    if isinstance(loaded, AdaptiveClassifier):
        with archive.reading(source):
            see_it_answer(loaded)
            if loaded.line_ is not None:
                OnlineState.of(loaded)
        model = loaded
    else:
        model = _with_heads(loaded, source, data, settings)
    check_fits(model, settings)
    return model


def _with_heads(
    fitted: Any,  # noqa: ANN401 - whatever a person saved
    source: str,
    data: Dataset,
    settings: Settings,
) -> AdaptiveClassifier:
    """Heads for a person's own classifier, fitted on numbers in the order of the features.

    Raises DataError for anything that is none, or cannot answer the rows of `data`.
    """
    classes: Any = getattr(fitted, "classes_", None)
    if not hasattr(fitted, "predict_proba") or np.ndim(classes) != 1:
        raise DataError(
            f"{source} holds a {type(fitted).__name__}, not a fitted classifier with classes_ and "
            "predict_proba.",
            hint="Save the fitted classifier, or the Pipeline that ends in it.",
        )
    labels = [str(label) for label in classes]
    _take_names_off(fitted, source, settings.data.features)
    _see_shares(fitted, source, data, labels)
    return new_model(fitted, data.features, labels, settings)


def _take_names_off(fitted: Any, source: str, features: list[str]) -> None:  # noqa: ANN401
    """Compare the names of the columns with the config's; the rows come without any."""
    names = list(getattr(fitted, "feature_names_in_", features))
    if names != list(features):
        raise DataError(
            f"{source} was fitted on the columns {', '.join(map(str, names))}, the config names "
            f"{', '.join(features)}.",
            hint="Set data.features to the model's, in its order.",
        )
    for part in (fitted, *(step for _, step in getattr(fitted, "steps", ()))):
        vars(part).pop("feature_names_in_", None)


def _see_shares(fitted: Any, source: str, data: Dataset, labels: list[str]) -> None:  # noqa: ANN401
    """Ask it for some rows. Raises DataError."""
    rows = data.features[:TRIED_ROWS]
    try:
        shares = np.asarray(fitted.predict_proba(rows), dtype=np.float64)
    except Exception as error:
        # Estimators of other people raise whatever they like.
        raise DataError(
            f"{source} cannot answer the rows of {data.source}: {type(error).__name__}: {error}",
            hint="It gets plain arrays: fit it on data.features in their order, without names.",
        ) from error
    if shares.shape != (len(rows), len(labels)):
        raise DataError(f"{source} answers with probabilities of another shape than its classes.")
