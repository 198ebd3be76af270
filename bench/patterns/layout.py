"""Forms that move elements: transposes, slices, joins."""

from __future__ import annotations

from patterns.graph import IMAGE, Graph, form

_TO_LAST, _TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


@form(*IMAGE)
def transpose_transpose_cancel(g: Graph, x: str) -> str:
    """Channels to the end and back around a Relu."""
    return g.Transpose(g.Relu(g.Transpose(x, perm=_TO_LAST)), perm=_TO_FIRST)


@form(*IMAGE)
def transpose_through_add_concat(g: Graph, x: str) -> str:
    """Channels to the end and back around a sum and a Concat."""
    one = g.Add(g.Transpose(x, perm=_TO_LAST), g.weight(8))
    two = g.Transpose(g.Relu(x), perm=_TO_LAST)
    return g.Transpose(g.Concat(one, two, axis=3), perm=_TO_FIRST)


@form(1, 16, 16, 8)
def tf_nhwc_conv_sandwich(g: Graph, x: str) -> str:
    """Two convolutions of a TensorFlow model, whose channels stand last."""
    made = g.Transpose(g.conv(g.Transpose(x, perm=_TO_FIRST), 8), perm=_TO_LAST)
    again = g.Transpose(g.Mul(made, g.weight(8)), perm=_TO_FIRST)
    return g.Transpose(g.conv(again, 8), perm=_TO_LAST)


@form(*IMAGE)
def slice_slice(g: Graph, x: str) -> str:
    """A slice of a slice on another axis."""
    return g.Slice(g.Slice(x, [1], [7], [1]), [2], [15], [2])


@form(*IMAGE)
def split_concat_identity(g: Graph, x: str) -> str:
    """Parts that are joined again."""
    return g.Concat(*g.Split(x, outputs=2, axis=1), axis=1)


@form(*IMAGE)
def slices_to_split(g: Graph, x: str) -> str:
    """A gate whose halves are cut out one by one."""
    return g.Mul(g.Slice(x, [0], [4], [1]), g.Sigmoid(g.Slice(x, [4], [8], [1])))


@form(*IMAGE)
def concat_concat(g: Graph, x: str) -> str:
    """A Concat within a Concat."""
    return g.Concat(g.Concat(x, g.Relu(x), axis=1), g.Sigmoid(x), axis=1)


@form(1, 16, 16, 8)
def window_partition_6d(g: Graph, x: str) -> str:
    """An image cut into windows (Swin)."""
    windows = g.Transpose(g.Reshape(x, [1, 2, 8, 2, 8, 8]), perm=[0, 1, 3, 2, 4, 5])
    return g.Reshape(windows, [4, 64, 8])


@form(*IMAGE)
def space_to_depth_decomposed(g: Graph, x: str) -> str:
    """SpaceToDepth by Reshape and Transpose."""
    blocks = g.Transpose(g.Reshape(x, [1, 8, 8, 2, 8, 2]), perm=[0, 3, 5, 1, 2, 4])
    return g.Reshape(blocks, [1, 32, 8, 8])


@form(*IMAGE)
def focus_slices(g: Graph, x: str) -> str:
    """Every other row and column, joined as channels before a convolution (YOLOv5's Focus)."""

    def part(row: int, column: int) -> str:
        rows = g.Slice(x, [row], [2**31], [2], [2])
        return str(g.Slice(rows, [column], [2**31], [3], [2]))

    joined = g.Concat(part(0, 0), part(1, 0), part(0, 1), part(1, 1), axis=1)
    return g.conv(joined, 8, channels=32)


@form(*IMAGE)
def channel_shuffle(g: Graph, x: str) -> str:
    """Channels shuffled before a 1×1 convolution (ShuffleNet)."""
    groups = g.Transpose(g.Reshape(x, [1, 2, 4, 16, 16]), perm=[0, 2, 1, 3, 4])
    return g.conv(g.Reshape(groups, [1, 8, 16, 16]), 8, 1)


@form(*IMAGE)
def gather_const_table(g: Graph, x: str) -> str:
    """A row of a constant table, read by a constant index."""
    row = g.Gather(g.weight(10, 8), [1], axis=0)
    return g.Add(x, g.Reshape(row, [1, 8, 1, 1]))
