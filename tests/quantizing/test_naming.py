"""Names become unique, and what callers know keeps its own."""

from onnxopt.graph import facts, io
from onnxopt.quantizing.naming import tell_apart
from tests.quantizing.repair.nets import net


def test_names_in_branches_are_told_apart():
    text = """(bool c, float[2] x) => (float[2] y) {
        y = If (c) <then_branch = one () => (float[2] t) { a = Neg(x) t = Abs(a) },
                    else_branch = two () => (float[2] t) { a = Exp(x) t = Abs(a) }>
    }"""
    proto = net(text)
    for node in proto.graph.node:
        node.name = ""
    model = io.from_proto(proto)
    tell_apart(model)
    nodes = [node for graph in facts.graphs_within(model.graph) for node in graph]
    names = [value.name for node in nodes for value in node.outputs]
    assert len(set(names)) == len(names) == 5
    assert len({node.name for node in nodes}) == 5
    assert all(node.name for node in nodes)
    assert [value.name for value in model.graph.outputs] == ["y"]
    io.to_proto(model)


def test_what_is_unique_already_stays():
    model = io.from_proto(net("(float[2] x) => (float[2] y) { a = Neg(x) y = Abs(a) }"))
    tell_apart(model)
    assert [value.name for node in model.graph for value in node.outputs] == ["a", "y"]
