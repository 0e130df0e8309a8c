"""Write a scoring file: everything that `scoring` needs to answer what `predict_proba` answers.

What the format cannot express has no scoring file and is scored from its artifact.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.datasets.levels.new_levels import known_levels
from ml_pipeline.datasets.reference import kinds_of
from ml_pipeline.registry.inputs.text_columns import text_parts
from ml_pipeline.registry.scoring import FORMATS
from ml_pipeline.store.inputs.incumbent_columns import classes_read

_ALIGNED = 8
# Coefficients over which they stand in the flat part: as text they take long to read.
_SHORT = 1000


class Inexpressible(Exception):
    """A part of a model that the format has no words for."""


def write_scoring(model: Any, path: Path) -> bool:  # noqa: ANN401 - AdaptiveClassifier
    """Write the scoring file of a fitted model; False, and no file, when it has none."""
    try:
        content = scoring_bytes(model)
    except Inexpressible:
        return False
    path.write_bytes(content)
    return True


def scoring_bytes(model: Any) -> bytes:  # noqa: ANN401 - AdaptiveClassifier
    """The file's bytes. Raises Inexpressible."""
    arrays = _Arrays()
    memory = model.memory()
    names = list(model.feature_names_) or [f"feature_{n}" for n in range(model.n_features_in_)]
    header = {
        "features": names,
        "text_column": model.text_column_,
        **_format(model),
        **_known_levels(model, names, arrays),
        "classes": [str(label) for label in model.classes_],
        "base": _classifier(model.base_, arrays),
        "base_columns": [int(column) for column in model.base_columns_],
        "experts": [
            [_classifier(expert.model, arrays), expert.columns.tolist()]
            for expert in memory.experts
        ],
        "vote": memory.vote.tolist(),
        "mean": model.mean_.tolist(),
        "scale": model.scale_.tolist(),
        **_heads(model, memory, arrays),
    }
    line = json.dumps(header, allow_nan=False, ensure_ascii=False).encode()
    padding = -(len(line) + 1) % _ALIGNED
    return line + b" " * padding + b"\n" + arrays.content()


def _heads(
    model: Any,  # noqa: ANN401 - AdaptiveClassifier
    memory: Any,  # noqa: ANN401 - Memory
    arrays: _Arrays,
) -> dict[str, Any]:
    inputs, families = model.inputs_(), model.rates_().families
    if inputs.is_former:
        return {"sees_features": inputs.sees_numbers, "heads": memory.heads[0].tolist()}
    components, names = inputs.components, [expert.name for expert in memory.experts]
    return {
        "heard": [names.index(name) if name in names else None for name in memory.heard],
        "head_inputs": {
            "mean": inputs.mean.tolist(),
            "scale": inputs.scale.tolist(),
            "sees_numbers": inputs.sees_numbers,
            "components": None if components is None else arrays.add(components.T, "d"),
            "pairs": inputs.pairs.tolist(),
            "frequencies": arrays.add(inputs.frequencies.T, "d"),
            "phases": arrays.add(inputs.phases, "d"),
            **text_parts(model.base_, inputs, arrays.add),
        },
        "families": [
            [family, heads.shape[1], [arrays.add(head.T, "d") for head in heads]]
            for family, heads in zip(families, memory.heads, strict=True)
        ],
    }


def _format(model: Any) -> dict[str, Any]:  # noqa: ANN401 - AdaptiveClassifier
    """The format; and the kinds of the features in their order, where some are no numbers."""
    kinds = [str(kind) for kind in kinds_of(model).values()]
    plain: dict[str, Any] = {"kinds": kinds} if set(kinds) - {"number"} else {}
    number = -1 if classes_read(model.feature_names_) else -2 if plain else -3
    return {"format": FORMATS[number], **plain}


def _known_levels(model: Any, names: Sequence[str], arrays: _Arrays) -> dict[str, Any]:  # noqa: ANN401
    """By the place of a category the levels that training had, where all of them are known."""
    found = known_levels(model.reference_)
    kept = [[names.index(name), arrays.add(levels, "d")] for name, levels in found.items()]
    return {"known_levels": kept} if kept else {}


