"""Score a registered model from its artifact: what its scoring file cannot say, or has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.datasets.features import joined
from ml_pipeline.datasets.levels.new_levels import known_levels
from ml_pipeline.datasets.reference import kinds_of
from ml_pipeline.datasets.texts import fault
from ml_pipeline.errors import InputError
from ml_pipeline.registry.scoring import ROUNDING, Scorer, check_shares
from ml_pipeline.registry.scoring_parts import Member
from ml_pipeline.store.inputs.incumbent_columns import classes_read
from ml_pipeline.store.serving_view import ServedModel

# Rows that are scored one by one before the artifact's libraries are worth loading.
FEW = 2000


class ArtifactScorer(Scorer):
    """Scores by a loaded `AdaptiveClassifier`, where there is no scoring file or it is slower."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - AdaptiveClassifier
        self.model = model
        self.features = list(model.feature_names_)
        self.kinds = [str(kind) for kind in kinds_of(model).values()]
        self.corrects = bool(classes_read(self.features))
        self.classes = [str(label) for label in model.classes_]
        self.base_classes = [self.classes[column] for column in model.base_columns_]
        self.text_column = model.text_column_
        self._mean = model.mean_.tolist()
        self._scale = model.scale_.tolist()
        self.known_levels = [
            (self.features.index(name), levels.tolist())
            for name, levels in known_levels(model.reference_).items()
        ]

    @property
    def is_ensemble(self) -> bool:
        """Whether the base is a vote of several models."""
        return type(self._steps[-1]).__name__ == "VotingClassifier"

    @property
    def _steps(self) -> list[Any]:
        """The steps of the base; one that a person brought may stand alone."""
        base = self.model.base_
        return [step for _, step in base.steps] if hasattr(base, "steps") else [base]

    def probabilities(self, values: Sequence[float], text: str | None = None) -> list[float]:
        """The probability of each of `classes`."""
        written = list(self.read_text(text).values())
        try:
            shares = self.shares(_numbers(values), written or None)[0].tolist()
            check_shares(shares, len(self.classes))
        except ValueError as error:
            raise InputError(f"The model cannot take these numbers: {error}.") from error
        return [float(share) for share in shares]

    def shares(
        self, values: NDArray[np.float64], texts: Sequence[str] | None
    ) -> NDArray[np.float64]:
        """Probabilities (n, K) of rows: numbers (n, d) and n texts, if the model reads any."""
        rows = joined(values, texts)
        return np.asarray(self.model.predict_proba(rows), dtype=np.float64)

    def members(self, values: Sequence[float], text: str | None = None) -> list[Member]:
        """Each member's vote."""
        written = list(self.read_text(text).values())
        rows = joined(_numbers(values), written or None)
        *before, vote = self._steps
        for step in before:
            rows = step.transform(rows)
        names = [name for name, member in vote.estimators if member != "drop"]
        weights = vote._weights_not_none or [1.0] * len(names)  # noqa: SLF001 - no public name
        return [
            Member(name, float(weight), member.predict_proba(rows)[0].tolist())
            for name, weight, member in zip(names, weights, vote.estimators_, strict=True)
        ]


def _numbers(values: Sequence[float]) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).reshape(1, -1)


class BatchScorer:
    """Scores the rows of a file: few by the scoring file, many by the artifact, which is faster."""

    def __init__(
        self, *, scorer: Scorer, served: ServedModel, load: Callable[[], ArtifactScorer]
    ) -> None:
        self._scorer = scorer
        self._load = load
        self.corrects = scorer.corrects
        # What people's files have beside the answer that is corrected.
        self.features = scorer.own_features
        self.kinds = scorer.kinds[: len(self.features)]
        self.classes = scorer.classes
        self.known_levels = scorer.known_levels
        self.text_column = scorer.text_column
        self.is_ensemble = scorer.is_ensemble
        self.model_id = served.model_id
        self.threshold = served.threshold

    def score(
        self, values: NDArray[np.float64], texts: Sequence[str] | None
    ) -> tuple[NDArray[np.float64], dict[int, str]]:
        """Probabilities (n, K), and what is wrong with rows that the model cannot take."""
        if len(values) > FEW and not isinstance(self._scorer, ArtifactScorer):
            self._scorer = self._load()
        if isinstance(self._scorer, ArtifactScorer) and len(values):
            faults, readable = self._text_faults(texts)
            try:
                shares = self._scorer.shares(values, readable)
                if (np.abs(shares.sum(axis=1) - 1) <= ROUNDING).all():
                    return shares, faults
            except ValueError:
                pass  # one row spoils all of them; found one by one
        shares = np.full((len(values), len(self.classes)), 1 / len(self.classes))
        faults = {}
        for place, row in enumerate(values.tolist()):
            try:
                text = None if texts is None else texts[place]
                shares[place] = self._scorer.probabilities(row, text)
            except InputError as error:
                faults[place] = error.message
        return shares, faults

    def _text_faults(
        self, texts: Sequence[str] | None
    ) -> tuple[dict[int, str], Sequence[str] | None]:
        """What is wrong with texts by their place, and the texts without those."""
        if texts is None:
            return {}, None
        found = {place: fault(text) for place, text in enumerate(texts)}
        faults = {
            place: f"The text ({self.text_column}) {what}." for place, what in found.items() if what
        }
        return faults, ["" if place in faults else text for place, text in enumerate(texts)]


def load_artifact(folder: str | None, model_name: str, model_id: str) -> ArtifactScorer:
    """Fetch, verify and load a registered model. Raises ArtifactError, StoreError."""
    from ml_pipeline.config.environment import load_store_settings
    from ml_pipeline.registry import models
    from ml_pipeline.store import opening

    chosen = load_store_settings(folder)
    store = opening.open_store(chosen)
    try:
        version = store.get_model(model_name, model_id)
        return ArtifactScorer(models.load_model_version(store, version))
    finally:
        store.close()
