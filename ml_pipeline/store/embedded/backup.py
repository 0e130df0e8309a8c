"""Backup and restore of the embedded store, while others write to it."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Final

from ml_pipeline.errors import ConfigError, StoreCorrupt
from ml_pipeline.store.artifact_files import file_errors
from ml_pipeline.store.backup.folder import Manifest, finish, new_folder
from ml_pipeline.store.embedded.database import copy_whole, count_rows, schema_version
from ml_pipeline.store.embedded.store import LocalStore

DATABASE: Final = "store.db"
ARTIFACTS: Final = "artifacts"
LOG: Final = "evaluation_log.csv"


def back_up(directory: Path, csv: Path, target: Path, *, now: datetime) -> Manifest:
    """Copy the database, the artifacts and the CSV log of a store into a new folder.

    The database is copied as it is at one moment. An artifact stands before the row that names it
    and a line of the log before its row, so what is copied afterwards is never too little.
    Raises ConfigError where there is no store, or `target` is taken or among the artifacts,
    StoreError.
    """
    database = directory / DATABASE
    if not database.is_file():
        raise ConfigError(
            f"There is no embedded store at {directory}.", hint="Name its folder with --local."
        )
    artifacts = (directory / ARTIFACTS).resolve()
    if target.resolve().is_relative_to(artifacts):
        raise ConfigError(
            f"{target} is inside {artifacts}, which is what a backup copies.",
            hint="Name a folder outside of the store, best on another disk.",
        )
    with new_folder(target, what="the backup") as draft:
        copy_whole(str(database), str(draft / DATABASE))
        with file_errors(directory):
            _copy_artifacts(directory / ARTIFACTS, draft / ARTIFACTS)
            if csv.is_file():
                _copy_whole_lines(csv, draft / LOG)
        return finish(
            draft,
            kind="local",
            now=now,
            schema_version=schema_version(str(draft / DATABASE)),
            rows=count_rows(str(draft / DATABASE)),
        )


def restore(folder: Path, directory: Path, csv: Path) -> Manifest:
    """Make a store of a backup in a folder that is not there yet, and its CSV log.

    Nothing is there before every digest was checked. Raises ConfigError, StoreCorrupt.
    """
    manifest = Manifest.read(folder, kind="local")
    if not any(file.path == DATABASE for file in manifest.files):
        raise StoreCorrupt(f"{folder} holds no {DATABASE}.", hint="Use another backup.")
    directory, csv = directory.absolute(), csv.absolute()
    inside = csv.is_relative_to(directory)
    if not inside and csv.exists():
        raise ConfigError(
            f"The CSV log {csv} is there already.",
            hint="Move it away: its events would stand beside those of the backup.",
        )
    with new_folder(directory, what="the store") as draft:
        for file in manifest.files:
            if file.path != LOG:
                _copy(folder / file.path, draft / file.path)
        # Applies migrations that the backup lacks, and refuses one of a newer version.
        LocalStore.open(draft)
        found = count_rows(str(draft / DATABASE))
        if any(found.get(table, 0) < count for table, count in manifest.rows.items()):
            raise StoreCorrupt(f"{folder}: the database holds fewer rows than were saved.")
        if any(file.path == LOG for file in manifest.files):
            _copy(folder / LOG, draft / csv.relative_to(directory) if inside else csv)
    return manifest


def _copy(source: Path, target: Path) -> None:
    with file_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o600)


def _copy_artifacts(source: Path, target: Path) -> None:
    """Everything but drafts, which others are writing at this moment."""
    for place in sorted(source.rglob("*")) if source.is_dir() else ():
        if place.is_file() and not place.is_symlink() and not place.name.startswith("."):
            copy = target / place.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place, copy)


def _copy_whole_lines(source: Path, target: Path) -> None:
    """The log up to the end of its last whole line."""
    shutil.copyfile(source, target)
    with target.open("rb+") as file:
        size = end = file.seek(0, 2)
        while end > 0:
            start = max(0, end - (1 << 16))
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                size = start + found + 1
                break
            end = start
        file.truncate(size if end > 0 else 0)
