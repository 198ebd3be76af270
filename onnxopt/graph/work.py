"""Counts what an operator has to do from the shapes that it reads and writes, and nothing else.

A MAC is one multiplication with its addition. What is made of them is counted by formulas over
operator and shapes, that hold for a node of a file as for one that a runtime has fused; other
operators that are known have none (0), and are held up by the bytes that they move. Of an operator
that is not known nothing is claimed (None). Imports nothing, so that a process that measures can
use it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

Shape = tuple[int, ...]
Shapes = Sequence[Shape | None]
"""Shapes of what a node reads or writes, in its order; None where there is no value, or no rank."""

_VIEWS = frozenset(
    {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "Shape", "Size"}
)
_PICKS = frozenset({"Gather", "Slice", "Split", "GatherElements", "GatherND"})
_HOLDERS = frozenset({"If", "Loop", "Scan", "SequenceMap"})


def holds_graphs(op: str) -> bool:
    """Tell whether the work of an operator is that of the nodes inside it."""
    return op in _HOLDERS


def traffic(op: str, read: float, written: float) -> float:
    """Return the bytes that a node has to move, of those that it is given and makes.

    One that only looks at memory in another way moves nothing, one that picks reads what it picks.
    """
    if op in _VIEWS:
        return 0.0
    return 2 * written if op in _PICKS else read + written


def macs(op: str, inputs: Shapes, outputs: Shapes, equation: str = "") -> int | None:
    """Count the multiply-accumulates of one run of a node; None where they cannot be told.

    `equation` is that of an Einsum.
    """
    if op in _WITHOUT:
        return 0
    try:
        if op == "Einsum":
            return _einsum(equation, [_known(inputs, index) for index in range(len(inputs))])
        return _FORMULAS[op](inputs, outputs) if op in _FORMULAS else None
    except (IndexError, ValueError):
        return None  # a shape that is not known, or one that the operator does not allow


def is_counted(op: str) -> bool:
    """Tell whether an operator is made of multiply-accumulates that a formula counts."""
    return op in _FORMULAS or op == "Einsum"


def _known(shapes: Shapes, index: int, rank: int | None = None) -> Shape:
    """Return a shape; raise `ValueError` where it is not known or not of that rank.

    onnxruntime's trace leaves out what is absent, so that another may stand in its place.
    """
    shape = shapes[index]
    if shape is None or (rank is not None and len(shape) != rank):
        raise ValueError
    return shape


def _conv(inputs: Shapes, outputs: Shapes, weight: int = 1) -> int:
    """Each element of the output takes one filter, of one group."""
    rank = len(_known(inputs, 0))
    return math.prod(_known(outputs, 0)) * math.prod(_known(inputs, weight, rank)[1:])


def _conv_transpose(inputs: Shapes, _: Shapes, weight: int = 1) -> int:
    """Each element of the input is spread by one filter, of one group."""
    left = _known(inputs, 0)
    return math.prod(left) * math.prod(_known(inputs, weight, len(left))[1:])


def _matmul(inputs: Shapes, outputs: Shapes) -> int:
    return math.prod(_known(outputs, 0)) * _known(inputs, 0)[-1]


def _fused_matmul(inputs: Shapes, outputs: Shapes) -> int:
    """Count a product whose left side may be transposed: its rows are those of the output."""
    left, out = _known(inputs, 0), _known(outputs, 0)
    transposed = len(left) > 1 and left[-2] != out[-2] and left[-1] == out[-2]
    return math.prod(out) * left[-2 if transposed else -1]


def _gemm(inputs: Shapes, outputs: Shapes) -> int:
    """Each element of the left matrix, transposed or not, meets every column of the output."""
    return math.prod(_known(inputs, 0, 2)) * _known(outputs, 0, 2)[1]


def _recurrent(inputs: Shapes, _: Shapes) -> int:
    """Each step of each sample multiplies by the weights of input and state, of all directions."""
    steps = math.prod(_known(inputs, 0, 3)[:2])
    return steps * sum(math.prod(_known(inputs, index, 3)) for index in (1, 2))


def _attention(inputs: Shapes, outputs: Shapes) -> int:
    """Count Q·Kᵀ and its product with V, which takes as many.

    Keys are `[batch, tokens, width]` or `[batch, heads, tokens, width]`, and with a cache all that
    is returned as present. onnxruntime's own Attention multiplies by packed weights first.
    """
    first, second = _known(inputs, 0), _known(inputs, 1)
    if len(second) == 2:
        return math.prod(first) * second[1] + 2 * math.prod(first) * first[1]
    queries = outputs[0] if outputs and outputs[0] is not None else first
    present = outputs[1] if len(outputs) > 1 else None
    keys = present if present is not None and len(present) == 4 else second
    return 2 * math.prod(queries) * keys[-2]


def _einsum(equation: str, inputs: Sequence[Shape]) -> int:
    """Count a product of two as it is: as many as there are ways to choose all its letters.

    More factors are multiplied one after the other, in an order that is the runtime's own.
    """
    if "." in equation or not equation:
        raise ValueError
    terms, _, result = equation.replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms.split(","), inputs, strict=True):
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    if len(inputs) > 2:
        raise ValueError
    return math.prod(sizes.values()) if len(inputs) == 2 and set(sizes) - set(result) else 0


_FORMULAS: Mapping[str, Callable[[Shapes, Shapes], int]] = {
    **dict.fromkeys(
        (
            *("Conv", "FusedConv", "ConvInteger", "NhwcConv", "NhwcFusedConv"),
            *("DeformConv", "CausalConvWithState"),
        ),
        _conv,
    ),
    "QLinearConv": lambda inputs, outputs: _conv(inputs, outputs, weight=3),
    "ConvTranspose": _conv_transpose,
    "QLinearConvTranspose": lambda inputs, outputs: _conv_transpose(inputs, outputs, weight=3),
    **dict.fromkeys(
        (
            *("MatMul", "MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul"),
            *("DynamicQuantizeMatMul", "MatMulNBits", "MatMulBnb4", "MatMulFpQ4", "GemmFastGelu"),
        ),
        _matmul,
    ),
    **dict.fromkeys(("FusedMatMul", "FusedMatMulActivation", "TransposeMatMul"), _fused_matmul),
    **dict.fromkeys(("Gemm", "FusedGemm", "QGemm", "GemmFloat8"), _gemm),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), _recurrent),
    **dict.fromkeys(
        ("Attention", "QAttention", "MultiHeadAttention", "GroupQueryAttention"), _attention
    ),
}

# Of ONNX's operators those without MACs, then those of onnxruntime that it fuses and inserts.
_WITHOUT = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization
    Bernoulli BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu
    CenterCropPad Clip Col2Im Compress Concat ConcatFromSequence Constant ConstantOfShape Cos Cosh
    CumProd CumSum DepthToSpace DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf
    Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu GlobalAveragePool
    GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid
    HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN LayerNormalization LeakyRelu
    Less LessOrEqual Log LogSoftmax LpNormalization LpPool Max MaxPool MaxRoiPool MaxUnpool Mean
    MeanVarianceNormalization Min Mish Mod Mul Multinomial Neg NegativeLogLikelihoodLoss
    NonMaxSuppression NonZero Not OneHot Optional OptionalGetElement OptionalHasElement Or PRelu
    Pad Pow QuantizeLinear RMSNormalization RandomNormal RandomNormalLike RandomUniform
    RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence
    RoiAlign RotaryEmbedding Round Scatter ScatterElements ScatterND Selu SequenceAt
    SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength Shape Shrink
    Sigmoid Sign Sin Sinh Size Slice Softmax SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth
    Split SplitToSequence Sqrt Squeeze Sub Sum SwiGLU Swish Tan Tanh TensorScatter ThresholdedRelu
    Tile TopK Transpose Trilu Unique Unsqueeze Upsample Where Xor
    BlackmanWindow HammingWindow HannWindow
    BiasAdd BiasDropout BiasGelu BiasSoftmax BiasSplitGelu EmbedLayerNormalization
    ExpandDims FastGelu GatherBlockQuantized GroupNorm MemcpyFromHost
    MemcpyToHost NhwcMaxPool QEmbedLayerNormalization QLinearAdd QLinearAveragePool QLinearConcat
    QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid
    QLinearSoftmax QLinearWhere QuickGelu ReorderInput ReorderOutput
    SimplifiedLayerNormalization SkipGroupNorm SkipLayerNormalization
    SkipSimplifiedLayerNormalization
    """.split()  # noqa: SIM905 - a list of two hundred quoted names reads worse
)
