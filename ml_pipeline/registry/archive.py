"""Model files: what may be saved, and what must be true before one is loaded.

Trust comes in this order. The digest, which the caller has from the database row, is checked
before a byte is parsed. Then the archive must be of a sane size and hold only types that skops
trusts by itself or that stand in `ALLOWED_TYPES`; the list is code and never travels with the
artifact. Then decision trees must stay inside their own arrays. What does not load is not saved.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
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
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.errors import ArtifactCorrupt, ArtifactIncompatible, NotFound

log = logging.getLogger("artifacts")

MAX_UNPACKED_BYTES = 2 * 1024**3
PICKLE_SUFFIXES = (".joblib", ".pkl")
SCHEMA = "schema.json"

# What our models need beyond skops' own list: the project's estimators, and four names that
# skops leaves to its users. The two tree types are there because their contents can crash the
# process at prediction; `_check_trees` is what makes them safe to allow.
CLASSIFIER = "ml_pipeline.adaptive.AdaptiveClassifier"
ALLOWED_TYPES = frozenset(
    {
        CLASSIFIER,
        "ml_pipeline.text_features.TextStatistics",
        "numpy.dtype",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
    }
)

_CHUNK = 1024 * 1024
_SHOWN = 3
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
    total = hashlib.sha256()
    with _open(Path(path)) as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return f"sha256:{total.hexdigest()}"


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
    except (TypeError, ValueError) as error:
        message = f"A {type(model).__name__} cannot be saved as a skops archive: {error}."
        raise ArtifactIncompatible(message) from error
    source = f"The model for {path.name}"
    _check_archive(data, source)
    _check_types(data, source)
    _check_trees(model, source)
    _write(data, path)


def load_model(path: Path, *, expected_digest: str) -> object:
    """Read a skops archive whose digest is known.

    Raises NotFound without a file, ArtifactCorrupt when the digest differs (nothing is parsed
    then) or the archive cannot be read, and ArtifactIncompatible for types that are not allowed
    (nothing is imported or constructed then).
    """
    import skops.io

    source = f"The artifact {path}"
    with _open(path) as file, _reading(source):
        _check_size(os.fstat(file.fileno()).st_size, "file", "is")
        # Read once: what was checked is what is parsed, whoever writes to the file meanwhile.
        data = file.read()
    _compare(digest_bytes(data), expected_digest, source=source)
    _check_archive(data, source)
    _check_types(data, source)
    with _reading(source):
        model: object = skops.io.loads(data, trusted=sorted(ALLOWED_TYPES))
        _check_trees(model, source)
    return model


def load_local_pickle(path: Path) -> object:
    """Read a `.joblib` or `.pkl` that a person named on the command line.

    Loading a pickle runs whatever its maker wrote into it, so nothing that comes out of a store
    may take this way. Raises NotFound, ArtifactIncompatible, ArtifactCorrupt.
    """
    import joblib

    if path.suffix.lower() not in PICKLE_SUFFIXES:
        message = f"{path} is neither {' nor '.join(PICKLE_SUFFIXES)}."
        raise ArtifactIncompatible(message)
    with _open(path) as file, _reading(f"The pickle {path}"):
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
def _reading(source: str) -> Iterator[None]:
    """Turn what a reader raises for unreadable bytes into ArtifactCorrupt."""
    try:
        yield
    except _UNREADABLE as error:
        message = f"{source} cannot be read: {type(error).__name__}: {error}."
        hint = f"It is damaged, or another version of skops or scikit-learn wrote it. {_REMEDY}"
        raise ArtifactCorrupt(message, hint=hint) from error


# --------------------------------------------------------------------------------- checking


def _check_archive(data: bytes, source: str) -> None:
    """Refuse what is no archive, or would unpack to more than `MAX_UNPACKED_BYTES`."""
    with _reading(source), ZipFile(BytesIO(data)) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        # bzip2 and lzma are unpacked without a bound, whatever size is declared.
        methods = {member.compress_type for member in archive.infolist()}
        if not methods <= {ZIP_STORED, ZIP_DEFLATED}:
            message = "a member is packed in a way that skops never uses"
            raise ValueError(message)
        total = sum(member.file_size for member in archive.infolist())
        _check_size(total, "members")
        _check_size(_referenced_bytes(json.loads(archive.read(SCHEMA)), sizes), "references")


def _check_size(size: int, what: str, verb: str = "unpack to") -> None:
    if size > MAX_UNPACKED_BYTES:
        message = f"its {what} {verb} {size} bytes, over the limit of {MAX_UNPACKED_BYTES}"
        raise ValueError(message)


def _referenced_bytes(schema: object, sizes: Mapping[str, int]) -> int:
    """Bytes that skops will read: a member once for each node that names it.

    Raises KeyError for a member that is not there.
    """
    total, seen, waiting = 0, set(), [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
        elif isinstance(node, dict):
            waiting.extend(node.values())
            # skops reads nodes of one id once; a node without an id every time.
            identity = node.get("__id__") or id(node)
            if isinstance(node.get("file"), str) and identity not in seen:
                seen.add(identity)
                total += sizes[node["file"]]
    return total


def type_name(kind: type) -> str:
    """A type as archives name it."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _check_types(data: bytes, source: str) -> None:
    import skops.io

    with _reading(source):
        unknown = sorted(set(skops.io.get_untrusted_types(data=data)) - ALLOWED_TYPES)
    if unknown:
        first, rest = unknown[:_SHOWN], unknown[_SHOWN:]
        shown = ", ".join(first) + (f" and {len(rest)} more" if rest else "")
        message = f"{source} holds types that are not allowed: {shown}."
        hint = (
            "Nothing of it was run. If it is an old model of yours, retrain it; a new estimator "
            "has to be added to ALLOWED_TYPES in ml_pipeline/registry/archive.py first."
        )
        raise ArtifactIncompatible(message, hint=hint)


