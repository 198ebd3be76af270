"""Operators that only move numbers, or leave some out: known by what they make of their places.

onnx's own reference moves the places of all numbers, counted from 1; what is padded stays 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.pruning.learning.gradients.call import Call

MOVES = frozenset({
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
})  # fmt: skip


def pads_zeros(call: Call) -> bool:
    """Tell whether a Pad of constants pads zeros."""
    value = call.value(2)
    put = call.get("value") or 0 if value is None else facts.scalar(value)
    return str(call.get("mode")) != "constant" or put == 0


class Move:
    """Where the numbers of each output come from, of inputs of certain shapes."""

    def __init__(self, sources: tuple[Array, ...], shapes: Sequence[tuple[int, ...]]) -> None:
        self.sources = sources
        self.shapes = tuple(shapes)
        total = sum(int(np.prod(shape)) for shape in shapes)
        first = sources[0].reshape(-1)
        self.plain = len(shapes) == len(sources) == 1 and np.array_equal(
            first, np.arange(1, total + 1)
        )

    def made(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """Return the outputs."""
        if self.plain:
            return (arrays[0].reshape(self.sources[0].shape),)
        zero = np.zeros(1, arrays[0].dtype)
        row = np.concatenate([zero, *(array.reshape(-1) for array in arrays)])
        return tuple(row[source] for source in self.sources)

    def pulled(self, gradients: Sequence[Array | None]) -> tuple[Array, ...]:
        """Return the gradients with respect to the inputs."""
        if self.plain and gradients[0] is not None:
            return (gradients[0].reshape(self.shapes[0]),)
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        row = np.zeros(sum(sizes) + 1)
        for source, gradient in zip(self.sources, gradients, strict=True):
            if gradient is not None:
                row += np.bincount(source.reshape(-1), gradient.reshape(-1), len(row))
        ends = np.cumsum(sizes) + 1
        parts = (row[end - size : end] for size, end in zip(sizes, ends, strict=True))
        return tuple(
            np.asarray(part.reshape(shape), np.float32)
            for part, shape in zip(parts, self.shapes, strict=True)
        )


def move(node: bytes, opset: int, arrays: Sequence[Array | None], moved: Sequence[int]) -> Move:
    """Return what a node (a serialized NodeProto) does to its inputs at the places of `moved`.

    Raises whatever the reference raises for what it does not know.
    """
    given = tuple(
        (place, array.dtype.str, array.shape, array.tobytes())
        for place, array in enumerate(arrays)
        if array is not None and place not in moved
    )
    shapes = tuple(array.shape for place in moved if (array := arrays[place]) is not None)
    return _known(node, opset, given, tuple(moved), shapes)


@lru_cache(maxsize=256)
def _known(
    node: bytes,
    opset: int,
    given: tuple[tuple[int, str, tuple[int, ...], bytes], ...],
    moved: tuple[int, ...],
    shapes: tuple[tuple[int, ...], ...],
) -> Move:
    from onnx import NodeProto, TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    proto = NodeProto.FromString(node)
    feed: dict[str, Array] = {}
    start = 1
    names = [f"i{place}" if name else "" for place, name in enumerate(proto.input)]
    made = [f"o{place}" for place in range(len(proto.output))]
    for place, shape in zip(moved, shapes, strict=True):
        size = int(np.prod(shape))
        feed[f"i{place}"] = np.arange(start, start + size).reshape(shape)
        start += size
    for place, kind, shape, held in given:
        feed[f"i{place}"] = np.frombuffer(held, kind).reshape(shape)
    del proto.input[:]
    proto.input.extend(names)
    del proto.output[:]
    proto.output.extend(made)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), None)
        for name, array in feed.items()
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in made]
    graph = helper.make_graph([proto], "move", infos, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    found = ReferenceEvaluator(model).run(None, feed)
    return Move(tuple(np.asarray(each, np.int64) for each in found), shapes)
