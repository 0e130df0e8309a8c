"""A classifier in the ONNX format as an estimator: its bytes stand in the artifact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Never
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from ml_pipeline.registry.onnx_models.graph import library, parsed

# Single precision adds 1e-7 a class; raw scores and votes are far from it.
SUM_WITHIN: Final = 1e-4
_TYPES: Final = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}
_WHOLE: Final = ("tensor(int64)", "tensor(int32)", "tensor(bool)")
_MATRIX: Final = 2
# Single precision ends at 3.4e38: what is left is room for weights.
_LARGEST: Final = 1e30


class OnnxClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted classifier that answers through onnxruntime, on one thread of the CPU.

    `model` are the bytes of the ONNX model, (b,) of uint8; `classes` its labels in the order of
    its probabilities; `names` its inputs in the order of the features, empty where one input takes
    all of them; `output` the output with the probabilities, a tensor (n, K) or a map for each row,
    whose keys are then `keys`.

    Where it takes single precision, numbers over 1e30 are taken for that; a missing one is NaN.
    """

    # The name that saved models carry, so that every version loads those of every other.
    __module__ = "ml_pipeline.onnx_classifier"

    def __init__(
        self,
        model: NDArray[np.uint8],
        classes: Sequence[str],
        names: Sequence[str],
        output: str,
        keys: Sequence[str | int],
    ) -> None:
        self.model = model
        self.classes = classes
        self.names = names
        self.output = output
        self.keys = keys

    @property
    def classes_(self) -> NDArray[np.str_]:
        """The labels, (K,)."""
        return np.asarray([str(label) for label in self.classes])

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: ArrayLike, y: ArrayLike) -> Never:  # noqa: ARG002, N803
        """There is no way to fit it again: raises TypeError."""
        raise TypeError("an ONNX model cannot be fitted again: fit the model that it was made of")

    def predict(self, X: ArrayLike) -> NDArray[np.str_]:  # noqa: N803
        """The most probable label of each row."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Probabilities (n, K) of rows (n, d).

        Raises ValueError for rows that it cannot take, and for answers that are no probabilities.
        """
        rows = np.asarray(X, dtype=np.float64)
        if not len(rows):
            return np.empty((0, len(self.classes)))
        shares = self._answers(rows)
        _check_shares(shares, (len(rows), len(self.classes)))
        shares = np.clip(shares, 0.0, None)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float64)

    def _answers(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        session = _session_of(self)
        feeds = feeds_of(session, self.names, rows)
        return probabilities(run(session, [self.output], feeds)[0], self.keys)


# What cannot be copied or saved, and is made again from the bytes.
_sessions: WeakKeyDictionary[OnnxClassifier, Any] = WeakKeyDictionary()


def _session_of(model: OnnxClassifier) -> Any:  # noqa: ANN401 - onnxruntime.InferenceSession
    found = _sessions.get(model)
    if found is None:
        data = np.asarray(model.model, dtype=np.uint8).tobytes()
        # Before the runtime opens other files for its weights.
        parsed(data)
        found = _sessions[model] = session_of(data)
    return found


def session_of(data: bytes) -> Any:  # noqa: ANN401 - onnxruntime.InferenceSession
    """A session on one thread of the CPU, that says nothing. Raises ValueError."""
    runtime = library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # Its errors have no base of their own.
        message = f"cannot be loaded by onnxruntime: {_first_line(error)}"
        raise ValueError(message) from error


def run(session: Any, outputs: Sequence[str], feeds: dict[str, Any]) -> list[Any]:  # noqa: ANN401
    """What a session answers. Raises ValueError."""
    options = library("onnxruntime").RunOptions()
    options.log_severity_level = 4
    try:
        return list(session.run(list(outputs), feeds, options))
    except Exception as error:
        message = f"the ONNX model cannot answer: {_first_line(error)}"
        raise ValueError(message) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def feeds_of(
    session: Any,  # noqa: ANN401
    names: Sequence[str],
    rows: NDArray[np.float64],
) -> dict[str, Any]:
    """The rows (n, d) as the inputs of a session want them. Raises ValueError."""
    inputs = session.get_inputs()
    if not names:
        (only,) = inputs
        return {only.name: _typed(rows, only)}
    places = {name: place for place, name in enumerate(names)}
    columns = {one.name: _typed(rows[:, [places[one.name]]], one) for one in inputs}
    return {
        one.name: columns[one.name] if len(one.shape) == _MATRIX else columns[one.name][:, 0]
        for one in inputs
    }


def _typed(values: NDArray[np.float64], one: Any) -> NDArray[Any]:  # noqa: ANN401
    """Numbers of the kind that an input takes. Raises ValueError where they are none."""
    kind = _TYPES[one.type]
    if one.type in _WHOLE and not (np.isfinite(values) & (values == np.trunc(values))).all():
        message = f"{one.name} takes whole numbers alone"
        raise ValueError(message)
    if kind is not np.float32:
        return values.astype(kind)
    return np.clip(values, -_LARGEST, _LARGEST).astype(np.float32)


def probabilities(answer: Any, keys: Sequence[str | int]) -> NDArray[np.float64]:  # noqa: ANN401
    """The answer of the output with the probabilities as a matrix. Raises ValueError."""
    if not keys:
        return np.asarray(answer, dtype=np.float64)
    try:
        return np.asarray([[row[key] for key in keys] for row in answer], dtype=np.float64)
    except (KeyError, TypeError) as error:
        message = f"its answer lacks a class: {error}"
        raise ValueError(message) from error


def _check_shares(shares: NDArray[np.float64], shape: tuple[int, int]) -> None:
    if shares.shape != shape:
        message = f"its answer has the shape {shares.shape}, not {shape}: rows and classes"
        raise ValueError(message)
    total = shares.sum(axis=1)
    wrong = ~(np.abs(total - 1) <= SUM_WITHIN) | (shares < -SUM_WITHIN).any(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        message = f"its probabilities of row {row + 1} sum to {total[row]:.4g}, not to 1"
        if np.isclose(total[row], 1):
            message = f"a probability of row {row + 1} is under 0"
        raise ValueError(message)
