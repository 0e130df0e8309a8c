"""What is wrong with this machine; needs none of the libraries that it checks."""

from __future__ import annotations

import shlex
import shutil
import stat
import tempfile
from importlib import import_module, metadata
from pathlib import Path
from typing import Final

from ml_pipeline.commands.checks.findings import Finding, fault, fine, some, warning

MIN_FREE_MB: Final = 500
# As they are imported, and as they are called where they are installed from.
_LIBRARIES: Final = {
    "duckdb": "duckdb",
    "joblib": "joblib",
    "numpy": "numpy",
    "pandas": "pandas",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "skops": "skops",
    "stamina": "stamina",
    "supabase": "supabase",
    "yaml": "pyyaml",
}


def work_folder(folder: Path) -> Finding:
    """Whether run files can be written; nothing is left behind."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"x")
        free = _free_mb(place)
    except OSError as error:
        what = f"The work folder {folder} is not writable: {place}: {error.strerror or error}."
        return fault("work_folder", what, "Set run.work_dir to a folder this user may write to.")
    if free < MIN_FREE_MB:
        what = f"Only {free} MB are free for the work folder {folder}."
        return warning(
            "work_folder", what, "Free some space: a run writes datasets and models there."
        )
    return fine("work_folder", f"The work folder {folder} is writable, {free} MB are free.")


def file_system(folder: str) -> Finding:
    """Whether an embedded store can stand in the folder; nothing is left behind."""
    from ml_pipeline.store.opening import missing_of_file_system

    name = "file_system"
    do = "Put the store's folder on a local disk: network shares and mounted folders often lack it."
    try:
        lacking = missing_of_file_system(folder)
    except OSError as error:
        what = f"Nothing can be written into {folder}: {error.strerror or error}."
        return fault(name, what, "Choose a folder that this user may write to.")
    if lacking:
        return fault(name, f"The file system of {folder} lacks {'; '.join(lacking)}.", do)
    return fine(name, f"The file system of {folder} has locks, hard links and shared memory.")


def private_store(folder: Path) -> Finding:
    """Whether other accounts of this machine can read the store's rows and models."""
    name = "store_files"
    opened = _opened(folder / "store.db")
    if opened:
        do = (
            f"Take it from them: `chmod -R go= {shlex.quote(str(folder))}`. New stores are made so."
        )
        return warning(name, f"Other accounts of this machine can read {some(opened)}.", do)
    return fine(name, "Nobody else on this machine can read the store's files.")


def private_logs(*files: Path) -> Finding:
    """Whether other accounts of this machine can read what is logged: predictions, messages."""
    name = "log_files"
    opened = _opened(*files)
    if opened:
        do = f"Take it from them: `chmod go= {shlex.join(opened)}`. New logs are made so."
        return warning(name, f"Other accounts of this machine can read {some(opened)}.", do)
    return fine(name, "Nobody else on this machine can read the logs.")


def _opened(*files: Path) -> list[str]:
    return [str(path) for path in files if path.exists() and _is_open(path)]


def _is_open(path: Path) -> bool:
    """Whether others may read it, and reach it through every folder above it."""
    whole = path.absolute()
    above = (folder.stat().st_mode & stat.S_IXOTH for folder in whole.parents)
    return bool(whole.stat().st_mode & stat.S_IROTH) and all(above)


def _free_mb(place: Path) -> int:
    return shutil.disk_usage(place).free // 1_000_000


def libraries() -> Finding:
    """Whether everything can be imported."""
    broken = []
    for module in _LIBRARIES:
        try:
            import_module(module)
        except Exception as error:  # noqa: BLE001 - an installation breaks in any way it likes
            broken.append(f"{module} ({type(error).__name__}: {error})")
    if broken:
        what = f"Libraries cannot be imported: {some(broken)}."
        return fault("libraries", what, "Install them again: `pip install -r requirements.txt`.")
    versions = {name: metadata.version(name) for name in _LIBRARIES.values()}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return fine("libraries", f"All are installed: {listed}.")