# scikit-learn follows the indices of a tree without looking, so a crafted one reads foreign
# memory or never ends: https://github.com/scikit-learn/scikit-learn/pull/34558.


def _check_trees(model: object, source: str) -> None:
    """Refuse trees whose nodes lead outside their arrays, backwards, or to missing features."""
    for part in _parts(model):
        state = getattr(part, "__dict__", {})
        features = state.get("n_features_in_", 0)
        trees = [state["tree_"]] if "tree_" in state else []
        rounds = [tree for stage in state.get("_predictors", ()) for tree in stage]
        sound = all(_sound_tree(tree, features) for tree in trees) and all(
            _sound_predictor(tree, features) for tree in rounds
        )
        if not sound:
            message = f"{source} holds a {type(part).__name__} whose decision tree is broken."
            raise ArtifactCorrupt(message, hint=_REMEDY)


def _parts(model: object) -> Iterator[object]:
    """Everything reachable from `model` through attributes and containers, each once."""
    seen: dict[int, object] = {}
    waiting: list[Any] = [model]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or isinstance(part, str | bytes | int | float):
            continue
        seen[id(part)] = part
        yield part
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list | tuple | set):
            waiting.extend(part)
        elif isinstance(part, np.ndarray) and part.dtype == object:
            waiting.extend(part.ravel())
        waiting.extend(getattr(part, "__dict__", {}).values())


def _sound_tree(tree: Any, features: int) -> bool:  # noqa: ANN401 - compiled, has no stub
    # Its arrays are views of `node_count` nodes onto a block of `capacity`: count before looking.
    if not 0 < tree.node_count <= tree.capacity or tree.n_features != features:
        return False
    children = (tree.children_left, tree.children_right)
    return _sound(children, tree.feature, children[0] == -1, features)


def _sound_predictor(tree: Any, features: int) -> bool:  # noqa: ANN401 - has no stub
    nodes = tree.nodes
    leaf = nodes["is_leaf"].astype(bool)
    # Splits on categories index further arrays; our pipelines encode categories before.
    if nodes["is_categorical"][~leaf].any():
        return False
    return _sound((nodes["left"], nodes["right"]), nodes["feature_idx"], leaf, features)


def _sound(
    children: tuple[NDArray[Any], NDArray[Any]],
    feature: NDArray[Any],
    leaf: NDArray[Any],
    features: int,
) -> bool:
    """Whether each inner node leads forward to nodes that exist and asks a known feature."""
    place = np.arange(len(leaf))[~leaf]
    ahead = all(((child[~leaf] > place) & (child[~leaf] < len(leaf))).all() for child in children)
    asked = feature[~leaf]
    return len(leaf) > 0 and ahead and bool(((asked >= 0) & (asked < features)).all())


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
        if saved.split(".")[:parts] != here.split(".")[:parts]:
            message = f"The model was saved with {name} {saved}; {here} is installed."
            series = ".".join(saved.split(".")[:parts])
            hint = f'Install "{name}=={series}.*", or train a new model with {name} {here}.'
            raise ArtifactIncompatible(message, hint=hint)
