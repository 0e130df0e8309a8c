"""YAML as settings need it: plain values of version 1.2, and faults with line and column."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ml_pipeline.errors import ConfigError

_REPLACED = {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"}


class _PlainLoader(yaml.SafeLoader):
    """YAML 1.2's plain values: yes and no are texts, 1e-3 is a number."""


_PlainLoader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_FLOAT = (
    "tag:yaml.org,2002:float",
    re.compile(
        r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+|[-+]?([0-9]+\.[0-9]*|\.[0-9]+)"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)
_PlainLoader.add_implicit_resolver(*_FLOAT)


class _PlainDumper(yaml.SafeDumper):
    """Quotes every text that `_PlainLoader` or a reader of YAML 1.1 would take for a number."""


_PlainDumper.add_implicit_resolver(*_FLOAT)


def as_text(content: Mapping[str, Any]) -> str:
    """Plain values as YAML that `read_yaml` reads back as they are."""
    return str(yaml.dump(content, Dumper=_PlainDumper, sort_keys=False))


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


def plain_value(text: str) -> Any:  # noqa: ANN401 - whatever YAML makes of it
    """The value of a text; one that is no YAML stays a text."""
    try:
        return yaml.load(text, _PlainLoader)  # noqa: S506
    except yaml.YAMLError:
        return text