class _Arrays:
    """The flat part of the file."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, values: NDArray[Any], code: str) -> list[object]:
        """Keep an array; returns where it stands: type code, byte, number of values."""
        data = np.ascontiguousarray(values, dtype=np.dtype(code).newbyteorder("<")).tobytes()
        place = self._size
        data += b"\0" * (-len(data) % _ALIGNED)
        self._parts.append(data)
        self._size += len(data)
        return [code, place, int(values.size)]

    def content(self) -> bytes:
        return b"".join(self._parts)


def _classifier(model: Any, arrays: _Arrays) -> dict[str, Any]:  # noqa: ANN401 - sklearn is untyped
    kind = type(model).__name__
    if kind == "Pipeline":
        *steps, (_, last) = model.steps
        return {
            "kind": "pipeline",
            "steps": [_step(step, arrays) for _, step in steps],
            "last": _classifier(last, arrays),
        }
    if kind == "IncumbentClassifier":
        return _incumbent(model, arrays)
    if kind == "LogisticRegression" or (kind == "SGDClassifier" and model.loss == "log_loss"):
        return _linear(model, arrays, one_versus_rest=kind == "SGDClassifier")
    if kind in {"DecisionTreeClassifier", "RandomForestClassifier"}:
        return _forest(getattr(model, "estimators_", [model]), arrays)
    if kind == "HistGradientBoostingClassifier":
        return _boosting(model, arrays)
    if kind == "VotingClassifier" and model.voting == "soft":
        return _vote(model, arrays)
    raise Inexpressible(kind)


def _incumbent(model: Any, arrays: _Arrays) -> dict[str, Any]:  # noqa: ANN401
    """Where its answer stands in a row; and how its features are read, for the heads."""
    count = len(model.classes_)
    steps = [] if model.read_ is None else [_read(model.read_, arrays)]
    first = int(model.n_features_in_) - count
    return {"kind": "incumbent", "first": first, "count": count, "steps": steps}


def _step(step: Any, arrays: _Arrays) -> dict[str, Any]:  # noqa: ANN401
    kind = type(step).__name__
    if kind == "ColumnTransformer":
        return _read(step, arrays)
    if kind == "SimpleImputer" and not step.add_indicator and np.isnan(step.missing_values):
        return {"kind": "impute", "fill": np.nan_to_num(step.statistics_).tolist()}
    if kind == "StandardScaler":
        width = step.n_features_in_
        mean = step.mean_ if step.with_mean else np.zeros(width)
        scale = step.scale_ if step.with_std else np.ones(width)
        return {"kind": "scale", "mean": mean.tolist(), "scale": scale.tolist()}
    if kind == "Clip":
        return {"kind": "clip", "farthest": float(step.farthest)}
    raise Inexpressible(kind)


def _read(step: Any, arrays: _Arrays) -> dict[str, Any]:  # noqa: ANN401
    """The columns of a row: the terms and the statistics of its text, if any, and its features."""
    parts = {name: (part, places) for name, part, places in step.transformers_}
    texts = [parts.pop(name, None) for name in ("terms", "statistics")]
    if not set(parts) <= {"numbers", "moments", "levels", "means"} or step.remainder != "drop":
        raise Inexpressible("columns that are prepared in another way")
    numbers = _numbers_alone(parts, arrays)
    if numbers is None:
        numbers = [{"kind": "columns", "parts": [
            _part(name, part, places, arrays) for name, (part, places) in parts.items()
        ]}]  # fmt: skip
    if texts[0] is None or texts[1] is None:
        return dict(numbers[0])
    return _reading(texts[0][0], texts[1][0], numbers, arrays)


def _numbers_alone(parts: Mapping[str, Any], arrays: _Arrays) -> list[dict[str, Any]] | None:
    """The steps of a text's companions where they are numbers, in order; None for other kinds."""
    if not parts:
        return []
    if set(parts) != {"numbers"}:
        return None
    return [_step(step, arrays) for _, step in parts["numbers"][0].steps]


