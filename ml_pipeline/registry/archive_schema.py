"""What an artifact may be made of, read before anything of it is imported or constructed.

A skops archive is a zip of arrays and `schema.json`, a tree of nodes: each names a loader of skops
and a type. skops trusts every type of scikit-learn, and many of those hand their contents to
native code that follows them without looking: a crafted file kills the process. So the pairs that
our own training makes are listed here, and nothing else is loaded. The list is code and never
travels with an artifact; `tests/unit/registry/test_archive_types.py` holds it to what is built.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from ml_pipeline.config.allowed_types import allowed

MAX_UNPACKED_BYTES = 2 * 1024**3
SCHEMA = "schema.json"
# An ensemble of every algorithm has 8 MB for three classes.
MAX_SCHEMA_BYTES = 64 * 1024**2
# Python needs up to 72 bytes for each of them, however few letters of JSON it takes.
MAX_SCHEMA_PARTS = 8_000_000

CLASSIFIER = "ml_pipeline.adaptive.AdaptiveClassifier"
ALLOWED_TYPES: Final[Mapping[str, frozenset[str]]] = {
    "DTypeNode": frozenset({"numpy.dtype"}),
    "DictNode": frozenset({"builtins.dict", "sklearn.utils._bunch.Bunch"}),
    "JsonNode": frozenset({"builtins.str"}),
    "ListNode": frozenset({"builtins.list"}),
    "LossNode": frozenset(
        {"sklearn._loss._loss.CyHalfBinomialLoss", "sklearn._loss._loss.CyHalfMultinomialLoss"}
    ),
    "NdArrayNode": frozenset({"numpy.float64", "numpy.int64", "numpy.ndarray", "numpy.uint64"}),
    "ObjectNode": frozenset(
        {
            CLASSIFIER,
            "ml_pipeline.incumbent.IncumbentClassifier",
            "ml_pipeline.kind_features.LevelMeans",
            "ml_pipeline.kind_features.Levels",
            "ml_pipeline.kind_features.MomentParts",
            "ml_pipeline.onnx_classifier.OnnxClassifier",
            "ml_pipeline.preprocessing.Clip",
            "ml_pipeline.text_features.TextStatistics",
            "sklearn._loss.link.Interval",
            "sklearn._loss.link.LogitLink",
            "sklearn._loss.link.MultinomialLogit",
            "sklearn._loss.loss.HalfBinomialLoss",
            "sklearn._loss.loss.HalfMultinomialLoss",
            "sklearn.compose._column_transformer.ColumnTransformer",
            "sklearn.ensemble._forest.RandomForestClassifier",
            "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
            (
                "sklearn.ensemble._hist_gradient_boosting.gradient_boosting"
                ".HistGradientBoostingClassifier"
            ),
            "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
            "sklearn.ensemble._voting.VotingClassifier",
            "sklearn.feature_extraction.text.TfidfTransformer",
            "sklearn.feature_extraction.text.TfidfVectorizer",
            "sklearn.impute._base.SimpleImputer",
            "sklearn.linear_model._logistic.LogisticRegression",
            "sklearn.linear_model._stochastic_gradient.SGDClassifier",
            "sklearn.pipeline.Pipeline",
            "sklearn.preprocessing._data.StandardScaler",
            "sklearn.preprocessing._label.LabelEncoder",
            "sklearn.tree._classes.DecisionTreeClassifier",
        }
    ),
    "RandomGeneratorNode": frozenset({"numpy.random._generator.Generator"}),
    "SliceNode": frozenset({"builtins.slice"}),
    "TreeNode": frozenset({"sklearn.tree._tree.Tree"}),
    "TupleNode": frozenset({"builtins.tuple"}),
    "TypeNode": frozenset({"builtins.str", "numpy.float64"}),
}
# What skops is told to trust beside what it trusts already: nothing that was not checked here.
TRUSTED: Final = sorted(frozenset().union(*ALLOWED_TYPES.values()))


def trusted() -> list[str]:
    """The types of a checked archive that skops may make: the list's, and the settings'."""
    return sorted({*TRUSTED, *allowed()})


def checked(data: bytes) -> tuple[bytes, list[str]]:
    """An archive's members packed anew, none of them larger than it says, and foreign types.

    Raises ValueError and what zipfile and json raise for bytes that are no archive of skops.
    """
    packed = BytesIO()
    with ZipFile(BytesIO(data)) as source, ZipFile(packed, "w", ZIP_STORED) as target:
        sizes = {member.filename: member.file_size for member in source.infolist()}
        _check_members(source.infolist())
        digests = {member.filename: _moved(member, source, target) for member in source.infolist()}
    with ZipFile(packed) as target:
        schema = target.read(SCHEMA)
    walk = _Walk(digests, sizes)
    walk.visit(_parsed(schema))
    check_size(walk.referenced, "references")
    return packed.getvalue(), sorted(walk.foreign)


def sklearn_versions(packed: bytes) -> set[str]:
    """The versions of scikit-learn by which the estimators of a checked archive were saved."""
    found: set[str] = set()

    def note(node: dict[str, Any]) -> dict[str, Any]:
        noted = node.get("_sklearn_version")
        if isinstance(noted, dict):
            found.add(str(noted.get("content")).strip('"'))
        return node

    with ZipFile(BytesIO(packed)) as archive:
        json.loads(archive.read(SCHEMA), object_hook=note)
    return found


def _moved(member: ZipInfo, source: ZipFile, target: ZipFile) -> int:
    """Copy a member; return a hash of its content."""
    # In blocks of the declared size: reading it whole unpacks what it does not declare.
    with source.open(member) as file:
        content = file.read(max(member.file_size, 1))
    if len(content) != member.file_size:
        message = f"{member.filename} is shorter than it says"
        raise ValueError(message)
    target.writestr(member.filename, content)
    return hash(content)


def check_size(size: int, what: str, verb: str = "unpack to", limit: int | None = None) -> None:
    """Raise ValueError for more bytes than the limit."""
    limit = MAX_UNPACKED_BYTES if limit is None else limit
    if size > limit:
        message = f"its {what} {verb} {size} bytes, over the limit of {limit}"
        raise ValueError(message)


def _check_members(members: list[ZipInfo]) -> None:
    # bzip2 and lzma are unpacked without a bound, whatever size is declared.
    if not {member.compress_type for member in members} <= {ZIP_STORED, ZIP_DEFLATED}:
        message = "a member is packed in a way that skops never uses"
        raise ValueError(message)
    if len({member.filename for member in members}) != len(members):
        message = "two of its members have one name"
        raise ValueError(message)
    check_size(sum(member.file_size for member in members), "members")
    for member in members:
        if member.filename == SCHEMA:
            check_size(member.file_size, SCHEMA, "has", MAX_SCHEMA_BYTES)


def _parsed(schema: bytes) -> object:
    parts = schema.count(b",") + schema.count(b"{") + schema.count(b"[")
    if parts > MAX_SCHEMA_PARTS:
        message = f"its {SCHEMA} has {parts} parts, over the limit of {MAX_SCHEMA_PARTS}"
        raise ValueError(message)
    return json.loads(schema)


class _Walk:
    """Goes once through every node; `foreign` are the types that are not allowed.

    skops takes the first node of an id for every later one, so a later one that is not the same
    would be a way around what is checked at its own place.
    """

    def __init__(self, digests: Mapping[str, int], sizes: Mapping[str, int]) -> None:
        self._digests = digests
        self._sizes = sizes
        self._known: dict[object, int] = {}
        self.referenced = 0
        self.foreign: set[str] = set()

    def visit(self, value: object) -> int:
        """A hash of the value's content, ids left out. Raises ValueError, KeyError, TypeError."""
        if isinstance(value, list):
            return hash(tuple(map(self.visit, value)))
        if not isinstance(value, dict):
            return hash(repr(value))
        if "__loader__" in value or "__class__" in value or "__module__" in value:
            return self._node(value)
        return self._mapping(value)

    def _mapping(self, value: dict[str, Any]) -> int:
        return hash(frozenset((key, self.visit(part)) for key, part in value.items()))

    def _node(self, node: dict[str, Any]) -> int:
        loader, kind = node["__loader__"], f"{node['__module__']}.{node['__class__']}"
        # One of the list stays with its own loaders, whatever the settings name.
        is_named = kind in allowed() and kind not in TRUSTED
        if kind not in ALLOWED_TYPES.get(loader, ()) and not is_named:
            self.foreign.add(f"{kind} as {loader}" if kind in TRUSTED else kind)
        if loader == "RandomGeneratorNode":
            _check_generator(node)
        identity = node.get("__id__")
        file = node.get("file")
        if file is not None:
            self.referenced += self._sizes[file]
        content = self._mapping(
            {key: part for key, part in node.items() if key not in {"__id__", "file"}}
        )
        whole = hash((content, None if file is None else self._digests[file]))
        if identity and self._known.setdefault(identity, whole) != whole:
            message = f"its {kind} of the id {identity} is another one in a second place"
            raise ValueError(message)
        return whole


def _check_generator(node: dict[str, Any]) -> None:
    """Only the generator that boosting keeps: of another kind, or a huge pool, it could hang."""
    content = node["content"]
    name = content["bit_generator"]["content"]["bit_generator"]["content"]
    pool = content["seed_seq"]["content"]["pool_size"]["content"]
    if (name, pool) != ('"PCG64"', "4"):
        message = f"its random generator is {name} with a pool of {pool}"
        raise ValueError(message)
