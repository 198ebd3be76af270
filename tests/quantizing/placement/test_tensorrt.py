"""Where TensorRT finds Q/DQ pairs: on the inputs of what it runs as int8, and nowhere between."""

import numpy as np

from onnxopt.graph import io
from onnxopt.quantizing.insert.qdq import insert
from onnxopt.quantizing.placement.tensorrt import place
from tests.quantizing.repair.nets import net, normal
from tests.quantizing.small import outputs, pictures, prepared, samples, solved, sqnr, tokens


def kernel(seed, channels=8, size=1):
    return normal(channels, channels, size, size, seed=seed) * 0.3


def written(model):
    """Return the int8 model of all units, and where it reads pairs: (node, place)."""
    insert(model, solved(model, place(model)))
    proto = io.to_proto(model)
    makers = {name: node for node in proto.graph.node for name in node.output}

    def is_pair(name):
        made = makers.get(name)
        if made is None or made.op_type != "DequantizeLinear":
            return False
        return made.input[0] in makers and makers[made.input[0]].op_type == "QuantizeLinear"

    found = {
        (node.name, number)
        for node in proto.graph.node
        for number, name in enumerate(node.input)
        if is_pair(name)
    }
    return proto, found


def block(body, **constants):
    text = f"(float[1,8,6,6] x) => (float[1,8,6,6] y) {{ {body} }}"
    return prepared(net(text, **{"u": kernel(1), "v": kernel(2), "w": kernel(3), **constants}))


def test_pairs_stand_on_weighted_operators_pools_and_skips():
    model = pictures()
    feeds = samples(model)
    wanted = outputs(model, feeds)
    _, found = written(model)
    # n0 to n9: Conv, Clip, Conv, Relu, Conv, Add, MaxPool, GlobalAveragePool, Flatten, Gemm.
    assert found == {("n0", 0), ("n2", 0), ("n4", 0), ("n5", 1), ("n7", 0), ("n9", 0)}
    assert sqnr(wanted, outputs(model, feeds)) > 25


def test_everything_is_symmetric_and_biases_stay_float():
    proto, _ = written(pictures())
    held = {init.name: init for init in proto.graph.initializer}
    makers = {name: node for node in proto.graph.node for name in node.output}
    for node in proto.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = np.asarray(io.from_proto(proto).graph.initializers[node.input[2]].const_value)
            assert zero.dtype == np.int8
            assert not zero.any()
        if node.op_type == "Conv":
            assert makers[node.input[1]].op_type == "DequantizeLinear"
            scale = held[makers[node.input[1]].input[1]]
            assert list(scale.dims) == [8], "weights have a scale for each channel"
            assert len(node.input) < 3 or node.input[2] in held, "and biases none"
    assert "Clip" in {node.op_type for node in proto.graph.node}, "TensorRT fuses it itself"


def test_a_tensor_read_twice_goes_through_one_pair():
    proto, _ = written(pictures())
    quantized = [node.input[0] for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    assert len(quantized) == len(set(quantized)) == 5


def test_of_two_branches_with_a_conv_the_longer_one_is_fused():
    model = block("a = Conv(x, u) r = Relu(a) b = Conv(r, v) s = Conv(x, w) y = Add(s, b)")
    _, found = written(model)
    assert ("n4", 0) in found, "the shortcut"
    assert ("n4", 1) not in found, "what the longer branch computes"


def test_a_branch_behind_an_activation_is_fused_too():
    model = block("a = Conv(x, u) g = Sigmoid(a) b = Mul(a, g) y = Add(x, b)")
    _, found = written(model)
    assert found == {("n0", 0), ("n3", 0)}


def test_what_is_no_residual_sum_stays_float():
    _, found = written(block("a = Conv(x, u) t = Tanh(a) s = Tanh(t) y = Add(t, s)"))
    assert found == {("n0", 0)}
    _, found = written(block("a = Conv(x, u) b = Tanh(a) c = Abs(b) y = Add(a, c)"))
    assert found == {("n0", 0)}, "the sum reads what the skip was computed from"
    _, found = written(block("a = Conv(x, u) y = Add(a, c)", c=normal(1, 8, 1, 1)))
    assert found == {("n0", 0)}


def test_attention_stays_float_but_for_its_projections():
    model = tokens()
    placement = place(model)
    assert [unit.name for unit in placement.units] == ["n1", "n3"]
    assert "attention" in placement.left["n5"]
    _, found = written(model)
    assert found == {("n1", 0), ("n3", 0)}


def test_parts_of_a_concat_may_share_its_scale():
    model = prepared(
        net(
            """(float[1,8,6,6] x) => (float[1,8,6,6] y, float[1,8,6,6] z) {
                a = Conv(x, u)
                b = Relu(a)
                c = Concat <axis=1> (x, b)
                z = Conv(b, v)
                y = Conv(c, wide)
            }""",
            u=kernel(1),
            v=kernel(2),
            wide=normal(8, 16, 1, 1),
        )
    )
    units = {unit.name: unit for unit in place(model).units}
    assert units["n4"].near == ("x", "b", "c")
    assert units["n3"].near == ()
    part = place(model).only({"n4"})
    insert(model, solved(model, part))


def test_products_with_vectors_and_transposed_convolutions_stay_float():
    model = prepared(
        net(
            """(float[1,8,6,6] x) => (float[1,8,6,6] t, float[1,1] y) {
                t = ConvTranspose(x, u)
                g = GlobalAveragePool(x)
                f = Flatten(g)
                y = MatMul(f, column)
            }""",
            u=kernel(1),
            column=normal(8, 1),
        )
    )
    placement = place(model)
    assert [unit.op for unit in placement.units] == ["GlobalAveragePool"]
    assert "activation behind it" in placement.left["n0"]
    assert "single column" in placement.left["n3"]
