"""The folder of a backup: made whole or not at all, and read only after its digests are checked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, Self
from uuid import uuid4

from ml_pipeline.errors import ConfigError, StoreCorrupt
from ml_pipeline.store.artifact_files import digest_of, file_errors

MANIFEST: Final = "backup.json"
FORMAT: Final = 1
_LARGEST_MANIFEST: Final = 64 * 1024 * 1024
Kind = Literal["local", "supabase"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BackupFile:
    """A file of the backup; `path` is relative and has `/` between its parts."""

    path: str
    size: int
    digest: str

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path).parts
        if not parts or self.path.startswith("/") or ".." in parts or "\\" in self.path:
            raise StoreCorrupt(f"{MANIFEST} names a file outside the backup: {self.path!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a backup holds. `rows` counts by table, `missing` are artifacts that were gone."""

    kind: Kind
    created_at: str
    schema_version: int
    rows: dict[str, int]
    files: tuple[BackupFile, ...]
    missing: tuple[str, ...] = ()
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path, *, kind: Kind) -> Self:
        """Read it and check every file that it names.

        Raises ConfigError for a folder that is no whole backup of that kind of store, StoreCorrupt
        for a file that is missing or damaged.
        """
        manifest = cls._parsed(folder)
        if manifest.kind != kind:
            raise ConfigError(
                f"{folder} is a backup of a {manifest.kind} store, not of a {kind} one.",
                hint="Restore it with --local DIR." if kind == "supabase" else
                "Restore it with --database-url URL.",
            )  # fmt: skip
        for file in manifest.files:
            _check(folder, file)
        return manifest

    @classmethod
    def _parsed(cls, folder: Path) -> Self:
        place = folder / MANIFEST
        if not place.is_file():
            raise ConfigError(
                f"{folder} is no backup: it holds no {MANIFEST}.",
                hint="Name the folder that `ml-pipeline backup` has made.",
            )
        try:
            if place.stat().st_size > _LARGEST_MANIFEST:
                raise ValueError("it is too large")  # noqa: TRY301 - said below
            found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
            if found["format"] != FORMAT:
                raise ConfigError(
                    f"{place} has format {found['format']!r}, this version reads {FORMAT}.",
                    hint="Restore it with the version of the package that made it.",
                )
            return cls(
                kind=found["kind"],
                created_at=str(found["created_at"]),
                schema_version=int(found["schema_version"]),
                rows={str(name): int(count) for name, count in found["rows"].items()},
                files=tuple(BackupFile(**file) for file in found["files"]),
                missing=tuple(map(str, found["missing"])),
            )
        except (
            OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
        ) as error:  # fmt: skip
            raise StoreCorrupt(f"{place} cannot be read: {error}.", hint=_OTHER) from error


_OTHER: Final = "Nothing was restored. Use another backup."


def refuse_other(names: Iterable[str], known: Collection[str], *, what: str) -> None:
    """Raise StoreCorrupt when the manifest names what no backup of ours holds."""
    if other := sorted(set(names) - set(known)):
        raise StoreCorrupt(f"{MANIFEST} names {what} {', '.join(map(repr, other))}.", hint=_OTHER)


def _check(folder: Path, file: BackupFile) -> None:
    """Raise StoreCorrupt unless the file is in the folder, not through a link, as it was saved."""
    place = folder / file.path
    try:
        if place.resolve() != folder.resolve() / file.path or not place.is_file():
            raise StoreCorrupt(f"{place} is missing in the backup.", hint=_OTHER)
        if (place.stat().st_size, digest_of(place)) != (file.size, file.digest):
            raise StoreCorrupt(f"{place} is damaged: it is not what was saved.", hint=_OTHER)
    except (OSError, ValueError) as error:
        raise StoreCorrupt(f"{place} in the backup cannot be read: {error}.", hint=_OTHER) from None


@contextmanager
def new_folder(target: Path, *, what: str) -> Iterator[Path]:
    """A folder that becomes `target` in the end, whole; on an error nothing of it stays.

    Only its owner may read it. Raises ConfigError when something is at `target` already.
    """
    target = target.absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(
            f"{target} is there already and is not empty.",
            hint=f"Name a folder for {what} that is not there yet, or move this one away.",
        )
    draft = target.with_name(f".{target.name}.{uuid4().hex[:8]}.tmp")
    try:
        with file_errors(draft):
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.mkdir(mode=0o700)
        yield draft
        with file_errors(target):
            draft.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def finish(  # noqa: PLR0913 - what a manifest consists of
    draft: Path,
    *,
    kind: Kind,
    now: datetime,
    schema_version: int,
    rows: dict[str, int],
    missing: tuple[str, ...] = (),
) -> Manifest:
    """Write the manifest of everything that stands in the folder."""
    files = []
    for place in sorted(path for path in draft.rglob("*") if path.is_file()):
        place.chmod(0o600)
        name = place.relative_to(draft).as_posix()
        files.append(BackupFile(path=name, size=place.stat().st_size, digest=digest_of(place)))
    manifest = Manifest(
        kind=kind,
        created_at=now.isoformat(),
        schema_version=schema_version,
        rows=rows,
        files=tuple(files),
        missing=missing,
    )
    place = draft / MANIFEST
    place.touch(mode=0o600)
    place.write_text(json.dumps(asdict(manifest)), encoding="utf-8")
    return manifest
