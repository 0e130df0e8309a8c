"""Artifacts on Supabase Storage: immutable objects in private buckets."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ml_pipeline.errors import NotFound, PipelineError, StoreRefused, StoreUnavailable
from ml_pipeline.private_files import make_folder, opener
from ml_pipeline.store.artifact_files import (
    file_errors,
    refuse_other_bytes,
    segments_of,
    temporary,
    verify,
    write_blocks,
)
from ml_pipeline.store.project_facts import KEY_HINT
from ml_pipeline.store.records import ArtifactRef
from ml_pipeline.store.supabase.answers import INIT_HINT, Refusal, refusal_error
from ml_pipeline.store.supabase.transport import Project

_NO_RIGHT: Final = {401, 403}
_TAKEN: Final = 409
_MISSING: Final = 404
_TOO_LARGE: Final = 413
_PAGE: Final = 1000
_SIZE_HINT: Final = (
    "Projects of the free tier take files up to 50 MB: make the artifact smaller, or raise the "
    "limit in the project's Storage settings."
)


class SupabaseArtifacts:
    """`ArtifactStore` on objects that are never overwritten."""

    _project: Project
    _public_url: str

    def put(self, bucket: str, path: str, source: Path) -> ArtifactRef:
        """Store the file's bytes. Raises StoreRefused when the path holds other bytes already."""
        segments_of(bucket, path)
        with file_errors(source):
            content = source.read_bytes()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if not self._upload(bucket, path, content):
            # Another writer's bytes, or our own: an upload whose answer was lost is repeated.
            refuse_other_bytes(_place(bucket, path), self._digest(bucket, path), digest)
        return ArtifactRef(bucket=bucket, path=path, digest=digest, size=len(content))

    def _upload(self, bucket: str, path: str, content: bytes) -> bool:
        """Whether the object is new; False when the path holds one already."""
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"

        def attempt() -> bool:
            options = {"content-type": kind, "upsert": "false"}
            try:
                self._project.bucket(bucket).upload(path, content, options)
            except Refusal as refusal:
                if refusal.status == _TAKEN:
                    return False
                raise
            return True

        def explain(refusal: Refusal, what: str) -> PipelineError:
            if refusal.status == _TOO_LARGE:
                message = f"{_place(bucket, path)} has {len(content):,} bytes, which is too large."
                return StoreRefused(message, hint=_SIZE_HINT)
            if refusal.status == _MISSING:
                return _no_bucket(bucket)
            return _storage_error(refusal, what)

        what = f"the upload of {_place(bucket, path)} ({len(content):,} bytes)"
        return self._project.retry(what, attempt, explain)

    def _digest(self, bucket: str, path: str) -> str:
        def attempt() -> str:
            digest = hashlib.sha256()
            with self._project.stream(bucket, path) as blocks:
                for block in blocks:
                    digest.update(block)
            return f"sha256:{digest.hexdigest()}"

        place = _place(bucket, path)
        try:
            return self._project.retry(f"the download of {place}", attempt, _storage_error)
        except NotFound as error:
            message = f"{place} existed when it was to be written, and is gone now."
            raise StoreUnavailable(message) from error

    def fetch(self, ref: ArtifactRef, target: Path) -> Path:
        """Write the verified bytes to `target`. Raises NotFound, ArtifactCorrupt."""
        return self._receive(ref.bucket, ref.path, target, ref)

    def download(self, bucket: str, path: str, target: Path) -> Path:
        """Write an object that others may overwrite to `target`, whatever its bytes are.

        Raises NotFound. A content delivery network may hand out older bytes for an hour.
        """
        return self._receive(bucket, path, target, None)

    def _receive(self, bucket: str, path: str, target: Path, ref: ArtifactRef | None) -> Path:
        segments_of(bucket, path)
        place = _place(bucket, path)
        with file_errors(target):
            make_folder(target.parent)
            with temporary(target.parent) as draft:

                def attempt() -> tuple[str, int]:
                    with (
                        self._project.stream(bucket, path) as blocks,
                        open(draft, "wb", opener=opener) as copy,
                    ):
                        return write_blocks(blocks, copy)

                found = self._download(bucket, place, attempt)
                if ref is not None:
                    verify(ref, place, *found)
                draft.replace(target)
        return target

    def _download(
        self, bucket: str, place: str, attempt: Callable[[], tuple[str, int]]
    ) -> tuple[str, int]:
        try:
            return self._project.retry(f"the download of {place}", attempt, _storage_error)
        except NotFound:
            # A bucket that is not there, or not open to the key, looks like a missing object.
            if self._project.has_bucket(bucket, _storage_error):
                raise
        raise _no_bucket(bucket)

    def names(self, bucket: str, folder: str) -> list[str]:
        """The names directly in a folder; none when there is no such folder."""
        segments_of(bucket, folder)
        found: list[str] = []
        while True:
            options = {"limit": _PAGE, "offset": len(found)}

            def attempt(options: dict[str, int] = options) -> list[str]:
                entries = self._project.bucket(bucket).list(folder, options)
                return [str(entry["name"]) for entry in entries]

            what = f"the list of {_place(bucket, folder)}"
            page = self._project.retry(what, attempt, _storage_error)
            # A server that knows no offset gives the first page again.
            if not set(page) - set(found):
                return sorted(found)
            found += page

    def remove(self, bucket: str, path: str) -> None:
        """Remove an object for good; one that is not there is fine."""
        segments_of(bucket, path)

        def attempt() -> object:
            return self._project.bucket(bucket).remove([path])

        self._project.retry(f"the removal of {_place(bucket, path)}", attempt, _storage_error)

    def url(self, ref: ArtifactRef) -> str:
        """Where a person with the service key finds the bytes."""
        segments_of(ref.bucket, ref.path)
        return f"{self._public_url}/storage/v1/object/authenticated/{_place(ref.bucket, ref.path)}"


def _place(bucket: str, path: str) -> str:
    return f"{bucket}/{path}"


def _no_bucket(bucket: str) -> StoreRefused:
    message = f"There is no bucket {bucket}, or the key has no access to it."
    return StoreRefused(message, hint=f"{INIT_HINT} {KEY_HINT}")


def _storage_error(refusal: Refusal, what: str) -> PipelineError:
    """What Storage's refusal means; it has no SQLSTATE."""
    if refusal.status == _MISSING:
        return NotFound(f"There is no object for {what}: {refusal.text}.")
    if refusal.status in _NO_RIGHT:
        return StoreRefused(f"Storage refused {what}: {refusal.text}.", hint=KEY_HINT)
    return refusal_error(refusal, what)
