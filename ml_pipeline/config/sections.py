"""The settings of the loop: training, runs, promotion, prediction, decay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from ml_pipeline.config import defaults, placeholders
from ml_pipeline.config.base import Count, Fraction, Positive, Section, Whole

Strategy = Literal["adaptive", "sgd", "refit", "errors_only"]
Algorithm = Literal[
    "LogisticRegression",
    "SGDClassifier",
    "DecisionTree",
    "RandomForest",
    "HistGradientBoosting",
    "Ensemble",
]
# What a model may stand on: a fitted classifier, or the logged answers of one that is not ours.
BaseAlgorithm = Literal[Algorithm, "Incumbent"]
Family = Literal["plain", "pairs", "waves"]
FAMILIES: tuple[Family, ...] = ("plain", "pairs", "waves")
DEFAULT_ENSEMBLE: tuple[Algorithm, ...] = (
    "LogisticRegression",
    "RandomForest",
    "HistGradientBoosting",
)


class AdaptiveSettings(Section):
    """Numbers of the adaptive strategy; measured, see the README."""

    families: Annotated[list[Family], Field(min_length=1)] = Field(
        default_factory=lambda: list(FAMILIES)
    )
    half_lives: Annotated[list[float], Field(min_length=1)] = Field(
        default_factory=lambda: [5.0, 15.0, 60.0, 200.0]
    )
    vote_rate: Positive = 0.05
    vote_share: Fraction = 0.02
    initial_head_weight: Annotated[float, Field(gt=0, lt=1)] = 0.1
    ridge: Positive = 5.0
    prior_rows: Positive = 0.02
    min_night_rows: Whole = 30
    rows_per_night: Positive | None = None
    quarantine: bool = False
    label_probability_wrong: Annotated[float, Field(gt=0, le=1)] = 1.0
    label_probability_right: Annotated[float, Field(gt=0, le=1)] = 1.0

    @property
    def wrong_weight(self) -> float:
        """For how many wrong answers one that got a label stands."""
        return 1 / self.label_probability_wrong

    @property
    def right_weight(self) -> float:
        """For how many right answers, or UNCERTAIN ones, one that got a label stands."""
        return 1 / self.label_probability_right

    @property
    def full_weight(self) -> float:
        """For how many answers a labelled one stands at most."""
        return max(self.wrong_weight, self.right_weight)

    @model_validator(mode="after")
    def _consistent(self) -> AdaptiveSettings:
        if min(self.half_lives) <= 0:
            message = "half_lives must all be over 0"
            raise ValueError(message)
        if len(set(self.families)) != len(self.families):
            message = "families has each of them once"
            raise ValueError(message)
        return self


class ExpertSettings(Section):
    """A classifier beside the base and its heads, fitted anew every so often.

    It is fitted on the rows of the last `window_nights` days, or on all of them, of which newer
    ones weigh more with a half-life.
    """

    algorithm: Algorithm = "HistGradientBoosting"
    half_life_days: Positive | None = None
    window_nights: Whole | None = None
    every_nights: Whole | None = None
    max_iter: Whole | None = None

    @property
    def name(self) -> str:
        """Its name in reports and in the lineage: what it is and what it is fitted on."""
        parts = {
            "{} iterations": self.max_iter,
            "last {} nights": self.window_nights,
            "half-life {:g} days": self.half_life_days,
        }
        named = [words.format(value) for words, value in parts.items() if value is not None]
        return ", ".join([self.algorithm, *named])

    @model_validator(mode="after")
    def _can_iterate(self) -> ExpertSettings:
        if self.max_iter is not None and self.algorithm != "HistGradientBoosting":
            message = f"max_iter is of HistGradientBoosting: {self.algorithm} has none"
            raise ValueError(message)
        return self


# What the preset `full` stands for; measured, see the README.
FULL_EXPERTS: Final = (
    ExpertSettings(max_iter=30, window_nights=60, every_nights=7),
    ExpertSettings(max_iter=40, every_nights=30),
    ExpertSettings(algorithm="DecisionTree", window_nights=30, every_nights=1),
)


class TrainingSettings(Section):
    """How a challenger is trained."""

    strategy: Strategy = "adaptive"
    algorithm: BaseAlgorithm = "LogisticRegression"
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
    preset: Literal["light", "full"] = "light"
    experts: list[ExpertSettings] = Field(default_factory=list)
    experts_every_days: Whole = 30
    adaptive: AdaptiveSettings = Field(default_factory=AdaptiveSettings)

    @property
    def is_incumbent(self) -> bool:
        """Whether a base answers what a classifier answered that is not ours."""
        return self.algorithm == defaults.INCUMBENT_BASE

    @property
    def experts_in_use(self) -> Sequence[ExpertSettings]:
        """Those that are named, or those of the preset."""
        return self.experts or (FULL_EXPERTS if self.preset == "full" else ())

    def nights_between(self, expert: ExpertSettings) -> int:
        """After how many days the expert is fitted anew."""
        return expert.every_nights or self.experts_every_days

    def due_experts(self, fitted: Mapping[str, int], day: int) -> list[ExpertSettings]:
        """The experts that are to be fitted once `day` is over.

        `fitted` has the day on which each present expert was fitted, by its name: one that is
        missing is due as well. Days are proleptic ordinals in UTC.
        """
        return [
            expert
            for expert in self.experts_in_use
            if expert.name not in fitted or day - fitted[expert.name] >= self.nights_between(expert)
        ]

    @model_validator(mode="after")
    def _has_something_to_fit(self) -> TrainingSettings:
        if not self.is_incumbent:
            return self
        if self.strategy != "adaptive" or self.refit_every_days is not None:
            message = (
                "algorithm Incumbent fits nothing, its heads learn: strategy has to be adaptive, "
                "and refit_every_days is left out"
            )
            raise ValueError(message)
        return self

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
    """When a run trains, and how long it may hold requests and locks."""

    lookback_days: Positive = float(defaults.DEFAULT_LOOKBACK_DAYS)
    confidence_threshold: Fraction = defaults.ERROR_CONFIDENCE_THRESHOLD
    min_error_samples: Count = defaults.MIN_ERROR_SAMPLES_FOR_RETRAINING
    trigger: Literal["errors", "labels", "any"] = "errors"
    every_hours: Positive = 24.0
    work_dir: str | None = None
    stale_after_minutes: Positive = 60.0
    request_lease_minutes: Positive = 60.0
    request_max_attempts: Whole = 3
    open_requests_per_user: Count = 3
    open_requests_total: Count = 50
    request_expires_days: Positive = 14.0
    request_keep_days: Annotated[float, Field(ge=2)] = 90.0
    user_request_interval_minutes: Annotated[float, Field(ge=0)] = 60.0
    when_busy: Literal["skip", "fail"] = "skip"


class PromotionSettings(Section):
    """When a challenger takes over from the champion."""

    policy: Literal["guarded", "nightly", "evidence", "approval"] = "guarded"
    promotion_threshold: Annotated[float, Field(ge=-1, le=1)] = 0.0
    min_evaluated_predictions: Whole = defaults.MIN_EVALUATED_PREDICTIONS
    min_nights: Whole = 3
    evaluation_window_days: Positive = 30.0
    confidence_level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    horizon_rows: Whole = 1000
    least_regression: Annotated[float, Field(ge=0)] = 0.002
    max_shadow_nights: Whole = 60
    vetoes: list[Literal["accuracy", "recall"]] = Field(default_factory=list)
    min_accuracy: Fraction = 0.0
    max_log_loss: Positive | None = None
    min_skill: float = 0.0


class IncumbentSettings(Section):
    """A classifier of somebody's own whose answers are logged: who it is, and whether it serves.

    Without `model_ids` it is every logged model that the registry does not know.
    """

    serves: bool = False
    model_ids: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = (
        None
    )

    @model_validator(mode="after")
    def _named_once(self) -> IncumbentSettings:
        named = self.model_ids or []
        if any(name != name.strip() for name in named):
            message = "model_ids holds an id that begins or ends with a space"
            raise ValueError(message)
        if len(set(named)) != len(named):
            message = "model_ids has each id once"
            raise ValueError(message)
        return self


class ArtifactSettings(Section):
    """What a model file may hold beside what our own training makes."""

    allowed_types: list[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]] = Field(
        default_factory=list
    )


class PredictionSettings(Section):
    """When a prediction is UNCERTAIN."""

    min_confidence_threshold: Fraction = defaults.CONFIDENCE_THRESHOLD
    target_accuracy: Annotated[float, Field(gt=0, le=1)] | None = None
    conflict_margin: Fraction = defaults.ENSEMBLE_CONFLICT_MARGIN
    missing: Literal["impute", "refuse"] = "impute"


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
    threshold: Annotated[float, Field(gt=0, lt=1)] = defaults.DECAY_THRESHOLD
    loss_threshold: Positive = 0.1
    warning: Annotated[float, Field(gt=0, lt=1)] = 0.2
    critical: Annotated[float, Field(gt=0, lt=1)] = 0.3
    severe: Annotated[float, Field(gt=0, lt=1)] = 0.4
    alarm_on: list[Metric] = Field(default_factory=lambda: list(DEFAULT_ALARMS))
    accept_rate_threshold: Annotated[float, Field(gt=0, lt=1)] = defaults.ACCEPT_RATE_THRESHOLD
    accept_rate_window: Whole = defaults.ACCEPT_RATE_WINDOW
    accept_rate_min_cycles: Whole = defaults.ACCEPT_RATE_MIN_CYCLES
    accept_rate_confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.99
    drift_threshold: Positive = 0.25
    cluster_level: Annotated[float, Field(gt=0, lt=0.01)] = 0.0001
    interval_minutes: Positive = float(defaults.CHECK_INTERVAL_MIN)
    action: Literal["request", "command", "alert"] = "request"
    priority: Literal["high", "normal", "low"] = "normal"
    command: list[str] = Field(default_factory=list)
    command_environment: list[str] = Field(default_factory=list)
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
        fault = placeholders.fault(self.command)
        if fault:
            raise ValueError(fault)
        return self
