"""Takes units out of a model: softly, their readers masked, or for good, every tensor shrunk.

Both compute the same: what a removed unit is does not reach anything through a column of zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from onnxopt.arrays import Array
from onnxopt.errors import OnnxOptError
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.edges import Edge
from onnxopt.graph.editor import Editor, is_dead
from onnxopt.pruning.groups.following import FOLLOWERS, Going
from onnxopt.pruning.plan import Group, Groups, Keep, Slice


def mask(model: ir.Model, groups: Groups, keep: Keep) -> None:
    """Set to zero, in place, the columns of all that reads units that do not stay.

    Raises OnnxOptError where `keep` does not fit the groups, or leaves nothing of one.
    """
    editor = Editor(model)
    gone = _gone(groups, keep)
    cuts: dict[Edge, dict[int, Array]] = {}
    for group, part in _parts(groups, gone):
        if part.role == "reads":
            _add(cuts, part, gone[group.name])
    nodes = _nodes(model)
    made: dict[tuple[ir.Value, str], ir.Value] = {}
    for edge, axes in cuts.items():
        _put(editor, nodes[edge.node], edge.place, axes, made, zero=True)


def remove(model: ir.Model, groups: Groups, keep: Keep) -> None:
    """Take units that do not stay out of all tensors, in place: constants, shapes and all.

    Raises OnnxOptError where `keep` does not fit the groups, or leaves nothing of one.
    """
    editor = Editor(model)
    gone = _gone(groups, keep)
    tensors: dict[str, dict[int, Array]] = {}
    cuts: dict[Edge, dict[int, Array]] = {}
    shared: set[Edge] = set()
    for group in groups:
        if group.name not in gone:
            continue
        for name, (axis, units) in group.tensors.items():
            _also(tensors.setdefault(name, {}), axis, _stays(units, gone[group.name]))
        for part in group.slices:
            _add(cuts, part, gone[group.name])
            if part.role == "follows":
                shared.add(part.edge)
    going = Going(
        editor=editor,
        opset=model.opset_imports.get("", 0),
        tensors=tensors,
        cuts=cuts,
        shared=shared,
    )
    nodes = _nodes(model)
    for node in nodes.values():
        follow = FOLLOWERS.get(node.op_type) if not node.domain else None
        if follow is not None and going.touches(node):
            follow(going, node)
    made: dict[tuple[ir.Value, str], ir.Value] = {}
    for edge, axes in cuts.items():
        _put(editor, nodes[edge.node], edge.place, axes, made, zero=False)
    _shrink(model, tensors)


def _gone(groups: Groups, keep: Keep) -> dict[str, Array]:
    """Return by group which units go, bool [size]; groups that stay whole are left out."""
    gone = {}
    for name, kept in keep.items():
        try:
            group = groups[name]
        except KeyError:
            raise OnnxOptError(
                f"the model has no group of units that is called {name!r}",
                "make the masks anew for this model",
            ) from None
        stays = np.asarray(kept, bool)
        if stays.shape != (group.size,):
            raise OnnxOptError(
                f"{name!r} has {group.size} {group.kind}, its mask {stays.size}",
                "make the masks anew for this model",
            )
        if not stays.any():
            raise OnnxOptError(
                f"nothing would be left of {name!r}", "keep at least one unit of each group"
            )
        if not stays.all():
            gone[name] = ~stays
    return gone


def _parts(groups: Groups, gone: Mapping[str, Array]) -> Iterable[tuple[Group, Slice]]:
    return ((group, part) for group in groups if group.name in gone for part in group.slices)


def _stays(units: Array, gone: Array) -> Array:
    """Return which places stay: bool, as long as the axis."""
    return ~np.append(gone, np.False_)[units]


def _add(cuts: dict[Edge, dict[int, Array]], part: Slice, gone: Array) -> None:
    _also(cuts.setdefault(part.edge, {}), part.axis, _stays(part.units, gone))


def _also(axes: dict[int, Array], axis: int, stays: Array) -> None:
    axes[axis] = axes[axis] & stays if axis in axes else stays


def _nodes(model: ir.Model) -> dict[str, ir.Node]:
    return {node.name or "": node for graph in facts.graphs_within(model.graph) for node in graph}


def _put(
    editor: Editor,
    node: ir.Node,
    place: int,
    axes: Mapping[int, Array],
    made: dict[tuple[ir.Value, str], ir.Value],
    *,
    zero: bool,
) -> None:
    """Let a node read a constant without some places, or with zeros there.

    Readers of one constant that lose the same places share what is left.
    """
    old = node.inputs[place]
    assert old is not None
    key = old, repr([(axis, axes[axis].tobytes()) for axis in sorted(axes)])
    new = made.get(key)
    if new is None or new.graph is not node.graph:
        array = facts.constant(old)
        assert array is not None
        if zero:
            array = array.copy()
        for axis, stays in axes.items():
            if zero:
                array[(slice(None),) * axis + (~stays,)] = 0
            else:
                array = array.compress(stays, axis)
        new = made[key] = editor.constant(array, old.name or "", before=node)
    editor.set_input(node, place, new)
    maker = old.producer()
    if maker is None:
        editor.drop_initializer(old)
    elif is_dead(maker):
        editor.erase(maker)


def _shrink(model: ir.Model, tensors: Mapping[str, Mapping[int, Array]]) -> None:
    """Note the sizes that are left."""
    for graph in facts.graphs_within(model.graph):
        for node in graph:
            for value in node.outputs:
                axes = tensors.get(value.name or "")
                if axes is None or value.shape is None:
                    continue
                sizes = list(value.shape)
                for axis, stays in axes.items():
                    sizes[axis] = int(stays.sum())
                value.shape = ir.Shape(sizes)
