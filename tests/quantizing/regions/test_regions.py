import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper

from onnxopt.graph import io
from onnxopt.passes import shapes
from onnxopt.quantizing.placement.cpu import place
from onnxopt.quantizing.regions.regions import divide


def divided(text, *, weights=None, sizes=None):
    proto = onnx.parser.parse_model(text)
    for name, shape in (weights or {}).items():
        data = np.ones(shape, np.float32).ravel()
        proto.graph.initializer.append(helper.make_tensor(name, T.FLOAT, shape, data))
    for place_, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type.lower()}{place_}"
    model = io.from_proto(proto)
    shapes.infer(model)
    return divide(model, place(model), sizes)


def test_what_moves_elements_goes_with_what_makes_them_and_products_with_their_siblings():
    found = divided(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[4, 8] x) => (float[8, 8] y) {
            a = MatMul(x, w1)
            q = MatMul(x, w2)
            t = Transpose<perm = [1, 0]>(a)
            y = MatMul(t, q)
        }""",
        weights={"w1": (8, 8), "w2": (8, 8)},
    )
    assert [region.units for region in found.regions] == [
        ("matmul0", "matmul1", "transpose2"),
        ("matmul3",),
    ]
    assert found.units({"matmul0"}) == {"matmul0", "matmul1", "transpose2"}
    by_tensor = {crossing.tensor: crossing for crossing in found.crossings}
    assert set(by_tensor) == {"x", "q", "t", "y"}
    assert by_tensor["x"].writer is None
    assert by_tensor["x"].readers == ("matmul0",)
    assert by_tensor["t"].readers == ("matmul3",)
    assert not by_tensor["t"].either
    assert by_tensor["q"].either
    assert by_tensor["y"].outside
    assert not by_tensor["y"].image


def test_what_is_read_by_float_nodes_or_the_caller_is_read_outside():
    found = divided(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 3, 8, 8] x) => (float[1, 4, 8, 8] y, float[1, 4, 8, 8] b) {
            a = Conv(x, w1)
            b = Conv(a, w2)
            s = Softplus(a)
            y = Add(s, b)
        }""",
        weights={"w1": (4, 3, 1, 1), "w2": (4, 4, 1, 1)},
    )
    by_tensor = {crossing.tensor: crossing for crossing in found.crossings}
    assert by_tensor["x"].elements == 192
    assert by_tensor["a"].outside
    assert by_tensor["a"].image
    assert by_tensor["b"].outside
    assert by_tensor["s"].writer is None


def test_sizes_that_no_shape_tells_are_given():
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[n, 8] x) => (float[n, 8] y) { y = MatMul(x, w) }"""
    plain = divided(text, weights={"w": (8, 8)})
    given = divided(text, weights={"w": (8, 8)}, sizes={"x": 4000})
    assert [crossing.elements for crossing in plain.crossings] == [8, 8]
    assert given.crossings[0].elements == 4000


def test_what_has_no_weight_is_surrounded_by_what_writes_and_reads_it():
    found = divided(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 3, 8, 8] x) => (float[1, 4, 8, 8] y) {
            a = Conv(x, w1)
            s = Sigmoid(a)
            b = Conv(s, w2)
            t = Softmax(b)
            y = Softplus(t)
        }""",
        weights={"w1": (4, 3, 1, 1), "w2": (4, 4, 1, 1)},
    )
    assert found.surrounded == {"sigmoid1": {"conv0", "conv2"}}
    product = divided(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[4, 8] x) => (float[4, 4] y) {
            a = LeakyRelu(x)
            b = Sigmoid(a)
            c = Transpose<perm = [1, 0]>(b)
            y = MatMul(a, c)
        }"""
    )
    assert product.surrounded == {
        "sigmoid1": {"leakyrelu0", "matmul3"},
        "matmul3": {"leakyrelu0", "sigmoid1"},
    }
