"""Model files: what may be saved, and what must be true before one is loaded.

Trust comes in this order. The digest, which the caller has from the database row, is checked
before a byte is parsed. Then the archive must be of a sane size and hold only what our training
makes (`archive_schema`). Then what native code follows without looking must hold together
(`soundness`). What does not load is not saved.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pickle
import platform
import struct
import tokenize
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, BadZipFile

from ml_pipeline.errors import ArtifactCorrupt, ArtifactIncompatible, NotFound
from ml_pipeline.registry import archive_schema

log = logging.getLogger("artifacts")

PICKLE_SUFFIXES = (".joblib", ".pkl")

_SHOWN = 3
# A file that holds more of them is nobody's classifier.
_NAMED = 40
_REMEDY = "Roll back to another model, or train a new one."

# Everything that zipfile, json, numpy and skops are known to raise for bytes that are no model.
_UNREADABLE = (
    ArithmeticError,
    AttributeError,
    BadZipFile,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.PickleError,
    struct.error,
    tokenize.TokenError,
    zlib.error,
)


# ---------------------------------------------------------------------------------- digests


def digest_bytes(data: bytes) -> str:
    """`sha256:` + hex of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_file(path: Path | str) -> str:
    """`sha256:` + hex of a file of any size. Raises NotFound when there is none."""
    with _open(Path(path)) as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def require_digest(path: Path | str, expected: str, *, source: str) -> None:
    """Raise ArtifactCorrupt unless the file's digest is `expected`.

    `source` says in words where the bytes come from.
    """
    _compare(digest_file(path), expected, source=source)


def _compare(found: str, expected: str, *, source: str) -> None:
    if found != expected:
        message = f"{source} has the digest {found}, expected was {expected}."
        raise ArtifactCorrupt(message, hint=f"Its bytes are not the registered ones. {_REMEDY}")


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        file = path.open("rb")
    except OSError as error:
        message = f"The artifact {path} cannot be opened: {error.strerror}."
        raise NotFound(message) from None
    with file:
        yield file


# --------------------------------------------------------------------------- saving, loading


def save_model(model: object, path: Path) -> None:
    """Write `model` as a skops archive; `path` holds the whole of it or what it held before.

    Two saves of one model differ in their bytes. Raises ArtifactIncompatible or ArtifactCorrupt,
    and writes nothing, when `load_model` would refuse the model.
    """
    import skops.io  # brings scikit-learn, which digests and versions do without

    try:
        data = bytes(skops.io.dumps(model, compression=ZIP_DEFLATED))
    except _UNREADABLE as error:
        message = f"A {type(model).__name__} cannot be saved as a skops archive: {error}."
        raise ArtifactIncompatible(message) from error
    source = f"The model for {path.name}"
    _checked(data, source)
    _check_sound(model, source)
    _write(data, path)


def load_model(path: Path, *, expected_digest: str, source: str = "") -> object:
    """Read a skops archive whose digest is known; errors call it `source`, else by its path.

    Raises NotFound without a file, ArtifactCorrupt when the digest differs (nothing is parsed
    then) or the archive cannot be read, and ArtifactIncompatible for types that are not allowed
    (nothing is imported or constructed then).
    """
    source = source or f"The artifact {path}"
    with _open(path) as file, reading(source):
        archive_schema.check_size(os.fstat(file.fileno()).st_size, "file", "is")
        # Read once: what was checked is what is parsed, whoever writes to the file meanwhile.
        data = file.read()
    _compare(digest_bytes(data), expected_digest, source=source)
    return _read(data, source)


def read_model(data: bytes, source: str) -> object:
    """The model in a skops archive that a person named, which `source` names in words.

    Raises ArtifactCorrupt and ArtifactIncompatible as `load_model` does.
    """
    _check_fitted_here(data, source)
    return _read(data, source)


def _read(data: bytes, source: str) -> object:
    import skops.io

    packed = _checked(data, source)
    with reading(source):
        model: object = skops.io.loads(packed, trusted=archive_schema.trusted())
    _check_sound(model, source)
    return model


