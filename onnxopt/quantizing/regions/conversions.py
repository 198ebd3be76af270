"""Measures what it costs to go from float to int8 and back, by models that do little else.

One model holds chains of several sizes. A plain one goes through an int8 Sigmoid; one of images
goes through three Convs, of which the middle one is int8: what onnxruntime puts between them beside
Q and DQ are changes of the layout. Times are fitted by a line: µs = base + slope · elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.profiling.attribution import LAYOUTS, Ran

PLAIN_ROWS = (16, 256, 4096)
"""Rows of 128 elements."""
IMAGE_SIDES = (7, 28, 88)
"""Sides of images of 32 channels."""
_COLUMNS, _CHANNELS = 128, 32


@dataclass(frozen=True, kw_only=True)
class Line:
    """µs for so many elements."""

    base: float
    slope: float

    def __call__(self, elements: float) -> float:
        """Return the µs of a tensor."""
        return self.base + self.slope * elements


@dataclass(frozen=True, kw_only=True)
class Conversions:
    """What conversions cost; layouts are changed besides where both sides are images."""

    quantize: Line
    dequantize: Line
    to_int8_layout: Line
    to_float_layout: Line


def fit(us: Mapping[str, float], ran: Sequence[Ran]) -> Conversions:
    """Return what conversions cost, from µs by node of the model, and the nodes that ran."""
    sizes = [size * _COLUMNS for size in PLAIN_ROWS]
    areas = [_CHANNELS * side**2 for side in IMAGE_SIDES]
    plain = [f"plain{size}" for size in PLAIN_ROWS]
    images = [f"image{size}" for size in IMAGE_SIDES]
    makers = {tensor: node for node in ran for tensor in node.writes}
    readers = {tensor: node for node in ran for tensor in node.reads}

    def layout(node: Ran | None) -> float:
        is_layout = node is not None and node.op in LAYOUTS
        return us.get(node.name, 0.0) if is_layout and node is not None else 0.0

    def changed(before: str, behind: str) -> list[float]:
        return [
            layout(makers.get(f"{tag}_{before}")) + layout(readers.get(f"{tag}_{behind}"))
            for tag in images
        ]

    return Conversions(
        quantize=line(sizes, [us.get(f"{tag}_first_q", 0.0) for tag in plain]),
        dequantize=line(sizes, [us.get(f"{tag}_middle_d", 0.0) for tag in plain]),
        to_int8_layout=line(areas, changed("first", "first_q")),
        to_float_layout=line(areas, changed("middle_q", "middle_d")),
    )


def line(sizes: Sequence[float], us: Sequence[float]) -> Line:
    """Return the line that fits best relative to each time, and falls nowhere."""
    x, y = np.array(sizes, float), np.array(us, float)
    weights = 1 / np.maximum(y, 0.5)
    slope, base = np.polyfit(x, y, 1, w=weights)
    if base < 0:
        slope, base = np.sum(x * y * weights**2) / np.sum(np.square(x * weights)), 0.0
    if slope < 0:
        slope, base = 0.0, float(np.mean(y))
    return Line(base=float(base), slope=float(slope))


def model() -> bytes:
    """Return the model that is to be profiled; its inputs have static shapes."""
    from onnx import TensorProto, helper

    chains = _Chains()
    for size in PLAIN_ROWS:
        chains.plain(f"plain{size}", [size, _COLUMNS])
    for size in IMAGE_SIDES:
        chains.image(f"image{size}", [1, _CHANNELS, size, size])
    graph = helper.make_graph(
        chains.nodes,
        "conversions",
        [helper.make_tensor_value_info(*each) for each in chains.inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in chains.outputs],
        chains.constants(),
    )
    opsets = [helper.make_opsetid("", 17)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    serialized: bytes = made.SerializeToString()
    return serialized


class _Chains:
    """Nodes, each called like the tensor that it writes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.inputs: list[tuple[str, int, list[int]]] = []
        self.outputs: list[str] = []
        self.weight = self.node(
            "DequantizeLinear", "w_integers", "w_scale", "w_zero", made="w_read"
        )

    def node(self, op: str, *reads: str, made: str) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(op, reads, [made], name=made))
        return made

    def pair(self, source: str, scale: str = "scale", zero: str = "zero") -> str:
        quantized = self.node("QuantizeLinear", source, scale, zero, made=f"{source}_q")
        return self.node("DequantizeLinear", quantized, scale, zero, made=f"{source}_d")

    def start(self, tag: str, shape: list[int]) -> str:
        self.inputs.append((f"{tag}_x", 1, shape))
        return f"{tag}_x"

    def plain(self, tag: str, shape: list[int]) -> None:
        first = self.node("Neg", self.start(tag, shape), made=f"{tag}_first")
        middle = self.node("Sigmoid", self.pair(first), made=f"{tag}_middle")
        last = self.pair(middle, "share", "nothing")
        self.outputs.append(self.node("Neg", last, made=f"{tag}_last"))

    def image(self, tag: str, shape: list[int]) -> None:
        first = self.node("Conv", self.start(tag, shape), "w", made=f"{tag}_first")
        middle = self.node("Conv", self.pair(first), self.weight, made=f"{tag}_middle")
        self.outputs.append(self.node("Conv", self.pair(middle), "w", made=f"{tag}_last"))

    def constants(self) -> list[Any]:
        from onnx import numpy_helper

        integers = np.ones((_CHANNELS, _CHANNELS, 1, 1), np.int8)
        held = {
            "scale": np.float32(0.02),
            "zero": np.uint8(128),
            "share": np.float32(1 / 256),
            "nothing": np.uint8(0),
            "w_scale": np.float32(0.01),
            "w_zero": np.int8(0),
            "w_integers": integers,
            "w": np.float32(0.01) * integers,
        }
        return [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()]


def feed() -> dict[str, np.ndarray]:
    """Return what the model reads."""
    found = {f"plain{size}_x": np.ones((size, _COLUMNS), np.float32) for size in PLAIN_ROWS}
    for size in IMAGE_SIDES:
        found[f"image{size}_x"] = np.ones((1, _CHANNELS, size, size), np.float32)
    return found
