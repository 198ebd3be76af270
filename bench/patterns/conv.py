"""Forms around convolutions: what stands before, behind and beside them."""

from __future__ import annotations

import numpy as np

from patterns.graph import IMAGE, Graph, form


@form(*IMAGE)
def conv_bn(g: Graph, x: str) -> str:
    """A convolution and its BatchNormalization."""
    return g.batchnorm(g.conv(x, 8))


@form(*IMAGE)
def conv_bn_relu(g: Graph, x: str) -> str:
    """The block that most image networks are made of."""
    return g.Relu(g.batchnorm(g.conv(x, 8)))


@form(*IMAGE)
def bn_conv_pad0(g: Graph, x: str) -> str:
    """BatchNormalization before a convolution without padding (pre-activation networks)."""
    return g.conv(g.batchnorm(x), 8, pads=[0] * 4)


@form(*IMAGE)
def bn_conv_pad1(g: Graph, x: str) -> str:
    """BatchNormalization before a convolution with padding: the zeros were not normalised."""
    return g.conv(g.batchnorm(x), 8)


@form(*IMAGE)
def bn_relu_conv(g: Graph, x: str) -> str:
    """BatchNormalization that a Relu keeps from the convolution."""
    return g.conv(g.Relu(g.batchnorm(x)), 8)


@form(*IMAGE, name="convT_bn")
def transposed_conv_bn(g: Graph, x: str) -> str:
    """A transposed convolution and its BatchNormalization."""
    weight = g.weight(8, 8, 2, 2)
    return g.batchnorm(g.ConvTranspose(x, weight, kernel_shape=[2, 2], strides=[2, 2]))


@form(*IMAGE)
def conv_mul_chan(g: Graph, x: str) -> str:
    """A factor per channel behind a convolution."""
    return g.Mul(g.conv(x, 8), g.weight(1, 8, 1, 1))


@form(*IMAGE)
def conv_add_chan(g: Graph, x: str) -> str:
    """A summand per channel behind a convolution without bias."""
    return g.Add(g.conv(x, 8, bias=False), g.weight(1, 8, 1, 1))


@form(*IMAGE)
def conv_div_scalar(g: Graph, x: str) -> str:
    """A division by a number behind a convolution."""
    return g.Div(g.conv(x, 8), 2.0)


@form(*IMAGE)
def conv_sub_chan(g: Graph, x: str) -> str:
    """A subtraction per channel behind a convolution."""
    return g.Sub(g.conv(x, 8), g.weight(1, 8, 1, 1))


@form(*IMAGE)
def mul_before_conv(g: Graph, x: str) -> str:
    """Pixels that are scaled to 0…1 before the first convolution."""
    return g.conv(g.Mul(x, 1 / 255), 8)


@form(1, 3, 16, 16)
def normalize_sub_div_before_conv(g: Graph, x: str) -> str:
    """Pixels that are normalised per colour before the first convolution."""
    shifted = g.Sub(x, g.weight(1, 3, 1, 1))
    scaled = g.Div(shifted, np.full((1, 3, 1, 1), 0.5, np.float32))
    return g.conv(scaled, 8, channels=3, pads=[0] * 4)


@form(*IMAGE)
def pad_conv(g: Graph, x: str) -> str:
    """Zeros that a Pad sets around the image instead of the convolution."""
    return g.conv(g.Pad(x, [0, 0, 1, 1, 0, 0, 1, 1]), 8, pads=[0] * 4)


@form(*IMAGE)
def pad_maxpool(g: Graph, x: str) -> str:
    """Zeros around what a Relu made, before MaxPool."""
    padded = g.Pad(g.Relu(x), [0, 0, 1, 1, 0, 0, 1, 1])
    return g.MaxPool(padded, kernel_shape=[3, 3], strides=[2, 2])


@form(*IMAGE)
def conv_conv_1x1_linear(g: Graph, x: str) -> str:
    """Two 1×1 convolutions with nothing between them."""
    return g.conv(g.conv(x, 4, 1), 8, 1, channels=4)


