"""Settings files for tests, loaded or refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.errors import ConfigError


def load(
    folder: Path,
    text: str = "",
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from a file with that text."""
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, environment=environment or {}, flags=flags)


def refused(
    folder: Path,
    text: str = "",
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> list[str]:
    """The faults of settings that are refused, each with its file named FILE."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, environment, flags)
    lines = caught.value.message.replace(str(folder / "settings.yaml"), "FILE").splitlines()
    return [line.strip() for line in lines if line.startswith("  ")] or lines
