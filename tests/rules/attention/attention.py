"""Builds attentions as exporters write them, for the tests of the rules on attention."""

import numpy as np

from tests.rules.graphs import Graph

PART = (0, 2, 1, 3)


def shape(*sizes):
    return np.array(sizes, np.int64)


class Attention:
    """softmax(s·Q·Kᵀ + mask)·V over `heads` heads, piece by piece."""

    def __init__(self, batch=2, queries=3, keys=5, heads=4, size=8, opset=17):
        self.g = Graph(opset)
        self.batch, self.queries, self.keys = batch, queries, keys
        self.heads, self.size = heads, size

    def packed(self, name, tokens, width=None):
        return self.g.input(name, self.batch, tokens, self.heads * (width or self.size))

    def part(self, x, perm=PART, width=None):
        parted = self.g.Reshape(x, shape(0, 0, self.heads, width or self.size))
        return self.g.Transpose(parted, perm=perm)

    def merge(self, y, width=None):
        turned = self.g.Transpose(y, perm=PART)
        return self.g.Reshape(turned, shape(0, 0, self.heads * (width or self.size)))

    def probabilities(self, q, k, scale=0.25, mask=None):
        g = self.g
        scores = g.MatMul(q, k)
        if scale is not None:
            scores = g.Mul(scores, scale)
        if mask is not None:
            scores = g.Add(scores, mask)
        return g.Softmax(scores, axis=-1)

    def hidden(self, *sizes, fill=-np.inf):
        """Return a mask as it is made of a caller's booleans: 0 where true, `fill` elsewhere."""
        seen = self.g.Cast(self.g.input("seen", *sizes, dtype=7), to=9)
        return self.g.Where(seen, 0.0, np.float32(fill))

    def guarded(self, p):
        return self.g.Where(self.g.IsNaN(p), 0.0, p)

    def whole(self, mask=None, guard=False, scale=0.25):
        q = self.part(self.packed("q", self.queries))
        k = self.part(self.packed("k", self.keys), perm=(0, 2, 3, 1))
        v = self.part(self.packed("v", self.keys))
        p = self.probabilities(q, k, scale, mask)
        return self.merge(self.g.MatMul(self.guarded(p) if guard else p, v))
