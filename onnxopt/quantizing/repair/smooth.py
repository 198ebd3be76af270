"""Smoothing for transformers: outlying channels of an activation moved into the weights behind it.

SmoothQuant (Xiao et al. 2023): s_c = max|x_c|^α / max|W_c|^(1-α) is taken out of the scale and bias
of the normalisation (LayerNormalization, RMSNormalization), or of the layer, that writes x, and put
into all MatMuls that read it; queries, keys and values share one s. The same is done from the layer
of the values, through attention, to the layer behind it, from one half of a gated unit to what
reads the product, and between queries and keys, one divided by s and the other multiplied. GELU and
SiLU are not homogeneous: their inputs stay.

In a BERT the sum around each block reads the normalisation as well: with `restore`, a Mul takes the
scales back for it. That costs one elementwise operator for each normalisation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from onnxopt.graph._onnx_ir import ir
from onnxopt.quantizing.repair.chains import Chain, candidates
from onnxopt.quantizing.repair.equalize import rescaled
from onnxopt.quantizing.repair.noise import Outlook, nodes_by_name, outlook
from onnxopt.quantizing.repair.scales import scales_of, searched
from onnxopt.quantizing.repair.walk import Ranges

RULE = "smooth"
_MATRICES = ("MatMul", "Gemm")


def smoothed(
    model: ir.Model,
    ranges: Ranges,
    alpha: float | Callable[[Outlook], float | None] | None = None,
    *,
    restore: bool = False,
    least_gain: float = 1.0,
) -> Counter[str]:
    """Smooth what MatMul and Gemm read, in place; count the chains and the channels rescaled.

    `ranges` are by channel, of tensors that will be int8. `alpha` is one for all, or a function
    that is asked for each chain (None: leave it alone); without, the α of the least estimated noise
    is taken. A chain that needs a Mul is only taken where the estimate falls by `least_gain`.
    """
    nodes = nodes_by_name(model)
    chosen = []
    for chain in candidates(model, restore=restore):
        if not smooths(chain, nodes):
            continue
        view = outlook(chain, nodes, ranges)
        if not view.tensors:
            continue
        best, gain = searched(view)
        if chain.restored and gain < least_gain:
            continue
        wanted = alpha(view) if callable(alpha) else alpha
        if wanted is not None:
            best = scales_of(view, wanted)
        elif callable(alpha):
            continue
        chosen.append((chain, best))
    return rescaled(model, chosen, RULE)


def smooths(chain: Chain, nodes: dict[str, ir.Node]) -> bool:
    """Tell whether all weights of a chain are matrices."""
    weighted = [edit for edit in chain.edits if edit.rows is not None]
    return bool(weighted) and all(nodes[edit.edge.node].op_type in _MATRICES for edit in weighted)
