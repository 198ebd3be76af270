"""Shapes in numbers, for inputs of given sizes."""

from onnxopt.graph import io
from onnxopt.passes import shapes
from onnxopt.passes.concrete import concrete
from tests.passes.graphs import info, model_of, node


def test_names_become_the_sizes_of_the_inputs_and_what_follows_from_them():
    nodes = [
        node("Shape", ["x"], "all"),
        node("Gather", ["all", "second"], "n"),
        node("Concat", ["n", "rest"], "wanted", axis=0),
        node("Reshape", ["x", "wanted"], "flat"),
        node("Transpose", ["flat"], "y", perm=[1, 0]),
    ]
    proto = model_of(
        nodes,
        [info("x", ["B", "N", 4])],
        [info("y", ["?", "M"])],
        {"second": [1], "rest": [-1]},
    )
    model = io.from_proto(proto)
    shapes.infer(model)
    found = concrete(model, {"x": (2, 3, 4)})
    assert (found["x"], found["flat"], found["y"]) == ((2, 3, 4), (3, 8), (8, 3))
    assert [str(dim) for dim in model.graph.inputs[0].shape] == ["B", "N", "4"]


def test_what_is_given_of_inner_values_stands_where_inference_ends():
    nodes = [node("Gelu", ["x"], "a", domain="com.microsoft"), node("Relu", ["a"], "y")]
    proto = model_of(nodes, [info("x", ["N", 4])], [info("y", None)])
    proto.opset_import.add(domain="com.microsoft", version=1)
    model = io.from_proto(proto)
    assert concrete(model, {"x": (3, 4), "a": (3, 4)})["a"] == (3, 4)
    assert "a" not in concrete(model, {"x": (3, 4)})
