"""Settings of the training: how a challenger comes about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ml_pipeline import defaults
from ml_pipeline.data_settings import Count, Fraction, Positive, Section, Whole

Strategy = Literal["adaptive", "sgd", "refit", "errors_only"]
Algorithm = Literal[
    "LogisticRegression",
    "SGDClassifier",
    "DecisionTree",
    "RandomForest",
    "HistGradientBoosting",
    "Ensemble",
]
DEFAULT_ENSEMBLE: tuple[Algorithm, ...] = (
    "LogisticRegression",
    "RandomForest",
    "HistGradientBoosting",
)


class AdaptiveSettings(Section):
    """Numbers of the adaptive strategy; measured, see the README."""

    half_lives: Annotated[list[float], Field(min_length=1)] = Field(
        default_factory=lambda: [5.0, 15.0, 60.0, 200.0]
    )
    vote_rate: Positive = 0.1
    vote_share: Fraction = 0.02
    initial_head_weight: Annotated[float, Field(gt=0, lt=1)] = 0.1
    ridge: Positive = 5.0
    prior_rows: Positive = 0.02
    min_night_rows: Whole = 30
    rows_per_night: Positive | None = None
    quarantine: bool = False
    label_probability_wrong: Annotated[float, Field(gt=0, le=1)] = 1.0
    label_probability_right: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _half_lives_positive(self) -> AdaptiveSettings:
        if min(self.half_lives) <= 0:
            message = "half_lives must all be over 0"
            raise ValueError(message)
        return self


class ExpertSettings(Section):
    """A further voter beside the base and its heads, fitted anew every so often."""

    algorithm: Algorithm = "HistGradientBoosting"
    half_life_days: Positive | None = None

    @property
    def name(self) -> str:
        """What reports call it."""
        fading = "" if self.half_life_days is None else f", half-life {self.half_life_days:g} days"
        return self.algorithm + fading


class TrainingSettings(Section):
    """How a challenger is trained."""

    strategy: Strategy = "adaptive"
    algorithm: Algorithm = "LogisticRegression"
    epochs: Whole = defaults.FINE_TUNE_EPOCHS
    learning_rate: Positive = defaults.LEARNING_RATE
    random_seed: Count = defaults.RANDOM_STATE
    test_size: Annotated[float, Field(gt=0, lt=1)] = defaults.TEST_SIZE
    cv_folds: Annotated[int, Field(ge=2)] = defaults.CV_FOLDS
    min_training_samples: Whole = defaults.MIN_TRAINING_SAMPLES
    replay_rows: Count = 1000
    refit_every_days: Whole | None = None
    time_limit_s: Positive = 1800.0
    memory_limit_mb: Annotated[int, Field(ge=64)] = 8192
    ensemble: Annotated[list[Algorithm], Field(min_length=1)] = Field(
        default_factory=lambda: list(DEFAULT_ENSEMBLE)
    )
    ensemble_weights: list[Positive] | None = None
    experts: list[ExpertSettings] = Field(default_factory=list)
    experts_every_days: Whole = 30
    adaptive: AdaptiveSettings = Field(default_factory=AdaptiveSettings)

    def experts_due(self, fitted: Mapping[str, int], night: int) -> bool:
        """Whether experts are to be fitted once `night` is over.

        `fitted` are the nights of the present ones by name. They are also due when one is missing
        or the config does not name one any more. Nights are proleptic ordinals of UTC days.
        """
        if {expert.name for expert in self.experts} != set(fitted):
            return True
        return bool(fitted) and night - min(fitted.values()) >= self.experts_every_days

    @model_validator(mode="after")
    def _experts_differ(self) -> TrainingSettings:
        names = [expert.name for expert in self.experts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            message = f"experts holds {'; '.join(twice)} twice"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> TrainingSettings:
        if len(set(self.ensemble)) != len(self.ensemble):
            message = "an ensemble has each member once"
            raise ValueError(message)
        if "Ensemble" in self.ensemble:
            message = "an ensemble cannot be a member of itself"
            raise ValueError(message)
        if self.ensemble_weights and len(self.ensemble_weights) != len(self.ensemble):
            message = "ensemble_weights needs one weight for each member of ensemble"
            raise ValueError(message)
        return self
