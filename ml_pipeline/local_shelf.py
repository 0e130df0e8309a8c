"""Artifacts of the embedded store: immutable files below one folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from uuid import uuid4

from ml_pipeline.domain import ArtifactRef
from ml_pipeline.errors import (
    ArtifactCorrupt,
    NotFound,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)

_BLOCK = 1 << 20
_BUCKET = re.compile(r"[a-z0-9-]+")
# No leading dot: that shuts out `.` and `..`, and leaves those names to temporary files.
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_FOR_GOOD = {
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
    errno.EOPNOTSUPP,
}


def _file_error(error: OSError, place: Path) -> StoreError:
    """What a file system's refusal means to the caller."""
    message = f"{place}: {error.strerror or error}."
    if error.errno in _NO_SPACE:
        return StoreUnavailable(message, hint="Free some space on that disk, then try again.")
    if error.errno in _FOR_GOOD:
        hint = "Choose a folder that this user may write to, or change its permissions."
        return StoreRefused(message, hint=hint)
    return StoreUnavailable(message)


@contextlib.contextmanager
def _naming(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _file_error(error, place) from error


def _copy(source: IO[bytes], target: IO[bytes]) -> tuple[str, int]:
    """Copy to the disk itself; return digest and size of what was copied."""
    digest = hashlib.sha256()
    size = 0
    while block := source.read(_BLOCK):
        digest.update(block)
        target.write(block)
        size += len(block)
    target.flush()
    os.fsync(target.fileno())
    return f"sha256:{digest.hexdigest()}", size


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _sync_folder(folder: Path) -> None:
    """Make a new name in the folder survive a power cut, where folders can be synced."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A name in the folder that nobody uses, gone afterwards."""
    path = folder / f".{uuid4().hex}.tmp"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


class LocalShelf:
    """`ArtifactShelf` on files below `folder/<bucket>/<path>`."""

    _folder: Path

    def _make_folder(self) -> None:
        with _naming(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)

    def _place(self, bucket: str, path: str) -> Path:
        """Where the bytes stand. Raises StoreRefused for names that could lead elsewhere."""
        segments = path.split("/")
        if not _BUCKET.fullmatch(bucket) or not all(map(_SEGMENT.fullmatch, segments)):
            message = f"Not a name for an artifact: {bucket!r} / {path!r}."
            hint = "Use letters, digits, '.', '_' and '-' between slashes, none starting with '.'."
            raise StoreRefused(message, hint=hint)
        place = self._folder
        for segment in (bucket, *segments):
            place /= segment
            if place.is_symlink():
                message = f"{place} is a symbolic link: it may lead out of the store."
                raise StoreRefused(message)
        return place

    def put(self, bucket: str, path: str, source: Path) -> ArtifactRef:
        """Store the file's bytes. Raises StoreRefused when other bytes stand there already."""
        place = self._place(bucket, path)
        with _naming(source):
            origin = source.open("rb")
        with origin, _naming(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            with _temporary(place.parent) as temporary:
                with temporary.open("xb") as copy:
                    digest, size = _copy(origin, copy)
                self._settle(temporary, place, digest)
            _sync_folder(place.parent)
        return ArtifactRef(bucket=bucket, path=path, digest=digest, size=size)

    def _settle(self, temporary: Path, place: Path, digest: str) -> None:
        # A link never overwrites, so of two writers racing for a name one finds it taken.
        try:
            os.link(temporary, place)
        except FileExistsError:
            found = _digest(place)
            if found != digest:
                message = f"{place} holds other bytes already: {found}, not {digest}."
                raise StoreRefused(
                    message, hint="Artifacts never change; use another path."
                ) from None

    def fetch(self, ref: ArtifactRef, target: Path) -> Path:
        """Write the verified bytes to `target`. Raises NotFound, ArtifactCorrupt."""
        place = self._place(ref.bucket, ref.path)
        if not place.is_file():
            message = f"There is no artifact {ref.bucket}/{ref.path} ({place})."
            raise NotFound(message)
        with _naming(place):
            origin = place.open("rb")
        with origin, _naming(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with _temporary(target.parent) as temporary:
                with temporary.open("xb") as copy:
                    found = _copy(origin, copy)
                self._verify(ref, place, *found)
                temporary.replace(target)
        return target

    @staticmethod
    def _verify(ref: ArtifactRef, place: Path, digest: str, size: int) -> None:
        if (digest, size) != (ref.digest, ref.size):
            message = (
                f"{place} is not what was stored: expected {ref.digest} ({ref.size} bytes), "
                f"found {digest} ({size} bytes)."
            )
            raise ArtifactCorrupt(message)

    def url(self, ref: ArtifactRef) -> str:
        """Where a person with access finds the bytes."""
        return self._place(ref.bucket, ref.path).as_uri()
