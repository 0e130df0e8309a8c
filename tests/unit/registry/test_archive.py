"""An artifact loads whole and unchanged, or it is refused before anything of it has run."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import logging
import operator
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from ml_pipeline.datasets.features import joined
from ml_pipeline.errors import ArtifactCorrupt, ArtifactError, ArtifactIncompatible, NotFound
from ml_pipeline.registry.archive import (
    check_library_versions,
    digest_bytes,
    digest_file,
    library_versions,
    load_local_pickle,
    load_model,
    require_digest,
    save_model,
)
from ml_pipeline.registry.archive_schema import MAX_UNPACKED_BYTES
from ml_pipeline.training.text_features import text_preprocessing, with_plain_terms
from tests.support.properties import tries

PLAIN = np.random.default_rng(7).normal(size=(120, 2))


def _rows_with_text() -> Any:  # noqa: ANN401 - an array of objects
    words = np.random.default_rng(7).choice(["rain", "derby", "cup"], (len(PLAIN), 2))
    numbers = PLAIN.copy()
    numbers[::9, 0] = np.nan
    return joined(numbers, [" ".join(pair) for pair in words])


def _forest() -> RandomForestClassifier:
    return RandomForestClassifier(4, random_state=3)


def _boosting() -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_iter=3, early_stopping=False, random_state=3)


def _vote() -> VotingClassifier:
    members = [("linear", LogisticRegression()), ("forest", _forest()), ("boosting", _boosting())]
    return VotingClassifier(members, voting="soft", weights=[0.5, 0.3, 0.2])


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "LogisticRegression": LogisticRegression,
    "SGDClassifier": lambda: SGDClassifier(loss="log_loss", random_state=3),
    "DecisionTree": lambda: DecisionTreeClassifier(max_depth=4, random_state=3),
    "DecisionTree grown best first": lambda: DecisionTreeClassifier(max_leaf_nodes=9),
    "RandomForest": _forest,
    "HistGradientBoosting": _boosting,
    "Ensemble": _vote,
}


@functools.cache
def _fitted(name: str, classes: int = 3) -> Any:  # noqa: ANN401 - scikit-learn has no stubs
    return ESTIMATORS[name]().fit(PLAIN, _labels(classes))


def _labels(classes: int) -> np.ndarray[Any, Any]:
    return np.array(["H", "A", "D"])[np.random.default_rng(classes).integers(0, classes, 120)]


def _stored(data: bytes, folder: Path) -> tuple[Path, str]:
    path = folder / "model.skops"
    path.write_bytes(data)
    return path, digest_bytes(data)


def _load(data: bytes, folder: Path) -> object:
    path, digest = _stored(data, folder)
    return load_model(path, expected_digest=digest)


def _archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_json", ".json"), content)
    return buffer.getvalue()


def _with_schema(data: bytes, change: Callable[[str], str]) -> bytes:
    """The same archive with its schema.json rewritten."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as source,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            content = source.read(name)
            is_schema = name == "schema.json"
            target.writestr(name, change(content.decode()).encode() if is_schema else content)
    return buffer.getvalue()


@functools.cache
def _linear_bytes() -> bytes:
    return bytes(skops.io.dumps(_fitted("LogisticRegression"), compression=zipfile.ZIP_DEFLATED))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("artifacts")


class Hostile(BaseEstimator):  # type: ignore[misc]
    """Leaves a mark on disk as soon as someone constructs it."""

    def __init__(self, mark: str = "") -> None:
        self.mark = mark

    def __setstate__(self, state: dict[str, Any]) -> None:
        Path(state["mark"]).touch()


# --------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_comes_back_with_the_very_same_probabilities(
    name: str, classes: int, tmp_path: Path
) -> None:
    model = _fitted(name, classes)
    path = tmp_path / "model.skops"
    save_model(model, path)
    loaded: Any = load_model(path, expected_digest=digest_file(path))
    assert np.array_equal(loaded.predict_proba(PLAIN), model.predict_proba(PLAIN))
    assert list(loaded.classes_) == list(model.classes_)


