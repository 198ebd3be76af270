"""Shape inference that keeps named dimensions, without moving the weights.

onnx infers in C++ on what `declared` writes down. What comes back is only read for what was not
known: an operator that onnx does not know costs its own outputs' shapes, nothing else.

onnx invents names (`unk__3`) for dimensions that it cannot tell but knows to be equal. They are
good within one run only, so each run marks its own; where a later run knows better, it wins.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx

from onnxopt.config import OptimizeConfig
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.passes import symbols
from onnxopt.passes.declared import INVENTED, declare, invented
from onnxopt.passes.vectors import Vectors

NAME = "shapes"
SUMMARY = "Infers types and shapes; named dimensions keep their names"

_RUNS = "onnxopt.shapes.runs"


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
        declared = declare(model)
        inferred = onnx.shape_inference.infer_shapes(
            declared.proto, check_type=False, strict_mode=False, data_prop=True
        )
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        logging.getLogger(__name__).info("shape inference failed: %s", error)
        return 0
    run = model.meta[_RUNS] = model.meta.get(_RUNS, 0) + 1
    merger = _Merger(f"{INVENTED}{run}:", declared.names(), declared.flattened)
    gained = merger.merge(model.graph, _Inferred.of(inferred.graph))
    return gained + _keep_what_slices_leave(model)


def _keep_what_slices_leave(model: ir.Model) -> int:
    """Say what onnx does not: a Slice with computed bounds keeps the axes that it does not cut."""
    vectors, gained = Vectors(), 0
    for graph, opsets in facts.scopes(model):
        vectors.opset = opsets.get("", 0)
        for node in graph:
            gained += node.op_type == "Slice" and symbols.refine(vectors, node)
    return gained


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
            elif dims is not None and any(map(invented, dims)):
                value.shape = ir.Shape([None if invented(dim) else dim for dim in dims])
            if everything and _inner(value) and isinstance(value.type, ir.TensorType):
                value.type = None


def _inner(value: ir.Value) -> bool:
    return value.producer() is not None and not value.is_graph_output()


def _made_in(graph: ir.Graph) -> Iterator[ir.Value]:
    for node in graph:
        yield from node.outputs


def _unknown(value: ir.Value) -> bool:
    if not value.name or type(value.type) in facts.NO_TENSORS:
        return False
    dims = facts.shape(value)
    if dims is None or value.type is None:
        return True
    return any(dim is None or invented(dim) for dim in dims)


@dataclass(frozen=True)
class _Inferred:
    """What a run says about one graph: descriptions by name, nodes with graphs by first output."""

    infos: dict[str, onnx.ValueInfoProto]
    holders: dict[str, onnx.NodeProto]

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> _Inferred:
        infos = {info.name: info for info in (*graph.value_info, *graph.output)}
        holders = {
            _first(node.output): node
            for node in graph.node
            if any(attr.HasField("g") for attr in node.attribute)
        }
        return cls(infos, holders)

    def within(self, node: ir.Node) -> list[onnx.GraphProto]:
        """Return the graphs that a node holds."""
        holder = self.holders.get(_first(value.name for value in node.outputs))
        return [] if holder is None else [attr.g for attr in holder.attribute if attr.HasField("g")]


def _first(names: Iterable[str | None]) -> str:
    return next((name for name in names if name), "")


@dataclass(frozen=True)
class _Merger:
    """Takes over what one run has inferred; `mark` makes its invented names its own."""

    mark: str
    declared: set[str]
    flattened: set[ir.Node]

    def merge(self, graph: ir.Graph, inferred: _Inferred) -> int:
        """Take over what was inferred about one graph and the graphs nested in its nodes."""
        gained = 0
        for node in graph:
            for value in node.outputs:
                info = inferred.infos.get(value.name or "")
                if info is not None and _unknown(value):
                    gained += self.learn(value, info)
            if node.attributes:
                nested = facts.nested_graphs(node)
                if node in self.flattened:
                    gained += sum(self.merge(inner, inferred) for inner in nested)
                    continue
                for inner, proto in zip(nested, inferred.within(node), strict=False):
                    gained += self.merge(inner, _Inferred.of(proto))
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
    return new if old is None or invented(old) else old
