"""Computes once what is computed twice, and stores once what is stored twice.

Two nodes compute the same when operator, attributes (one that is absent has its default) and inputs
agree; the operands of a commutative operator may be exchanged. A nested graph may use what a graph
around it has computed before, never what a sibling has. Random operators and operators whose
meaning is not known are left alone.

Equal constants are looked for by type and shape first, then by a few bytes, and only those left are
read whole, in pieces. Small ones are shared within one graph only: shape inference looks for the
constants that tell a shape (axes, sizes) in the graph that reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

from onnxopt.config import OptimizeConfig
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.content import (
    attributes_key,
    default_attributes,
    tensor_hint,
    tensor_key,
)
from onnxopt.graph.editor import Editor, is_dead
from onnxopt.rewrite.pattern import COMMUTATIVE

NAME = "share"
SUMMARY = "Computes equal expressions and stores equal constants only once"

RANDOM = frozenset(
    {
        *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
        *("Multinomial", "Bernoulli"),
    }
)
_CONTRIB = frozenset(
    {
        *("Gelu", "FastGelu", "QuickGelu", "BiasGelu", "FusedMatMul", "FusedGemm", "FusedConv"),
        *("FusedMatMulActivation", "MatMulNBits", "TransposeMatMul", "NhwcMaxPool", "Inverse"),
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"),
        *("QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearConcat"),
        *("QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearSoftmax", "QGemm"),
        *("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "DynamicQuantizeLSTM"),
    }
)
"""Operators of com.microsoft that are known to be functions of their inputs."""

_ORDERLESS = COMMUTATIVE | {"BitwiseAnd", "BitwiseOr", "BitwiseXor"}
_ORDERLESS_IN_ANY_NUMBER = frozenset({"Max", "Min"})
_WORTH_A_COPY = frozenset(
    {
        *("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "MatMul", "MatMulInteger"),
        *("QLinearMatMul", "Gemm", "Einsum", "LSTM", "GRU", "RNN", "Attention", "TopK", "Resize"),
        *("GridSample", "DFT", "STFT", "NonMaxSuppression"),
    }
)
"""Operators that cost so much more than copying their result that two outputs share one."""

_SMALL = 1024  # bytes: a constant up to this size stays in the graph that reads it


def run(editor: Editor, config: OptimizeConfig) -> Counter[str]:  # noqa: ARG001
    """Share equal constants first, then equal expressions, in every graph and function."""
    done = _share_initializers(editor)
    for graph in (editor.model.graph, *(f.graph for f in editor.model.functions.values())):
        sharer = _Sharer(editor, editor.opsets_of(graph))
        sharer.share(graph, [])
        done += sharer.done
    return done


class _Sharer:
    """Walks one graph, and what is nested in it, with the nodes that can be used again."""

    def __init__(self, editor: Editor, opsets: dict[str, int]) -> None:
        self.editor = editor
        self.opsets = opsets
        self.constants: dict[ir.Value, Hashable] = {}
        self.done: Counter[str] = Counter()

    def share(self, graph: ir.Graph, around: Sequence[dict[Hashable, ir.Node]]) -> None:
        """Share the expressions of a graph; `around` holds those of the graphs around it."""
        here: dict[Hashable, ir.Node] = {}
        visible = [here, *around]
        for node in graph:
            nested = False
            for inner in facts.nested_graphs(node):
                nested = True
                self.share(inner, visible)
            key = None if nested else self.key(node)
            if key is None:
                continue
            first = next((nodes[key] for nodes in visible if key in nodes), None)
            if first is None:
                here[key] = node
            elif self.merge(node, first):
                self.done["share_expressions"] += 1

    def key(self, node: ir.Node) -> Hashable | None:
        """Return what two nodes have in common that compute the same; None for the unknown."""
        opset = self.opsets.get(node.domain, 0)
        if not node.outputs or not self.is_pure(node, opset):
            return None
        names = tuple(bool(value.name) for value in node.outputs)
        if node.op_type == "Constant":
            held = facts.tensor(node.outputs[0])
            return None if held is None else ("Constant", tensor_key(held))
        defaults = default_attributes(node.op_type, node.domain, opset) if node.attributes else None
        attributes = attributes_key(node, defaults)
        if attributes is None:
            return None
        inputs: Hashable = tuple(self.input_key(value) for value in node.inputs)
        if _order_is_free(node, opset):
            inputs = frozenset(self.input_key(value) for value in node.inputs)
        return node.op_type, node.domain, attributes, inputs, names

    def is_pure(self, node: ir.Node, opset: int) -> bool:
        """Tell whether a node is known to compute the same from the same inputs."""
        if node.op_identifier() in self.editor.model.functions:
            return False
        if node.domain == "com.microsoft":
            return node.op_type in _CONTRIB
        if node.domain not in ("", "ai.onnx.ml") or node.op_type in RANDOM:
            return False
        return node.op_type != "Dropout" or _drops_nothing(node, opset)

    def input_key(self, value: ir.Value | None) -> Hashable:
        """Return a value itself, or, so that equal constants count as one, what it holds."""
        if value is None:
            return None
        if value in self.constants:
            return self.constants[value]
        found = facts.tensor(value)
        small = found is not None and _size(found) <= _SMALL
        key: Hashable = tensor_key(found) if found is not None and small else value
        if found is not None:
            self.constants[value] = key
        return key

    def merge(self, node: ir.Node, first: ir.Node) -> bool:
        """Let the readers of a node read an earlier one; tell whether that changed anything.

        A graph output that cannot take the other's place keeps its node, unless a copy is cheaper.
        """
        changed = False
        for old, new in zip(node.outputs, first.outputs, strict=True):
            if not (old.uses() or old.is_graph_output()):
                continue
            if self.editor.forwardable(old, new) or node.op_type in _WORTH_A_COPY:
                self.editor.replace(old, new)
                changed = True
                continue
            for reader, index in old.uses():
                self.editor.set_input(reader, index, new)
                changed = True
        if is_dead(node):
            self.editor.erase(node)
            changed = True
        return changed


def _order_is_free(node: ir.Node, opset: int) -> bool:
    if node.op_type not in _ORDERLESS or node.domain or opset < 7:
        return False  # before opset 7, attributes made the second operand the one that broadcasts
    return len(node.inputs) == 2 or node.op_type in _ORDERLESS_IN_ANY_NUMBER


def _drops_nothing(node: ir.Node, opset: int) -> bool:
    """Tell whether a Dropout is known to be in inference mode."""
    if opset < 7:
        return node.attributes.get_int("is_test", 0) == 1
    if opset < 12 or len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    return facts.scalar(node.inputs[2]) == 0


def _share_initializers(editor: Editor) -> Counter[str]:
    """Let equal initializers become one, under the name of the first."""
    groups: dict[Hashable, list[ir.Value]] = {}
    for graph in facts.graphs_within(editor.model.graph):
        for value in graph.initializers.values():
            held = value.const_value
            if held is None or value.is_graph_input():
                continue
            place = graph if _size(held) <= _SMALL else None
            groups.setdefault((held.dtype, tuple(held.shape), place), []).append(value)
    done: Counter[str] = Counter()
    for alike in groups.values():
        hinted = _size(_held(alike[0])) > _SMALL
        for maybe in _by(tensor_hint, alike) if hinted else [alike]:
            for equal in _by(tensor_key, maybe):
                done["share_initializers"] += _merge_initializers(editor, equal)
    return +done


def _by(
    key: Callable[[ir.TensorProtocol], Hashable], values: Sequence[ir.Value]
) -> list[list[ir.Value]]:
    """Group values by a key of what they hold; those that stand alone are left out."""
    if len(values) < 2:
        return []
    found: dict[Hashable, list[ir.Value]] = {}
    for value in values:
        found.setdefault(key(_held(value)), []).append(value)
    return [group for group in found.values() if len(group) > 1]


def _merge_initializers(editor: Editor, equal: Sequence[ir.Value]) -> int:
    """Let equal initializers become one that all readers can see; return how many went."""
    main = editor.model.graph
    free = [value for value in equal if not value.is_graph_output()]
    if all(value.graph is equal[0].graph for value in equal):
        kept = next((value for value in equal if value.is_graph_output()), equal[0])
    elif any(value.graph is main for value in equal):
        kept = next(value for value in equal if value.graph is main)
    elif len(free) > 1:
        kept = free[0]
        editor.hoist(kept, main)
    else:
        return 0
    gone = 0
    for value in free:
        if value is not kept:
            editor.replace(value, kept)
            gone += editor.drop_initializer(value)
    return gone


def _held(value: ir.Value) -> ir.TensorProtocol:
    assert value.const_value is not None
    return value.const_value


def _size(tensor: ir.TensorProtocol) -> int:
    return tensor.size * 8 if tensor.dtype == ir.DataType.STRING else tensor.nbytes
