"""Sums, products, quotients, choices of tensors of any shapes that broadcast, and their gradients.

A gradient goes back to what was broadcast as the sum over its copies.
"""

from __future__ import annotations

from functools import reduce

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.learning.gradients.call import (
    Call,
    Inputs,
    Made,
    Operator,
    first_alone,
    given,
    needed,
    summed,
)


def add(call: Call, inputs: Inputs) -> Made:
    """Compute Add, or Sum of any number of tensors."""
    del call
    terms = [needed(inputs, place) for place in range(len(inputs))]
    shapes = [term.shape for term in terms]

    def pull(gradients: Inputs) -> Inputs:
        gradient = given(gradients)
        return [summed(gradient, shape) for shape in shapes]

    return (reduce(np.add, terms),), pull


def mean(call: Call, inputs: Inputs) -> Made:
    """Compute Mean of any number of tensors."""
    (total,), pull = add(call, inputs)
    share = np.float32(1 / len(inputs))
    return (total * share,), lambda gradients: pull([given(gradients) * share])


def subtract(call: Call, inputs: Inputs) -> Made:
    """Compute Sub."""
    del call
    a, b = needed(inputs, 0), needed(inputs, 1)
    shapes = a.shape, b.shape

    def pull(gradients: Inputs) -> Inputs:
        gradient = given(gradients)
        return summed(gradient, shapes[0]), summed(-gradient, shapes[1])

    return (a - b,), pull


def multiply(call: Call, inputs: Inputs) -> Made:
    """Compute Mul."""
    del call
    a, b = needed(inputs, 0), needed(inputs, 1)

    def pull(gradients: Inputs) -> Inputs:
        gradient = given(gradients)
        return summed(gradient * b, a.shape), summed(gradient * a, b.shape)

    return (a * b,), pull


def divide(call: Call, inputs: Inputs) -> Made:
    """Compute Div."""
    del call
    a, b = needed(inputs, 0), needed(inputs, 1)
    made = a / b

    def pull(gradients: Inputs) -> Inputs:
        part = given(gradients) / b
        return summed(part, a.shape), summed(-part * made, b.shape)

    return (made,), pull


def _most(choose: np.ufunc) -> Operator:
    def compute(call: Call, inputs: Inputs) -> Made:
        del call
        terms = [needed(inputs, place) for place in range(len(inputs))]
        made = reduce(choose, terms)

        def pull(gradients: Inputs) -> Inputs:
            rest, found = given(gradients), list[Array]()
            for term in terms:
                own = np.where(term == made, rest, np.zeros((), rest.dtype))
                found.append(summed(own, term.shape))
                rest = rest - own
            return found

        return (made,), pull

    return compute


maximum, minimum = _most(np.maximum), _most(np.minimum)
"""Of any number of tensors; of equals the first one has the gradient."""


def where(call: Call, inputs: Inputs) -> Made:
    """Compute Where."""
    del call
    which, a, b = (needed(inputs, place) for place in range(3))

    def pull(gradients: Inputs) -> Inputs:
        gradient = given(gradients)
        zero = np.zeros((), gradient.dtype)
        one, other = np.where(which, gradient, zero), np.where(which, zero, gradient)
        return None, summed(one, a.shape), summed(other, b.shape)

    return (np.where(which, a, b),), pull


def prelu(call: Call, inputs: Inputs) -> Made:
    """Compute PRelu, whose slopes below zero are its second input."""
    del call
    x, slope = needed(inputs, 0), needed(inputs, 1)

    def pull(gradients: Inputs) -> Inputs:
        gradient = given(gradients)
        below = np.minimum(x, 0) * gradient
        return gradient * np.where(x < 0, slope, 1), summed(below, slope.shape)

    return (np.where(x < 0, x * slope, x),), pull


def same(call: Call, inputs: Inputs) -> Made:
    """Return the numbers as they are: Dropout in inference, Cast between floats."""
    del call
    return (needed(inputs, 0),), lambda gradients: first_alone(given(gradients), inputs)
