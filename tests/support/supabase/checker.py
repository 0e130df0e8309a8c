"""plpgsql_check, which reads every branch of a PL/pgSQL function: on the machine, else Debian's.

Its functions are made by hand from the library's own script, so nothing is installed beside the
server's files and no superuser's extension stays in a database.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.supabase.binaries import (
    INSTALL_SECONDS,
    Missing,
    cache_folder,
    find_postgres,
    locked,
)
from tests.support.supabase.project import SupabaseProject

LIBRARY, SCRIPTS = "plpgsql_check.so", "plpgsql_check--*.sql"
SCHEMA = "plpgsql_check"


def make_checker(project: SupabaseProject) -> None:
    """Make `plpgsql_check.plpgsql_check_function_tb`. Raises Missing where it cannot be had."""
    library, script = find_checker()
    # Where the server's user can read it.
    copy = project.folder / LIBRARY
    shutil.copyfile(library, copy)
    copy.chmod(0o755)
    made = re.sub(r"(?m)^\\.*$", "", script.read_text(encoding="utf-8"))
    made = made.replace("MODULE_PATHNAME", str(copy)).replace("@extschema@", SCHEMA)
    project.sql(f"create schema {SCHEMA}; set search_path = {SCHEMA}, public; {made}")


def find_checker() -> tuple[Path, Path]:
    """The library for the PostgreSQL that the tests use, and its script."""
    root = Path("/")
    major = _major()
    if not _files(root, major):
        root = cache_folder() / f"plpgsql-check-{major}-{platform.machine()}"
        with locked(root.with_name(f"{root.name}.lock")):
            if not root.is_dir():
                _download(f"postgresql-{major}-plpgsql-check", root)
    found = _files(root, major)
    if not found:
        raise Missing(f"plpgsql_check: its package for PostgreSQL {major} holds no {LIBRARY}")
    return found


def _major() -> str:
    told = subprocess.run(
        [find_postgres() / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout
    return told.split()[2].split(".")[0]


def _files(root: Path, major: str) -> tuple[Path, Path] | None:
    library = root / "usr/lib/postgresql" / major / "lib" / LIBRARY
    scripts = sorted((root / "usr/share/postgresql" / major / "extension").glob(SCRIPTS))
    whole = [path for path in scripts if path.stem.count("--") == 1]
    return (library, whole[-1]) if library.is_file() and whole else None


def _download(package: str, folder: Path) -> None:
    """Fetch a Debian package and unpack it into `folder`, without installing it."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        place = Path(name)
        # Its own user fetches, where there is one, and must be let in.
        place.chmod(0o777)
        fetch = ["apt-get", "download", "--quiet", package]
        try:
            _run(fetch, place)
        except Missing:
            # A fresh machine has no lists of packages; only root may have them.
            if os.geteuid() != 0:
                raise
            _run(["apt-get", "update", "--quiet"], place)
            _run(fetch, place)
        _run(["sh", "-c", "dpkg-deb --extract ./*.deb unpacked"], place)
        (place / "unpacked").rename(folder)


def _run(command: list[str], place: Path) -> None:
    try:
        subprocess.run(
            command, cwd=place, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        why = str(getattr(error, "stderr", None) or error).strip()
        raise Missing(f"plpgsql_check could not be had by `{' '.join(command)}`: {why}") from error
