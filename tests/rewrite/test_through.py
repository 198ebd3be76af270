import pytest

from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import State, op, var
from onnxopt.rewrite.through import Through
from tests.rules.graphs import Graph

MOVES = frozenset({"Transpose", "Identity"})


def found(model, at_least=0):
    """Return what the pattern finds behind the model's Neg: the nodes passed, nearest first."""
    loaded = ir.serde.deserialize_model(model)
    pattern = op.Neg(Through(MOVES, op.Relu(var("x")), "passed", at_least), bind="root")
    root = loaded.graph.outputs[0]
    state = State(opsets={"": 17})
    matches = []
    for _ in pattern.match(root, state):
        matches.append([node.op_type for node in state.bound["passed"]])
        assert len(state.nodes) == len(matches[-1]) + 2
    assert not state.nodes
    assert not state.bound
    return matches


@pytest.mark.parametrize("count", [0, 1, 4])
def test_finds_what_is_behind_up_to_four_nodes(count):
    g = Graph()
    y = g.Relu(g.input("x", 2, 3))
    for number in range(count):
        y = g.Identity(y) if number else g.Transpose(y)
    expected = (["Identity"] * (count - 1) + ["Transpose"]) if count else []
    assert found(g.model(g.Neg(y))) == [expected]


def test_finds_nothing_behind_five_nodes_or_others():
    g = Graph()
    y = g.Relu(g.input("x", 2, 3))
    for _ in range(5):
        y = g.Identity(y)
    assert found(g.model(g.Neg(y))) == []
    g = Graph()
    assert found(g.model(g.Neg(g.Abs(g.Relu(g.input("x", 2, 3)))))) == []


def test_may_ask_for_at_least_one():
    g = Graph()
    model = g.model(g.Neg(g.Relu(g.input("x", 2, 3))))
    assert found(model) == [[]]
    assert found(model, at_least=1) == []


def test_tells_which_operators_can_be_its_root():
    assert Through(MOVES, op.Relu(var("x")), "passed").roots == {"Relu", *MOVES}
    assert Through(MOVES, op.Relu(var("x")), "passed", 1).roots == MOVES
