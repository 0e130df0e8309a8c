"""Settings from the environment: store and key, notifications, log messages, the page's token.

Settings of `model_config.yaml` that a variable overrides are read in `settings`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from ml_pipeline.config.base import Section
from ml_pipeline.config.defaults import LOCAL_VARIABLE, SETTING_PREFIX
from ml_pipeline.errors import ConfigError

URL_VARIABLE = "SUPABASE_URL"
PUBLIC_URL_VARIABLE = "SUPABASE_PUBLIC_URL"
NOTIFY_VARIABLE = "ML_PIPELINE_NOTIFY_URLS"
KEY_VARIABLES = ("SUPABASE_SERVICE_KEY", "SUPABASE_SERVICE_ROLE_KEY")
MONITOR_TOKEN_VARIABLE = "ML_PIPELINE_MONITOR_TOKEN"  # noqa: S105 - its name
SERVE_TOKEN_VARIABLE = "ML_PIPELINE_SERVE_TOKEN"  # noqa: S105 - its name
MIN_TOKEN_LETTERS = 16


class StoreSettings(Section):
    """Which store to open. The key prints masked.

    `supabase_public_url`: the same project by the address that people reach it at, where
    `supabase_url` is known to machines alone.
    """

    local_dir: str | None = None
    supabase_url: str | None = None
    supabase_public_url: str | None = None
    supabase_key: SecretStr | None = None


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
    public = environment.get(PUBLIC_URL_VARIABLE, "").strip() or None
    return StoreSettings(supabase_url=url, supabase_key=SecretStr(key), supabase_public_url=public)


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
    """Where alerts are sent. Secrets print masked."""

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


class LoggingSettings(Section):
    """How messages are written on stderr; `has_format` says whether somebody chose the form."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["text", "json"] = "text"
    has_format: bool = False
    file: Path | None = None


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
    named = environment.get("LOG_FORMAT", "").strip().lower()
    form = named or "text"
    if form not in {"text", "json"}:
        faults.append(f"LOG_FORMAT = {form!r}: text or json")
    if faults:
        raise ConfigError("The environment cannot be used:\n  " + "\n  ".join(faults))
    if debug in {"true", "1", "yes"}:
        level = "DEBUG"
    file = environment.get("LOG_FILE", "").strip()
    path = Path(file) if file else None
    return LoggingSettings.model_validate(
        {"level": level, "format": form, "has_format": bool(named), "file": path}
    )


def load_monitor_token(environment: Mapping[str, str] | None = None) -> str | None:
    """`ML_PIPELINE_MONITOR_TOKEN`: what the monitoring page asks for, None when it is not set.

    Raises ConfigError for one that could be guessed.
    """
    return _load_token(MONITOR_TOKEN_VARIABLE, environment)


def load_serve_token(environment: Mapping[str, str] | None = None) -> str | None:
    """`ML_PIPELINE_SERVE_TOKEN`: the same of the HTTP service."""
    return _load_token(SERVE_TOKEN_VARIABLE, environment)


def _load_token(variable: str, environment: Mapping[str, str] | None) -> str | None:
    environment = os.environ if environment is None else environment
    token = environment.get(variable, "").strip()
    if token and len(token) < MIN_TOKEN_LETTERS:
        raise ConfigError(
            f"{variable} has {len(token)} letters, at least {MIN_TOKEN_LETTERS} are needed.",
            hint="Make one with `python -c 'import secrets; print(secrets.token_urlsafe())'`.",
        )
    return token or None


# What a child needs of the machine: to be found, to find its libraries and folders, to know its
# language and time zone, to count its threads. Everything else may be a secret of somebody.
_FOR_CHILDREN = {
    "APPDATA", "COMSPEC", "CONDA_PREFIX", "DEBUG", "HOME", "LANG", "LANGUAGE", "LOCALAPPDATA",
    "LOGNAME", "LOG_FILE", "LOG_FORMAT", "LOG_LEVEL", "NUMBER_OF_PROCESSORS", "PATH", "PATHEXT",
    "PROGRAMDATA", "SHELL", "SSL_CERT_DIR", "SSL_CERT_FILE", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR",
    "TZ", "USER", "USERPROFILE", "VIRTUAL_ENV", "WINDIR",
}  # fmt: skip
_FOR_CHILDREN_FROM = (
    "BLIS_", "COVERAGE_", "COV_CORE_", "DYLD_", "GOMP_", "JOBLIB_", "KMP_", "LC_", "LD_", "LOKY_",
    "MALLOC_", "MKL_", "NUMEXPR_", "OMP_", "OPENBLAS_", "PYTHON", "SKLEARN_", "VECLIB_", "XDG_",
    SETTING_PREFIX,
)  # fmt: skip


def child_environment(*, credentials: bool = False, also: Collection[str] = ()) -> dict[str, str]:
    """The environment for a child process: what it needs of the machine, our settings, and `also`.

    With `credentials`, which are for runs alone, it is this process's own.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if credentials
        or name in also
        or name.upper() in _FOR_CHILDREN
        or name.startswith(_FOR_CHILDREN_FROM)
    }
    # Threads that wait by spinning make boosting many times slower on a busy machine.
    return {"OMP_WAIT_POLICY": "PASSIVE"} | inherited


def code_revision(environment: Mapping[str, str] | None = None) -> str | None:
    """The commit that a CI job runs; None outside of one."""
    environment = os.environ if environment is None else environment
    return environment.get("GITHUB_SHA") or None
