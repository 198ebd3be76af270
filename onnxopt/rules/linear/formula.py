"""A linear layer as one formula, whatever its operator: what the rules on weights share.

Conv, ConvTranspose, Gemm and MatMul with a constant weight all compute, in each of g groups,

    y[o] = Σᵢ Σₜ W[g, i, o, t] · x[i, t] + b[o]

over input channels i and taps t (one tap for Gemm and MatMul; a batch of matrices takes the place
of the groups). `taps` shows a weight in this order of axes. A factor per output channel scales W
and b, a factor per input channel scales W alone, a shift per input channel adds Σᵢ Σₜ W·shift to b.

Sums are taken in double precision and rounded once. What would overflow, or lose more than
rounding in half precision, is refused, as is a large weight that other nodes read too: it would be
kept twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import Pattern, const, op, var
from onnxopt.rewrite.rule import Builder

SHARED_ELEMENTS = 1 << 14
"""A weight of up to so many elements may be kept twice."""

_PIECE = 1 << 20

x, w, b = var("x"), const("w"), const("b", default=0)
_bias = var("bias", optional=True)


def biased(given: Pattern) -> Pattern:
    """Match the linear layers of `given` that have a constant bias, or room for one."""
    return (
        op.Conv(given, w, b, bind="layer")
        | op.ConvTranspose(given, w, b, bind="layer")
        | op.Gemm(given, w, b, bind="layer")
        | (op.MatMul(given, w, bind="layer") + b)
    )


def linear(given: Pattern) -> Pattern:
    """Match the linear layers of `given`; the Add behind a MatMul counts as its bias."""
    return biased(given) | op.MatMul(given, w, bind="layer")


def weighted(given: Pattern) -> Pattern:
    """Match the linear layers of `given` whatever their bias."""
    return (
        op.Conv(given, w, _bias, bind="layer")
        | op.ConvTranspose(given, w, _bias, bind="layer")
        | op.Gemm(given, w, _bias, bind="layer")
        | op.MatMul(given, w, bind="layer")
    )


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What is known of a linear layer: its channels, its groups, and where the channels are.

    `axis`, that of the channels in input and output, counts from the end. The output has at least
    `rank` dimensions. `transposed`: the weight of a Gemm stands as [outputs, inputs].
    """

    node: ir.Node
    dtype: ir.DataType
    inputs: int
    outputs: int
    axis: int
    rank: int
    groups: int = 1
    transposed: bool = False


def layer_of(new: Builder, node: ir.Node) -> Layer:
    """Describe a linear layer, or refuse where that takes more than is known."""
    shape, dtype = facts.static_shape(node.inputs[1]), facts.dtype(node.inputs[1])
    if shape is None or dtype is None or not dtype.is_floating_point() or 0 in shape:
        new.refuse("the weight is empty, or holds no floating-point numbers")
    rank = len(shape)
    if rank < 2:
        new.refuse("the weight is a vector")
    if node.op_type in ("Conv", "ConvTranspose"):
        groups = new.attribute(node, "group") or 0
        if node.op_type == "Conv":
            outputs, inputs = shape[0], shape[1] * groups
        else:
            inputs, outputs = shape[0], shape[1] * groups
        if not groups or inputs % groups or outputs % groups:
            new.refuse("the number of groups does not fit the weight")
        return Layer(
            node=node,
            dtype=dtype,
            inputs=inputs,
            outputs=outputs,
            axis=1 - rank,
            rank=rank,
            groups=groups,
        )
    inputs, outputs = shape[-2:]
    transposed = False
    if node.op_type == "Gemm":
        transposed = bool(_known(new, node, "transB"))
        inputs, outputs = (outputs, inputs) if transposed else (inputs, outputs)
    else:
        given = facts.rank(node.inputs[0]) or 1
        rank = rank - 1 if given == 1 else max(given, rank)
    return Layer(
        node=node,
        dtype=dtype,
        inputs=inputs,
        outputs=outputs,
        axis=-1,
        rank=rank,
        transposed=transposed,
    )


