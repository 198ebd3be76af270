"""Finds the sub-networks that can be left out, by who depends on whom and not by names.

    residual    x → f(x) → x + f(x), and the normalisation behind the sum, if there is one
    layer       one period of residual blocks in a row: attention and MLP, at either phase
    chain       layers one behind the other without a sum, of which those in front of a residual
                sum's other operand are one kind; as few as give the shape back, and as many

What a block reads from outside, besides its entry, is no way around it: it has no weights in front
of it (masks, positions), or is what attention looks at. Nothing inside is read elsewhere: nodes
that others need, too, stay where they are and are no part of the block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.pruning.blocks.ancestry import (
    Ancestry,
    holds_graphs,
    is_product,
    is_weighted,
    weight_sizes,
)
from onnxopt.pruning.blocks.plan import Block, Kind
from onnxopt.quantizing.detect import is_quantized

_SUMS = frozenset({"Add", "Sum"})
_NORMS = frozenset({"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})
_CHANNELS_SECOND = frozenset({
    "Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "GroupNormalization",
    "GlobalAveragePool", "MaxPool", "AveragePool", "PRelu",
})  # fmt: skip
_CHANNELS_LAST = frozenset({"MatMul", "Gemm", *_NORMS})
_WORTH_MAPPING = 2
"""Times the weights of a map from channels to channels that a chain has, at least."""


def find_blocks(model: ir.Model) -> tuple[Block, ...]:
    """Return the blocks of the main graph, in the order of their exits; none where it is quantized.

    Shapes should be inferred. Blocks may lie in each other or overlap: once one is left out, the
    blocks of what remains have to be looked for again.
    """
    if is_quantized(model):
        return ()
    ancestry = Ancestry(model.graph)
    residual = list(_residual(ancestry))
    found = [*residual, *_layers(ancestry, residual), *_chains(ancestry)]
    unique = {(block.entry, block.exit): block for block in reversed(found)}
    places = {value.name: place for place, node in enumerate(model.graph) for value in node.outputs}
    return tuple(sorted(unique.values(), key=lambda one: (places[one.exit], len(one.nodes))))


def _residual(ancestry: Ancestry) -> Iterator[Block]:
    for node in ancestry.nodes:
        if node.op_type not in _SUMS or node.domain:
            continue
        varying = list(ancestry.read(node))
        for entry in dict.fromkeys(varying):
            others = [value for value in varying if value is not entry]
            if others and all(ancestry.of(value) & ancestry.bit(entry) for value in others):
                last = _norm_behind(node) or node
                block = _block(ancestry, "residual", entry, last) or (
                    _block(ancestry, "residual", entry, node) if last is not node else None
                )
                if block is not None:
                    yield block


def _norm_behind(node: ir.Node) -> ir.Node | None:
    """Return the normalisation that is all that reads a sum."""
    value = node.outputs[0]
    if not facts.is_private(value):
        return None
    reader = next(iter(facts.uses(value))).node
    return reader if reader.op_type in _NORMS and reader.graph is node.graph else None


def _layers(ancestry: Ancestry, residual: Sequence[Block]) -> Iterator[Block]:
    """Yield the periods of residual blocks in a row; where all are alike, each is its own."""
    by_name = {node.name: node for node in ancestry.nodes}
    values = {value.name: value for node in ancestry.nodes for value in node.outputs}
    values.update((value.name, value) for value in ancestry.graph.inputs)
    for run in _runs(residual):
        kinds = [_kind(block, by_name) for block in run]
        period = _period(kinds)
        for first, last in zip(run, run[period - 1 :], strict=False) if period > 1 else ():
            maker = values[last.exit].producer()
            assert maker is not None
            block = _block(ancestry, "layer", values[first.entry], maker)
            if block is not None:
                yield block


def _runs(residual: Sequence[Block]) -> Iterator[list[Block]]:
    """Yield the longest rows of blocks of which each begins where the one before ends."""
    least: dict[str, Block] = {}
    for block in residual:
        if block.entry not in least or len(block.nodes) < len(least[block.entry].nodes):
            least[block.entry] = block
    exits = {block.exit for block in least.values()}
    for start in [block for block in least.values() if block.entry not in exits]:
        run = [start]
        while run[-1].exit in least:
            run.append(least[run[-1].exit])
        yield run


def _kind(block: Block, nodes: dict[str | None, ir.Node]) -> Counter[object]:
    """Return what a block is made of: its weights, and how many products of activations."""
    inside = [nodes[name] for name in block.nodes]
    return Counter(
        size for node in inside for size in (weight_sizes(node) or ((),) * is_product(node))
    )


def _period(kinds: Sequence[Counter[object]]) -> int:
    """Return after how many blocks the same one comes again; 0 where none does.

    Some exporters write one of the layers in another way: three of four have to repeat.
    """
    for period in range(1, len(kinds) // 2 + 1):
        same = [one == other for one, other in zip(kinds, kinds[period:], strict=False)]
        if 4 * sum(same) >= 3 * len(same):
            return period
    return 0


def _chains(ancestry: Ancestry) -> Iterator[Block]:
    seen: set[ir.Node] = set()
    for node in ancestry.nodes:
        if node in seen or not is_weighted(node) or len(list(ancestry.read(node))) != 1:
            continue
        pieces = list(_pieces(node))
        seen.update(inner for piece in pieces for inner in piece)
        entry = next(ancestry.read(node))
        ends = [piece[-1] for piece in pieces]
        starts = [entry, *(last.outputs[0] for last in ends)]
        for place, start in enumerate(starts[:-1]):
            found = [
                block
                for last in ends[place:]
                if (block := _block(ancestry, "chain", start, last)) is not None
            ]
            yield from dict.fromkeys((*found[:1], *(found[-1:] if not place else ())))


def _pieces(first: ir.Node) -> Iterator[list[ir.Node]]:
    """Yield layers one behind the other, each with what follows it element by element."""
    piece = [first]
    while (reader := _only_reader(piece[-1])) is not None:
        if is_weighted(reader):
            yield piece
            piece = []
        piece.append(reader)
    yield piece


def _only_reader(node: ir.Node) -> ir.Node | None:
    if len(node.outputs) != 1 or not facts.is_private(node.outputs[0]):
        return None
    reader: ir.Node = next(iter(facts.uses(node.outputs[0]))).node
    varying = [value for value in reader.inputs if value is not None]
    varying = [value for value in varying if not facts.is_constant(value)]
    if len(varying) != 1 or reader.graph is not node.graph:
        return None
    # What pools, flattens or turns is the end of a chain: its shape does not come back.
    same = facts.shape(reader.outputs[0]) == facts.shape(node.outputs[0])
    return reader if same or is_weighted(reader) else None


def _block(ancestry: Ancestry, kind: Kind, entry: ir.Value, last: ir.Node) -> Block | None:
    """Return what lies between a value and the first output of a node, if it can be left out."""
    way = ancestry.before[ancestry.place[last]]
    stream = [
        node
        for place, node in enumerate(ancestry.nodes[: ancestry.place[last] + 1])
        if way >> place & 1 and ancestry.before[place] & ancestry.bit(entry)
    ]
    stream = [node for node in stream if entry not in node.outputs]
    inner = ancestry.needed_only_by(last, entry)
    exit_ = last.outputs[0]
    axis = _axis(stream, facts.rank(exit_))
    channels = None if axis is None else _same_channels(entry, exit_, axis)
    if axis is None or channels is None or any(facts.uses(value) for value in last.outputs[1:]):
        return None
    if any(holds_graphs(node) for node in inner) or not any(is_weighted(node) for node in inner):
        return None
    if any(_goes_around(ancestry, node, entry) for node in stream):
        return None
    weights = sum(_elements(size) for node in inner for size in weight_sizes(node))
    if kind == "chain" and weights < _WORTH_MAPPING * channels**2:
        return None
    return Block(
        kind=kind,
        entry=entry.name or "",
        exit=exit_.name or "",
        nodes=tuple(node.name or "" for node in ancestry.nodes if node in inner),
        axis=axis,
        channels=channels,
    )


def _goes_around(ancestry: Ancestry, node: ir.Node, entry: ir.Value) -> bool:
    """Tell whether a node reads something that is neither made from the entry nor beside it."""
    if is_product(node):
        return False
    return any(
        ancestry.is_heavy(value) and not ancestry.of(value) & ancestry.bit(entry)
        for value in ancestry.read(node)
    )


def _axis(stream: Sequence[ir.Node], rank: int | None) -> int | None:
    """Return which axis the channels are, by the first node that tells."""
    if rank is None or rank < 2:
        return None
    for node in stream:
        if node.op_type in _CHANNELS_LAST or rank == 2:
            return -1
        if node.op_type in _CHANNELS_SECOND:
            return 1
    return None


def _same_channels(one: ir.Value, other: ir.Value, axis: int) -> int | None:
    """Return how many channels two float tensors have, if they may have the same shape."""
    left, right = facts.shape(one), facts.shape(other)
    if left is None or right is None or len(left) != len(right):
        return None
    if not facts.is_float(one) or facts.dtype(one) != facts.dtype(other):
        return None
    sizes = zip(left, right, strict=True)
    if any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in sizes):
        return None
    count = left[axis]
    return count if isinstance(count, int) and count == right[axis] else None


def _elements(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
