"""`init --workflows`: what a repository needs to run the loop on GitHub.

Workflows, requirements (pinned, with digests) and settings are this project's own, but for where
the package comes from: that repository holds no copy of it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from ml_pipeline.config.defaults import DISTRIBUTION
from ml_pipeline.errors import ConfigError

PINS: Final = "ml_requirements.txt"
HASHES: Final = "ml_requirements.lock"
SETTINGS: Final = "model_config.yaml"
# The path of each in a person's repository, and in this project.
PLACES: Final = {
    ".github/workflows/retrain.yml": ".github/workflows/retrain.yml",
    ".github/workflows/train.yml": ".github/workflows/train.yml",
    PINS: "requirements.txt",
    HASHES: "requirements.lock",
    SETTINGS: SETTINGS,
}
_THIS_PACKAGE: Final = "-e ."


def write(folder: Path, *, package: str | None, overwrite: bool) -> dict[str, Any]:
    """Write the missing files; return the names of the `written` and the `kept` ones.

    Settings that are there already are a person's and never touched. Raises ConfigError, with
    nothing written, when another file differs and is not to be overwritten.
    """
    wanted = _contents(package or origin(_direct_url(), _checkout()))
    there = {name: _read(folder / name) for name in wanted}
    differing = sorted(
        name
        for name, text in wanted.items()
        if name != SETTINGS and there[name] not in {None, text}
    )
    if differing and not overwrite:
        raise ConfigError(
            f"{folder} has files of these names with other content: {', '.join(differing)}.",
            hint="Nothing was written. --overwrite replaces them, but never the settings.",
        )
    missing = [name for name in wanted if there[name] is None]
    written = sorted({*missing, *differing})
    for name in written:
        _replace(folder / name, wanted[name])
    return {"written": written, "kept": sorted(name for name in wanted if name not in written)}


def origin(direct_url: str | None, checkout: Path) -> str:
    """What pip installs this very package from. Raises ConfigError when that is not known.

    `direct_url` is the record of PEP 610, which names the version control system that a package
    was installed from. A `checkout` has its remote and its commit.
    """
    source: Mapping[str, Any] = json.loads(direct_url) if direct_url else {}
    if "vcs_info" in source:
        info = source["vcs_info"]
        return f"{info['vcs']}+{_without_login(source['url'])}@{info['commit_id']}"
    home = Path(unquote(urlsplit(source["url"]).path)) if "url" in source else checkout
    address, commit = _git(home, "remote", "get-url", "origin"), _git(home, "rev-parse", "HEAD")
    at_host = re.fullmatch(r"git@([\w.-]+):(.+)", address)
    if at_host is not None:
        address = f"https://{at_host[1]}/{at_host[2]}"
    if not address.startswith("https://") or not commit:
        raise ConfigError(
            "It is not known where a workflow can install this package from.",
            hint="Name it with --package, for example git+https://HOST/OWNER/REPOSITORY@COMMIT, or "
            "a wheel that lies in your repository (`pip wheel --no-deps -w vendor .` makes one).",
        )
    return f"git+{_without_login(address)}@{commit}"


def _direct_url() -> str | None:
    try:
        return distribution(DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:
        return None


def _without_login(address: str) -> str:
    """A token in a remote's address is nothing to write into a file."""
    return re.sub(r"^https://[^/@]*@", "https://", address)


def _git(home: Path, *arguments: str) -> str:
    """What git prints about the checkout; nothing where there is no checkout or no git."""
    if not (home / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(home), *arguments],  # noqa: S607 - the person's own git
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError:
        return ""
    return done.stdout.strip()


def _checkout() -> Path:
    return Path(__file__).resolve().parents[2]


def _contents(package: str) -> dict[str, str]:
    if re.search(r"\s", package):
        raise ConfigError(f"--package {package!r} is not a single requirement for pip.")
    found = {name: _project_file(place) for name, place in PLACES.items()}
    for name, text in found.items():
        if name.endswith(".yml"):
            renamed = text.replace("requirements.txt", PINS)
            found[name] = renamed.replace("requirements.lock", HASHES)
    return found | {PINS: found[PINS].replace(_THIS_PACKAGE, package)}


def _project_file(place: str) -> str:
    """A file of this project: inside the wheel, else in the checkout around the package."""
    packed = files("ml_pipeline") / "repository" / Path(place).name
    if packed.is_file():
        return packed.read_text(encoding="utf-8")
    return (_checkout() / place).read_text(encoding="utf-8")


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _replace(path: Path, text: str) -> None:
    """Write a file whole, or leave the one that is there."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, path)  # noqa: PTH105 - over what stands there
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror or error}.", hint="Choose a folder you may write to."
        ) from error