def weight_of(layer: Layer) -> Any:
    """Return the weight; half precision comes as a copy in single, so ask when all else is known.

    A language model's head alone may have a gigabyte.
    """
    held = facts.constant(layer.node.inputs[1])
    assert held is not None
    return held.astype(np.float32) if layer.dtype.itemsize < 4 else held


def _known(new: Builder, node: ir.Node, name: str) -> float:
    number: float | None = new.attribute(node, name)
    if number is None:
        new.refuse(f"{name} is not known")
    return number


def per_output(new: Builder, layer: Layer, array: Any) -> Any:
    """Return a constant that meets the layer's output as one double per output channel."""
    return _per_channel(new, array, rank=layer.rank, axis=layer.axis, count=layer.outputs)


def per_input(new: Builder, layer: Layer, source: ir.Value | None, array: Any) -> Any:
    """Return a constant that meets `source`, on its way into the layer, as one double per channel.

    It must not broadcast `source`: a grey image times three constants has three channels.
    """
    rank = facts.rank(source)
    if rank is None:
        # Meeting a constant of lower rank than the layer's input, the source has that rank itself.
        rank = 0 if layer.node.op_type == "MatMul" else layer.rank - 1
    if array.size != 1:
        shape = facts.shape(source)
        if takes_transposed(new, layer):
            new.refuse("the layer's input is transposed")
        if shape is None or len(shape) < -layer.axis or shape[layer.axis] != layer.inputs:
            new.refuse("the constant may broadcast what it meets")
    return _per_channel(new, array, rank=rank, axis=layer.axis, count=layer.inputs)


def takes_transposed(new: Builder, layer: Layer) -> bool:
    """Tell whether the layer is a Gemm that transposes its input."""
    return layer.node.op_type == "Gemm" and bool(_known(new, layer.node, "transA"))


def _per_channel(new: Builder, array: Any, *, rank: int, axis: int, count: int) -> Any:
    if array.ndim > rank:
        new.refuse("the constant has more dimensions than what it meets")
    if array.size == 1:
        return np.full(count, array.reshape(()), np.float64)
    if array.size != count or array.ndim < -axis or array.shape[axis] != count:
        new.refuse("the constant is neither one number nor one per channel")
    return array.astype(np.float64).reshape(-1)


