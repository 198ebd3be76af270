import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxopt.errors import ModelError
from onnxopt.quantizing.calibration import reduce
from onnxopt.quantizing.calibration.expose import Wanted, expose_ranges, expose_sizes, expose_values
from tests.passes.graphs import info, node
from tests.passes.nested import CONDITION, EITHER, INT64, K, branch, graph, loop, model, scan
from tests.quantizing.calibration.exposing import computed, loaded

VALUES = Wanted(histogram=True)
X = np.array([-1, 2, -3], np.float32)
NOTHING = [np.inf, -np.inf, 0, 0]


def values_of(proto, feed, *names, axis=None):
    wanted = dict.fromkeys(names, Wanted(histogram=True, axis=axis))
    exposed = expose_values(loaded(proto), wanted)
    found = computed(exposed, feed)
    sizes = expose_sizes(loaded(proto), names)
    assert computed(sizes, feed)[sizes.outputs[0]].tolist() == [
        found[output].size for output in exposed.outputs
    ]
    return [found[output] for output in exposed.outputs]


def ranges_of(proto, feed, *names):
    exposed = expose_ranges(loaded(proto), names)
    return computed(exposed, feed)[exposed.outputs[0]].reshape(-1, reduce.ROWS).tolist()


def either():
    then = graph([node("Neg", ["x"], "negated"), node("Abs", ["negated"], "t")], ["t"])
    other = graph([node("Exp", ["x"], "e")], ["e"])
    return model([branch("c", "y", then, other)], ["x", CONDITION], ["y"])


def test_a_branch_that_is_not_taken_gives_nothing():
    for feed in EITHER:
        negated, t, e = values_of(either(), feed, "negated", "t", "e")
        if feed["c"]:
            np.testing.assert_array_equal(negated, -X)
            np.testing.assert_array_equal(t, np.abs(X))
            assert not e.size
        else:
            assert not negated.size
            assert not t.size
            np.testing.assert_allclose(e, np.exp(X), rtol=1e-6)


def test_the_range_of_a_branch_that_is_not_taken_is_empty():
    for feed in EITHER:
        negated, e = ranges_of(either(), feed, "negated", "e")
        assert (negated == NOTHING) != feed["c"]
        assert (e == NOTHING) == feed["c"]
        if feed["c"]:
            assert negated == [-2, 3, 2, 3]


def test_a_branch_without_nodes_is_no_obstacle():
    then = graph([node("Neg", ["x"], "t")], ["t"])
    other = graph([], ["k"], constants={"k": K})
    proto = model([branch("c", "y", then, other)], ["x", CONDITION], ["y"])
    for feed in EITHER:
        t, y = values_of(proto, feed, "t", "y")
        assert t.size == (3 if feed["c"] else 0)
        np.testing.assert_array_equal(y, -X if feed["c"] else K)


def doubling(trips):
    """y, rows = repeat: s = 2·s, keeping every s."""
    nodes = [node("Add", ["s", "s"], "twice"), node("Neg", ["twice"], "row")]
    made = loop(["trips", "", "x"], ["y", "rows"], nodes, {"s": "twice"}, ["row"])
    rows = info("rows", [trips, 3])
    return model([made], ["x"], ["y", rows], {"trips": np.array(trips)})


@pytest.mark.parametrize("trips", [1, 3])
def test_all_iterations_of_a_loop_are_gathered(trips):
    s, twice, y, rows = values_of(doubling(trips), {"x": X}, "s", "twice", "y", "rows")
    np.testing.assert_array_equal(s, np.concatenate([X * 2**i for i in range(trips)]))
    np.testing.assert_array_equal(twice, 2 * s)
    np.testing.assert_array_equal(y, X * 2**trips)
    np.testing.assert_array_equal(rows.reshape(-1), -twice)
    assert ranges_of(doubling(trips), {"x": X}, "twice", "y") == [
        [float(a.min()), float(a.max()), float(a.sum()), a.size] for a in (twice, y)
    ]


