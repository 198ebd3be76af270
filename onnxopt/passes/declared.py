"""Writes a model down for onnx's shape inference: types and graphs, without the large weights.

Weights become inputs, so that neither size nor the 2 GB limit of protobuf matters; small constants
go with their content, because Reshape and its like need it.

The nodes of an If's branches stand in the graph around it, and its outputs are what onnx infers for
a sequence of what either branch gives: the shape that both have. For each nested graph onnx copies
all that it knows so far, which takes a model of many Ifs time that grows with its square.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx

from onnxopt.graph import facts, io
from onnxopt.graph._onnx_ir import ir

INVENTED = "unknown "
"""How the names begin that inference has invented; they are never written to a file."""

_SMALL = 1024  # elements: a constant up to this size may say what a shape is
_SINCE_SEQUENCES = 11


def invented(dim: facts.Dim) -> bool:
    """Tell whether a dimension bears a name that inference has invented."""
    return isinstance(dim, str) and dim.startswith(INVENTED)


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """A model as onnx's inference gets it; `flattened` are the Ifs whose branches stand around."""

    proto: onnx.ModelProto
    flattened: set[ir.Node] = field(default_factory=set)

    def names(self) -> set[str]:
        """Return the names of dimensions that the model itself declares."""
        graph = self.proto.graph
        infos = (*graph.input, *graph.value_info, *graph.output)
        return {dim.dim_param for info in infos for dim in info.type.tensor_type.shape.dim}


def declare(model: ir.Model) -> Declaration:
    """Write a model down without the content of its large weights."""
    proto = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    for domain, version in model.opset_imports.items():
        proto.opset_import.append(onnx.helper.make_opsetid(domain, version))
    declaration = Declaration(proto=proto)
    graph = proto.graph
    graph.name = model.graph.name or "graph"
    for value in model.graph.inputs:
        ir.serde.serialize_value_into(graph.input.add(), value)
    _Writer(declaration, model).write(model.graph)
    for value in model.graph.outputs:
        ir.serde.serialize_value_into(graph.output.add(), value)
    for function in model.functions.values():
        ir.serde.serialize_function_into(proto.functions.add(), function)
    _clear_names(graph)
    return declaration


class _Writer:
    """Writes the graphs of one model into the only graph of a declaration."""

    def __init__(self, declaration: Declaration, model: ir.Model) -> None:
        self.declaration = declaration
        self.graph = declaration.proto.graph
        self.main = model.graph
        self.names: Counter[str] = Counter()
        if model.opset_imports.get("", 0) >= _SINCE_SEQUENCES and _branches(model.graph):
            for graph in facts.graphs_within(model.graph):
                self.names.update(_names_of(graph))

    def write(self, graph: ir.Graph) -> None:
        """Write the initializers and the nodes of a graph, with what is known of their outputs."""
        for value in graph.initializers.values():
            _declare_initializer(self.graph, value)
        for node in graph:
            if node.op_type == "If" and self.may_flatten(node):
                self.flatten(node)
            elif not _declare_constant(self.graph, node):
                io.node_to_proto(node, self.graph.node.add())
            for value in node.outputs:
                if value.type is not None and value.name:
                    self.describe(value)

    def describe(self, value: ir.Value) -> None:
        """Write what is known of a value; the outputs of the main graph have their own place."""
        if not value.is_graph_output():
            ir.serde.serialize_value_into(self.graph.value_info.add(), value)
        elif value.graph is not self.main:
            ir.serde.serialize_value_into(self.graph.value_info.add(), value)
            _clear(self.graph.value_info[-1])

    def may_flatten(self, node: ir.Node) -> bool:
        """Tell whether no name in an If's branches is anywhere else: they may stand around it."""
        graphs = list(facts.nested_graphs(node))
        return (
            bool(self.names)
            and not node.domain
            and {"then_branch", "else_branch"} == node.attributes.keys()
            and all(not graph.inputs for graph in graphs)
            and all(len(graph.outputs) == len(node.outputs) for graph in graphs)
            and all(self.names[name] == 1 for graph in graphs for name in _names_of(graph))
        )

    def flatten(self, node: ir.Node) -> None:
        """Write both branches of an If, and for each output the union of what they give."""
        branches = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
        self.declaration.flattened.add(node)
        for branch in branches:
            self.write(branch)
        condition = node.inputs[0]
        position = "" if condition is None else condition.name or ""
        for output, *given in zip(
            node.outputs, *(branch.outputs for branch in branches), strict=True
        ):
            if output.name:
                both = f"either {output.name}"
                sources = [value.name for value in given]
                self.graph.node.add(op_type="SequenceConstruct", input=sources, output=[both])
                self.graph.node.add(
                    op_type="SequenceAt", input=[both, position], output=[output.name]
                )


def _branches(graph: ir.Graph) -> bool:
    return any(node.op_type == "If" for node in graph)


def _names_of(graph: ir.Graph) -> Iterator[str]:
    for value in graph.inputs:
        yield value.name or ""
    yield from graph.initializers.keys() - {value.name for value in graph.inputs}
    for node in graph:
        for value in node.outputs:
            if value.name:
                yield value.name


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


def _clear_names(graph: onnx.GraphProto) -> None:
    """Take out the names of dimensions that prove nothing."""
    for info in graph.output:
        _clear(info)
    for info in (*graph.input, *graph.value_info, *graph.output):
        for dim in info.type.tensor_type.shape.dim:
            # onnx takes two dimensions called '?' for equal; their author meant 'not known'.
            nameless = dim.dim_param in facts.UNKNOWN_NAMES or invented(dim.dim_param)
            if (dim.HasField("dim_param") and nameless) or dim.dim_value < 0:
                dim.Clear()


def _clear(output: onnx.ValueInfoProto) -> None:
    """Forget the names in an output: authors give an output of 3·N rows the name N too."""
    for dim in output.type.tensor_type.shape.dim:
        dim.ClearField("dim_param")