def _part(name: str, part: Any, places: Sequence[int], arrays: _Arrays) -> dict[str, Any]:  # noqa: ANN401
    """Columns of one kind, see `inputs.kind_columns`."""
    plain: dict[str, Any] = {"kind": name, "places": [int(place) for place in places]}
    steps = [step for _, step in getattr(part, "steps", [("", part)])]
    if name == "numbers":
        return plain | {"steps": [_step(step, arrays) for step in steps]}
    encode, *rest = steps
    if name == "levels":
        plain |= {
            "levels": [arrays.add(levels, "d") for levels in encode.levels_],
            "also": [[bool(flag) for flag in flags] for flags in encode.also_],
        }
    if name == "means":
        plain |= _means(encode, arrays)
    return plain | {"steps": [_step(step, arrays) for step in rest]}


def _means(encode: Any, arrays: _Arrays) -> dict[str, Any]:  # noqa: ANN401 - LevelMeans
    levels, values, missing = list[object](), list[object](), list[list[float]]()
    for known, added in zip(encode.levels_, encode.values_, strict=True):
        is_level = ~np.isnan(known)
        levels.append(arrays.add(known[is_level], "d"))
        values.append(arrays.add(added[is_level], "d"))
        own = added[~is_level]
        missing.append(own[0].tolist() if len(own) else [0.0] * added.shape[1])
    width = encode.values_[0].shape[1]
    return {"levels": levels, "values": values, "missing": missing, "width": int(width)}


def _reading(
    terms: Any,  # noqa: ANN401 - TfidfVectorizer
    statistics: Any,  # noqa: ANN401
    numbers: list[dict[str, Any]],
    arrays: _Arrays,
) -> dict[str, Any]:
    """The columns of a row with a text: its terms, its statistics, its numbers."""
    scale = statistics.named_steps["scale"]
    places = sorted(terms.vocabulary_, key=terms.vocabulary_.__getitem__)
    return {
        "kind": "read",
        "terms": places,
        "idf": arrays.add(terms.idf_, "d"),
        "statistics": _step(scale, arrays),
        "numbers": numbers,
    }


def _linear(model: Any, arrays: _Arrays, *, one_versus_rest: bool) -> dict[str, Any]:  # noqa: ANN401
    link = "one_versus_rest" if one_versus_rest else "softmax"
    if len(model.coef_) == 1:
        link = "sigmoid"
    elif not one_versus_rest and model.solver == "liblinear":
        link = "one_versus_rest"
    coef: Any = model.coef_.tolist()
    if model.coef_.size > _SHORT:
        coef = [arrays.add(row, "d") for row in model.coef_]
    intercept = np.ravel(model.intercept_).tolist()
    return {"kind": "linear", "coef": coef, "intercept": intercept, "link": link}


def _vote(model: Any, arrays: _Arrays) -> dict[str, Any]:  # noqa: ANN401
    names = [name for name, member in model.estimators if member != "drop"]
    weights = model._weights_not_none or [1.0] * len(names)  # noqa: SLF001 - no public name
    members = zip(names, weights, model.estimators_, strict=True)
    return {
        "kind": "vote",
        "members": [
            [name, float(weight), _classifier(member, arrays)] for name, weight, member in members
        ],
    }


def _forest(trees: Sequence[Any], arrays: _Arrays) -> dict[str, Any]:
    """Trees of scikit-learn: inputs are rounded to single precision, leaves hold shares."""
    classes = len(trees[0].classes_)
    flat = [
        _Flat(
            feature=tree.tree_.feature,
            threshold=tree.tree_.threshold,
            left=tree.tree_.children_left,
            right=tree.tree_.children_right,
            missing_left=tree.tree_.missing_go_to_left,
            values=tree.tree_.value[:, 0, :],
        )
        for tree in trees
    ]
    return _written(flat, arrays, single_precision=True) | {
        "baseline": [0.0] * classes,
        "divisor": float(len(trees)),
        "columns": [0] * len(trees),
        "link": "none",
    }


