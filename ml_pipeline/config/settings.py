"""Settings: defaults, then `model_config.yaml`, then the environment, then flags.

Everything wrong is refused at once, each fault naming key, value and source.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from ml_pipeline.config import allowed_types
from ml_pipeline.config.alike import meant
from ml_pipeline.config.base import Section
from ml_pipeline.config.data import DataSettings, GroundTruthSettings, LogSettings
from ml_pipeline.config.defaults import CONFIG_FILE, MATCH_ID, MODEL_NAME, SETTING_PREFIX
from ml_pipeline.config.export import ExportSettings
from ml_pipeline.config.kind import Kind
from ml_pipeline.config.sections import (
    ArtifactSettings,
    DecaySettings,
    IncumbentSettings,
    PredictionSettings,
    PromotionSettings,
    RunSettings,
    TrainingSettings,
)
from ml_pipeline.config.yaml_text import as_text, plain_value, read_yaml
from ml_pipeline.errors import ConfigError


class Settings(Section):
    """Everything that can be set, checked."""

    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")] = MODEL_NAME
    log: LogSettings = Field(default_factory=LogSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    ground_truth: GroundTruthSettings = Field(default_factory=GroundTruthSettings)
    run: RunSettings = Field(default_factory=RunSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    promotion: PromotionSettings = Field(default_factory=PromotionSettings)
    incumbent: IncumbentSettings = Field(default_factory=IncumbentSettings)
    prediction: PredictionSettings = Field(default_factory=PredictionSettings)
    artifacts: ArtifactSettings = Field(default_factory=ArtifactSettings)
    decay: DecaySettings = Field(default_factory=DecaySettings)
    export: ExportSettings = Field(default_factory=ExportSettings)

    @model_validator(mode="after")
    def _can_read_text(self) -> Settings:
        if self.data.text_column is None:
            return self
        training = self.training
        chosen = [training.algorithm, *(expert.algorithm for expert in training.experts_in_use)]
        members = [*chosen, *(training.ensemble if "Ensemble" in chosen else [])]
        if "HistGradientBoosting" in members:
            message = (
                "the text of data.text_column cannot be read by HistGradientBoosting: "
                "choose LogisticRegression, SGDClassifier, DecisionTree or RandomForest, "
                "or set training.ensemble and training.experts to some of them, and "
                "training.preset to light"
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
        return as_text(self.model_dump(mode="json"))

    def spellings(self, column: str) -> list[str]:
        """Header spellings of a canonical column in what people bring; an id's as they call it."""
        known = self.log.spellings(column)
        also = [] if column != MATCH_ID or self.data.id_column in known else [self.data.id_column]
        return [*known, *also]

    def reading(self, kinds: Mapping[str, Kind]) -> Settings:
        """The same for features of these kinds, in this order; as they are where there are none."""
        if not kinds:
            return self
        return self.model_copy(update={"data": self.data.with_features(kinds)})

    def changed(self, changes: Mapping[str, Any]) -> Settings:
        """A copy with dotted keys set anew, checked as a whole."""
        layered = _flatten(self.model_dump())
        layered.update(changes)
        return _validated({key: (value, "change") for key, value in layered.items()})


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
    path = config or Path(CONFIG_FILE)
    if config is not None or path.is_file():
        layers.update({k: (v, str(path)) for k, v in _flatten(read_yaml(path)).items()})
    for name, text in environment.items():
        if name.startswith(SETTING_PREFIX):
            dotted = name.removeprefix(SETTING_PREFIX).lower().replace("__", ".")
            layers[dotted] = (plain_value(text), f"environment variable {name}")
    for dotted, value in (flags or {}).items():
        if value is not None:
            layers[dotted] = (value, f"flag --{dotted.rsplit('.', 1)[-1].replace('_', '-')}")
    settings = _validated(layers)
    allowed_types.allow(settings.artifacts.allowed_types)
    return settings


def work_dir(settings: Settings, local_dir: str | None) -> Path:
    """Where runs keep their files: configured, else beside the embedded store, else here."""
    if settings.run.work_dir is not None:
        return Path(settings.run.work_dir)
    return Path(local_dir) / "work" if local_dir else Path("ml_pipeline_work")


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
                raise ConfigError(f"{message} but {dotted} = {value!r} is set as well.")
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
        near = meant(dotted, _flatten(Settings().model_dump()))
        return f"{dotted} = {fault['input']!r} ({origin}): no such setting{_stop(near)}"
    text = str(fault["msg"]).removeprefix("Value error, ")
    shown = "" if isinstance(fault["input"], Mapping) else f" = {fault['input']!r}"
    text = f"{text[0].lower()}{text[1:]}"
    if fault["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", fault["ctx"]["expected"])
        text += _stop(meant(str(fault["input"]), choices))
    return f"{dotted or 'settings'}{shown} ({origin}): {text}"


def _stop(more: str) -> str:
    """The full stop in front of a further sentence, if there is one."""
    return f".{more}" if more else ""
