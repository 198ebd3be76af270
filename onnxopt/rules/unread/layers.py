"""Linear layers: rows of the output come of rows of the input, columns of columns of the weight."""

from __future__ import annotations

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.rule import Builder
from onnxopt.rules.unread.moved_axis import attends
from onnxopt.rules.unread.needs import Needs, first
from onnxopt.rules.unread.part import Part, Take
from onnxopt.rules.unread.same_axis import aligned


def matmul(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """MatMul has the rows of its first operand and the columns of its second."""
    left, right = (facts.rank(value) for value in node.inputs)
    if left is None or right is None or min(left, right) < 2 or attends(node.outputs[0]):
        return None
    rank = max(left, right)
    if part.axis == rank - 1:
        return Needs(inputs=(None, part.at(right - 1)))
    if part.axis == rank - 2:
        return Needs(inputs=(part.at(left - 2), None))
    return aligned(node, part, 2, end=2)


def gemm(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """Gemm has the rows of its first operand and the columns of its second; C has both or not."""
    flag = new.attribute(node, "transA" if part.axis == 0 else "transB")
    if flag is None:
        return None
    places: list[Part | None] = [None] * len(node.inputs)
    places[part.axis] = part.at(1 - part.axis if flag else part.axis)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        rank = facts.rank(node.inputs[2])
        if rank is None:
            return None
        axis = part.axis - 2 + rank
        size = dims.extent(node.inputs[2], axis) if axis >= 0 else 1
        full = dims.extent(node.outputs[0], part.axis)
        if not isinstance(size, int) and not dims.same(size, full):
            return None
        places[2] = part.at(axis) if size != 1 else None
    return Needs(inputs=tuple(places))


def conv(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """Conv has a filter and a bias for each channel of its output; whole groups may go."""
    if part.axis == 0:
        return first(node, part)
    groups = new.attribute(node, "group")
    outputs, inputs = dims.extent(node.inputs[1], 0), dims.extent(node.inputs[1], 1)
    if part.axis != 1 or part.view or groups is None:
        return None
    if groups == 1:
        return _channels(node, None, part.at(0), part)
    kept = _whole_groups(part.take, outputs, groups)
    if kept is None or not isinstance(inputs, int):
        return None
    return _channels(node, _block(kept, inputs), part.at(0), part, groups=len(kept))


def conv_transpose(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """ConvTranspose is like Conv; its weight has the input's channels first."""
    if part.axis == 0:
        return first(node, part)
    groups = new.attribute(node, "group")
    inputs, each = dims.extent(node.inputs[1], 0), dims.extent(node.inputs[1], 1)
    if part.axis != 1 or part.view or groups is None:
        return None
    if groups == 1:
        return _channels(node, None, part, part)
    if not isinstance(inputs, int) or not isinstance(each, int):
        return None
    kept = _whole_groups(part.take, each * groups, groups)
    if kept is None:
        return None
    source = _block(kept, inputs // groups)
    return _channels(
        node, source, Part(axis=0, take=source.take, left=source.left), part, len(kept)
    )


def _channels(
    node: ir.Node, source: Part | None, weight: Part, bias: Part, groups: int = 0
) -> Needs:
    inputs = (source, weight, bias.at(0))[: len(node.inputs)]
    return Needs(inputs=inputs, attributes={"group": groups} if groups else {})


def _whole_groups(take: Take, size: facts.Dim, groups: int) -> list[int] | None:
    """Return the groups of channels that are taken, each as a whole, or None if they are not."""
    places = take.places(size) if isinstance(size, int) else None
    if not places or not isinstance(size, int) or size % groups:
        return None
    each = size // groups
    kept = [place // each for place in places[::each]]
    whole = [group * each + channel for group in kept for channel in range(each)]
    return kept if whole == places else None


def _block(groups: list[int], each: int) -> Part:
    """Return the part of the channels of an input that belongs to some groups."""
    places = [group * each + channel for group in groups for channel in range(each)]
    return Part(axis=1, take=Take.at(places), left=len(places))
