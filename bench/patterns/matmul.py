"""Forms around matrix products."""

from __future__ import annotations

from patterns.graph import TOKENS, Graph, form


@form(4, 8)
def gemm_bn(g: Graph, x: str) -> str:
    """A linear layer and its BatchNormalization."""
    return g.batchnorm(g.Gemm(x, g.weight(8, 8), g.weight(8)))


@form(4, 8)
def matmul_bn(g: Graph, x: str) -> str:
    """A linear layer without bias and its BatchNormalization."""
    return g.batchnorm(g.MatMul(x, g.weight(8, 8)))


@form(4, 8)
def gemm_gemm_linear(g: Graph, x: str) -> str:
    """Two linear layers with nothing between them."""
    return g.Gemm(g.Gemm(x, g.weight(8, 4), g.weight(4)), g.weight(4, 8), g.weight(8))


@form(*TOKENS)
def sibling_matmul_qkv(g: Graph, x: str) -> tuple[str, ...]:
    """Query, key and value: three linear layers that read the same."""
    return tuple(g.dense(x, 32, 32) for _ in range(3))


@form(*TOKENS)
def swiglu(g: Graph, x: str) -> str:
    """The gated feed-forward layer of current language models."""
    gate, up = g.MatMul(x, g.weight(32, 64)), g.MatMul(x, g.weight(32, 64))
    return g.MatMul(g.Mul(g.Mul(gate, g.Sigmoid(gate)), up), g.weight(64, 32))


@form(16, 32)
def matmul_add_2d(g: Graph, x: str) -> str:
    """A linear layer on a matrix."""
    return g.dense(x, 32, 32)


@form(*TOKENS)
def matmul_add_3d(g: Graph, x: str) -> str:
    """A linear layer on a batch of sequences."""
    return g.dense(x, 32, 32)


@form(*TOKENS)
def matmul_add_relu_3d(g: Graph, x: str) -> str:
    """A linear layer on a batch of sequences, with Relu."""
    return g.Relu(g.dense(x, 32, 32))


@form(16, 32)
def gemm_relu(g: Graph, x: str) -> str:
    """A linear layer with Relu."""
    return g.Relu(g.Gemm(x, g.weight(32, 32), g.weight(32)))


@form(*TOKENS)
def matmul_mul_scale(g: Graph, x: str) -> str:
    """A number behind a product with a constant."""
    return g.Mul(g.MatMul(x, g.weight(32, 32)), 0.5)


@form(*TOKENS)
def matmul_mul_perchannel(g: Graph, x: str) -> str:
    """A factor per column behind a product with a constant."""
    return g.Mul(g.MatMul(x, g.weight(32, 32)), g.weight(32))


@form(2, 32, 16)
def transpose_matmul(g: Graph, x: str) -> str:
    """A product whose left side is transposed first."""
    return g.MatMul(g.Transpose(x, perm=[0, 2, 1]), g.weight(32, 32))


@form(2, 4, 16, 8)
def einsum_bmm(g: Graph, x: str) -> str:
    """Attention scores by Einsum."""
    return g.Einsum(x, g.input("y", 2, 4, 16, 8), equation="bhid,bhjd->bhij")


@form(*TOKENS)
def einsum_const(g: Graph, x: str) -> str:
    """A linear layer by Einsum."""
    return g.Einsum(x, g.weight(32, 64), equation="bsd,df->bsf")


@form(*TOKENS)
def matmul_slice_lasttoken(g: Graph, x: str) -> str:
    """The head of a language model, computed for all tokens and read at the last."""
    return g.Slice(g.MatMul(x, g.weight(32, 64)), [-1], [2**31], [1])
