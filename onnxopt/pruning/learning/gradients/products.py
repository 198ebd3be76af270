"""Products of matrices and their gradients, which are products as well."""

from __future__ import annotations

from collections import Counter

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.learning.gradients.call import (
    Call,
    Inputs,
    Made,
    given,
    needed,
    optional,
    summed,
)


def matmul(call: Call, inputs: Inputs) -> Made:
    """Compute MatMul; a vector is a row on the left, a column on the right."""
    del call
    one, other = needed(inputs, 0), needed(inputs, 1)
    a = one[None] if one.ndim == 1 else one
    b = other[:, None] if other.ndim == 1 else other

    def pull(gradients: Inputs) -> Inputs:
        gradient = given(gradients)
        if one.ndim == 1:
            gradient = np.expand_dims(gradient, -1 if other.ndim == 1 else -2)
        if other.ndim == 1:
            gradient = gradient[..., None]
        left, right = _pulled(a, b, gradient)
        return left.reshape(one.shape), right.reshape(other.shape)

    return (np.matmul(one, other),), pull


def _pulled(a: Array, b: Array, gradient: Array) -> tuple[Array, Array]:
    if b.ndim == 2:
        flat = gradient.reshape(-1, b.shape[1])
        return (flat @ b.T).reshape(a.shape), a.reshape(-1, len(b)).T @ flat
    left = np.matmul(gradient, b.swapaxes(-1, -2))
    right = np.matmul(a.swapaxes(-1, -2), gradient)
    return summed(left, a.shape), summed(right, b.shape)


def gemm(call: Call, inputs: Inputs) -> Made:
    """Compute Gemm."""
    alpha, beta = (np.float32(call.get(name)) for name in ("alpha", "beta"))
    turns = [bool(call.get(name)) for name in ("transA", "transB")]
    a, b = (
        needed(inputs, place).T if turn else needed(inputs, place)
        for place, turn in enumerate(turns)
    )
    c = optional(inputs, 2)
    made = alpha * (a @ b)

    def pull(gradients: Inputs) -> Inputs:
        gradient = given(gradients)
        left, right = alpha * (gradient @ b.T), alpha * (a.T @ gradient)
        found = [left.T if turns[0] else left, right.T if turns[1] else right]
        return [*found, None if c is None else summed(beta * gradient, c.shape)][: len(inputs)]

    return (made if c is None else made + beta * c,), pull


def einsum(call: Call, inputs: Inputs) -> Made:
    """Compute Einsum of two inputs, of which `is_product` is true."""
    a, b = needed(inputs, 0), needed(inputs, 1)
    left, right, made = _terms(str(call.get("equation")))

    def product(one: Array, other: Array, equation: str) -> Array:
        return np.asarray(np.einsum(equation, one, other, optimize=True))

    def pull(gradients: Inputs) -> Inputs:
        gradient = given(gradients)
        return (
            product(gradient, b, f"{made},{right}->{left}"),
            product(gradient, a, f"{made},{left}->{right}"),
        )

    return (product(a, b, f"{left},{right}->{made}"),), pull


def is_product(call: Call) -> bool:
    """Tell whether an Einsum is one of two inputs whose gradients are such Einsums too.

    So it is where no index stands twice in a term, and each one in two terms or more.
    """
    equation = str(call.get("equation") or "")
    if len(call.node.inputs) != 2 or equation.count(",") != 1 or "." in equation:
        return False
    terms = _terms(equation)
    seen = Counter(index for term in terms for index in term)
    plain = all(len(set(term)) == len(term) for term in terms)
    return plain and all(count > 1 for count in seen.values())


def _terms(equation: str) -> tuple[str, str, str]:
    """Return the indices of both inputs and of the output: without one, those that stand once."""
    read, arrow, made = equation.replace(" ", "").partition("->")
    left, _, right = read.partition(",")
    if not arrow:
        seen = Counter(left + right)
        made = "".join(sorted(index for index, count in seen.items() if count == 1))
    return left, right, made
