"""What else has to change when tensors shrink: sizes and places that a node tells by numbers.

Groups of a convolution, the hidden size of a recurrent layer, the shape of a Reshape, the parts of
a Split, the places that a Slice or a Gather takes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.edges import Edge
from onnxopt.graph.editor import Editor


@dataclass(frozen=True, kw_only=True, eq=False)
class Going:
    """What is taken out: by tensor, and by edge of a constant, which places of which axes stay.

    Axes count from the front. Of `shared` edges the constants follow what others make and read.
    """

    editor: Editor
    opset: int
    tensors: Mapping[str, Mapping[int, Array]]
    cuts: Mapping[Edge, Mapping[int, Array]]
    shared: Collection[Edge]

    def touches(self, node: ir.Node) -> bool:
        """Tell whether anything shrinks that a node reads or writes."""
        values = (*node.inputs, *node.outputs)
        return any(value is not None and value.name in self.tensors for value in values)

    def of(self, value: ir.Value | None) -> Mapping[int, Array]:
        """Return what stays of a tensor, by axis."""
        return {} if value is None else self.tensors.get(value.name or "", {})

    def put(self, node: ir.Node, place: int, numbers: Array | list[int]) -> None:
        """Let a node read other numbers; what computed the former goes where nobody reads it."""
        old = node.inputs[place] if place < len(node.inputs) else None
        name = (old.name if old is not None else None) or f"{node.name}_numbers"
        array = np.asarray(numbers, np.int64)
        if old is not None and (kind := facts.dtype(old)) is not None:
            array = array.astype(kind.numpy())
        self.editor.set_input(node, place, self.editor.constant(array, name, before=node))
        if old is None:
            return
        maker = old.producer()
        if maker is None:
            self.editor.drop_initializer(old)
        else:
            self.editor.erase(maker)


def _resized(going: Going, node: ir.Node, place: int, axes: Mapping[int, Array]) -> None:
    """Let an input that tells the sizes of the output tell those that are left.

    Axes count from the front of that input. Where it is computed only those are put in.
    """
    if not axes or place >= len(node.inputs) or node.inputs[place] is None:
        return
    old = node.inputs[place]
    assert old is not None
    known = facts.constant(old)
    if known is not None:
        sizes = known.copy()
        for axis, stays in axes.items():
            sizes[axis] = int(stays.sum())
        going.put(node, place, sizes)
        return
    count = (facts.static_shape(old) or (max(axes) + 1,))[0]
    told, sizes = np.zeros(count, bool), np.zeros(count, np.int64)
    for axis, stays in axes.items():
        told[axis], sizes[axis] = True, stays.sum()
    editor, name = going.editor, old.name or "shape"
    parts = [editor.constant(part, name, before=node) for part in (told, sizes)]
    chosen = ir.node("Where", [*parts, old])
    chosen.outputs[0].type, chosen.outputs[0].shape = old.type, old.shape
    editor.insert([chosen], before=node)
    editor.set_input(node, place, chosen.outputs[0])


def _reshape(going: Going, node: ir.Node) -> None:
    made, source = dict(going.of(node.outputs[0])), going.of(node.inputs[0])
    known, sizes = facts.constant(node.inputs[1]), facts.shape(node.outputs[0]) or ()
    for axis in source.keys() - made.keys():
        # 0 copies a size that is not the one it was any more.
        if known is not None and axis < len(known) and known[axis] == 0:
            made[axis] = np.ones(int(sizes[axis] or 0), bool)
    _resized(going, node, 1, made)


def _expand(going: Going, node: ir.Node) -> None:
    """Expand to what is left; the shape asked for may have fewer axes than the result."""
    rank, asked = facts.rank(node.outputs[0]), facts.static_shape(node.inputs[1])
    assert rank is not None
    front = rank - asked[0] if asked else 0
    made = {axis - front: stays for axis, stays in going.of(node.outputs[0]).items()}
    one = facts.constant(node.inputs[1])
    # Where the shape that is asked for has 1, the operand's own size counts.
    made = {
        axis: stays for axis, stays in made.items() if axis >= 0 and (one is None or one[axis] != 1)
    }
    _resized(going, node, 1, made)


def _resize(going: Going, node: ir.Node) -> None:
    made = dict(going.of(node.outputs[0]))
    rank, axes = facts.rank(node.outputs[0]) or 0, facts.attribute(node, "axes", going.opset)
    if axes:
        places = [axis % rank for axis in axes]
        made = {places.index(axis): stays for axis, stays in made.items() if axis in places}
    _resized(going, node, 3, made)


def _split(going: Going, node: ir.Node) -> None:
    axis = facts.attribute(node, "axis", going.opset) % (facts.rank(node.inputs[0]) or 1)
    if axis not in going.of(node.inputs[0]):
        return
    sizes = []
    for output in node.outputs:
        stays = going.of(output).get(axis)
        size = (facts.shape(output) or ())[axis] if stays is None else stays.sum()
        sizes.append(int(size or 0))
    going.editor.set_attribute(node, "num_outputs", None)
    if going.opset < 13:
        going.editor.set_attribute(node, "split", sizes)
    else:
        going.put(node, 1, sizes)


def _gather(going: Going, node: ir.Node) -> None:
    rank = facts.rank(node.inputs[0])
    if rank is None:
        return
    axis = facts.attribute(node, "axis", going.opset) % rank
    stays = going.of(node.inputs[0]).get(axis)
    if stays is None:
        return
    indices = facts.constant(node.inputs[1])
    assert indices is not None
    indices = np.where(indices < 0, indices + len(stays), indices)
    kept = {at - axis: left for at, left in going.of(node.outputs[0]).items()}
    for at, left in kept.items():
        if 0 <= at < indices.ndim:
            indices = indices.compress(left, at)
    going.put(node, 1, (np.cumsum(stays) - 1)[indices])


def _slice(going: Going, node: ir.Node) -> None:
    """Let a Slice take what is left of the places that it took."""
    source, rank = going.of(node.inputs[0]), facts.rank(node.inputs[0]) or 0
    begins, stops = (facts.integers(value) for value in node.inputs[1:3])
    given = facts.integers(node.inputs[3]) if len(node.inputs) > 3 else None
    steps = facts.integers(node.inputs[4]) if len(node.inputs) > 4 else None
    if begins is None or stops is None:
        return
    starts, ends = list(begins), list(stops)
    axes = range(len(starts)) if given is None else given
    strides = list(steps or [1] * len(starts))
    for at, axis in enumerate(axes):
        stays = source.get(axis % rank)
        if stays is None:
            continue
        end = None if strides[at] < 0 and ends[at] < -len(stays) else ends[at]
        taken = np.arange(len(stays))[starts[at] : end : strides[at]]
        left = (np.cumsum(stays) - 1)[taken[stays[taken]]]
        if left.size and (np.diff(left) == np.sign(strides[at])).all():
            strides[at] = int(np.sign(strides[at]))
            starts[at], ends[at] = int(left[0]), int(left[-1]) + strides[at]
            if ends[at] < 0:
                ends[at] = -len(stays) - 1
        else:
            starts[at], ends[at], strides[at] = 0, len(left), 1
            _gathered_first(going, node, axis % rank, left)
    going.put(node, 1, starts)
    going.put(node, 2, ends)
    if steps is not None:
        going.put(node, 4, strides)


def _gathered_first(going: Going, node: ir.Node, axis: int, places: Array) -> None:
    """Let a Gather take places of what a node reads."""
    editor, source = going.editor, node.inputs[0]
    assert source is not None
    indices = editor.constant(np.asarray(places, np.int64), f"{node.name}_places", before=node)
    gather = ir.node("Gather", [source, indices], {"axis": axis})
    gather.outputs[0].type = source.type
    editor.insert([gather], before=node)
    editor.set_input(node, 0, gather.outputs[0])


def _groups(going: Going, node: ir.Node) -> None:
    """Let a convolution whose weight follows have as many groups as are left."""
    groups = int(facts.attribute(node, "group", going.opset) or 1)
    stays = going.of(node.inputs[0]).get(1)
    if groups > 1 and stays is not None and Edge(node.name or "", 1) in going.shared:
        going.editor.set_attribute(node, "group", groups * int(stays.sum()) // len(stays))


def _norm_groups(going: Going, node: ir.Node) -> None:
    groups = int(facts.attribute(node, "num_groups", going.opset))
    stays = going.of(node.inputs[0]).get(1)
    if stays is not None:
        going.editor.set_attribute(node, "num_groups", groups * int(stays.sum()) // len(stays))


def _hidden_size(going: Going, node: ir.Node) -> None:
    stays = going.cuts.get(Edge(node.name or "", 2), {}).get(2)
    if stays is not None and "hidden_size" in node.attributes:
        going.editor.set_attribute(node, "hidden_size", int(stays.sum()))


FOLLOWERS: dict[str, Callable[[Going, ir.Node], None]] = {
    **dict.fromkeys(("Conv", "ConvTranspose"), _groups),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), _hidden_size),
    "Expand": _expand,
    "Gather": _gather,
    "GroupNormalization": _norm_groups,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
}
