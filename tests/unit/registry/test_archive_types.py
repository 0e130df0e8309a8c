"""What an artifact may hold is what our own training makes: no type more, and none less."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets.features import Inputs, joined
from ml_pipeline.errors import ArtifactCorrupt, ArtifactIncompatible
from ml_pipeline.registry import archive, archive_schema
from ml_pipeline.registry.onnx_models.classifier import OnnxClassifier
from ml_pipeline.training import algorithms
from ml_pipeline.training.brought.incumbent import IncumbentClassifier
from ml_pipeline.training.online_model import OnlineState
from ml_pipeline.training.strategies import new_model
from tests.support import league, mutated

ROWS = 60


def built(
    algorithm: str,
    labels: Any,  # noqa: ANN401 - an array
    rows: Inputs,
    kinds: Sequence[Kind] = (),
) -> bytes:
    """An artifact as the trainer saves it."""
    settings = league.settings_for()
    # Threads of boosting that wait by spinning are slow beside other tests.
    with threadpool_limits(1):
        base = algorithms.fit(algorithm, rows, labels, settings.training, kinds=kinds)
        model = new_model(base, rows, sorted(set(labels)), settings)
        model.partial_fit(rows, labels)
    model.line_ = OnlineState.fresh(model).as_dict() | {"night": date(2026, 3, 1).toordinal()}
    return bytes(skops.io.dumps(model))


def kinds_of(data: bytes) -> dict[str, set[str]]:
    """The types of an artifact by the loader that makes them."""
    found: dict[str, set[str]] = defaultdict(set)

    def look(node: dict[str, Any]) -> dict[str, Any]:
        if "__loader__" in node:
            found[node["__loader__"]].add(f"{node['__module__']}.{node['__class__']}")
        return node

    with zipfile.ZipFile(BytesIO(data)) as file:
        json.loads(file.read("schema.json"), object_hook=look)
    return found


def a_brought_one() -> OnnxClassifier:
    return OnnxClassifier(
        model=np.zeros(8, dtype=np.uint8),
        classes=["A", "H"],
        names=["a"],
        output="probabilities",
        keys=[0, 1],
    )


def test_the_types_that_are_allowed_are_those_that_are_built() -> None:
    played = league.play(1, ROWS)
    two = np.where(played.labels == "H", "H", "A")
    texts = joined(played.features, [f"who won {n} of {n % 7}?" for n in range(ROWS)])
    of_levels = [np.arange(ROWS) % 3, np.arange(ROWS), np.arange(ROWS) * 3600.0]
    levels = np.column_stack([*of_levels, played.features[:, :2]])
    own = (Kind.CATEGORY, Kind.CATEGORY, Kind.DATETIME, Kind.NUMBER, Kind.BOOLEAN)
    # An ensemble is built of every other algorithm.
    assert league.settings_for().training.ensemble == [
        "LogisticRegression", "RandomForest", "HistGradientBoosting",
    ]  # fmt: skip
    artifacts = [
        *(built(name, played.labels, played.features)
          for name in ("SGDClassifier", "DecisionTree", "Ensemble")),
        built("HistGradientBoosting", two, played.features),
        built("LogisticRegression", played.labels, texts),
        bytes(skops.io.dumps(a_brought_one())),
        built("LogisticRegression", played.labels, levels, own),
        bytes(skops.io.dumps(IncumbentClassifier(["A", "H"], own).fit(levels))),
    ]  # fmt: skip
    made: dict[str, set[str]] = defaultdict(set)
    for data in artifacts:
        for loader, kinds in kinds_of(data).items():
            made[loader] |= kinds
    assert dict(made) == {name: set(kinds) for name, kinds in archive_schema.ALLOWED_TYPES.items()}


@pytest.mark.parametrize(
    "foreign",
    [GradientBoostingClassifier(n_estimators=2), KNeighborsClassifier(), SVC()],
)
def test_an_estimator_that_skops_trusts_and_we_do_not_build_is_refused(
    foreign: Any,  # noqa: ANN401 - an estimator
    tmp_path: Path,
) -> None:
    played = league.play(1, ROWS)
    path = tmp_path / "model.skops"
    path.write_bytes(skops.io.dumps(foreign.fit(played.features, played.labels)))
    with pytest.raises(ArtifactIncompatible, match="types that are not allowed"):
        archive.load_model(path, expected_digest=archive.digest_file(path))


def test_a_list_of_a_type_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    data = skops.io.dumps({"rows": [10**6]})
    schema = mutated.schema_of(data)
    schema["content"]["rows"] |= {"__module__": "numpy", "__class__": "ndarray"}
    path.write_bytes(mutated.with_members(data, schema=schema))
    with pytest.raises(ArtifactIncompatible, match=r"numpy\.ndarray as ListNode"):
        archive.load_model(path, expected_digest=archive.digest_file(path))


# --------------------------------------------------------------------------------- bounds


def test_a_member_that_unpacks_to_more_than_it_says_costs_no_memory(tmp_path: Path) -> None:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("schema.json", b" " * (100 * 1024**2))
    data = packed.getvalue().replace((100 * 1024**2).to_bytes(4, "little"), b"\x10\0\0\0")
    path = tmp_path / "bomb.skops"
    path.write_bytes(data)
    program = (
        "import resource, sys; from pathlib import Path; from ml_pipeline.registry import archive\n"
        "from ml_pipeline.errors import ArtifactCorrupt\n"
        "from ml_pipeline.registry import archive_schema\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: archive_schema.checked(Path(sys.argv[1]).read_bytes())\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    name, kilobytes = done.stdout.split()
    assert name in {"BadZipFile", "ValueError", "JSONDecodeError"}
    assert int(kilobytes) < 30_000


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (b" " * (archive_schema.MAX_SCHEMA_BYTES + 1), "schema.json has"),
        (b"[" + b"{}," * archive_schema.MAX_SCHEMA_PARTS + b"{}]", "parts, over the limit"),
    ],
)
def test_a_schema_that_would_fill_the_memory_is_not_parsed(
    schema: bytes, words: str, tmp_path: Path
) -> None:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("schema.json", schema)
    path = tmp_path / "model.skops"
    path.write_bytes(packed.getvalue())
    with pytest.raises(ArtifactCorrupt, match=words):
        archive.load_model(path, expected_digest=archive.digest_file(path))


def test_nodes_that_point_at_each_other_are_not_walked_for_ever(tmp_path: Path) -> None:
    def node(identity: int, content: list[Any]) -> dict[str, Any]:
        return {
            "__class__": "list", "__module__": "builtins", "__loader__": "ListNode",
            "__id__": identity, "content": content,
        }  # fmt: skip

    deep = node(1, [])
    for level in range(2, 45):
        deep = node(level, [deep, node(level - 1, [])])
    path = tmp_path / "model.skops"
    path.write_bytes(mutated.with_members(skops.io.dumps([1]), schema=deep | {"protocol": 2}))
    with pytest.raises(ArtifactCorrupt, match="another one in a second place"):
        archive.load_model(path, expected_digest=archive.digest_file(path))


# --------------------------------------------------------------------------------- soundness


def unsound(data: bytes, folder: Path) -> str:
    path = folder / "model.skops"
    path.write_bytes(data)
    with pytest.raises(ArtifactCorrupt) as refusal:
        archive.load_model(path, expected_digest=archive.digest_file(path))
    return refusal.value.message


def test_a_forest_whose_trees_read_other_columns_is_refused(tmp_path: Path) -> None:
    model = mutated.small_model("RandomForest")
    wide = mutated.small_model("RandomForest", width=9)
    ours, theirs = (m.base_.named_steps["classify"] for m in (model, wide))
    ours.estimators_[1] = theirs.estimators_[1]
    assert "whose trees read other columns" in unsound(skops.io.dumps(model), tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda terms: terms.vocabulary_.update(rain=10**9), "numbered wrongly"),
        (lambda terms: terms.vocabulary_.update(rain=-1), "numbered wrongly"),
        (lambda terms: terms.vocabulary_.update(rain=0.5), "not numbered"),
        (lambda terms: setattr(terms, "input", "filename"), "reads texts in another way"),
        (lambda terms: setattr(terms, "token_pattern", "(a+)+$"), "reads texts in another way"),
        (lambda terms: setattr(terms, "transform", str), "a method among its values"),
    ],
)
def test_a_vectorizer_that_leads_outside_its_matrix_or_reads_files_is_refused(
    change: Any,  # noqa: ANN401 - a function of a vectorizer
    words: str,
    tmp_path: Path,
) -> None:
    model = mutated.small_model("text")
    change(model.base_.named_steps["read"].named_transformers_["terms"])
    assert words in unsound(skops.io.dumps(model), tmp_path)


def test_a_model_that_starts_processes_is_refused(tmp_path: Path) -> None:
    model = mutated.small_model("RandomForest")
    model.base_.named_steps["classify"].n_jobs = 5000
    assert "would start 5000 processes" in unsound(skops.io.dumps(model), tmp_path)


def test_an_array_that_is_long_and_holds_nothing_is_refused(tmp_path: Path) -> None:
    data = skops.io.dumps(mutated.small_model("LogisticRegression"))
    name = mutated.schema_of(data)["content"]["content"]["classes_"]["file"]
    written = BytesIO()
    head = {"descr": "|V0", "fortran_order": False, "shape": (10**15,)}
    np.lib.format.write_array_header_1_0(written, head)
    long = mutated.with_members(data, **{name: written.getvalue()})
    assert "an array of nothing" in unsound(long, tmp_path)


# --------------------------------------------------------------------------------- mutations


def test_no_mutated_artifact_or_scoring_file_does_more_than_be_refused(tmp_path: Path) -> None:
    mutated.in_a_process(mutated.KINDS, range(3), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("kind", mutated.KINDS)
def test_none_of_many_mutated_ones_does_more_than_be_refused(kind: str, tmp_path: Path) -> None:
    # In parts, each within the time that a process of the tests has.
    for first in (1000, 1500, 2000):
        mutated.in_a_process([kind], range(first, first + 500), tmp_path)
