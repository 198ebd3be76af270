"""Shape inference that keeps named dimensions, without moving the weights.

onnx infers in C++ on a serialized model. Weights go there as declarations without content, so that
neither size nor the 2 GB limit matters; small constants go with their content, because Reshape and
its like need it. What comes back is only read for what was not known: an operator that onnx does
not know costs its own outputs' shapes, nothing else.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator

import onnx

from onnxopt.config import OptimizeConfig
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor

NAME = "shapes"
SUMMARY = "Infers types and shapes; named dimensions keep their names"

_SMALL = 1024  # elements: a constant up to this size may say what a shape is


def run(editor: Editor, config: OptimizeConfig) -> Counter[str]:  # noqa: ARG001
    """Infer what is not known yet; nothing counts as done, because nothing was rewritten."""
    infer(editor.model)
    return Counter()


def infer(model: ir.Model) -> int:
    """Give values the types and shapes that follow from the inputs'; return how many gained.

    A model on which onnx's inference fails altogether stays as it is.
    """
    if not any(_unknown(value) for graph, _ in facts.scopes(model) for value in _made_in(graph)):
        return 0
    try:
        inferred = onnx.shape_inference.infer_shapes(
            declaration(model), check_type=False, strict_mode=False, data_prop=True
        )
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        logging.getLogger(__name__).info("shape inference failed: %s", error)
        return 0
    return _merge(model.graph, inferred.graph)


def declaration(model: ir.Model) -> onnx.ModelProto:
    """Serialize a model without the content of its large weights, which become inputs."""
    proto = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    for domain, version in model.opset_imports.items():
        proto.opset_import.append(onnx.helper.make_opsetid(domain, version))
    graph = proto.graph
    graph.name = model.graph.name or "graph"
    for value in model.graph.inputs:
        ir.serde.serialize_value_into(graph.input.add(), value)
    for value in model.graph.initializers.values():
        _declare_initializer(graph, value)
    for node in model.graph:
        ir.serde.serialize_node_into(graph.node.add(), node)
        for value in node.outputs:
            if value.type is not None and value.name and not value.is_graph_output():
                ir.serde.serialize_value_into(graph.value_info.add(), value)
    for value in model.graph.outputs:
        ir.serde.serialize_value_into(graph.output.add(), value)
    for function in model.functions.values():
        ir.serde.serialize_function_into(proto.functions.add(), function)
    for info in (*graph.input, *graph.value_info, *graph.output):
        for dim in info.type.tensor_type.shape.dim:
            # onnx takes two dimensions called '?' for equal; their author meant 'not known'.
            named = dim.HasField("dim_param") and dim.dim_param in facts.UNKNOWN_NAMES
            if named or dim.dim_value < 0:
                dim.Clear()
    return proto


def _declare_initializer(graph: onnx.GraphProto, value: ir.Value) -> None:
    held = value.const_value
    if held is None:
        return
    if held.size <= _SMALL:
        ir.serde.serialize_tensor_into(graph.initializer.add(), held)
        graph.initializer[-1].name = value.name or ""
    elif not value.is_graph_input():
        declared = onnx.helper.make_tensor_value_info(
            value.name or "", int(held.dtype), held.shape.numpy()
        )
        graph.input.append(declared)


def _made_in(graph: ir.Graph) -> Iterator[ir.Value]:
    for node in graph:
        yield from node.outputs


def _unknown(value: ir.Value) -> bool:
    if not value.name or isinstance(value.type, (ir.SequenceType, ir.OptionalType)):
        return False
    return value.shape is None or value.type is None or value.shape.has_unknown_dim()


def _merge(graph: ir.Graph, inferred: onnx.GraphProto) -> int:
    """Take over what was inferred about one graph and the graphs nested in its nodes."""
    known = {info.name: info for info in (*inferred.value_info, *inferred.output)}
    gained = 0
    for node, proto in zip(graph, inferred.node, strict=True):
        for value in node.outputs:
            info = known.get(value.name or "")
            if info is not None and _unknown(value):
                gained += _learn(value, info)
        if node.attributes:
            protos = [attr.g for attr in proto.attribute if attr.HasField("g")]
            for nested, nested_proto in zip(facts.nested_graphs(node), protos, strict=False):
                gained += _merge(nested, nested_proto)
    return gained


def _learn(value: ir.Value, info: onnx.ValueInfoProto) -> bool:
    kind = info.type
    if not kind.HasField("tensor_type") or not kind.tensor_type.elem_type:
        return False
    if value.type is None:
        value.type = ir.TensorType(ir.DataType(kind.tensor_type.elem_type))
    if not kind.tensor_type.HasField("shape"):
        return False
    dims = [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
        for dim in kind.tensor_type.shape.dim
    ]
    before = value.shape
    if before is not None and len(before) == len(dims):
        dims = [new if old is None else old for old, new in zip(_dims(value), dims, strict=True)]
    value.shape = ir.Shape(dims)
    return before is None or before != value.shape


def _dims(value: ir.Value) -> list[int | str | None]:
    return list(facts.shape(value) or ())
