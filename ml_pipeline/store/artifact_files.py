"""What every artifact store does alike: names, digests, and files that appear whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final
from uuid import uuid4

from ml_pipeline.errors import ArtifactCorrupt, StoreError, StoreRefused, StoreUnavailable
from ml_pipeline.store.records import ArtifactRef

BLOCK: Final = 1 << 20
_BUCKET = re.compile(r"[a-z0-9-]+")
# No leading dot: that shuts out `.` and `..`, and leaves those names to temporary files.
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_PERMANENT = {
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


def segments_of(bucket: str, path: str) -> list[str]:
    """The parts of an artifact's path. Raises StoreRefused for names that could lead elsewhere."""
    segments = path.split("/")
    if not _BUCKET.fullmatch(bucket) or not all(map(_SEGMENT.fullmatch, segments)):
        message = f"An artifact cannot be called {bucket!r} / {path!r}."
        hint = "Use letters, digits, '.', '_' and '-' between slashes, none starting with '.'."
        raise StoreRefused(message, hint=hint)
    return segments


def _file_error(error: OSError, place: Path) -> StoreError:
    """The store's error for one of the file system."""
    message = f"{place}: {error.strerror or error}."
    if error.errno in _NO_SPACE:
        return StoreUnavailable(message, hint="Free some space on that disk, then try again.")
    if error.errno in _PERMANENT:
        hint = "Choose a folder that this user may write to, or change its permissions."
        return StoreRefused(message, hint=hint)
    return StoreUnavailable(message)


@contextlib.contextmanager
def file_errors(place: Path) -> Iterator[None]:
    """Turn errors of the file system into those of a store, which name the place."""
    try:
        yield
    except OSError as error:
        raise _file_error(error, place) from error


@contextlib.contextmanager
def temporary(folder: Path) -> Iterator[Path]:
    """A name in the folder that nobody uses, gone afterwards."""
    path = folder / f".{uuid4().hex}.tmp"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def blocks_of(source: IO[bytes]) -> Iterator[bytes]:
    """The rest of a file in blocks."""
    return iter(lambda: source.read(BLOCK), b"")


def write_blocks(blocks: Iterable[bytes], target: IO[bytes]) -> tuple[str, int]:
    """Write to the disk itself; return digest and size of the bytes."""
    digest = hashlib.sha256()
    size = 0
    for block in blocks:
        digest.update(block)
        target.write(block)
        size += len(block)
    target.flush()
    os.fsync(target.fileno())
    return f"sha256:{digest.hexdigest()}", size


def digest_of(path: Path) -> str:
    """`sha256:` and the digest of a file's bytes."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def verify(ref: ArtifactRef, place: object, digest: str, size: int) -> None:
    """Raise ArtifactCorrupt when digest or size are not those of the row."""
    if (digest, size) != (ref.digest, ref.size):
        message = (
            f"{place} is damaged: expected {ref.digest} ({ref.size} bytes), "
            f"found {digest} ({size} bytes)."
        )
        raise ArtifactCorrupt(message)


def refuse_other_bytes(place: object, found: str, digest: str) -> None:
    """Raise StoreRefused when a place that never changes holds other bytes than ours."""
    if found != digest:
        message = f"{place} holds other bytes already: {found}, not {digest}."
        raise StoreRefused(message, hint="Artifacts are never overwritten; use another path.")