def _boosting(model: Any, arrays: _Arrays) -> dict[str, Any]:  # noqa: ANN401
    """Trees of histogram boosting: each round adds one tree to each class's score."""
    if model.is_categorical_ is not None and np.any(model.is_categorical_):
        raise Inexpressible("splits on categories")
    flat, columns = list[_Flat](), list[int]()
    for stage in model._predictors:  # noqa: SLF001 - no public name
        for column, tree in enumerate(stage):
            nodes = tree.nodes
            leaf = nodes["is_leaf"].astype(bool)
            flat.append(
                _Flat(
                    feature=np.where(leaf, -2, nodes["feature_idx"].astype(np.int64)),
                    threshold=nodes["num_threshold"],
                    left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
                    right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
                    missing_left=nodes["missing_go_to_left"],
                    values=nodes["value"][:, None],
                )
            )
            columns.append(column)
    baseline = np.ravel(model._baseline_prediction).tolist()  # noqa: SLF001 - no public name
    return _written(flat, arrays, single_precision=False) | {
        "baseline": baseline,
        "divisor": 1.0,
        "columns": columns,
        "link": "sigmoid" if len(baseline) == 1 else "softmax",
    }


class _Flat:
    """One tree in preorder, so that a left child follows its parent."""

    def __init__(  # noqa: PLR0913 - the arrays of a tree
        self,
        *,
        feature: NDArray[Any],
        threshold: NDArray[Any],
        left: NDArray[Any],
        right: NDArray[Any],
        missing_left: NDArray[Any],
        values: NDArray[Any],
    ) -> None:
        order = _preorder(left, right)
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        self.is_leaf = left[order] < 0
        self.feature = np.where(self.is_leaf, -1, feature[order])
        self.threshold = np.where(self.is_leaf, 0.0, threshold[order])
        self.right = np.where(self.is_leaf, -1, place[right[order]])
        self.missing_left = np.where(self.is_leaf, 0, missing_left[order])
        self.values = values[order]


def _preorder(left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.int64]:
    inner = np.flatnonzero(left >= 0)
    if (left[inner] == inner + 1).all():
        return np.arange(len(left))
    order, waiting = list[int](), [0]
    while waiting:
        node = waiting.pop()
        order.append(node)
        if left[node] >= 0:
            waiting += [int(right[node]), int(left[node])]
    return np.asarray(order, dtype=np.int64)


def _written(trees: Sequence[_Flat], arrays: _Arrays, *, single_precision: bool) -> dict[str, Any]:
    sizes = [len(tree.feature) for tree in trees]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
    leaf = np.concatenate([tree.is_leaf for tree in trees])
    # Many leaves hold the same values; each is kept once.
    values, numbers = np.unique(
        np.concatenate([tree.values for tree in trees])[leaf], axis=0, return_inverse=True
    )
    right = np.concatenate([t.right + root for t, root in zip(trees, roots, strict=True)])
    right[leaf] = np.ravel(numbers)
    feature = np.concatenate([tree.feature for tree in trees])
    if feature.max(initial=0) > np.iinfo(np.int16).max:
        raise Inexpressible("more features than a short number counts")
    threshold = np.concatenate([tree.threshold for tree in trees])
    return {
        "kind": "trees",
        "roots": roots.tolist(),
        "width": int(values.shape[1]),
        "single_precision": single_precision,
        "feature": arrays.add(feature, "h"),
        "threshold": arrays.add(
            _rounded_down(threshold) if single_precision else threshold,
            "f" if single_precision else "d",
        ),
        "right": arrays.add(right, "i"),
        "missing_left": arrays.add(np.concatenate([t.missing_left for t in trees]), "b"),
        "values": arrays.add(values, "d"),
    }


def _rounded_down(threshold: NDArray[Any]) -> NDArray[np.float32]:
    """For a value in single precision, `<= threshold` says the same as `<=` the rounded one."""
    rounded = threshold.astype(np.float32)
    over = rounded.astype(np.float64) > threshold
    rounded[over] = np.nextafter(rounded[over], np.float32(-np.inf))
    return rounded
