"""What an ONNX model may be made of, read before the runtime sees any of it.

A model is a graph of operators with weights. Files may name further files for their weights, which
the runtime would open, and operators that only a library of somebody's own knows: neither is taken.
https://onnx.ai/onnx/repo-docs/ExternalData.html, https://onnx.ai/onnx/repo-docs/IR.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from ml_pipeline.errors import ArtifactIncompatible

# Reading, checking and storing one take several times its bytes.
MAX_BYTES: Final = 1024**3
# The empty one is `ai.onnx` as well.
DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml"})
# Nothing bounds how often it goes round.
_ENDLESS: Final = "Loop"
_OF_CHANCE: Final = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
     "RandomUniformLike"}
)  # fmt: skip
_EXTERNAL: Final = 1
_SHOWN: Final = 3
_NUMBERS: Final = {1: "float", 6: "int32", 7: "int64", 9: "bool", 11: "double"}
_TEXT: Final = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Port:
    """An input of a model: its name, the kind of its numbers, and its shape, None where free.

    `kind` is `text` for texts, `another kind` for what is no tensor of numbers or texts.
    """

    name: str
    kind: str
    shape: tuple[int | None, ...]

    @property
    def is_numbers(self) -> bool:
        """Whether it takes a tensor of numbers."""
        return self.kind in _NUMBERS.values()


def library(name: str) -> Any:  # noqa: ANN401 - a module that may not be installed
    """`onnx` or `onnxruntime`. Raises ArtifactIncompatible where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ArtifactIncompatible(
            f"A model in the ONNX format needs {name}, which cannot be loaded: {error}.",
            hint='Install it: pip install "auto-reinforcement[onnx]".',
        ) from error


def parsed(data: bytes) -> Any:  # noqa: ANN401 - onnx.ModelProto
    """The model in these bytes. Raises ValueError for what is none, or may not be loaded."""
    if len(data) > MAX_BYTES:
        message = f"has {len(data):,} bytes, over the limit of {MAX_BYTES:,}"
        raise ValueError(message)
    onnx = library("onnx")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        # Of protobuf's own, by its version.
        message = f"is no ONNX model: {type(error).__name__}: {error}"
        raise ValueError(message) from error
    if not model.graph.node or not model.opset_import:
        message = "is no ONNX model: it holds no operators, or does not say of which version"
        raise ValueError(message)
    what = _refused(model)
    if what is not None:
        raise ValueError(what)
    _check_whole(data)
    return model


def _check_whole(data: bytes) -> None:
    try:
        library("onnx").checker.check_model(data)
    except Exception as error:
        message = f"is a broken ONNX model: {str(error).strip().splitlines()[0]}"
        raise ValueError(message) from error


def _refused(model: Any) -> str | None:  # noqa: ANN401
    """What is in it that is not taken, as the end of a sentence."""
    own = {(function.domain, function.name) for function in model.functions}
    foreign: dict[str, None] = {}
    for part in _messages(model):
        kind = part.DESCRIPTOR.name
        if kind == "TensorProto" and (part.data_location == _EXTERNAL or part.external_data):
            files = [entry.value for entry in part.external_data if entry.key == "location"]
            return f"keeps weights in another file ({', '.join(files) or 'external data'})"
        if kind != "NodeProto":
            continue
        if part.op_type == _ENDLESS:
            return f"holds the operator {_ENDLESS}, which may never end"
        if part.op_type in _OF_CHANCE:
            return f"holds the operator {part.op_type}, which answers by chance"
        if part.domain not in DOMAINS and (part.domain, part.op_type) not in own:
            foreign[f"{part.domain}.{part.op_type}"] = None
    if not foreign:
        return None
    shown = ", ".join([*foreign][:_SHOWN])
    more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
    return f"holds operators that are not ONNX's own: {shown}{more}"


def _messages(model: Any) -> Iterator[Any]:  # noqa: ANN401
    """Every part of it that has parts: graphs, operators, tensors, wherever they stand."""
    waiting = [model]
    while waiting:
        part = waiting.pop()
        yield part
        for field, value in part.ListFields():
            if field.message_type is not None:
                waiting.extend([value] if hasattr(value, "ListFields") else value)


# ------------------------------------------------------------------------------------- inputs


def inputs_of(model: Any) -> list[Port]:  # noqa: ANN401
    """What the graph reads, weights left out."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [_port(value) for value in model.graph.input if value.name not in weights]


def _port(value: Any) -> Port:  # noqa: ANN401
    tensor = value.type.tensor_type
    kind = _NUMBERS.get(tensor.elem_type, "text" if tensor.elem_type == _TEXT else "another kind")
    shape = [size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim]
    # Some exporters write 0 for a size that is free.
    return Port(name=value.name, kind=kind, shape=tuple(size or None for size in shape))


def order_of_inputs(model: Any, features: Sequence[str]) -> list[str]:  # noqa: ANN401
    """Names of the inputs in the order of the features; empty for one input that takes all.

    Raises ValueError for inputs that cannot be given rows of those features.
    """
    ports = inputs_of(model)
    for port in ports:
        _check_port(port)
    if len(ports) == 1 and (len(features) > 1 or ports[0].name not in features):
        _check_width(ports[0], features)
        return []
    _check_names([port.name for port in ports], features)
    for port in ports:
        if port.shape[1:] not in _ONE:
            message = f"reads more than a number a row by its input {port.name}"
            raise ValueError(message)
    return list(features)


_ONE: Final = ((), (1,), (None,))


def _check_names(names: Sequence[str], features: Sequence[str]) -> None:
    if set(names) != set(features):
        message = (
            f"reads {', '.join(names) or 'nothing'}; the config names "
            f"{', '.join(features)} (data.features)"
        )
        raise ValueError(message)


def _check_port(port: Port) -> None:
    if not port.is_numbers:
        message = f"reads {port.name} as {port.kind}, and the features are numbers"
        raise ValueError(message)
    if port.shape and port.shape[0] is not None:
        message = (
            f"takes {port.shape[0]} rows at a time (its input {port.name}): export it with a "
            "free first dimension"
        )
        raise ValueError(message)


def _check_width(port: Port, features: Sequence[str]) -> None:
    if len(port.shape) != 2:  # noqa: PLR2004 - rows and features
        message = f"does not take rows of numbers: its input {port.name} has another shape"
        raise ValueError(message)
    if port.shape[1] not in {None, len(features)}:
        message = (
            f"reads {port.shape[1]} numbers a row, and the config names {len(features)} "
            f"features: {', '.join(features)} (data.features)"
        )
        raise ValueError(message)


# ------------------------------------------------------------------------------------- classes


def named_classes(model: Any) -> list[str] | None:  # noqa: ANN401
    """The classes in the order of the probabilities, where the file says so.

    By its entry `classes` of `metadata_props`, a list of JSON, else by what its classifier lists.
    """
    import json

    for entry in model.metadata_props:
        if entry.key == "classes":
            found = json.loads(entry.value)
            if not isinstance(found, list):
                raise ValueError("names its classes by something else than a list of JSON")
            return [str(name) for name in found]
    # From the end: what stands last makes the answer.
    for node in reversed(model.graph.node):
        for attribute in node.attribute:
            if attribute.name.startswith("classlabels_") and (attribute.ints or attribute.strings):
                texts = [text.decode("utf-8") for text in attribute.strings]
                return texts or [str(number) for number in attribute.ints]
    return None