def _check_fitted_here(data: bytes, source: str) -> None:
    """Raise ArtifactIncompatible for a person's estimators that another scikit-learn has saved.

    What is registered has the versions in its row.
    """
    here = installed_version("scikit-learn")
    with reading(source):
        versions = sorted(archive_schema.sklearn_versions(_checked(data, source)))
    for saved in versions:
        if _series(saved, 2) != _series(here, 2):
            raise ArtifactIncompatible(
                f"{source} was saved with scikit-learn {saved}; {here} is installed.",
                hint=f'Install "scikit-learn=={_series(saved, 2)}.*", or fit and save it with '
                f"scikit-learn {here}, or export it to ONNX.",
            )


def load_local_pickle(path: Path) -> object:
    """Read a `.joblib` or `.pkl` that a person named on the command line.

    Loading a pickle runs whatever its maker wrote into it, so nothing that comes out of a store
    may take this way. Raises NotFound, ArtifactIncompatible, ArtifactCorrupt.
    """
    import joblib

    if path.suffix.lower() not in PICKLE_SUFFIXES:
        message = f"{path} is neither {' nor '.join(PICKLE_SUFFIXES)}."
        raise ArtifactIncompatible(message)
    with _open(path) as file, reading(f"The pickle {path}"):
        log.warning(
            "%s is a pickle: loading it runs the code it holds. Load only files that you made.",
            path,
            extra={"event": "pickle_loaded", "path": str(path)},
        )
        return joblib.load(file)


def _write(data: bytes, path: Path) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # A renamed file has its new name for good only once the folder is on disk. Windows cannot
    # open folders, and needs no such thing.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def reading(source: str) -> Iterator[None]:
    """Turn what a reader raises for unreadable bytes into ArtifactCorrupt."""
    try:
        yield
    except _UNREADABLE as error:
        message = f"{source} cannot be read: {type(error).__name__}: {error}."
        hint = f"It is damaged, or another version of skops or scikit-learn wrote it. {_REMEDY}"
        raise ArtifactCorrupt(message, hint=hint) from error


# --------------------------------------------------------------------------------- checking


def _checked(data: bytes, source: str) -> bytes:
    """The archive packed anew from what was checked. Raises ArtifactCorrupt, -Incompatible."""
    with reading(source):
        packed, foreign = archive_schema.checked(data)
    if foreign:
        first, rest = foreign[:_SHOWN], foreign[_SHOWN:]
        shown = ", ".join(first) + (f" and {len(rest)} more" if rest else "")
        message = f"{source} holds types that are not allowed: {shown}."
        hint = (
            "Nothing of it was run. If you trust whoever made it, name what it holds in the "
            f"settings: artifacts.allowed_types: [{', '.join(foreign[:_NAMED])}]. Or export it to "
            "ONNX."
        )
        raise ArtifactIncompatible(message, hint=hint)
    return packed


def _check_sound(model: object, source: str) -> None:
    from ml_pipeline.registry.soundness import unsound

    with reading(source):
        what = unsound(model)
    if what is not None:
        raise ArtifactCorrupt(f"{source} holds {what}.", hint=_REMEDY)


def type_name(kind: type) -> str:
    """A type as archives name it."""
    return f"{kind.__module__}.{kind.__qualname__}"


# --------------------------------------------------------------------------------- versions


@cache
def installed_version(library: str) -> str:
    """The version of a library; what is installed later is not what this process works with."""
    return metadata.version(library)


def library_versions() -> dict[str, str]:
    """Versions that decide whether an artifact loads elsewhere; imports none of them."""
    packages = ("numpy", "scikit-learn", "skops")
    versions = {name: installed_version(name) for name in packages}
    return {"python": platform.python_version(), **versions}


def check_library_versions(recorded: Mapping[str, str]) -> None:
    """Raise ArtifactIncompatible unless models saved with `recorded` are safe to load here.

    scikit-learn promises nothing between versions; in practice fitted attributes change with
    the minor one, so major and minor must be the same. Of numpy the major one must be.
    """
    installed = library_versions()
    for name, parts in (("scikit-learn", 2), ("numpy", 1)):
        saved, here = recorded.get(name, ""), installed[name]
        if not saved:
            message = f"The model's record does not say which {name} it was saved with."
            raise ArtifactIncompatible(message, hint="Train a new one.")
        if _series(saved, parts) != _series(here, parts):
            message = f"The model was saved with {name} {saved}; {here} is installed."
            hint = (
                f'Install "{name}=={_series(saved, parts)}.*", or train a new model with '
                f"{name} {here}."
            )
            raise ArtifactIncompatible(message, hint=hint)


def _series(version: str, parts: int) -> str:
    return ".".join(version.split(".")[:parts])