@pytest.mark.parametrize("name", ["LogisticRegression", "RandomForest"])
def test_a_pipeline_that_reads_texts_comes_back_with_the_very_same_probabilities(
    name: str, tmp_path: Path
) -> None:
    rows = _rows_with_text()
    pipeline = Pipeline([*text_preprocessing(rows), ("model", ESTIMATORS[name]())])
    pipeline = with_plain_terms(pipeline.fit(rows, _labels(3)))
    path = tmp_path / "model.skops"
    save_model(pipeline, path)
    loaded: Any = load_model(path, expected_digest=digest_file(path))
    assert np.array_equal(loaded.predict_proba(rows), pipeline.predict_proba(rows))


def test_a_model_that_is_loaded_again_is_one_of_its_own(tmp_path: Path) -> None:
    model, path = LogisticRegression().fit([[0.0], [1.0]], [0, 1]), tmp_path / "model.skops"
    save_model(model, path)
    digest = digest_file(path)
    for _ in range(3):
        loaded: Any = load_model(path, expected_digest=digest)
        np.testing.assert_array_equal(loaded.coef_, model.coef_)
        loaded.coef_[:] = 7
    path.write_bytes(b"another")
    with pytest.raises(ArtifactCorrupt):
        load_model(path, expected_digest=digest)


