"""Comparisons and logic: computed on the way, but flat wherever they have a slope.

Exporters guard a Softmax by `Where(IsNaN(p), 0, p)`: the choice is made, the gradient goes past it.
"""

from __future__ import annotations

import numpy as np

from onnxopt.pruning.learning.gradients.call import Call, Inputs, Made, Operator, needed

_STEPS: dict[str, np.ufunc] = {
    "And": np.logical_and,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "IsNaN": np.isnan,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Not": np.logical_not,
    "Or": np.logical_or,
}


def step(call: Call, inputs: Inputs) -> Made:
    """Compute one of them; no gradient goes back."""
    made = _STEPS[call.node.op_type](*(needed(inputs, place) for place in range(len(inputs))))
    return (made,), lambda _: [None] * len(inputs)


OPERATORS: dict[str, Operator] = dict.fromkeys(_STEPS, step)
