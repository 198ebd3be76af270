"""Forms about shapes: what computes, sets and unsets them."""

from __future__ import annotations

import numpy as np

from patterns.graph import IMAGE, Graph, form


@form(*IMAGE)
def reshape_reshape(g: Graph, x: str) -> str:
    """A Reshape of a Reshape."""
    return g.Reshape(g.Reshape(x, [1, 8, 256]), [8, 256])


@form(*IMAGE)
def reshape_relu_reshape(g: Graph, x: str) -> str:
    """A Reshape there and back around a Relu."""
    return g.Reshape(g.Relu(g.Reshape(x, [1, 8, 256])), list(IMAGE))


@form(*IMAGE)
def flatten_gemm(g: Graph, x: str) -> str:
    """The head of an image network."""
    return g.Gemm(g.Flatten(x), g.weight(2048, 4), g.weight(4))


@form(*IMAGE)
def unsqueeze_squeeze(g: Graph, x: str) -> str:
    """An axis that is set and removed."""
    return g.Squeeze(g.Unsqueeze(x, [0]), [0])


@form(*IMAGE)
def shape_gather_concat_reshape_static(g: Graph, x: str) -> str:
    """A Flatten whose batch size is read from the input, although it is known."""
    batch = g.Gather(g.Shape(x), [0], axis=0)
    return g.Reshape(x, g.Concat(batch, [-1], axis=0))


@form("N", 8, 16, 16)
def shape_gather_concat_reshape_dynbatch(g: Graph, x: str) -> str:
    """Two axes made one, their sizes read from the input."""
    shape = g.Shape(x)
    sizes = [g.Unsqueeze(g.Gather(shape, np.int64(axis), axis=0), [0]) for axis in (0, 1)]
    return g.Reshape(x, g.Concat(*sizes, [-1], axis=0))


@form(*IMAGE)
def globalavgpool_reducemean(g: Graph, x: str) -> str:
    """Global pooling as a mean."""
    return g.ReduceMean(x, axes=[2, 3])


@form(*IMAGE)
def expand_noop(g: Graph, x: str) -> str:
    """An Expand to the shape that is there."""
    return g.Relu(g.Expand(x, list(IMAGE)))
