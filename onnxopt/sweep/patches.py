"""What a weighted operator multiplies its weight by, as a matrix: im2col, in the kernels' order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir

_FEWEST, _MOST = 64, 2048


def enough(columns: int) -> int:
    """Return how many positions of a sample are looked at, evenly strided, for some columns.

    Neighbours tell much the same; a Gram matrix wants some positions for each of its columns.
    """
    return min(max(4 * columns, _FEWEST), _MOST)


@dataclass(frozen=True, kw_only=True)
class Window:
    """The attributes of a convolution: `pads` are those before, then those behind each axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    groups: int = 1

    @property
    def spans(self) -> tuple[int, ...]:
        """How many numbers the kernel reaches over, by spatial axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def around(self) -> list[tuple[int, int]]:
        """The pads before and behind each axis of [N, C, *spatial]."""
        rank = len(self.kernel)
        pads = zip(self.pads[:rank], self.pads[rank:], strict=True)
        return [(0, 0), (0, 0), *pads]


def read_by(x: Array, node: ir.Node, model: ir.Model) -> Array:
    """Return what a Conv or a product multiplies its weight by: [groups, rows, columns]."""
    if node.op_type != "Conv":
        return multiplied(x)
    weight = facts.static_shape(node.inputs[1])
    assert weight is not None
    opset = model.opset_imports.get("", 0)
    return convolved(x, window_of(node, weight, x.shape, opset))


def window_of(node: ir.Node, weight: Sequence[int], shape: Sequence[int], opset: int) -> Window:
    """Return how a Conv moves over an input, from the shapes of weight and input."""
    rank = len(weight) - 2

    def whole(name: str, otherwise: int) -> tuple[int, ...]:
        found = facts.attribute(node, name, opset)
        return tuple(found) if found else (otherwise,) * rank

    window = Window(
        kernel=tuple(int(size) for size in weight[2:]),
        strides=whole("strides", 1),
        dilations=whole("dilations", 1),
        pads=(*whole("pads", 0), *((0,) * rank))[: 2 * rank],
        groups=int(facts.attribute(node, "group", opset) or 1),
    )
    auto = str(facts.attribute(node, "auto_pad", opset) or "NOTSET")
    return window if auto == "NOTSET" else replace(window, pads=padding(auto, shape[2:], window))


def convolved(x: Array, window: Window, most: int | None = None) -> Array:
    """Return the patches of a batch [N, C, *spatial] as [groups, patches, columns].

    Columns go by position in the kernel, then by channel of the group, as onnxruntime's kernels
    add them. No more than `most` patches are taken, or than are `enough`.
    """
    rank = len(window.kernel)
    axes = tuple(range(2, 2 + rank))
    views = np.lib.stride_tricks.sliding_window_view(padded(x, window), window.spans, axes)
    moved = (slice(None), slice(None), *(slice(None, None, s) for s in window.strides))
    views = views[(*moved, *(slice(None, None, d) for d in window.dilations))]
    columns = math.prod(window.kernel) * (x.shape[1] // window.groups)
    places = _places(views.shape[0], views.shape[2 : 2 + rank], most or enough(columns))
    # [patches, C, *kernel] -> [patches, *kernel, groups, C/groups] -> [groups, patches, columns]
    chosen: Array = np.moveaxis(views, 1, -rank - 1)[places]
    patches, channels = chosen.shape[:2]
    split = chosen.reshape(patches, window.groups, channels // window.groups, *window.kernel)
    ordered = np.moveaxis(split, (1, 2), (0, -1))
    return np.ascontiguousarray(ordered.reshape(window.groups, patches, -1))


def padded(x: Array, window: Window, value: float = 0) -> Array:
    """Return x [N, C, *spatial] with its pads."""
    if not any(window.pads):
        return x
    return np.pad(x, window.around, constant_values=value)


def multiplied(x: Array) -> Array:
    """Return the rows of [..., columns] as [1, rows, columns]; no more than are `enough`."""
    rows = x.reshape(-1, x.shape[-1])
    step = max(1, math.ceil(len(rows) / enough(x.shape[-1])))
    return np.ascontiguousarray(rows[::step][None])


def padding(auto_pad: str, shape: Sequence[int], window: Window) -> tuple[int, ...]:
    """Return the pads that `auto_pad` comes to for a spatial shape; VALID gives none."""
    if auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        return (0,) * (2 * len(shape))
    before, behind = [], []
    for size, span, s in zip(shape, window.spans, window.strides, strict=True):
        total = max((math.ceil(size / s) - 1) * s + span - size, 0)
        less, more = total // 2, total - total // 2
        before.append(less if auto_pad == "SAME_UPPER" else more)
        behind.append(more if auto_pad == "SAME_UPPER" else less)
    return (*before, *behind)


def _places(batch: int, spatial: Sequence[int], most: int) -> tuple[Array, ...]:
    total = batch * math.prod(spatial)
    step = max(1, math.ceil(total / most))
    # A step that divides the width would look at the same columns of every line.
    while step > 1 and spatial and math.gcd(step, spatial[-1]) > 1:
        step += 1
    return np.unravel_index(np.arange(0, total, step), (batch, *spatial))
