import numpy as np
import pytest

from onnxopt.rules.linear import recurrent
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def spelt_out(g, x, layers):
    """Zeros for all layers, as PyTorch's exporter writes them."""
    batch = g.axes("Unsqueeze", g.Gather(g.Shape(x), np.array(1), axis=0), [0])
    shape = g.Concat(np.array([layers]), batch, np.array([5]), axis=0)
    return g.ConstantOfShape(shape)


def layer(g, op_type, x, state, features, outputs=1):
    gates = GATES[op_type]
    states = [state, state] if op_type == "LSTM" else [state]
    weights = g.weight(1, gates * 5, features), g.weight(1, gates * 5, 5)
    return g.node(op_type, x, *weights, None, None, *states, hidden_size=5, outputs=outputs)


@pytest.mark.parametrize("op_type", GATES)
def test_zeros_spelt_out_are_left_out(op_type):
    g = Graph()
    x = g.input("x", 4, "N", 3)
    zeros = spelt_out(g, x, 2)
    state = g.Slice(zeros, np.array([0]), np.array([1]), np.array([0]))
    model = g.model(layer(g, op_type, x, state, 3))
    assert_rewrites(recurrent.drop_zero_initial_state, model, becomes=[op_type])


@pytest.mark.parametrize("op_type", GATES)
def test_zeros_that_are_a_constant_are_left_out_and_outputs_keep_their_places(op_type):
    g = Graph()
    outputs = layer(g, op_type, g.input("x", 4, 2, 3), np.zeros((1, 2, 5), np.float32), 3, 2)
    model = g.model(outputs[1])
    model.graph.node[0].output[0] = ""
    result = assert_rewrites(
        recurrent.drop_zero_initial_state, model, becomes=[op_type], loses=["free batch"]
    )
    assert list(result.graph.node[0].output) == ["", outputs[1]]
    assert len(result.graph.node[0].input) == 3


def test_states_that_are_given_or_not_zero_stay():
    g = Graph()
    x, state = g.input("x", 4, 2, 3), g.input("state", 1, 2, 5)
    assert_untouched(recurrent.drop_zero_initial_state, g.model(layer(g, "GRU", x, state, 3)))
    g = Graph()
    x = g.input("x", 4, 2, 3)
    state = g.Add(spelt_out(g, x, 1), 1.0)
    assert_untouched(recurrent.drop_zero_initial_state, g.model(layer(g, "LSTM", x, state, 3)))