def test_saving_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(b"what was there before")
    save_model(_fitted("DecisionTree"), path)
    load_model(path, expected_digest=digest_file(path))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "model",
    [
        Hostile(mark="nowhere"),
        Pipeline([("step", FunctionTransformer(os.path.abspath))]),
        Pipeline([("step", FunctionTransformer(lambda rows: rows))]),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(model: object, tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(b"what was there before")
    with pytest.raises(ArtifactIncompatible):
        save_model(model, path)
    assert path.read_bytes() == b"what was there before"
    assert list(tmp_path.iterdir()) == [path]


# ------------------------------------------------------------------------------------- digest


@given(st.binary(max_size=200), st.integers(0, 3))
def test_a_digest_is_sha256_however_long_the_file(folder: Path, tail: bytes, chunks: int) -> None:
    data = b"x" * (chunks * 1024 * 1024) + tail
    path = folder / "bytes"
    path.write_bytes(data)
    expected = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert digest_bytes(data) == digest_file(path) == expected
    require_digest(path, expected, source="a test")


def test_a_wrong_digest_is_refused_naming_source_expected_and_found(tmp_path: Path) -> None:
    path, digest = _stored(b"bytes", tmp_path)
    with pytest.raises(ArtifactCorrupt) as refusal:
        require_digest(path, "sha256:00", source="The champion's artifact")
    assert "The champion's artifact" in refusal.value.message
    assert digest in refusal.value.message
    assert "sha256:00" in refusal.value.message
    assert refusal.value.hint


@settings(deadline=None)
@given(st.data())
def test_one_flipped_bit_anywhere_is_refused_by_the_digest(
    folder: Path, data: st.DataObject
) -> None:
    whole = _linear_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    path, _ = _stored(bytes(flipped), folder)
    with pytest.raises(ArtifactCorrupt, match="has the digest"):
        load_model(path, expected_digest=digest_bytes(whole))


@pytest.mark.parametrize("content", [b"no archive at all", _archive(schema_json=b"{"), b""])
def test_nothing_is_parsed_when_the_digest_is_wrong(content: bytes, tmp_path: Path) -> None:
    path, _ = _stored(content, tmp_path)
    with pytest.raises(ArtifactCorrupt, match="has the digest"):
        load_model(path, expected_digest="sha256:" + "0" * 64)


def test_a_hostile_archive_with_a_wrong_digest_is_corrupt_not_incompatible(tmp_path: Path) -> None:
    path, _ = _stored(skops.io.dumps(Hostile(mark=str(tmp_path / "mark"))), tmp_path)
    with pytest.raises(ArtifactCorrupt, match="has the digest"):
        load_model(path, expected_digest="sha256:" + "0" * 64)
    assert not (tmp_path / "mark").exists()


def test_an_artifact_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    for read in (digest_file, load_local_pickle):
        with pytest.raises(NotFound, match=r"absent\.pkl"):
            read(tmp_path / "absent.pkl")
    with pytest.raises(NotFound, match=r"absent\.skops"):
        load_model(tmp_path / "absent.skops", expected_digest="sha256:" + "0" * 64)


# -------------------------------------------------------------------------------------- types


def test_a_class_that_is_not_allowed_is_refused_and_never_constructed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    data = skops.io.dumps({"model": [Hostile(mark=str(mark))]})
    with pytest.raises(ArtifactIncompatible, match="Hostile") as refusal:
        _load(data, tmp_path)
    assert "artifacts.allowed_types: [" in refusal.value.hint
    assert not mark.exists()
    skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
    assert mark.exists(), "the mark would have been left by anyone who constructs it"


@pytest.mark.parametrize(
    ("thing", "named"),
    [
        (functools.partial(os.system, "true"), "functools.partial"),
        (FunctionTransformer(os.system), "system"),
        (FunctionTransformer(eval), "eval"),
        (FunctionTransformer(subprocess.check_output), "check_output"),
        (operator.methodcaller("unlink"), "methodcaller"),
    ],
)
def test_functions_are_refused_even_inside_trusted_estimators(
    thing: object, named: str, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactIncompatible, match=named):
        _load(skops.io.dumps({"model": _fitted("LogisticRegression"), "more": thing}), tmp_path)


def test_an_older_protocol_does_not_open_a_side_door(tmp_path: Path) -> None:
    data = skops.io.dumps(functools.partial(os.system, "true"))
    for protocol in (0, 1):
        older = _with_schema(data, lambda text, p=protocol: _set(text, "protocol", p))  # type: ignore[misc]
        with pytest.raises(ArtifactError):
            _load(older, tmp_path)


def test_many_unknown_types_are_counted_not_listed(tmp_path: Path) -> None:
    functions = [os.system, os.remove, os.rename, os.rmdir, os.kill]
    with pytest.raises(ArtifactIncompatible, match="and 2 more"):
        _load(skops.io.dumps(functions), tmp_path)


# ------------------------------------------------------------------------------------ archive


def test_what_is_no_archive_is_corrupt(tmp_path: Path) -> None:
    for content in (b"", b"not a zip", b"PK\x03\x04" + b"\0" * 60):
        with pytest.raises(ArtifactCorrupt, match="cannot be read"):
            _load(content, tmp_path)


def test_a_pickle_is_never_loaded_as_an_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        _load(pickle.dumps(_fitted("LogisticRegression")), tmp_path)


@settings(deadline=None)
@given(st.data())
def test_a_truncated_archive_is_corrupt(folder: Path, data: st.DataObject) -> None:
    whole = _linear_bytes()
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        _load(whole[: data.draw(st.integers(0, len(whole) - 1))], folder)


@pytest.mark.parametrize(
    "schema",
    [b"", b"{", b"[]", b"null", b"{}", b'{"protocol": 2}', b'{"protocol": 99}', b"[" * 99_999],
)
def test_a_schema_that_is_none_is_corrupt(schema: bytes, tmp_path: Path) -> None:
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        _load(_archive(schema_json=schema), tmp_path)


def test_an_archive_without_a_schema_or_an_array_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        _load(_archive(other=b""), tmp_path)
    with zipfile.ZipFile(io.BytesIO(_linear_bytes())) as archive:
        schema = archive.read("schema.json")
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        _load(_archive(schema_json=schema), tmp_path)


def _places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401
    yield path
    if isinstance(node, dict | list):
        keys = node if isinstance(node, dict) else range(len(node))
        for key in keys:
            yield from _places(node[key], (*path, key))


def _set(text: str, key: str, value: object) -> str:
    return json.dumps({**json.loads(text), key: value})


HOSTILE_JSON = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.sampled_from(
        ["eval", "builtins", "os", "system", "MethodNode", "TypeNode", "../schema.json", "TreeNode"]
    ),
    st.just([]),
    st.just({}),
)


@settings(deadline=None, max_examples=tries(50))
@given(st.data())
def test_a_tampered_schema_is_refused_or_harmless_but_never_a_bare_error(
    folder: Path, data: st.DataObject
) -> None:
    def change(text: str) -> str:
        schema = json.loads(text)
        places = [place for place in _places(schema) if place]
        *parents, last = data.draw(st.sampled_from(places))
        node = functools.reduce(operator.getitem, parents, schema)
        node[last] = data.draw(HOSTILE_JSON)
        return json.dumps(schema)

    tampered = _with_schema(_linear_bytes(), change)
    with warnings.catch_warnings(), contextlib.suppress(ArtifactError):
        # scikit-learn warns about a version that the tampering wrote.
        warnings.simplefilter("ignore")
        _load(tampered, folder)


@settings(deadline=None, max_examples=tries(50))
@given(st.data())
def test_damage_that_was_registered_is_refused_or_harmless_but_never_a_bare_error(
    folder: Path, data: st.DataObject
) -> None:
    damaged = bytearray(_linear_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings(), contextlib.suppress(ArtifactError):
        warnings.simplefilter("ignore")
        _load(bytes(damaged), folder)


def test_an_archive_that_declares_too_many_bytes_is_refused(tmp_path: Path) -> None:
    data = bytearray(_linear_bytes())
    entry = data.index(b"PK\x01\x02")
    # The uncompressed size stands 24 bytes into the entry of the central directory.
    data[entry + 24 : entry + 28] = (MAX_UNPACKED_BYTES + 1).to_bytes(4, "little")
    with pytest.raises(ArtifactCorrupt, match="members unpack to"):
        _load(bytes(data), tmp_path)


def test_an_archive_that_names_one_member_too_often_is_refused(tmp_path: Path) -> None:
    node = {
        "__class__": "bytes",
        "__module__": "builtins",
        "__loader__": "BytesNode",
        "file": "zeros",
    }
    schema = {
        "__class__": "list",
        "__module__": "builtins",
        "__loader__": "ListNode",
        "content": [node] * 2100,
        "protocol": 2,
    }
    bomb = _archive(schema_json=json.dumps(schema).encode(), zeros=bytes(1024 * 1024))
    assert len(bomb) < 10_000
    with pytest.raises(ArtifactCorrupt, match="references unpack to"):
        _load(bomb, tmp_path)


def test_a_file_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    with path.open("wb") as file:
        file.truncate(MAX_UNPACKED_BYTES + 1)
    with pytest.raises(ArtifactCorrupt, match="over the limit"):
        load_model(path, expected_digest="sha256:" + "0" * 64)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_without_a_bound_is_refused(method: int, tmp_path: Path) -> None:
    data = skops.io.dumps(_fitted("LogisticRegression"), compression=method)
    with pytest.raises(ArtifactCorrupt, match="skops never uses"):
        _load(data, tmp_path)


# -------------------------------------------------------------------------------------- trees


def _tree() -> Any:  # noqa: ANN401 - scikit-learn has no stubs
    return DecisionTreeClassifier(max_depth=3, random_state=3).fit(PLAIN, _labels(3))


def _boost() -> Any:  # noqa: ANN401 - scikit-learn has no stubs
    return _boosting().fit(PLAIN, _labels(3))


def _child_outside(model: Any) -> None:  # noqa: ANN401
    model.tree_.children_left[0] = 10**9


def _child_behind(model: Any) -> None:  # noqa: ANN401
    model.tree_.children_right[1] = 0


def _child_negative(model: Any) -> None:  # noqa: ANN401
    model.tree_.children_right[0] = -7


def _feature_outside(model: Any) -> None:  # noqa: ANN401
    model.tree_.feature[0] = 2


def _feature_negative(model: Any) -> None:  # noqa: ANN401
    model.tree_.feature[0] = -3


def _fewer_features(model: Any) -> None:  # noqa: ANN401
    model.n_features_in_ = 1


TREE_FAULTS = [
    _child_outside,
    _child_behind,
    _child_negative,
    _feature_outside,
    _feature_negative,
    _fewer_features,
]


@pytest.mark.parametrize("fault", TREE_FAULTS)
def test_a_tree_that_leads_outside_itself_is_refused(
    fault: Callable[[Any], None], tmp_path: Path
) -> None:
    model = _tree()
    fault(model)
    with pytest.raises(ArtifactCorrupt, match="DecisionTreeClassifier whose decision tree"):
        _load(skops.io.dumps({"deep": (np.array([model, None], dtype=object),)}), tmp_path)
    with pytest.raises(ArtifactCorrupt, match="decision tree is broken"):
        save_model(model, tmp_path / "never.skops")
    assert not (tmp_path / "never.skops").exists()


@pytest.mark.parametrize("count", ["0", "-1"])
def test_a_tree_that_claims_to_have_no_nodes_is_refused(count: str, tmp_path: Path) -> None:
    def claim(text: str) -> str:
        schema = json.loads(text)
        tree = schema["content"]["content"]["tree_"]["content"]["content"]
        # Without its id, or an equal number met earlier in the file would be taken instead.
        del tree["node_count"]["__id__"]
        tree["node_count"]["content"] = count
        return json.dumps(schema)

    with pytest.raises(ArtifactCorrupt, match="decision tree is broken"):
        _load(_with_schema(skops.io.dumps(_tree()), claim), tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("left", 10**6), ("right", 0), ("feature_idx", 2), ("feature_idx", -1), ("is_categorical", 1)],
)
def test_a_boosted_tree_that_leads_outside_itself_is_refused(
    field: str, value: int, tmp_path: Path
) -> None:
    model = _boost()
    model._predictors[-1][0].nodes[field][0] = value
    with pytest.raises(ArtifactCorrupt, match="HistGradientBoostingClassifier whose decision"):
        _load(skops.io.dumps(Pipeline([("model", model)])), tmp_path)


def test_a_boosted_tree_without_nodes_is_refused(tmp_path: Path) -> None:
    model = _boost()
    model._predictors[0][0].nodes = model._predictors[0][0].nodes[:0]
    with pytest.raises(ArtifactCorrupt, match="decision tree is broken"):
        _load(skops.io.dumps(model), tmp_path)


# ------------------------------------------------------------------------------------ pickles


@pytest.mark.parametrize("suffix", [".joblib", ".pkl"])
def test_a_local_pickle_loads_with_a_warning(
    suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"model{suffix}"
    joblib.dump(_fitted("LogisticRegression"), path)
    loaded: Any = load_local_pickle(path)
    expected = _fitted("LogisticRegression").predict_proba(PLAIN)
    assert np.array_equal(loaded.predict_proba(PLAIN), expected)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("artifacts", logging.WARNING)
    assert record.__dict__["event"] == "pickle_loaded"


def test_a_pickle_under_another_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(pickle.dumps(_fitted("LogisticRegression")))
    with pytest.raises(ArtifactIncompatible, match=r"neither \.joblib nor \.pkl"):
        load_local_pickle(path)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x04cno_such_module\nthing\n."])
def test_a_damaged_pickle_is_corrupt(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        load_local_pickle(path)


# ----------------------------------------------------------------------------------- versions


def test_the_installed_versions_are_compatible_with_themselves() -> None:
    versions = library_versions()
    assert set(versions) == {"python", "numpy", "scikit-learn", "skops"}
    check_library_versions(versions)


def _moved(version: str, place: int, by: int) -> str:
    parts = version.split(".")
    parts[place] = str(int(parts[place]) + by)
    return ".".join(parts)


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize(("library", "place"), [("scikit-learn", 0), ("scikit-learn", 1)])
def test_another_scikit_learn_series_is_refused_with_both_ways_out(
    library: str, place: int, by: int
) -> None:
    here = library_versions()
    saved = _moved(here[library], place, by)
    with pytest.raises(ArtifactIncompatible, match=f"{saved}; {here[library]}") as refusal:
        check_library_versions({**here, library: saved})
    series = ".".join(saved.split(".")[:2])
    assert f"scikit-learn=={series}.*" in refusal.value.hint
    assert "train a new model" in refusal.value.hint


def test_another_numpy_is_refused_only_when_its_major_version_differs() -> None:
    here = library_versions()
    check_library_versions({**here, "numpy": _moved(here["numpy"], 1, 1)})
    with pytest.raises(ArtifactIncompatible, match=r"numpy 1\."):
        check_library_versions({**here, "numpy": _moved(here["numpy"], 0, -1)})


def test_another_patch_release_and_another_python_are_fine() -> None:
    here = library_versions()
    patch = _moved(here["scikit-learn"], 2, 1)
    check_library_versions({"scikit-learn": patch, "numpy": here["numpy"], "python": "3.14.0"})


def test_a_record_without_versions_is_refused() -> None:
    with pytest.raises(ArtifactIncompatible, match="does not say which scikit-learn"):
        check_library_versions({})


def test_versions_and_digests_need_neither_scikit_learn_nor_skops() -> None:
    program = (
        "import sys; from ml_pipeline.registry.archive import library_versions, digest_file;"
        "library_versions(); digest_file(sys.executable);"
        "sys.exit('sklearn' in sys.modules or 'skops' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
