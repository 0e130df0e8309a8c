"""Settings: seed constants, then `model_config.yaml`, then the environment, then flags.

Everything wrong is refused at once, each fault naming key, value and source. This is the only
module that reads the environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, SecretStr, ValidationError, model_validator

from ml_pipeline import defaults
from ml_pipeline.data_settings import (
    Count,
    DataSettings,
    Fraction,
    GroundTruthSettings,
    LogSettings,
    Positive,
    Section,
    Whole,
)
from ml_pipeline.errors import ConfigError
from ml_pipeline.training_settings import TrainingSettings

DEFAULT_LOOKBACK_DAYS = 7
MIN_ERROR_SAMPLES_FOR_RETRAINING = 10
ERROR_CONFIDENCE_THRESHOLD = 0.7
DEFAULT_FINE_TUNE_EPOCHS = defaults.FINE_TUNE_EPOCHS
DEFAULT_LEARNING_RATE = defaults.LEARNING_RATE
TEST_SIZE = defaults.TEST_SIZE
RANDOM_STATE = defaults.RANDOM_STATE
CV_FOLDS = defaults.CV_FOLDS
MIN_TRAINING_SAMPLES = defaults.MIN_TRAINING_SAMPLES
CONFIDENCE_THRESHOLD = defaults.CONFIDENCE_THRESHOLD
SEED_PROMOTION_THRESHOLD = 0.03
MIN_EVALUATED_PREDICTIONS = 100
EVALUATION_WINDOW_DAYS = 7
DECAY_THRESHOLD = 0.05
THRESHOLD = 0.6
WINDOW = 5
CHECK_INTERVAL_MIN = 60
MIN_STATS_REQUIRED = 3
ENSEMBLE_WEIGHTS = (0.5, 0.5)
ENSEMBLE_CONFLICT_MARGIN = defaults.ENSEMBLE_CONFLICT_MARGIN
DEFAULT_CONFIG_FILE = defaults.CONFIG_FILE

URL_VARIABLE = "SUPABASE_URL"
NOTIFY_VARIABLE = "ML_PIPELINE_NOTIFY_URLS"
KEY_VARIABLES = ("SUPABASE_SERVICE_KEY", "SUPABASE_SERVICE_ROLE_KEY")
LOCAL_VARIABLE = defaults.LOCAL_VARIABLE
MONITOR_TOKEN_VARIABLE = "ML_PIPELINE_MONITOR_TOKEN"  # noqa: S105 - its name
MIN_TOKEN_LETTERS = 16
SETTING_PREFIX = defaults.SETTING_PREFIX


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


class Settings(Section):
    """Everything that can be set, checked."""

    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")] = (
        defaults.MODEL_NAME
    )
    log: LogSettings = Field(default_factory=LogSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    ground_truth: GroundTruthSettings = Field(default_factory=GroundTruthSettings)
    run: RunSettings = Field(default_factory=RunSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    promotion: PromotionSettings = Field(default_factory=PromotionSettings)
    prediction: PredictionSettings = Field(default_factory=PredictionSettings)
    decay: DecaySettings = Field(default_factory=DecaySettings)

    @model_validator(mode="after")
    def _can_read_text(self) -> Settings:
        if self.data.text_column is None:
            return self
        training = self.training
        chosen = [training.algorithm, *(expert.algorithm for expert in training.experts)]
        members = [*chosen, *(training.ensemble if "Ensemble" in chosen else [])]
        if "HistGradientBoosting" in members:
            message = (
                "the text of data.text_column cannot be read by HistGradientBoosting: "
                "choose LogisticRegression, SGDClassifier, DecisionTree or RandomForest, "
                "or set training.ensemble and training.experts to some of them"
            )
            raise ValueError(message)
        if training.strategy == "sgd":
            message = "strategy sgd learns from numbers alone: choose adaptive or refit for a text"
            raise ValueError(message)
        return self

    def digest(self) -> str:
        """`sha256:` + hex over every setting."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def as_yaml(self) -> str:
        """The settings as a file that `load_settings` reads back."""
        return str(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))

    def changed(self, changes: Mapping[str, Any]) -> Settings:
        """A copy with dotted keys set anew, checked as a whole."""
        layered = _flatten(self.model_dump())
        layered.update(changes)
        return _validated({key: (value, "change") for key, value in layered.items()})