@form(*IMAGE)
def sibling_conv_1x1_same_input(g: Graph, x: str) -> tuple[str, str]:
    """Two 1×1 convolutions that read the same."""
    return g.conv(x, 8, 1), g.conv(x, 8, 1)


@form(*IMAGE)
def repvgg_branches(g: Graph, x: str) -> str:
    """3×3, 1×1 and BatchNormalization side by side, as RepVGG trains them."""
    return g.Relu(g.Add(g.Add(g.conv(x, 8), g.conv(x, 8, 1)), g.batchnorm(x)))


@form(*IMAGE)
def conv_relu(g: Graph, x: str) -> str:
    """A convolution and its Relu."""
    return g.Relu(g.conv(x, 8))


@form(*IMAGE)
def conv_add_relu_residual(g: Graph, x: str) -> str:
    """The end of a residual block."""
    return g.Relu(g.Add(g.conv(x, 8), x))


@form(*IMAGE)
def conv_dw_pw_relu6(g: Graph, x: str) -> str:
    """Depthwise and pointwise convolution, each clipped to 0…6 (MobileNet)."""
    depthwise = g.Clip(g.conv(x, 8, channels=1, group=8), 0.0, 6.0)
    return g.Clip(g.conv(depthwise, 8, 1), 0.0, 6.0)


@form(*IMAGE)
def se_block(g: Graph, x: str) -> str:
    """Squeeze-and-excitation: channels weighted by what their means say."""
    squeezed = g.Relu(g.conv(g.GlobalAveragePool(x), 2, 1))
    return g.Mul(x, g.Sigmoid(g.conv(squeezed, 8, 1, channels=2)))


@form(1, 8, 32)
def conv1d_unsqueeze(g: Graph, x: str) -> str:
    """A convolution over one axis that is written as one over two."""
    wide = g.Unsqueeze(x, [2])
    made = g.Conv(wide, g.weight(8, 8, 1, 3), kernel_shape=[1, 3], pads=[0, 1, 0, 1])
    return g.Squeeze(made, [2])


@form(*IMAGE)
def resize_nearest_up2_conv(g: Graph, x: str) -> str:
    """Upsampling by repetition before a 3×3 convolution."""
    scales = np.array([1, 1, 2, 2], np.float32)
    options = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return g.conv(g.Resize(x, None, scales, mode="nearest", **options), 8)


@form(*IMAGE)
def conv_slice_unused_channels(g: Graph, x: str) -> str:
    """A convolution most of whose channels nobody reads."""
    return g.Slice(g.conv(x, 16), [0], [4], [1])


@form(*IMAGE)
def dup_initializer_cse(g: Graph, x: str) -> str:
    """Two equal convolutions whose equal weights are stored twice."""
    weight = g.noise(8, 8, 3, 3)
    made = [g.Conv(x, g.constant(weight), kernel_shape=[3, 3], pads=[1] * 4) for _ in range(2)]
    return g.Add(*made)


@form(*IMAGE)
def quantized_dq_conv_q(g: Graph, x: str) -> str:
    """A quantized convolution with its Relu, in QuantizeLinear and DequantizeLinear."""
    step, zero = g.constant(0.05), g.constant(np.array(128, np.uint8))
    pixels = g.DequantizeLinear(g.QuantizeLinear(x, step, zero), step, zero)
    numbers = g.rng.integers(-127, 127, (8, 8, 3, 3)).astype(np.int8)
    steps, zeros = np.full(8, 0.01, np.float32), np.zeros(8, np.int8)
    weight = g.DequantizeLinear(numbers, steps, zeros, axis=0)
    numbers = g.rng.integers(-999, 999, 8).astype(np.int32)
    steps, zeros = np.full(8, 0.0005, np.float32), np.zeros(8, np.int32)
    bias = g.DequantizeLinear(numbers, steps, zeros, axis=0)
    made = g.Relu(g.Conv(pixels, weight, bias, kernel_shape=[3, 3], pads=[1] * 4))
    step, zero = g.constant(0.1), g.constant(np.array(0, np.uint8))
    return g.DequantizeLinear(g.QuantizeLinear(made, step, zero), step, zero)
