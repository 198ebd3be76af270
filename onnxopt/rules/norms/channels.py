"""LayerNormalization over channels that do not stand last (ConvNeXt, SegFormer, diffusion models).

LayerNormalization works on last axes; between two Transposes it takes a third to two thirds of the
time that the parts take on a CPU (96×56×56: 0.53, 384×14×14: 0.39; 8×16×16 the same), since each
of the parts goes over all elements. Scale and shift, written behind the second Transpose, are moved
before it, from where they go into the LayerNormalization.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.norms.layernorm import LARGEST_SCALE
from onnxopt.rules.norms.standardized import STANDARDIZED, axes_of, epsilon

_TURNED = op.Transpose(var("norm"), bind="turn")
_NORMALIZATIONS = ("LayerNormalization", "RMSNormalization")


@rule(STANDARDIZED, since=17)
def fuse_channel_layer_normalization(
    new: Builder, x: ir.Value, eps: Any, mean: ir.Node, mean_again: ir.Node, variance: ir.Node
) -> Any:
    """(x - μ)/√(σ² + ε) over one axis becomes LayerNormalization between two Transposes."""
    axes, shape = axes_of(new, x, mean, mean_again, variance), facts.shape(x) or ()
    if len(axes) != 1 or axes[0] == len(shape) - 1:
        new.refuse("it is not taken over one axis before the last")
    (axis,) = axes
    size = shape[axis]
    if not facts.is_float(x) or not isinstance(size, int) or not 1 < size <= LARGEST_SCALE:
        new.refuse(f"the size of axis {axis} is not known, or no scale for it would be small")
    order = [place for place in range(len(shape)) if place != axis] + [axis]
    last = new.Transpose(x, perm=order)
    last.shape = ir.Shape([shape[place] for place in order])
    made = new.LayerNormalization(last, np.ones(size), axis=-1, epsilon=epsilon(new, x, eps))
    made.shape = last.shape
    return new.Transpose(made, perm=[order.index(place) for place in range(len(shape))])


@rule(op.Mul(_TURNED, const("c"), bind="node") | op.Add(_TURNED, const("c"), bind="node"), since=17)
def move_constant_before_transpose(
    new: Builder, node: ir.Node, turn: ir.Node, norm: ir.Value, c: Any
) -> Any:
    """Transpose(LayerNormalization(x))·c, or + c, becomes Transpose(LayerNormalization(x)·c)."""
    made_by, rank = norm.producer(), facts.rank(norm)
    if made_by is None or made_by.op_type not in _NORMALIZATIONS or not facts.is_private(norm):
        return None
    perm = new.attribute(turn, "perm")
    if rank is None or perm is None or c.ndim > rank:
        return None
    spread = c.reshape((1,) * (rank - c.ndim) + c.shape)
    moved = spread.transpose([perm.index(place) for place in range(rank)])
    if moved.size != moved.shape[-1]:
        new.refuse("it varies over other axes than the one that is normalised")
    changed = new.node(node.op_type, norm, moved)
    changed.shape = norm.shape
    return new.Transpose(changed, perm=perm)
