"""Small classifiers in the ONNX format, and what may be wrong with one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from tests.support import league

FEATURES = 5
ROWS = [None, FEATURES]
WEIGHTS = league.TRUTH
# As onnxruntime 1.23 knows them, whatever onnx would write.
OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]


def linear(  # noqa: PLR0913 - the ways in which exporters differ
    labels: Sequence[str | int] = ("H", "D", "A"),
    *,
    weights: Any = WEIGHTS,  # noqa: ANN401 - an array
    zipmap: bool = True,
    names: Sequence[str] = (),
    kind: int = TensorProto.FLOAT,
    transform: str = "SOFTMAX",
) -> onnx.ModelProto:
    """A softmax of five features, as converters of scikit-learn's models write one.

    With `names` each feature is an input of its own.
    """
    is_text = isinstance(labels[0], str)
    label_type = TensorProto.STRING if is_text else TensorProto.INT64
    listed: dict[str, Any] = {f"classlabels_{'strings' if is_text else 'ints'}": list(labels)}
    classify = helper.make_node(
        "LinearClassifier", ["X"], ["label", "shares"], domain="ai.onnx.ml",
        coefficients=[float(value) for value in weights.ravel()],
        intercepts=[0.0] * len(labels), post_transform=transform,
        **listed,
    )  # fmt: skip
    nodes, inputs = [classify], [helper.make_tensor_value_info("X", kind, ROWS)]
    if names:
        floats = [f"float {name}" for name in names]
        casts = [
            helper.make_node("Cast", [name], [as_float], to=TensorProto.FLOAT)
            for name, as_float in zip(names, floats, strict=True)
        ]
        nodes = [*casts, helper.make_node("Concat", floats, ["X"], axis=1), classify]
        inputs = [helper.make_tensor_value_info(name, kind, [None, 1]) for name in names]
    shares = helper.make_tensor_value_info("shares", TensorProto.FLOAT, [None, len(labels)])
    if zipmap:
        keys: dict[str, Any] = {f"classlabels_{'strings' if is_text else 'int64s'}": list(labels)}
        nodes.append(helper.make_node("ZipMap", ["shares"], ["maps"], domain="ai.onnx.ml", **keys))
        number = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
        row = helper.make_map_type_proto(label_type, number)
        shares = helper.make_value_info("maps", helper.make_sequence_type_proto(row))
    label = helper.make_tensor_value_info("label", label_type, [None])
    return made(nodes, inputs, [label, shares])


def network(labels: str | None = None, *, width: int = 3) -> onnx.ModelProto:
    """A product and a softmax: it answers with probabilities alone, as a network does."""
    weights = helper.make_tensor(
        "W", TensorProto.FLOAT, [FEATURES, width], WEIGHTS[:width].T.ravel().tolist()
    )
    model = made(
        [
            helper.make_node("MatMul", ["X", "W"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["shares"], axis=1),
        ],
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ROWS)],
        [helper.make_tensor_value_info("shares", TensorProto.FLOAT, [None, width])],
        [weights],
    )
    if labels is not None:
        helper.set_model_props(model, {"classes": labels})
    return model


def made(
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    weights: Sequence[Any] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "classifier", inputs, outputs, list(weights))
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=9)


def regressor() -> onnx.ModelProto:
    node = helper.make_node(
        "LinearRegressor", ["X"], ["variable"], domain="ai.onnx.ml",
        coefficients=[1.0] * FEATURES, intercepts=[0.0],
    )  # fmt: skip
    return made(
        [node],
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ROWS)],
        [helper.make_tensor_value_info("variable", TensorProto.FLOAT, [None, 1])],
    )


def with_external_data() -> onnx.ModelProto:
    """Its weights stand in another file, which is not there."""
    model = network('["H", "D", "A"]')
    weights = model.graph.initializer[0]
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights.bin")
    return model


def inside_of_a_branch(node: Any, *, weights: Sequence[Any] = ()) -> onnx.ModelProto:  # noqa: ANN401
    """A network in one branch of which stands a further operator."""
    model = network('["H", "D", "A"]')
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    branch = helper.make_graph([node], "branch", [], [out], list(weights))
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    model.graph.initializer.append(yes)
    model.graph.node.append(
        helper.make_node("If", ["yes"], ["unused"], then_branch=branch, else_branch=branch)
    )
    return model


def with_operator(op_type: str, domain: str = "") -> onnx.ModelProto:
    """A network one operator of which is another one."""
    model = network('["H", "D", "A"]')
    model.graph.node[1].op_type, model.graph.node[1].domain = op_type, domain
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def saved(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path