def taps(layer: Layer, weight: Any) -> Any:
    """View a weight as [groups or batch, inputs, outputs, taps], the first two per group."""
    groups = layer.groups
    if layer.node.op_type == "Conv":
        view = weight.reshape(groups, layer.outputs // groups, layer.inputs // groups, -1)
        return view.transpose(0, 2, 1, 3)
    if layer.node.op_type == "ConvTranspose":
        return weight.reshape(groups, layer.inputs // groups, layer.outputs // groups, -1)
    if layer.node.op_type == "MatMul":
        return weight.reshape(-1, layer.inputs, layer.outputs, 1)
    return (weight.T if layer.transposed else weight)[None, :, :, None]


def scaled(
    new: Builder, layer: Layer, weight: Any, *, outputs: Any = None, inputs: Any = None
) -> Any:
    """Return the weight with its output or input channels multiplied by a number or a vector."""
    held = layer.node.inputs[1]
    assert held is not None
    if weight.size > SHARED_ELEMENTS and not facts.is_private(held):
        new.refuse(f"the weight '{held.name}' is read by other nodes too")
    groups = layer.groups
    factor: Any = 1.0
    if outputs is not None:
        factor = np.broadcast_to(outputs, layer.outputs).reshape(groups, 1, -1, 1)
    if inputs is not None:
        factor = factor * np.broadcast_to(inputs, layer.inputs).reshape(groups, -1, 1, 1)
    weight = np.ascontiguousarray(weight)
    made = np.empty_like(weight)
    with np.errstate(all="ignore"):
        np.multiply(taps(layer, weight), factor, out=taps(layer, made), casting="same_kind")
    return made


def reciprocal(scale: Any) -> Any:
    """Return 1/scale; a zero gives infinity, which no weight takes."""
    with np.errstate(divide="ignore"):
        return 1 / scale


def response(new: Builder, layer: Layer, weight: Any, shift: Any) -> Any:
    """Return what a constant per input channel, at every tap, adds to each output channel."""
    view = taps(layer, weight)
    if view.shape[0] != layer.groups:
        new.refuse("a batch of matrices has no common bias")
    with np.errstate(all="ignore"):
        found = np.einsum(
            "giot,gi->go", view, shift.reshape(layer.groups, -1), dtype=np.float64, casting="safe"
        )
    if layer.node.op_type == "Gemm":
        found = found * _known(new, layer.node, "alpha")
    return found.reshape(-1)


def bias_of(new: Builder, layer: Layer, bias: Any) -> Any:
    """Return the bias as one double per output channel; None where it is zero or absent."""
    if not bias.any():
        return None
    if layer.axis < -1:  # the bias of a Conv is a vector, whatever the rank
        return _per_channel(new, bias, rank=1, axis=-1, count=layer.outputs)
    found = per_output(new, layer, bias)
    return found * _known(new, layer.node, "beta") if layer.node.op_type == "Gemm" else found


def rebuilt(new: Builder, layer: Layer, source: ir.Value, weight: Any, bias: Any) -> ir.Value:
    """Make the layer anew with another input, weight (an array or a value) and bias (or None)."""
    node = layer.node
    if not isinstance(weight, ir.Value):
        weight = faithful(new, weight, layer.dtype)
    if node.op_type == "Gemm" and bias is None and new.opset < 11:
        bias = np.zeros(layer.outputs)
    if bias is not None:
        bias = faithful(new, bias, layer.dtype)
    made: ir.Value
    if node.op_type != "MatMul":
        attributes: dict[str, Any] = dict(node.attributes)
        attributes.pop("beta", None)
        inputs = (source, weight) if bias is None else (source, weight, bias)
        made = new.node(node.op_type, *inputs, **attributes)
    elif bias is not None and facts.rank(source) == 2 and facts.rank(weight) == 2:
        made = new.Gemm(source, weight, bias)
    else:
        made = new.MatMul(source, weight)
        if bias is not None:
            made.shape = node.outputs[0].shape
            made = new.Add(made, bias)
    made.shape = node.outputs[0].shape
    return made


def reweighted(new: Builder, layer: Layer, source: ir.Value, weight: Any) -> ir.Value:
    """Make the layer anew with another input and weight; bias and attributes stay as they are."""
    node = layer.node
    held = faithful(new, weight, layer.dtype)
    attributes: dict[str, Any] = dict(node.attributes)
    made: ir.Value = new.node(node.op_type, source, held, *node.inputs[2:], **attributes)
    made.shape = node.outputs[0].shape
    return made


def faithful(new: Builder, array: Any, dtype: ir.DataType) -> ir.Value:
    """Make a constant, or refuse where its element type cannot hold it as well as it held others.

    Rounding to half precision costs 2⁻¹¹; denormal numbers lose more.
    """
    with np.errstate(all="ignore"):
        rounded = array.astype(dtype.numpy(), copy=False)
        error = whole = 0.0
        for before, after in zip(_pieces(array), _pieces(rounded), strict=True):
            if not np.isfinite(after).all():
                new.refuse("the folded constant is not finite")
            if dtype.itemsize < 4:
                exact = before.astype(np.float64)
                error += float(np.square(after.astype(np.float64) - exact).sum())
                whole += float(np.square(exact).sum())
    if error > 2.0**-16 * whole:
        new.refuse("the folded constant loses precision")
    return new.constant(rounded, dtype)


def _pieces(array: Any) -> Iterator[Any]:
    """Cut an array into pieces: what is computed of a large one would be as large."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, _PIECE):
        yield flat[start : start + _PIECE]
