"""Moments of inputs that depend on each other, for the tests of what is made of them."""

import numpy as np

from onnxopt.sweep.moments import Moments


def inputs(seed, columns, *, samples=30, groups=1, off=0.0):
    """What a layer gets in the original model and in the pruned one: x, q [samples, g, n, c]."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(groups, columns, columns)) / np.sqrt(columns)
    mix += 0.3 * np.eye(columns)
    x = rng.normal(size=(samples, groups, 8, columns)) @ mix + rng.normal(size=columns)
    q = x + off * rng.normal(size=x.shape) - off * np.tanh(x)
    return x.astype(np.float32), q.astype(np.float32)


def moments(x, q=None):
    found = Moments.of(x.shape[1], x.shape[3])
    for ours, theirs in zip(x, x if q is None else q, strict=True):
        found.see(ours, theirs)
    found.settle()
    return found


def rows(seed, outputs, columns):
    return np.random.default_rng(seed + 1).normal(size=(outputs, columns)).astype(np.float32)


def flat(x):
    return x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1, x.shape[3]).astype(np.float64)
