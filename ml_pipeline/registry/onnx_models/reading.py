"""From the bytes of an ONNX file to an estimator: inputs, output and classes are found out.

Converters write a label and the probabilities, these as a tensor or as a map for each row (ZipMap);
a network that somebody wrote may answer with probabilities alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.registry.onnx_models.classifier import (
    OnnxClassifier,
    feeds_of,
    probabilities,
    run,
    session_of,
)
from ml_pipeline.registry.onnx_models.graph import named_classes, order_of_inputs, parsed

# By so many rows it is found out which column is which label.
_TRIED_ROWS: Final = 5000
_LABELS: Final = ("tensor(int64)", "tensor(int32)", "tensor(string)")
_SHARES: Final = ("tensor(float)", "tensor(double)")
_MAPS: Final = "seq(map("
_MATRIX: Final = 2
_NAME_THEM: Final = (
    "write them into it, in the order of its probabilities: "
    "onnx.helper.set_model_props(model, {'classes': '[\"NO\", \"YES\"]'})"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    """What it answers for some rows: `label` (n,) if it names one, and `shares` (n, K)."""

    label: NDArray[Any] | None
    shares: NDArray[np.float64]
    keys: list[str | int]


def read_classifier(
    data: bytes,
    features: Sequence[str],
    rows: NDArray[np.float64],
    label_of: Callable[[str], str | None],
) -> OnnxClassifier:
    """The classifier in these bytes, its classes called as `label_of` reads them.

    `rows` (n, d) are of those features. Raises ValueError for what cannot be registered, as the end
    of a sentence; ArtifactIncompatible where the libraries are not installed.
    """
    model = parsed(data)
    names, session = order_of_inputs(model, features), session_of(data)
    output = _output_of(session)
    answer = _ask(session, output, names, rows[:_TRIED_ROWS])
    return OnnxClassifier(
        model=np.frombuffer(data, dtype=np.uint8),
        classes=_labels(_classes(model, answer), label_of),
        names=names,
        output=output,
        keys=answer.keys,
    )


def _labels(found: Sequence[str], label_of: Callable[[str], str | None]) -> list[str]:
    labels = [label_of(name) for name in found]
    unknown = [name for name, label in zip(found, labels, strict=True) if label is None]
    if unknown:
        message = f"knows the class {', '.join(unknown)}, which the config does not (data.classes)"
        raise ValueError(message)
    if len(set(labels)) != len(labels):
        message = f"knows {', '.join(found)}, of which two mean the same label (data.labels)"
        raise ValueError(message)
    return [str(label) for label in labels]


def _output_of(session: Any) -> str:  # noqa: ANN401 - onnxruntime.InferenceSession
    """The output with the probabilities."""
    outputs = session.get_outputs()
    maps = [one.name for one in outputs if one.type.startswith(_MAPS)]
    tensors = [
        one.name for one in outputs
        if one.type in _SHARES and (not one.shape or len(one.shape) == _MATRIX)
    ]  # fmt: skip
    named = [name for name in tensors if "prob" in name.lower()]
    for found in (maps, named, tensors):
        if len(found) == 1:
            return str(found[0])
    there = ", ".join(f"{one.name} ({one.type})" for one in outputs)
    message = f"has no output with a probability for each class, or several: {there}"
    raise ValueError(message)


def _ask(
    session: Any,  # noqa: ANN401
    output: str,
    names: Sequence[str],
    rows: NDArray[np.float64],
) -> _Answer:
    found = [one.name for one in session.get_outputs() if one.type in _LABELS]
    answers = run(session, [output, *found[:1]], feeds_of(session, names, rows))
    keys = [*answers[0][0]] if isinstance(answers[0], list) and len(answers[0]) else []
    shares = probabilities(answers[0], keys)
    if shares.ndim != _MATRIX or shares.shape[1] < 2:  # noqa: PLR2004 - two classes
        message = (
            f"answers with the shape {shares.shape} for {len(rows)} rows, not with a probability "
            "for each class: a regressor, or the probability of one class alone"
        )
        raise ValueError(message)
    return _Answer(
        label=np.ravel(answers[1]) if len(answers) > 1 else None, shares=shares, keys=keys
    )


def _classes(model: Any, answer: _Answer) -> list[str]:  # noqa: ANN401
    """The classes in the order of the probabilities."""
    if answer.keys:
        return [str(key) for key in answer.keys]
    found = named_classes(model) or _seen_classes(answer)
    if len(found) != answer.shares.shape[1]:
        message = (
            f"names {len(found)} classes ({', '.join(found)}) and answers with "
            f"{answer.shares.shape[1]} probabilities"
        )
        raise ValueError(message)
    return found


def _seen_classes(answer: _Answer) -> list[str]:
    """Which label it gives where a column is the largest."""
    if answer.label is None:
        message = f"does not say what its classes are called: {_NAME_THEM}"
        raise ValueError(message)
    largest = answer.shares.argmax(axis=1)
    seen = {
        place: {str(label) for label in answer.label[largest == place]}
        for place in range(answer.shares.shape[1])
    }
    if any(len(labels) != 1 for labels in seen.values()):
        message = f"does not show on the rows which probability is of which class: {_NAME_THEM}"
        raise ValueError(message)
    return [label for place in sorted(seen) for label in seen[place]]
