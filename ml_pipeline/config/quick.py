"""The few settings that a prediction needs, without loading what checks all of them.

The rules are those of `config.settings`. Where a settings file or a variable sets something, they
check it once and the answer is kept in the embedded store's folder, under the digest of everything
that it was made from; where nothing is set, the defaults hold.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence

from ml_pipeline import __version__
from ml_pipeline.config import allowed_types
from ml_pipeline.config.defaults import (
    CONFIG_FILE,
    DEFAULT_LABELS,
    ENSEMBLE_CONFLICT_MARGIN,
    LOCAL_VARIABLE,
    MATCH_ID,
    MISSING_VALUES,
    MODEL_NAME,
    SETTING_PREFIX,
)

LOGS = ("logs", "evaluation_log.csv")


class QuickSettings:
    """What a prediction asks of the settings; the model itself knows its features."""

    __slots__ = (
        "allowed_types", "any_label", "conflict_margin", "csv_file", "id_column", "missing",
        "model_name", "spellings",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - each has a default
        self,
        *,
        model_name: str = MODEL_NAME,
        conflict_margin: float = ENSEMBLE_CONFLICT_MARGIN,
        csv_file: str | None = None,
        spellings: Mapping[str, str] = DEFAULT_LABELS,
        any_label: bool = False,
        missing: str = MISSING_VALUES,
        id_column: str = MATCH_ID,
        allowed_types: Sequence[str] = (),
    ) -> None:
        self.allowed_types = allowed_types
        self.model_name = model_name
        self.conflict_margin = conflict_margin
        self.csv_file = csv_file
        self.spellings = spellings
        self.any_label = any_label
        self.missing = missing
        self.id_column = id_column


def local_dir(flag: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The folder of the embedded store that the person chose, if one."""
    return flag or environment.get(LOCAL_VARIABLE) or None


def quick_settings(
    config_file: str | None,
    folder: str | None,
    environment: Mapping[str, str] = os.environ,
) -> QuickSettings:
    """The settings of a prediction. `folder` is the embedded store's, where answers are kept.

    Raises ConfigError when the settings are wrong.
    """
    settings = _read(config_file, folder, environment)
    allowed_types.allow(settings.allowed_types)
    return settings


def _read(
    config_file: str | None, folder: str | None, environment: Mapping[str, str]
) -> QuickSettings:
    path = config_file or CONFIG_FILE
    variables = sorted(item for item in environment.items() if item[0].startswith(SETTING_PREFIX))
    if config_file is None and not variables and not os.path.isfile(path):
        return QuickSettings()
    if folder is None or not os.path.isfile(path):
        return _checked(config_file)
    with open(path, "rb") as file:
        sources = [__version__, QuickSettings.__slots__, path, variables, file.read().hex()]
    digest = hashlib.sha256(json.dumps(sources).encode()).hexdigest()
    kept = os.path.join(folder, "cache", f"settings-{digest[:32]}.json")
    try:
        with open(kept, encoding="utf-8") as text:
            return QuickSettings(**json.load(text))
    except (OSError, ValueError, TypeError):
        settings = _checked(config_file)
        _keep(kept, {name: getattr(settings, name) for name in QuickSettings.__slots__})
        return settings


def evaluation_csv(csv_file: str | None, folder: str | None) -> str:
    """Where predictions are logged: configured, else beside the embedded store, else here."""
    return csv_file or os.path.join(folder or "ml_pipeline", *LOGS)


def _checked(config_file: str | None) -> QuickSettings:
    from pathlib import Path

    from ml_pipeline.config.settings import load_settings

    settings = load_settings(None if config_file is None else Path(config_file))
    return QuickSettings(
        model_name=settings.model_name,
        conflict_margin=settings.prediction.conflict_margin,
        csv_file=settings.log.csv_file,
        spellings=settings.data.label_map(),
        any_label=settings.data.classes is None,
        missing=settings.prediction.missing,
        id_column=settings.data.id_column,
        allowed_types=settings.artifacts.allowed_types,
    )


def _keep(path: str, answer: Mapping[str, object]) -> None:
    """Keep an answer; a folder that cannot be written only costs time."""
    draft = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(answer, file)
        os.replace(draft, path)
    except OSError:
        return
