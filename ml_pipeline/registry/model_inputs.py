"""What a registered model reads and knows, and its answers where the settings name other things.

Settings may name a feature or a class that the serving model does not know, or no longer one that
it does. It goes on serving by its own until a base takes over that knows the new ones.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ml_pipeline.config.data import DataSettings
from ml_pipeline.config.kind import Kind
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets import texts
from ml_pipeline.datasets.features import Inputs, joined, matrix, unreadable
from ml_pipeline.datasets.reference import kinds_of
from ml_pipeline.datasets.served.incumbents import with_shares
from ml_pipeline.errors import ArtifactError, DataError, NotFound
from ml_pipeline.evaluation.metrics import Floats
from ml_pipeline.registry.models import load_model_version, load_scorer
from ml_pipeline.store.contract import Store
from ml_pipeline.store.inputs.incumbent_columns import classes_read, own_features, share_columns
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.records import ModelVersion

log = logging.getLogger("registering")

TRAIN = "`ml-pipeline train --register`"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInputs:
    """The features by kind, the text and the classes of a model, in its order."""

    kinds: Mapping[str, Kind]
    text_column: str | None
    classes: tuple[str, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the features."""
        return tuple(self.kinds)

    def completing(self, settings: Settings) -> Settings:
        """The settings with the kinds that the model's features have, where they say none."""
        data = settings.data
        if data.kinds or not (data.is_auto or set(data.features) & set(self.kinds)):
            return settings
        names = own_features(self.features) if data.is_auto else data.features
        return settings.reading({name: self.kinds.get(name, Kind.NUMBER) for name in names})

    def reading(self, settings: Settings) -> Settings:
        """The same for the rows that it learns: with an incumbent's answer where it reads one."""
        settings, answers = self.completing(settings), share_columns(classes_read(self.features))
        if not answers:
            return settings
        own = {name: settings.data.kind(name) for name in settings.data.features}
        return settings.reading(own | dict.fromkeys(answers, Kind.NUMBER))

    def difference(self, data: DataSettings) -> str:
        """How the settings differ from it, as the end of a sentence; empty when they do not."""
        differences = [
            f"reads {name} as a {self.kinds[name]}, not as a {kind}"
            for name, kind in data.kinds.items()
            if self.kinds.get(name, kind) is not kind
        ]
        own = own_features(self.features)
        read = [*own, *([self.text_column] if self.text_column else [])]
        named = own_features(data.inputs)
        if new := [name for name in named if name not in read]:
            differences.append(f"does not read {', '.join(new)}")
        if gone := [name for name in read if name not in named]:
            differences.append(f"reads {', '.join(gone)}, which the settings no longer name")
        if not differences and named != read:
            differences.append(f"reads the features in another order ({', '.join(own)})")
        if data.classes is not None:
            if new := [name for name in data.classes if name not in self.classes]:
                differences.append(f"does not know the class {', '.join(new)}")
            if gone := [name for name in self.classes if name not in data.classes]:
                differences.append(f"knows the class {', '.join(gone)}, which the settings do not")
        return " and ".join(differences)

    def to_read_by(self, settings: Settings) -> Settings:
        """The settings by which the log is read for it: labels that only others know are known."""
        classes = settings.data.classes
        return self._changed(settings, None if classes is None else [*self.classes, *(
            name for name in classes if name not in self.classes
        )])  # fmt: skip

    def to_train_by(self, settings: Settings) -> Settings:
        """The settings by which it is trained."""
        return self._changed(settings, list(self.classes))

    def _changed(self, settings: Settings, classes: list[str] | None) -> Settings:
        labels = settings.data.labels
        if labels is not None and classes is not None:
            labels = {text: name for text, name in labels.items() if name in classes}
        return settings.changed(
            {
                "data.features": dict(self.kinds) or [],
                "data.text_column": self.text_column,
                "data.classes": classes,
                "data.labels": labels,
            }
        )


def inputs_of(store: Store, version: ModelVersion | None) -> ModelInputs | None:
    """What a model reads and knows: by its row, and of an earlier version by its artifact.

    None without a model, and with a warning where the artifact cannot be loaded: whoever needs its
    answers is told so when asking for them.
    """
    if version is None:
        return None
    classes, inputs = version.lineage.classes, version.lineage.inputs
    if classes is not None and inputs is not None:
        named = inputs.get("kinds", {})
        kinds = {name: Kind(named.get(name, Kind.NUMBER)) for name in inputs["features"]}
        text_column = inputs["text_column"]
        return ModelInputs(kinds=kinds, text_column=text_column, classes=tuple(classes))
    model = loaded(store, version)
    if model is None:
        return None
    return ModelInputs(
        kinds=kinds_of(model),
        text_column=model.text_column_,
        classes=tuple(str(label) for label in model.classes_),
    )


