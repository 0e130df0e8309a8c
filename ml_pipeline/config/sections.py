"""The sections of the settings, each with its defaults and limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ml_pipeline.config import defaults
from ml_pipeline.config.data import Count, Fraction, Positive, Section, Whole
from ml_pipeline.config.defaults import (
    CHECK_INTERVAL_MIN,
    CONFIDENCE_THRESHOLD,
    DECAY_THRESHOLD,
    DEFAULT_LOOKBACK_DAYS,
    ENSEMBLE_CONFLICT_MARGIN,
    ERROR_CONFIDENCE_THRESHOLD,
    MIN_ERROR_SAMPLES_FOR_RETRAINING,
    MIN_EVALUATED_PREDICTIONS,
    MIN_STATS_REQUIRED,
    THRESHOLD,
    WINDOW,
)

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


class RunSettings(Section):
    """When a nightly run trains, and how it holds the store."""

    lookback_days: Positive = float(DEFAULT_LOOKBACK_DAYS)
    confidence_threshold: Fraction = ERROR_CONFIDENCE_THRESHOLD
    min_error_samples: Count = MIN_ERROR_SAMPLES_FOR_RETRAINING
    trigger: Literal["errors", "labels", "any"] = "errors"
    every_hours: Positive = 24.0
    work_dir: str | None = None
    stale_after_minutes: Positive = 60.0
    request_lease_minutes: Positive = 60.0
    request_max_attempts: Whole = 3
    open_requests_per_user: Count = 3
    open_requests_total: Count = 50
    when_busy: Literal["skip", "fail"] = "skip"


class PromotionSettings(Section):
    """Who may serve."""

    policy: Literal["guarded", "nightly", "evidence", "approval"] = "guarded"
    promotion_threshold: Annotated[float, Field(ge=-1, le=1)] = 0.0
    min_evaluated_predictions: Whole = MIN_EVALUATED_PREDICTIONS
    min_nights: Whole = 3
    evaluation_window_days: Positive = 30.0
    confidence_level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    horizon_rows: Whole = 1000
    max_shadow_nights: Whole = 60
    vetoes: list[Literal["accuracy", "recall"]] = Field(default_factory=list)
    min_accuracy: Fraction = 0.0
    max_log_loss: Positive | None = None
    min_skill: float = 0.0


class PredictionSettings(Section):
    """What a prediction says when it is not sure."""

    min_confidence_threshold: Fraction = CONFIDENCE_THRESHOLD
    target_accuracy: Annotated[float, Field(gt=0, le=1)] | None = None
    conflict_margin: Fraction = ENSEMBLE_CONFLICT_MARGIN


Metric = Literal[
    "accuracy", "log_loss", "confident_errors", "calibration", "abstention", "accept_rate"
]
DEFAULT_ALARMS: tuple[Metric, ...] = ("accuracy", "log_loss", "confident_errors", "accept_rate")


class DecaySettings(Section):
    """When a model has decayed, and what is done then."""

    baseline_days: Whole = 28
    recent_days: Annotated[list[Whole], Field(min_length=1)] = Field(default_factory=lambda: [3, 7])
    min_rows: Whole = 50
    confidence_level: Annotated[float, Field(gt=0.5, lt=1)] = 0.9999
    threshold: Annotated[float, Field(gt=0, lt=1)] = DECAY_THRESHOLD
    loss_threshold: Positive = 0.1
    warning: Annotated[float, Field(gt=0, lt=1)] = 0.2
    critical: Annotated[float, Field(gt=0, lt=1)] = 0.3
    severe: Annotated[float, Field(gt=0, lt=1)] = 0.4
    alarm_on: list[Metric] = Field(default_factory=lambda: list(DEFAULT_ALARMS))
    accept_rate_threshold: Annotated[float, Field(gt=0, lt=1)] = THRESHOLD
    accept_rate_window: Whole = WINDOW
    accept_rate_min_cycles: Whole = MIN_STATS_REQUIRED
    accept_rate_confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.99
    drift_threshold: Positive = 0.25
    cluster_level: Annotated[float, Field(gt=0, lt=0.01)] = 0.0001
    interval_minutes: Positive = float(CHECK_INTERVAL_MIN)
    action: Literal["request", "command", "alert"] = "request"
    priority: Literal["high", "normal", "low"] = "normal"
    command: list[str] = Field(default_factory=list)
    command_timeout_s: Positive = 600.0
    cool_down_hours: Annotated[float, Field(ge=0)] = 72.0
    max_fruitless: Whole = 3

    @model_validator(mode="after")
    def _consistent(self) -> DecaySettings:
        if not self.warning < self.critical < self.severe:
            message = "warning, critical and severe must grow in this order"
            raise ValueError(message)
        if self.accept_rate_min_cycles > self.accept_rate_window:
            message = "accept_rate_min_cycles is more than accept_rate_window"
            raise ValueError(message)
        if self.action == "command" and not self.command:
            message = 'action: command needs a command, such as ["ollama", "pull", "MODEL"]'
            raise ValueError(message)
        return self
