"""Artifacts of the embedded store: immutable files below one folder."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from ml_pipeline.errors import NotFound, StoreRefused
from ml_pipeline.private_files import make_folder, opener
from ml_pipeline.store.artifact_files import (
    blocks_of,
    digest_of,
    file_errors,
    refuse_other_bytes,
    segments_of,
    temporary,
    verify,
    write_blocks,
)
from ml_pipeline.store.embedded.database import LOCAL_DISK
from ml_pipeline.store.records import ArtifactRef

# What file systems without hard links answer: FAT and FUSE, network shares, others.
_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


def sync_folder(folder: Path) -> None:
    """Make a new name in the folder survive a power cut, where folders can be synced."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class LocalArtifacts:
    """`ArtifactStore` on files below `folder/<bucket>/<path>`."""

    _folder: Path

    def _make_folder(self) -> None:
        with file_errors(self._folder):
            make_folder(self._folder)

    def _place(self, bucket: str, path: str) -> Path:
        """The path of the bytes. Raises StoreRefused for names that could lead elsewhere."""
        place = self._folder
        for segment in (bucket, *segments_of(bucket, path)):
            place /= segment
            with file_errors(place):
                leads_elsewhere = place.is_symlink()
            if leads_elsewhere:
                message = f"{place} is a symbolic link: it may lead out of the store."
                raise StoreRefused(message)
        return place

    def put(self, bucket: str, path: str, source: Path) -> ArtifactRef:
        """Store the file's bytes. Raises StoreRefused when the path holds other bytes already."""
        place = self._place(bucket, path)
        with file_errors(source):
            origin = source.open("rb")
        with origin, file_errors(place):
            make_folder(place.parent)
            with temporary(place.parent) as draft:
                with open(draft, "xb", opener=opener) as copy:
                    digest, size = write_blocks(blocks_of(origin), copy)
                self._settle(draft, place, digest)
            sync_folder(place.parent)
        return ArtifactRef(bucket=bucket, path=path, digest=digest, size=size)

    def _settle(self, draft: Path, place: Path, digest: str) -> None:
        # A link never overwrites, so of two writers racing for a name one finds it taken.
        try:
            os.link(draft, place)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            message = f"{place}: the file system there has no hard links ({error.strerror})."
            raise StoreRefused(message, hint=LOCAL_DISK) from error
        else:
            return
        refuse_other_bytes(place, digest_of(place), digest)

    def fetch(self, ref: ArtifactRef, target: Path) -> Path:
        """Write the verified bytes to `target`. Raises NotFound, ArtifactCorrupt."""
        return self._receive(ref.bucket, ref.path, target, ref)

    def download(self, bucket: str, path: str, target: Path) -> Path:
        """Write an object that others may overwrite to `target`, whatever its bytes are."""
        return self._receive(bucket, path, target, None)

    def _receive(self, bucket: str, path: str, target: Path, ref: ArtifactRef | None) -> Path:
        place = self._place(bucket, path)
        if not place.is_file():
            message = f"There is no artifact {bucket}/{path} ({place})."
            raise NotFound(message)
        with file_errors(place):
            origin = place.open("rb")
        with origin, file_errors(target):
            make_folder(target.parent)
            with temporary(target.parent) as draft:
                with open(draft, "xb", opener=opener) as copy:
                    found = write_blocks(blocks_of(origin), copy)
                if ref is not None:
                    verify(ref, place, *found)
                draft.replace(target)
        return target

    def names(self, bucket: str, folder: str) -> list[str]:
        """The names directly in a folder; none when there is no such folder."""
        place = self._place(bucket, folder)
        if not place.is_dir():
            return []
        with file_errors(place):
            return sorted(item.name for item in place.iterdir() if not item.name.startswith("."))

    def remove(self, bucket: str, path: str) -> None:
        """Remove an object for good; one that is not there is fine."""
        place = self._place(bucket, path)
        with file_errors(place):
            place.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            place.parent.rmdir()  # when it was the last one

    def url(self, ref: ArtifactRef) -> str:
        """Where a person with access finds the bytes."""
        return self._place(ref.bucket, ref.path).as_uri()
