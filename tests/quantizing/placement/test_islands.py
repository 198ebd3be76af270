"""What has no int8 neighbours stays float."""

from onnxopt.quantizing.placement.cpu import place
from onnxopt.quantizing.placement.islands import without_islands
from tests.quantizing.repair.nets import net, normal
from tests.quantizing.small import pictures, prepared, tokens


def kept(text, **constants):
    model = prepared(net(text, **constants))
    return [unit.op for unit in without_islands(place(model)).units]


def test_nets_of_products_lose_nothing():
    assert without_islands(place(pictures())).units == place(pictures()).units


def test_what_only_moves_stays_float_between_float():
    text = """(float[2,8] x) => (float[8,2] y) {
        a = Tanh(x) t = Transpose(a) r = Reshape(t, shape) y = Tanh(r)
    }"""
    assert kept(text, shape=[8, 2]) == []


def test_what_moves_goes_with_the_product_on_either_side():
    text = "(float[2,8] x) => (float[4,8] y) { t = Transpose(x) m = MatMul(w, t) y = Tanh(m) }"
    assert kept(text.replace("MatMul(w, t)", "MatMul(t, w)"), w=normal(2, 4)) == [
        "Transpose",
        "MatMul",
    ]
    text = "(float[2,8] x) => (float[4,2] y) { m = MatMul(x, w) t = Transpose(m) y = Tanh(t) }"
    assert kept(text, w=normal(8, 4)) == ["MatMul", "Transpose"]


def test_a_softmax_at_the_end_stays_float():
    text = "(float[2,8] x) => (float[2,4] y) { m = MatMul(x, w) y = Softmax(m) }"
    assert kept(text, w=normal(8, 4)) == ["MatMul"]


def test_a_softmax_between_products_is_int8():
    assert "Softmax" in [unit.op for unit in without_islands(place(tokens())).units]


def test_a_sum_of_float_tensors_stays_float():
    text = "(float[2,8] x, float[2,8] z) => (float[2,4] y) { s = Add(x, z) y = MatMul(s, w) }"
    assert kept(text, w=normal(8, 4)) == ["MatMul"]