def loaded(store: Store, version: ModelVersion) -> Any:  # noqa: ANN401 - AdaptiveClassifier
    """The model, or None with a warning where it cannot be loaded here."""
    try:
        return load_model_version(store, version)
    except (ArtifactError, NotFound) as error:
        log.warning("%s cannot be loaded: %s", version.model_id, error)
        return None


def answers_for(
    store: Store,
    version: ModelVersion,
    model: Any,  # noqa: ANN401 - what `loaded` returned
    frame: pd.DataFrame,
    classes: Sequence[str],
) -> Floats:
    """A registered model's probabilities (n, K) of `classes` for rows of texts.

    A feature that the rows lack is missing, and so is a cell that is not of the kind as which the
    model reads it. Where the artifact cannot be
    loaded the scoring file answers. Raises ArtifactError or NotFound when neither can, and
    DataError when the rows lack the text that the model reads.
    """
    if model is not None:
        rows = _rows(frame, kinds_of(model), model.text_column_, version.model_id)
        known = [str(label) for label in model.classes_]
        return in_classes(model.predict_proba(rows), known, classes)
    scorer = load_scorer(store, version)
    if scorer is None:
        load_model_version(store, version)
        raise NotFound(f"{version.model_id} has no scoring file.")
    named = scorer.kinds or [Kind.NUMBER] * len(scorer.features)
    kinds = dict(zip(scorer.features, map(Kind, named), strict=True))
    rows = _rows(frame, kinds, scorer.text_column, version.model_id)
    shares = np.asarray([_scored(scorer, row) for row in rows]).reshape(len(rows), -1)
    return in_classes(shares, scorer.classes, classes)


def _scored(scorer: Any, row: Any) -> list[float]:  # noqa: ANN401 - a scorer's own types
    if scorer.text_column is None:
        return list(scorer.probabilities(row.tolist()))
    return list(scorer.probabilities(row[:-1].tolist(), row[-1]))


def _rows(
    frame: pd.DataFrame, kinds: Mapping[str, Kind], text_column: str | None, model_id: str
) -> Inputs:
    if answers := classes_read(kinds):
        labels = Labels({label: label for label in answers}, is_open=True)
        frame = with_shares(frame, answers, labels, f"What {model_id} is compared on")
    lacking = [name for name in kinds if name not in frame.columns]
    if lacking:
        log.warning("%s reads %s, which the rows lack: missing", model_id, ", ".join(lacking))
    frame = frame.assign(**dict.fromkeys(lacking, ""))
    for name, kind in kinds.items():
        is_other = unreadable(frame[name], kind)
        if is_other.any():
            log.warning("%s reads %s as a %s: missing in %d rows", model_id, name, kind,
                        is_other.sum())  # fmt: skip
            frame[name] = frame[name].mask(is_other, "")
    numbers = matrix(frame, list(kinds), kinds)
    if text_column is None:
        return numbers
    if text_column not in frame.columns:
        raise DataError(
            f"The champion {model_id} reads the text column {text_column}, which the rows lack: "
            "it cannot be judged on them.",
            hint=f"Keep the column {text_column} in the rows to train on, beside the new ones.",
        )
    written = frame[text_column].fillna("").astype(str)
    return joined(numbers, [" " if texts.fault(text) else text for text in written])


def in_classes(shares: Floats, known: Sequence[str], classes: Sequence[str]) -> Floats:
    """Probabilities (n, K) of `classes` from those (n, k) of the `known` ones.

    A class that is not known gets the smallest one of its row, one that is not asked for goes;
    then rows are scaled to 1.
    """
    places = {label: place for place, label in enumerate(known)}
    smallest = shares.min(axis=1) if len(shares) else np.empty(0)
    wide = [shares[:, places[c]] if c in places else smallest for c in classes]
    answers = np.maximum(np.column_stack(wide), 1e-15)
    return np.asarray(answers / answers.sum(axis=1, keepdims=True), dtype=np.float64)