class StoreSettings(Section):
    """Which store to open. The key prints masked."""

    local_dir: str | None = None
    supabase_url: str | None = None
    supabase_key: SecretStr | None = None


# ---------------------------------------------------------------------------------- reading

_REPLACED = {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"}


def _is_section(annotation: Any) -> bool:  # noqa: ANN401 - a type
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _flatten(tree: Mapping[str, Any], model: type[Section] = Settings) -> dict[str, Any]:
    """Dotted keys of nested sections; maps and lists below a setting stay whole."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        field = model.model_fields.get(key)
        if field is not None and _is_section(field.annotation) and isinstance(value, Mapping):
            inner = _flatten(value, field.annotation)  # type: ignore[arg-type]
            flat.update({f"{key}.{name}": item for name, item in inner.items()})
        else:
            flat[str(key)] = value
    return flat


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for dotted, value in flat.items():
        *sections, key = dotted.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                message = f"The settings cannot be used: {section} = {place!r} is not a section,"
                raise ConfigError(f"{message} but {dotted} = {value!r} is given as well.")
        place[key] = value
    return tree


def _validated(layers: Mapping[str, tuple[Any, str]]) -> Settings:
    try:
        return Settings.model_validate(_nest({key: value for key, (value, _) in layers.items()}))
    except ValidationError as error:
        lines = [_fault(fault, layers) for fault in error.errors(include_url=False)]
    message = "The settings cannot be used:\n" + "\n".join(f"  {line}" for line in sorted(lines))
    raise ConfigError(message, hint="`model_config.yaml` in the repository lists every setting.")


def _fault(fault: Any, layers: Mapping[str, tuple[Any, str]]) -> str:  # noqa: ANN401 - pydantic's
    parts = [str(part) for part in fault["loc"]]
    dotted = ".".join(parts)
    setting = next(
        (".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in layers),
        None,
    )
    if setting is None:
        prefix = f"{dotted}." if dotted else ""
        sources = {source for key, (_, source) in layers.items() if key.startswith(prefix)}
        origin = ", ".join(sorted(sources)) or "defaults"
    else:
        origin = layers[setting][1]
    if fault["type"] == "extra_forbidden":
        return f"{dotted} = {fault['input']!r} ({origin}): no such setting"
    text = str(fault["msg"]).removeprefix("Value error, ")
    shown = "" if isinstance(fault["input"], Mapping) else f" = {fault['input']!r}"
    return f"{dotted or 'settings'}{shown} ({origin}): {text[0].lower()}{text[1:]}"


class _PlainLoader(yaml.SafeLoader):
    """YAML 1.2's plain values: yes and no are words, 1e-3 is a number."""


_PlainLoader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+|[-+]?([0-9]+\.[0-9]*|\.[0-9]+)"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a settings file as nested plain values; raise ConfigError with line and column."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), _PlainLoader)  # noqa: S506
    except FileNotFoundError:
        message = f"There is no settings file {path}."
        raise ConfigError(message, hint="Leave --config out to use the defaults.") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        where = getattr(error, "problem_mark", None)
        place = f", line {where.line + 1}, column {where.column + 1}" if where else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        message = f"{path}{place}: {problem}."
        tab = "YAML is indented with spaces, never with tabs." if "\\t" in repr(problem) else ""
        raise ConfigError(message, hint=tab) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        message = f"{path} holds a {type(content).__name__}, not settings."
        raise ConfigError(message, hint="Start from the repository's model_config.yaml.")
    return content


