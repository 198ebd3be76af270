"""Recurrent layers: a place of the hidden state goes from all gates and both directions at once.

W [directions, gates·H, inputs] and R [directions, gates·H, H] write the state, R reads it too. Its
first value is absent, a constant, or the last state of another layer.
"""

from __future__ import annotations

import numpy as np

from onnxopt.channels.walk import Step
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.pruning.groups.layers import no_constant, read_along
from onnxopt.pruning.groups.units import Units, Why, because

GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}


def _recurrent(walk: Units, node: ir.Node) -> bool:
    weights = [facts.static_shape(value) for value in node.inputs[1:3]]
    for place in (1, 2, 3, 7):
        value = node.inputs[place] if place < len(node.inputs) else None
        if value is not None and not facts.is_constant(value):
            return no_constant(walk, node, place)
    if weights[0] is None or weights[1] is None:
        return walk.refuse("the shape of a weight is not known")
    width, gates = weights[1][-1], GATES[node.op_type]
    read = read_along(walk, node, 0, -1, weights[0][-1])
    walk.cut(node, 1, read, "reads")
    state = walk.fresh(width)
    for place, name in ((5, "initial_h"), (6, "initial_c")):
        value = node.inputs[place] if place < len(node.inputs) else None
        if value is not None and not facts.is_constant(value):
            given = walk.read(node, place)
            walk.tie(state, given, _stays(walk, value, node, name))
        walk.cut(node, place, state, "follows")
    rows = np.tile(state, gates)[:, None]
    walk.cut(node, 1, rows, "writes")
    walk.cut(node, 2, rows, "writes")
    walk.cut(node, 2, state, "reads")
    walk.cut(node, 3, np.tile(state, 2 * gates), "writes")
    walk.cut(node, 7, np.tile(state, 3), "writes")
    walk.kinds.append((state, "state"))
    for output in node.outputs:
        walk.write(output, state)
    return True


def _stays(walk: Units, value: ir.Value, node: ir.Node, name: str) -> Why:
    if value.is_graph_input():
        return because(node, f"the first state of {node.op_type} is an input: {value.name}")
    if not walk.of(value).any() and value not in walk.origins:
        return because(node, f"{name} of {node.op_type} is computed: {value.name}")
    return walk.keeps(value, node)


STEPS: dict[str, Step[Units]] = dict.fromkeys(GATES, _recurrent)
