"""Forms of attention."""

from __future__ import annotations

from onnx import TensorProto

from patterns.graph import TOKENS, Graph, form

_BATCH, _LENGTH, _WIDTH = TOKENS
_HEADS = 4
_SIZE = _WIDTH // _HEADS


def attention(g: Graph, x: str, mask: str | None = None, scale_both: bool = False) -> str:
    """Add multi-head attention as torch's eager (or, `scale_both`, SDPA) code is exported."""
    query, key, value = (g.dense(x, _WIDTH, _WIDTH) for _ in range(3))
    split = g.constant([_BATCH, _LENGTH, _HEADS, _SIZE])
    query = g.Transpose(g.Reshape(query, split), perm=[0, 2, 1, 3])
    value = g.Transpose(g.Reshape(value, split), perm=[0, 2, 1, 3])
    key = g.Transpose(g.Reshape(key, split), perm=[0, 2, 3, 1])
    if scale_both:
        scale = g.constant(_SIZE**-0.25)
        scores = g.MatMul(g.Mul(query, scale), g.Mul(key, scale))
    else:
        scores = g.Div(g.MatMul(query, key), _SIZE**0.5)
    if mask:
        scores = g.Add(scores, mask)
    context = g.Transpose(g.MatMul(g.Softmax(scores, axis=-1), value), perm=[0, 2, 1, 3])
    return g.dense(g.Reshape(context, [_BATCH, _LENGTH, _WIDTH]), _WIDTH, _WIDTH)


def _residual(g: Graph, made: str, x: str) -> str:
    both, width = g.Add(made, x), _WIDTH
    return str(g.LayerNormalization(both, g.weight(width), g.weight(width), axis=-1))


@form(*TOKENS)
def mha_eager_nomask(g: Graph, x: str) -> str:
    """Attention without a mask."""
    return attention(g, x)


@form(*TOKENS)
def mha_eager_mask(g: Graph, x: str) -> str:
    """Attention with a mask that is added to the scores."""
    return attention(g, x, mask=g.input("mask", _BATCH, 1, 1, _LENGTH))


@form(*TOKENS)
def mha_sdpa(g: Graph, x: str) -> str:
    """Attention whose scale stands on both sides of the product."""
    return attention(g, x, scale_both=True)


@form(*TOKENS)
def mha_eager_skipln(g: Graph, x: str) -> str:
    """Attention, residual sum and LayerNormalization."""
    return _residual(g, attention(g, x), x)


@form(*TOKENS)
def bert_mha_mask_ln(g: Graph, x: str) -> str:
    """A BERT layer's attention with the mask made of the tokens that count."""
    counts = g.input("am", _BATCH, _LENGTH, dtype=TensorProto.INT64)
    start = g.LayerNormalization(x, g.weight(_WIDTH), g.weight(_WIDTH), axis=-1)
    mask = g.Cast(g.Unsqueeze(g.Unsqueeze(counts, [1]), [2]), to=TensorProto.FLOAT)
    mask = g.Mul(g.Sub(1.0, mask), -10000.0)
    return _residual(g, attention(g, start, mask=mask), start)


@form(2, _HEADS, 16, 8)
def rope(g: Graph, x: str) -> str:
    """Rotary position embedding by halves."""
    cosine, sine = g.weight(1, 1, 16, 8), g.weight(1, 1, 16, 8)
    first = g.Slice(x, [0], [4], [3], [1])
    second = g.Slice(x, [4], [2**63 - 1], [3], [1])
    turned = g.Concat(g.Neg(second), first, axis=-1)
    return g.Add(g.Mul(x, cosine), g.Mul(turned, sine))
