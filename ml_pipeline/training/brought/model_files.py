"""Models that are named by their files: what a run fetched, and what a person brought along."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.datasets.reference import kinds_of
from ml_pipeline.errors import ArtifactError, NotFound
from ml_pipeline.registry import archive
from ml_pipeline.registry.models import check_fits, see_it_answer
from ml_pipeline.store.inputs.incumbent_columns import own_features
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.brought.bases import base_of, read_model_file
from ml_pipeline.training.online_model import OnlineState
from ml_pipeline.training.request import NamedModel, TrainingRequest
from ml_pipeline.training.strategies import new_model


def load_any(named: NamedModel, settings: Settings, data: Dataset) -> AdaptiveClassifier:
    """Load a model a person or a run names; a plain classifier is given heads.

    Raises ArtifactError for what cannot be trusted, DataError for what does not fit the data.
    """
    path, source = named.path, f"The model {named.path}"
    loaded: Any
    if path.suffix.lower() in archive.PICKLE_SUFFIXES:
        if named.digest is not None:
            archive.require_digest(path, named.digest, source=source)
        loaded = archive.load_local_pickle(path)
    elif named.digest is not None:
        loaded = archive.load_model(path, expected_digest=named.digest)
    else:
        loaded = read_model_file(path, settings, data)
    if isinstance(loaded, AdaptiveClassifier):
        with archive.reading(source):
            see_it_answer(loaded)
            if loaded.line_ is not None:
                OnlineState.of(loaded)
        model = loaded
    else:
        base = base_of(loaded, source, data, settings)
        model = new_model(base.classifier, data.features, base.classes, settings)
    check_fits(model, settings)
    return model


def knowing_kinds(request: TrainingRequest) -> TrainingRequest:
    """The request with the features and kinds of the model to tune, where it says none itself.

    A few new rows tell less of a column than the rows of the base: all of a category's levels
    among them may be digits.
    """
    data, parent = request.settings.data, request.parent
    if data.kinds or parent is None or parent.path.suffix.lower() != ".skops":
        return request
    try:
        digest = parent.digest or archive.digest_file(parent.path)
        loaded = archive.load_model(parent.path, expected_digest=digest)
    except (ArtifactError, NotFound):
        # A person's own, or one that is refused with its reason when it is loaded to be tuned.
        return request
    if not isinstance(loaded, AdaptiveClassifier) or not loaded.feature_names_:
        return request
    kinds = kinds_of(loaded)
    if not data.is_auto and own_features(kinds) != data.features:
        return request
    return replace(request, settings=request.settings.reading(kinds))
