"""Constant folding with a limit on growth.

Nodes that read only constants are evaluated in one onnxruntime session (the reference evaluator
where onnxruntime is missing or has no kernel), and what the rest of the graph reads of them becomes
constants. Four things are never folded: random operators; QuantizeLinear and DequantizeLinear,
whose point is that the small form is stored; results that would make the file larger than
`max_growth` bytes beyond the constants they replace; and nodes whose result may be too large to
compute (a model file comes from a stranger: 40 bytes of ConstantOfShape can ask for a terabyte).
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from onnxopt.config import OptimizeConfig
from onnxopt.errors import OnnxOptError
from onnxopt.graph import facts, io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor

NAME = "fold"
SUMMARY = "Evaluates what is the same at every run, unless storing it would enlarge the file"

_NEVER = frozenset(
    {
        *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
        *("Multinomial", "Bernoulli", "Dropout"),
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
        *("Constant", "If", "Loop", "Scan", "SequenceMap", "StringNormalizer", "RegexFullMatch"),
    }
)
_NO_LARGER = frozenset(
    {
        *("Shape", "Size", "Identity", "Cast", "Slice", "Squeeze", "Unsqueeze", "Reshape"),
        *("Flatten", "Transpose", "Not", "Neg", "Abs", "Sqrt", "Floor", "Ceil", "ReduceProd"),
        *("ReduceMax", "ReduceMin", "ReduceSum", "NonZero", "Concat", "Split"),
    }
)
"""Operators whose result is at most about as large as what they read together."""

_LARGEST = 64 * 2**20  # bytes that one folded result, and all they read, may take in memory
_LARGEST_TOGETHER = 512 * 2**20
_ITEM_BYTES = 8


def run(editor: Editor, config: OptimizeConfig) -> Counter[str]:
    """Fold what is constant in every graph; bodies of functions are left to inlining."""
    done: Counter[str] = Counter()
    budget = _Budget(config.max_growth - editor.model.meta.get("onnxopt.growth", 0))
    for graph, opsets in facts.scopes(editor.model):
        if editor.holds_initializers(graph):
            done += _fold_graph(editor, graph, opsets, budget)
    editor.model.meta["onnxopt.growth"] = config.max_growth - budget.left
    return done


@dataclass
class _Budget:
    """Bytes by which the file may still grow."""

    left: int

    def take(self, growth: int) -> bool:
        if growth > max(self.left, 0):
            return False
        self.left -= max(growth, 0)
        return True


@dataclass
class _Region:
    """The nodes of one graph that read only constants, and the constants that they read."""

    nodes: dict[ir.Node, None] = field(default_factory=dict)
    values: set[ir.Value] = field(default_factory=set)

    def reads(self, value: ir.Value | None) -> bool:
        return value is None or value in self.values or facts.is_constant(value)


def _fold_graph(
    editor: Editor, graph: ir.Graph, opsets: dict[str, int], budget: _Budget
) -> Counter[str]:
    region = _Region()
    room = _LARGEST_TOGETHER
    for node in graph:
        if _foldable(node, region):
            room -= sum(_size(value) for value in node.outputs)
            if room < 0:
                break
            region.nodes[node] = None
            region.values.update(node.outputs)
    if not region.nodes:
        return Counter()
    wanted = _border(region)
    try:
        arrays = _evaluate(region, wanted, opsets)
    except OnnxOptError as error:
        logging.getLogger(__name__).info("cannot fold: %s", error)
        return Counter()
    return _store(editor, region, arrays, budget)


def _foldable(node: ir.Node, region: _Region) -> bool:
    if node.domain or node.op_type in _NEVER or not node.inputs:
        return False
    if not all(region.reads(value) for value in node.inputs):
        return False
    if any(attr.is_ref() for attr in node.attributes.values()):
        return False
    return all(_bounded(node, value) for value in node.outputs if value.name)


def _bounded(node: ir.Node, value: ir.Value) -> bool:
    """Tell whether a result is known to fit before it is computed."""
    dims = facts.static_shape(value)
    if dims is not None:
        return _size(value) <= _LARGEST
    if node.op_type not in _NO_LARGER:
        return False
    sizes = [facts.static_shape(read) for read in node.inputs if read is not None]
    if any(size is None for size in sizes):
        return False
    return sum(math.prod(size or ()) for size in sizes) * 2 * _ITEM_BYTES <= _LARGEST


def _size(value: ir.Value) -> int:
    """Bound the bytes of a result of known shape; one of unknown shape was found to be small."""
    return math.prod(facts.static_shape(value) or ()) * _ITEM_BYTES


def _border(region: _Region) -> list[ir.Value]:
    """Return the results that something outside the region reads."""
    return [value for node in region.nodes for value in node.outputs if _leaves(value, region)]


def _leaves(value: ir.Value, region: _Region) -> bool:
    return value.is_graph_output() or any(use.node not in region.nodes for use in value.uses())


def _evaluate(
    region: _Region, wanted: list[ir.Value], opsets: dict[str, int]
) -> dict[ir.Value, np.ndarray[Any, Any]]:
    """Compute the wanted results, and those between, in one run."""
    from onnxopt.runtime.sessions.engine import run_once

    outputs = [value for node in region.nodes for value in node.outputs if value.name]
    proto = onnx.ModelProto(ir_version=10)
    for domain, version in opsets.items():
        proto.opset_import.append(onnx.helper.make_opsetid(domain, version))
    proto.graph.name = "constants"
    feeds: dict[str, np.ndarray[Any, Any]] = {}
    read: dict[str, ir.Value] = {}
    for node in region.nodes:
        io.node_to_proto(node, proto.graph.node.add())
        for value in node.inputs:
            if value is not None and value not in region.values:
                read.setdefault(value.name or "", value)
    for value in read.values():
        _supply(proto.graph, value, feeds)
    # Results in between are kept as well: where the last one is too large to store, they may do.
    for value in outputs:
        proto.graph.output.add().name = value.name or ""
    assert wanted
    arrays = run_once(proto, feeds)
    return dict(zip(outputs, arrays, strict=True))


def _supply(
    graph: onnx.GraphProto, value: ir.Value, feeds: dict[str, np.ndarray[Any, Any]]
) -> None:
    """Give the evaluation a constant: small ones inside its model, large ones without a copy."""
    name = value.name or ""
    held = facts.tensor(value)
    assert held is not None
    if held.size <= 1024 or held.dtype == ir.DataType.STRING:
        ir.serde.serialize_tensor_into(graph.initializer.add(), held)
        graph.initializer[-1].name = name
    else:
        feeds[name] = held.numpy()
        graph.input.append(
            onnx.helper.make_tensor_value_info(name, int(held.dtype), held.shape.numpy())
        )


def _store(
    editor: Editor,
    region: _Region,
    arrays: dict[ir.Value, np.ndarray[Any, Any]],
    budget: _Budget,
) -> Counter[str]:
    """Replace results by constants, last ones first; where one is too large, those before it."""
    done: Counter[str] = Counter()
    for node in reversed(region.nodes):
        if node.graph is None:
            continue
        visible = [value for value in node.outputs if value.uses() or value.is_graph_output()]
        if not visible or any(value not in arrays for value in visible):
            continue
        if any(value.is_graph_output() for value in visible):
            continue
        growth = sum(arrays[value].nbytes for value in visible) - _freed(node, region)
        if not budget.take(growth):
            continue
        for value in visible:
            constant = editor.constant(arrays[value], value.name or "folded", node)
            editor.replace(value, constant)
        done["fold_constants"] += editor.erase(node)
    return done


def _freed(node: ir.Node, region: _Region) -> int:
    """Count the bytes of the constants that nobody needs once a node's results are stored."""
    cone, stack = {node}, [node]
    held: dict[ir.Value, int] = {}
    while stack:
        for value in stack.pop().inputs:
            if value is None:
                continue
            maker = value.producer()
            if maker is not None and maker in region.nodes:
                if maker not in cone:
                    cone.add(maker)
                    stack.append(maker)
            elif (found := facts.tensor(value)) is not None and not value.is_graph_output():
                held[value] = found.nbytes
    return sum(
        size for value, size in held.items() if all(use.node in cone for use in value.uses())
    )
