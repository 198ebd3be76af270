"""Shape inference that keeps named dimensions, without moving the weights.

onnx infers in C++ on a serialized model. Weights go there as declarations without content, so that
neither size nor the 2 GB limit matters; small constants go with their content, because Reshape and
its like need it. What comes back is only read for what was not known: an operator that onnx does
not know costs its own outputs' shapes, nothing else.

onnx invents names (`unk__3`) for dimensions that it cannot tell but knows to be equal. They are
good within one run only, so each run marks its own; where a later run knows better, it wins.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from onnxopt.config import OptimizeConfig
from onnxopt.graph import facts, io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor

NAME = "shapes"
SUMMARY = "Infers types and shapes; named dimensions keep their names"

INVENTED = "unknown "
"""How the names begin that inference has invented; they are never written to a file."""

_RUNS = "onnxopt.shapes.runs"
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
        declared = declaration(model)
        inferred = onnx.shape_inference.infer_shapes(
            declared, check_type=False, strict_mode=False, data_prop=True
        )
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        logging.getLogger(__name__).info("shape inference failed: %s", error)
        return 0
    run = model.meta[_RUNS] = model.meta.get(_RUNS, 0) + 1
    merger = _Merger(f"{INVENTED}{run}:", _names_in(declared.graph))
    gained = merger.merge(model.graph, inferred.graph)
    return gained + sum(_refine(node) for graph, _ in facts.scopes(model) for node in graph)


def was_inferred(model: ir.Model) -> bool:
    """Tell whether shapes were inferred for this model before."""
    return _RUNS in model.meta


def count_shapeless(model: ir.Model) -> int:
    """Count the values of which not even the rank is known."""
    return sum(
        value.shape is None and bool(value.name)
        for graph, _ in facts.scopes(model)
        for value in _made_in(graph)
    )


def declares_shapes(model: ir.Model) -> bool:
    """Tell whether a model, as it was loaded, says of what shape its inner values are."""
    return any(value.shape is not None for value in _made_in(model.graph) if _inner(value))


def forget(model: ir.Model, *, everything: bool) -> None:
    """Take out what only inference knew: invented names, or the shapes of all inner values.

    A file that came without them should not grow by them.
    """
    for graph, _ in facts.scopes(model):
        for value in (*graph.inputs, *_made_in(graph)):
            dims = facts.shape(value)
            if everything and _inner(value):
                value.shape = None
            elif dims is not None and any(map(_invented, dims)):
                value.shape = ir.Shape([None if _invented(dim) else dim for dim in dims])
            if everything and _inner(value) and isinstance(value.type, ir.TensorType):
                value.type = None


def _inner(value: ir.Value) -> bool:
    return value.producer() is not None and not value.is_graph_output()


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
        if not _declare_constant(graph, node):
            io.node_to_proto(node, graph.node.add())
        for value in node.outputs:
            if value.type is not None and value.name and not value.is_graph_output():
                ir.serde.serialize_value_into(graph.value_info.add(), value)
    for value in model.graph.outputs:
        ir.serde.serialize_value_into(graph.output.add(), value)
    for function in model.functions.values():
        ir.serde.serialize_function_into(proto.functions.add(), function)
    for info in graph.output:
        # The names on outputs are no proof: authors give an output of 3·N rows the name N too.
        for dim in info.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")
    for info in (*graph.input, *graph.value_info, *graph.output):
        for dim in info.type.tensor_type.shape.dim:
            # onnx takes two dimensions called '?' for equal; their author meant 'not known'.
            nameless = dim.dim_param in facts.UNKNOWN_NAMES or _invented(dim.dim_param)
            if (dim.HasField("dim_param") and nameless) or dim.dim_value < 0:
                dim.Clear()
    return proto


def _declare_constant(graph: onnx.GraphProto, node: ir.Node) -> bool:
    """Let a large Constant node be an Identity of an input: its content does not travel."""
    held = facts.tensor(node.outputs[0]) if node.op_type == "Constant" else None
    if held is None or held.size <= _SMALL:
        return False
    output = node.outputs[0].name or ""
    content = f"content of {output}"
    graph.node.add(op_type="Identity", input=[content], output=[output])
    graph.input.append(
        onnx.helper.make_tensor_value_info(content, int(held.dtype), held.shape.numpy())
    )
    return True


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


def _invented(dim: facts.Dim) -> bool:
    return isinstance(dim, str) and dim.startswith(INVENTED)


def _unknown(value: ir.Value) -> bool:
    if not value.name or type(value.type) in facts.NO_TENSORS:
        return False
    dims = facts.shape(value)
    if dims is None or value.type is None:
        return True
    return any(dim is None or _invented(dim) for dim in dims)


def _names_in(graph: onnx.GraphProto) -> set[str]:
    infos = (*graph.input, *graph.value_info, *graph.output)
    return {dim.dim_param for info in infos for dim in info.type.tensor_type.shape.dim}


@dataclass(frozen=True)
class _Merger:
    """Takes over what one run has inferred; `mark` makes its invented names its own."""

    mark: str
    declared: set[str]

    def merge(self, graph: ir.Graph, inferred: onnx.GraphProto) -> int:
        """Take over what was inferred about one graph and the graphs nested in its nodes."""
        known = {info.name: info for info in (*inferred.value_info, *inferred.output)}
        gained = 0
        for node, proto in zip(graph, inferred.node, strict=True):
            for value in node.outputs:
                info = known.get(value.name or "")
                if info is not None and _unknown(value):
                    gained += self.learn(value, info)
            if node.attributes:
                protos = [attr.g for attr in proto.attribute if attr.HasField("g")]
                for nested, nested_proto in zip(facts.nested_graphs(node), protos, strict=False):
                    gained += self.merge(nested, nested_proto)
        return gained

    def learn(self, value: ir.Value, info: onnx.ValueInfoProto) -> bool:
        """Take over type and shape of one value where they say more than what is known."""
        kind = info.type
        if not kind.HasField("tensor_type") or not kind.tensor_type.elem_type:
            return False
        if value.type is None:
            value.type = ir.TensorType(ir.DataType(kind.tensor_type.elem_type))
        if not kind.tensor_type.HasField("shape"):
            return False
        dims = [self.dim(dim) for dim in kind.tensor_type.shape.dim]
        before = facts.shape(value)
        if before is not None and len(before) == len(dims):
            dims = [_better(old, new) for old, new in zip(before, dims, strict=True)]
        if before == tuple(dims):
            return False
        value.shape = ir.Shape(dims)
        return True

    def dim(self, dim: onnx.TensorShapeProto.Dimension) -> facts.Dim:
        """Read a dimension; a name that nobody declared is marked as of this run."""
        if dim.HasField("dim_value"):
            return int(dim.dim_value)
        name = str(dim.dim_param)
        return name if name in self.declared or not name else f"{self.mark}{name}"


def _better(old: facts.Dim, new: facts.Dim) -> facts.Dim:
    if isinstance(old, int) or new in (None, ""):
        return old
    return new if old is None or _invented(old) else old


def _refine(node: ir.Node) -> bool:
    """Say what onnx does not: a Slice with computed bounds keeps the axes that it does not cut."""
    if node.op_type != "Slice" or node.domain or len(node.inputs) < 4:
        return False
    before, dims = facts.shape(node.outputs[0]), facts.shape(node.inputs[0])
    axes = facts.integers(node.inputs[3])
    if dims is None or axes is None:
        return False
    cut = {axis % len(dims) for axis in axes}
    kept = before if before is not None and len(before) == len(dims) else (None,) * len(dims)
    after = [_better(kept[i], None if i in cut else dim) for i, dim in enumerate(dims)]
    if tuple(after) == before:
        return False
    node.outputs[0].shape = ir.Shape(after)
    return True