def load_settings(
    config: Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Join the layers and check the whole.

    `flags` are dotted keys; a value None means that the flag was not given. A variable
    `ML_PIPELINE__RUN__LOOKBACK_DAYS=14` sets `run.lookback_days`; its value is read as YAML.
    Raises ConfigError naming every fault at once.
    """
    environment = os.environ if environment is None else environment
    layers: dict[str, tuple[Any, str]] = {}
    path = config or Path(DEFAULT_CONFIG_FILE)
    if config is not None or path.is_file():
        layers.update({k: (v, str(path)) for k, v in _flatten(read_yaml(path)).items()})
    for name, text in environment.items():
        if name.startswith(SETTING_PREFIX):
            dotted = name.removeprefix(SETTING_PREFIX).lower().replace("__", ".")
            layers[dotted] = (_scalar(text), f"environment variable {name}")
    for dotted, value in (flags or {}).items():
        if value is not None:
            layers[dotted] = (value, f"flag --{dotted.rsplit('.', 1)[-1]}")
    return _validated(layers)


def _scalar(text: str) -> Any:  # noqa: ANN401 - whatever YAML makes of it
    try:
        return yaml.load(text, _PlainLoader)  # noqa: S506
    except yaml.YAMLError:
        return text


def load_store_settings(
    local_dir: str | None = None, *, environment: Mapping[str, str] | None = None
) -> StoreSettings:
    """Which store the person chose. `--local` wins over `ML_PIPELINE_LOCAL`, over Supabase.

    Raises ConfigError when nothing is chosen or half of the credentials is missing.
    """
    environment = os.environ if environment is None else environment
    chosen = local_dir or environment.get(LOCAL_VARIABLE) or None
    if chosen:
        return StoreSettings(local_dir=chosen)
    url = environment.get(URL_VARIABLE, "").strip()
    keys = [environment.get(name, "").strip() for name in KEY_VARIABLES]
    key = next((text for text in keys if text), "")
    missing = [name for name, value in ((URL_VARIABLE, url), (KEY_VARIABLES[0], key)) if not value]
    if missing:
        half = len(missing) == 1
        message = (
            f"No store is configured: {' and '.join(missing)} "
            f"{'is' if half else 'are'} not set"
            + (", though the other half of the pair is." if half else ".")
        )
        hint = (
            "Set both to use Supabase, or give --local DIR (or ML_PIPELINE_LOCAL=DIR) "
            "to use an embedded store in that folder."
        )
        raise ConfigError(message, hint=hint)
    return StoreSettings(supabase_url=url, supabase_key=SecretStr(key))


def is_local(local_dir: str | None = None, *, environment: Mapping[str, str] | None = None) -> bool:
    """Whether the person chose an embedded store."""
    environment = os.environ if environment is None else environment
    return bool(local_dir or environment.get(LOCAL_VARIABLE))


def is_store_configured(
    local_dir: str | None = None, *, environment: Mapping[str, str] | None = None
) -> bool:
    """Whether the person chose a store at all; half a pair of credentials is still a choice."""
    environment = os.environ if environment is None else environment
    names = (LOCAL_VARIABLE, URL_VARIABLE, *KEY_VARIABLES)
    return bool(local_dir) or any(environment.get(name) for name in names)


def chosen_store(
    local_dir: str | None = None, *, environment: Mapping[str, str] | None = None
) -> StoreSettings | None:
    """The store the person chose; None when they chose none. Raises ConfigError for half a pair."""
    if not is_store_configured(local_dir, environment=environment):
        return None
    return load_store_settings(local_dir, environment=environment)


class NotifySettings(Section):
    """Who is told about alerts. What is secret prints masked."""

    urls: tuple[SecretStr, ...] = ()
    github_summary: str | None = None
    github_repository: str | None = None
    github_token: SecretStr | None = None
    github_api: str = "https://api.github.com"


def load_notify_settings(environment: Mapping[str, str] | None = None) -> NotifySettings:
    """`ML_PIPELINE_NOTIFY_URLS`, Apprise URLs divided by spaces, and what GitHub Actions sets.

    An issue is opened when the workflow hands `GITHUB_TOKEN` over. Raises ConfigError.
    """
    environment = os.environ if environment is None else environment
    api = environment.get("GITHUB_API_URL") or "https://api.github.com"
    if not re.match(r"https?://", api):
        raise ConfigError(f"GITHUB_API_URL = {api!r}: an address begins with https://")
    token = environment.get("GITHUB_TOKEN")
    return NotifySettings(
        urls=tuple(SecretStr(url) for url in environment.get(NOTIFY_VARIABLE, "").split()),
        github_summary=environment.get("GITHUB_STEP_SUMMARY") or None,
        github_repository=environment.get("GITHUB_REPOSITORY") or None,
        github_token=SecretStr(token) if token else None,
        github_api=api,
    )


def child_environment(*, credentials: bool = False) -> dict[str, str]:
    """The environment for a child process; credentials are for passes of the loop alone."""
    secret = {URL_VARIABLE, *KEY_VARIABLES, LOCAL_VARIABLE, NOTIFY_VARIABLE, "GITHUB_TOKEN"}
    if credentials:
        secret = set()
    inherited = {name: value for name, value in os.environ.items() if name not in secret}
    # Threads that wait by spinning make boosting many times slower on a busy machine.
    return {"OMP_WAIT_POLICY": "PASSIVE"} | inherited


def code_revision(environment: Mapping[str, str] | None = None) -> str | None:
    """The commit that a CI job runs, if it says so."""
    environment = os.environ if environment is None else environment
    return environment.get("GITHUB_SHA") or None


class LoggingSettings(Section):
    """How the story is told on stderr."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["text", "json"] = "text"
    file: Path | None = None


def load_monitor_token(environment: Mapping[str, str] | None = None) -> str | None:
    """`ML_PIPELINE_MONITOR_TOKEN`: what the monitoring page asks for, None when it is not set.

    Raises ConfigError for one that could be guessed.
    """
    environment = os.environ if environment is None else environment
    token = environment.get(MONITOR_TOKEN_VARIABLE, "").strip()
    if token and len(token) < MIN_TOKEN_LETTERS:
        raise ConfigError(
            f"{MONITOR_TOKEN_VARIABLE} has {len(token)} letters, at least {MIN_TOKEN_LETTERS} "
            "are needed.",
            hint="Make one with `python -c 'import secrets; print(secrets.token_urlsafe())'`.",
        )
    return token or None


def load_logging_settings(environment: Mapping[str, str] | None = None) -> LoggingSettings:
    """`LOG_LEVEL`, `LOG_FORMAT`, `LOG_FILE` and `DEBUG`.

    Raises ConfigError for values it does not know.
    """
    environment = os.environ if environment is None else environment
    debug = environment.get("DEBUG", "false").strip().lower()
    level = environment.get("LOG_LEVEL", "").strip().upper() or "INFO"
    faults = []
    if debug not in {"true", "false", "1", "0", "yes", "no", ""}:
        faults.append(f"DEBUG = {debug!r}: true or false")
    if level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        faults.append(f"LOG_LEVEL = {level!r}: DEBUG, INFO, WARNING or ERROR")
    form = environment.get("LOG_FORMAT", "").strip().lower() or "text"
    if form not in {"text", "json"}:
        faults.append(f"LOG_FORMAT = {form!r}: text or json")
    if faults:
        raise ConfigError("The environment cannot be used:\n  " + "\n  ".join(faults))
    if debug in {"true", "1", "yes"}:
        level = "DEBUG"
    file = environment.get("LOG_FILE", "").strip()
    path = Path(file) if file else None
    return LoggingSettings.model_validate({"level": level, "format": form, "file": path})
