"""Whether a loaded model holds together where native code, or time, would suffer if it did not.

scikit-learn follows the indices of trees and sparse columns without looking, so crafted ones read
and write foreign memory or never end: https://github.com/scikit-learn/scikit-learn/pull/34558.
The checks go by what prediction reaches; everything else fails as an error of Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.datasets import texts


def unsound(model: object) -> str | None:
    """What is wrong with the first part that does not hold together; None when all do.

    May raise whatever Python does for parts that are not what they are called.
    """
    for part in _parts(model):
        if isinstance(part, np.ndarray) and part.dtype.itemsize == 0 and part.size:
            return "an array of nothing"
        what = _unsound_part(part) if hasattr(part, "__dict__") else None
        if what is not None:
            return f"a {type(part).__name__} {what}"
    return None


def _unsound_part(part: object) -> str | None:
    state = vars(part)
    if any(callable(getattr(type(part), name, None)) for name in state):
        return "with a method among its values"
    if state.get("n_jobs") not in {None, 1}:
        return f"that would start {state['n_jobs']} processes"
    check = _CHECKS.get(type(part).__name__)
    return None if check is None else check(state)


def _parts(model: object) -> Iterator[object]:
    """Everything reachable from `model` through attributes and containers, each once."""
    seen: dict[int, object] = {}
    waiting: list[Any] = [model]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or isinstance(part, str | bytes | int | float | type):
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


# ------------------------------------------------------------------------------------- trees

_BROKEN: Final = "whose decision tree is broken"


def _tree(state: Mapping[str, Any]) -> str | None:
    if "tree_" not in state:
        return None
    tree, features = state["tree_"], state.get("n_features_in_", 0)
    # Its arrays are views of `node_count` nodes onto a block of `capacity`: count before looking.
    if not 0 < tree.node_count <= tree.capacity or tree.n_features != features:
        return _BROKEN
    children = (tree.children_left, tree.children_right)
    is_sound = _leads_forward(children, tree.feature, children[0] == -1, features)
    return None if is_sound else _BROKEN


def _forest(state: Mapping[str, Any]) -> str | None:
    # The rows are checked by the first tree alone, and handed to all.
    width = state.get("n_features_in_", 0)
    for tree in state.get("estimators_", ()):
        if type(tree).__name__ != "DecisionTreeClassifier" or tree.n_features_in_ != width:
            return "whose trees read other columns than it does"
    return None


def _boosting(state: Mapping[str, Any]) -> str | None:
    if state.get("_preprocessor") is not None or np.any(state.get("is_categorical_")):
        return "that splits on categories"
    features = state.get("n_features_in_", 0)
    trees = (tree for stage in state.get("_predictors", ()) for tree in stage)
    return None if all(_is_sound(tree.nodes, features) for tree in trees) else _BROKEN


def _is_sound(nodes: NDArray[Any], features: int) -> bool:
    leaf = nodes["is_leaf"].astype(bool)
    # Splits on categories index further arrays; our pipelines encode categories before.
    if nodes["is_categorical"][~leaf].any():
        return False
    return _leads_forward((nodes["left"], nodes["right"]), nodes["feature_idx"], leaf, features)


def _bins(state: Mapping[str, Any]) -> str | None:
    return "that bins categories" if np.any(state.get("is_categorical_")) else None


def _leads_forward(
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


# ------------------------------------------------------------------------------------- texts


def _terms(state: Mapping[str, Any]) -> str | None:
    """Terms numbered from 0 on, found as our own training finds them.

    Other settings read files by the names that they are asked about, or search for ever.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    ours = TfidfVectorizer(
        token_pattern=texts.WORD,
        ngram_range=(1, texts.LONGEST_PHRASE),
        max_features=state.get("max_features"),
    ).get_params()
    if any(state.get(name) != value for name, value in ours.items()):
        return "that reads texts in another way"
    vocabulary = state.get("vocabulary_", {})
    places = list(vocabulary.values())
    if type(vocabulary) is not dict or any(type(place) is not int for place in places):
        return "whose terms are not numbered"
    if sorted(places) != list(range(len(places))):
        return "whose terms are numbered wrongly"
    weights = getattr(state.get("_tfidf"), "idf_", None)
    if places and getattr(weights, "shape", None) != (len(places),):
        return "that has not one weight a term"
    return None


# -------------------------------------------------------------------------------------- ONNX


def _onnx(state: Mapping[str, Any]) -> str | None:
    """The runtime checks trees and shapes itself; what it would open or run for us is checked."""
    from ml_pipeline.registry.onnx_models.graph import parsed

    try:
        parsed(np.asarray(state["model"], dtype=np.uint8).tobytes())
    except ValueError as error:
        return f"that {error}"
    return None


_CHECKS: Final[Mapping[str, Callable[[Mapping[str, Any]], str | None]]] = {
    "DecisionTreeClassifier": _tree,
    "RandomForestClassifier": _forest,
    "HistGradientBoostingClassifier": _boosting,
    "OnnxClassifier": _onnx,
    "_BinMapper": _bins,
    "TfidfVectorizer": _terms,
}
