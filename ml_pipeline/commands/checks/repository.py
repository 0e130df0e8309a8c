"""Who sees what a workflow leaves; asked in GitHub Actions only."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ml_pipeline.commands.checks.findings import Finding, fine, warning
from ml_pipeline.config.environment import load_notify_settings
from ml_pipeline.errors import ConfigError

_TIMEOUT_S: Final = 5
_NAME: Final = "repository"


def repository(environment: Mapping[str, str] | None = None) -> Finding | None:
    """Whether everyone reads the logs, summaries and files of the jobs; None outside of one."""
    environment = os.environ if environment is None else environment
    name = environment.get("GITHUB_REPOSITORY")
    if not name:
        return None
    is_private = _of_the_event(environment)
    if is_private is None:
        is_private = _of_the_api(environment, name)
    if is_private is None:
        what = f"It is not known whether the repository {name} is public."
        do = "In a public one everyone reads the logs, summaries and kept files of its workflows."
        return warning(_NAME, what, do)
    if is_private:
        return fine(_NAME, f"The repository {name} is not public.")
    what = (
        f"The repository {name} is public: everyone reads the logs, summaries and kept files of "
        "its workflows."
    )
    do = (
        "Make it private, or leave the input keep_rows off, as it is by default: then no rows, "
        "texts or models are kept. `ml-pipeline init --workflows . --overwrite` brings older "
        "workflows up to date."
    )
    return warning(_NAME, what, do)


def _of_the_event(environment: Mapping[str, str]) -> bool | None:
    """What the event that started the workflow says; not every one does."""
    try:
        text = Path(environment.get("GITHUB_EVENT_PATH") or "").read_text(encoding="utf-8")
        return _is_private(json.loads(text)["repository"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _of_the_api(environment: Mapping[str, str], name: str) -> bool | None:
    """What the API tells everybody: a repository that it does not know is not public."""
    try:
        base = load_notify_settings(environment).github_api
        request = urllib.request.Request(  # noqa: S310 - the address is the API's, checked
            f"{base.rstrip('/')}/repos/{name}", headers={"Accept": "application/vnd.github+json"}
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            return _is_private(json.load(answer))
    except urllib.error.HTTPError as error:
        return True if error.code == 404 else None  # noqa: PLR2004 - Not Found
    except (ConfigError, OSError, ValueError, KeyError, TypeError):
        return None


def _is_private(repository: Mapping[str, Any]) -> bool:
    """Internal repositories are private to everyone outside."""
    return bool(repository["private"])