def growing():
    """Each iteration appends a row of two to what is carried: shapes differ."""
    body = helper.make_graph(
        [
            node("Concat", ["s", "row"], "longer", axis=0),
            node("Neg", ["longer"], "inner"),
            node("Identity", ["go"], "on"),
        ],
        "body",
        [info("i", [], INT64), info("go", [], TensorProto.BOOL), info("s", ["k", 2])],
        [info("on", [], TensorProto.BOOL), info("longer", ["k2", 2])],
    )
    grown = helper.make_node("Loop", ["trips", "", "row"], ["y"], body=body, name="loop")
    return model([grown], [info("row", [1, 2]), info("trips", [], INT64)], [info("y", ["m", 2])])


def test_iterations_of_different_shapes_are_joined():
    row = np.array([[3, -5]], np.float32)
    feed = {"row": row, "trips": np.array(3)}
    inner, y = values_of(growing(), feed, "inner", "y")
    np.testing.assert_array_equal(inner, np.tile(-row[0], 2 + 3 + 4))
    np.testing.assert_array_equal(y, np.tile(row, (4, 1)))
    assert ranges_of(growing(), feed, "inner") == [[-3, 5, 18, 18]]


def test_a_loop_that_never_runs_gives_nothing():
    feed = {"row": np.ones((1, 2), np.float32), "trips": np.array(0)}
    inner, y = values_of(growing(), feed, "inner", "y")
    assert not inner.size
    assert y.shape == (1, 2)
    assert ranges_of(growing(), feed, "inner") == [NOTHING]


def test_channels_of_a_body_come_last():
    feed = {"row": np.array([[3, -5]], np.float32), "trips": np.array(2)}
    (inner,) = values_of(growing(), feed, "inner", axis=1)
    np.testing.assert_array_equal(inner, np.tile([[-3, 5]], (5, 1)))
    with pytest.raises(ModelError, match="'inner' lies in a body, and how many channels"):
        values_of(growing(), feed, "inner", axis=0)


@pytest.mark.parametrize("attributes", [{}, {"scan_output_axes": [0]}])
def test_scans_are_gathered(attributes):
    nodes = [node("Add", ["s", "slice"], "sum"), node("Neg", ["sum"], "row")]
    made = scan(
        ["start", "x"], ["y", "rows"], nodes, {"s": "sum"}, ["slice"], ["row"], **attributes
    )
    proto = model(
        [made], [info("start", [2]), info("x", ["n", 2])], [info("y", [2]), info("rows", ["n", 2])]
    )
    x = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    feed = {"start": np.zeros(2, np.float32), "x": x}
    total, piece = values_of(proto, feed, "sum", "slice")
    np.testing.assert_array_equal(total.reshape(3, 2), np.cumsum(x, axis=0))
    np.testing.assert_array_equal(piece.reshape(3, 2), x)
    assert ranges_of(proto, feed, "sum", "rows") == [[1, 12, 34, 6], [-12, -1, -34, 6]]


def test_what_is_nested_twice_comes_out():
    then = graph([node("Neg", ["s"], "t")], ["t"])
    other = graph([node("Add", ["s", "s"], "e")], ["e"])
    even = [
        node("Mod", ["i", "two"], "rest"),
        node("Cast", ["rest"], "odd", to=TensorProto.BOOL),
        branch("odd", "next", then, other),
    ]
    made = loop(["trips", "", "x"], ["y"], even, {"s": "next"})
    constants = {"trips": np.array(4), "two": np.array(2)}
    proto = model([made], ["x"], ["y"], constants)
    t, e, after = values_of(proto, {"x": X}, "t", "e", "next")
    np.testing.assert_array_equal(t, np.concatenate([-2 * X, 4 * X]))
    np.testing.assert_array_equal(e, np.concatenate([2 * X, -4 * X]))
    np.testing.assert_array_equal(after, np.concatenate([2 * X, -2 * X, -4 * X, 4 * X]))
    assert ranges_of(proto, {"x": X}, "t", "e")[0] == [-12, 8, -4, 6]


def test_what_an_unknown_operator_holds_is_refused():
    inner = helper.make_graph([node("Neg", ["x"], "t")], "g", [], [info("t", [3])])
    proto = model(
        [node("Foreign", ["x"], "y", domain="my", body=inner)], ["x"], ["y"], domains=["my"]
    )
    with pytest.raises(ModelError, match="'t' lies in the body of the Foreign 'node_y'"):
        expose_values(loaded(proto), {"t": VALUES})
