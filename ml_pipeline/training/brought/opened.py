"""A file that a person names, opened so that nothing but a file of a sane size is read."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from ml_pipeline.errors import ArtifactIncompatible, NotFound
from ml_pipeline.registry import archive, archive_schema
from ml_pipeline.registry.onnx_models.graph import MAX_BYTES

ZIP: Final = b"PK"
ONNX_SUFFIX: Final = ".onnx"
_PICKLED: Final = b"\x80"
_COMPRESSED: Final = (b"\x78", b"\x1f\x8b", b"BZh", b"\xfd7z", b"\x5d\x00", b"\x04\x22\x4d\x18")
_HEAD: Final = 8
_AS_SKOPS: Final = (
    "Loading a pickle runs whatever its maker wrote into it. Where it was made, save it as data:\n"
    "  import joblib, skops.io\n"
    '  skops.io.dump(joblib.load("{name}"), "{stem}.skops")'
)
_EXPECTED: Final = (
    "Save a fitted scikit-learn classifier with skops.io.dump as .skops, or export it to .onnx."
)


def read_file(path: Path) -> tuple[bytes, bool]:
    """The bytes of a model file, and whether they are those of a skops archive, else of ONNX.

    Raises NotFound for what cannot be opened, and ArtifactIncompatible for a folder, a device, a
    pickle, a file of another kind and one that is too large: nothing of it is loaded then.
    """
    with os.fdopen(_opened(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(_HEAD)
        is_archive = _is_archive(path, head)
        limit = archive_schema.MAX_UNPACKED_BYTES if is_archive else MAX_BYTES
        if size > limit:
            raise ArtifactIncompatible(
                f"The model {path} has {size:,} bytes, over the limit of {limit:,}.",
                hint="Fit a smaller one: fewer trees, or shallower ones.",
            )
        return head + file.read(limit), is_archive


def _opened(path: Path) -> int:
    # A pipe without a writer would wait for one.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise NotFound(f"The model {path} cannot be opened: {error.strerror}.") from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    what = "folder" if stat.S_ISDIR(mode) else "device or a pipe"
    raise ArtifactIncompatible(f"The model {path} is a {what}, no file.", hint=_EXPECTED)


def _is_archive(path: Path, head: bytes) -> bool:
    suffix = path.suffix.lower()
    if suffix in archive.PICKLE_SUFFIXES or (head.startswith((_PICKLED, *_COMPRESSED))):
        raise ArtifactIncompatible(
            f"The model {path} is a pickle, which is not loaded.",
            hint=_AS_SKOPS.format(name=path.name, stem=path.stem),
        )
    if head.startswith(ZIP):
        return True
    # An ONNX file starts with the tag of its first field; no field has the number 0.
    if suffix == ONNX_SUFFIX and head[:1] not in {b"", b"\0"}:
        return False
    raise ArtifactIncompatible(
        f"The model {path} is neither a skops archive nor an ONNX file, or it is damaged.",
        hint=_EXPECTED,
    )
