"""Who comes before whom in a graph, as sets of nodes that are kept as the bits of integers."""

from __future__ import annotations

from collections.abc import Iterator

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir

WEIGHTED = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN", "Einsum"})
_PRODUCTS = frozenset({"MatMul", "Einsum", "Attention", "MultiHeadAttention"})


class Ancestry:
    """The nodes of one graph in their order, and what each depends on.

    A node's set holds itself. `heavy` nodes depend on a layer with weights, or are one.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.nodes = list(graph)
        self.place = {node: place for place, node in enumerate(self.nodes)}
        self._inputs = {
            value: len(self.nodes) + number for number, value in enumerate(graph.inputs)
        }
        self.before: list[int] = []
        self.heavy: list[bool] = []
        for place, node in enumerate(self.nodes):
            found, heavy = 1 << place, is_weighted(node) or holds_graphs(node)
            for value in self.read(node):
                found |= self.of(value)
                maker = value.producer()
                heavy = heavy or (maker in self.place and self.heavy[self.place[maker]])
            self.before.append(found)
            self.heavy.append(heavy)

    def of(self, value: ir.Value) -> int:
        """Return all that a value depends on, graph inputs included; the maker is one of them."""
        maker = value.producer()
        if maker is not None:
            return self.before[self.place[maker]] if maker in self.place else 0
        return 1 << self._inputs[value] if value in self._inputs else 0

    def bit(self, value: ir.Value) -> int:
        """Return the set of the one node, or graph input, that makes a value."""
        maker = value.producer()
        if maker is not None:
            return 1 << self.place[maker]
        return 1 << self._inputs[value]

    def read(self, node: ir.Node) -> Iterator[ir.Value]:
        """Yield what a node itself reads, but for constants."""
        for value in node.inputs:
            if value is not None and not facts.is_constant(value):
                yield value

    def is_heavy(self, value: ir.Value) -> bool:
        """Tell whether weights have gone into a value; masks, positions and sizes have none."""
        maker = value.producer()
        return maker is not None and maker in self.place and self.heavy[self.place[maker]]

    def needed_only_by(self, last: ir.Node, entry: ir.Value) -> set[ir.Node]:
        """Return the nodes that nobody needs once `last` is made from `entry` in another way."""
        kept = self.of(entry)
        within = self.before[self.place[last]] & ~kept
        found = {last}
        for place in range(self.place[last] - 1, -1, -1):
            node = self.nodes[place]
            if within >> place & 1 and all(
                not value.is_graph_output() and all(use.node in found for use in facts.uses(value))
                for value in node.outputs
            ):
                found.add(node)
        return found


def is_weighted(node: ir.Node) -> bool:
    """Tell whether a node multiplies by a matrix of constants."""
    if node.op_type not in WEIGHTED:
        return False
    return any(
        held is not None and sum(size > 1 for size in held.shape.numpy()) > 1
        for held in map(facts.tensor, node.inputs)
    )


def is_product(node: ir.Node) -> bool:
    """Tell whether a node multiplies two activations as matrices: attention."""
    varying = [value for value in node.inputs if value is not None and not facts.is_constant(value)]
    return node.op_type in _PRODUCTS and len(varying) > 1


def holds_graphs(node: ir.Node) -> bool:
    """Tell whether a node carries graphs."""
    return next(facts.nested_graphs(node), None) is not None


def weight_sizes(node: ir.Node) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the constants of a layer with weights."""
    if not is_weighted(node):
        return ()
    held = (facts.tensor(value) for value in node.inputs)
    return tuple(tuple(found.shape.numpy()) for found in held if found is not None)
