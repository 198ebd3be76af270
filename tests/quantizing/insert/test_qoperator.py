"""Integer operators in the place of pairs compute the same bits in onnxruntime."""

import collections

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxopt.graph import io
from onnxopt.quantizing.insert.qdq import insert
from onnxopt.quantizing.insert.qoperator import to_qoperator
from tests.quantizing.audit.written import WEIGHT, pair, written
from tests.quantizing.repair.nets import net, normal
from tests.quantizing.small import outputs, pictures, prepared, samples, solved, tokens


def shapes():
    """Return a net that joins, splits, clamps and moves."""
    text = """(float[1,4,8,8] x) => (float[1,8,4,4] y) {
        a = Conv(x, w)
        b = LeakyRelu <alpha=0.2> (a)
        s = Sigmoid(a)
        m = Mul(b, s)
        c = Concat <axis=1> (m, a)
        p, q = Split <axis=1, num_outputs=2> (c)
        d = Concat <axis=1> (q, p)
        e = AveragePool <kernel_shape=[2,2], strides=[2,2]> (d)
        t = Transpose <perm=[0,1,3,2]> (e)
        y = Conv(t, v)
    }"""
    return prepared(net(text, w=normal(4, 4, 1, 1), v=normal(8, 8, 1, 1)))


def converted(model, *, contrib):
    """Return the model with pairs, the one with integer operators, and what was made."""
    insert(model, solved(model))
    other = model.clone()
    done = to_qoperator(other, contrib=contrib)
    onnx.checker.check_model(io.to_proto(other), full_check=not contrib)
    return model, other, done


@pytest.mark.parametrize("contrib", [True, False])
@pytest.mark.parametrize("make", [pictures, tokens, shapes])
def test_the_results_are_the_same_bits(make, contrib):
    feeds = samples(make())
    model, other, done = converted(make(), contrib=contrib)
    assert done
    for one, two in zip(outputs(model, feeds), outputs(other, feeds), strict=True):
        np.testing.assert_array_equal(one[0], two[0])


def test_everything_becomes_an_integer_operator_on_the_cpu():
    _, other, done = converted(shapes(), contrib=True)
    found = collections.Counter(node.op_type for node in other.graph)
    assert found.pop("QuantizeLinear") == found.pop("DequantizeLinear") == 1
    assert found == done
    assert done == {
        "QLinearConv": 2, "QLinearLeakyRelu": 1, "QLinearSigmoid": 1, "QLinearMul": 1,
        "QLinearConcat": 2, "Split": 1, "QLinearAveragePool": 1, "Transpose": 1,
    }  # fmt: skip
    used = {value.name for node in other.graph for value in node.inputs if value is not None}
    assert set(other.graph.initializers) <= used


def test_the_standard_has_convolutions_products_and_moves_only():
    _, other, done = converted(shapes(), contrib=False)
    assert done == {"QLinearConv": 2, "Split": 1, "Transpose": 1}
    assert {node.domain for node in other.graph} == {""}
    _, _, done = converted(tokens(), contrib=False)
    assert done == {"QLinearMatMul": 2, "Transpose": 1}


def test_names_of_outputs_stay():
    _, other, _ = converted(pictures(), contrib=True)
    assert [value.name for value in other.graph.outputs] == ["y"]


CONV = f"{pair('x')} wd = DequantizeLinear<axis=0>(w, ws, wz) c = Conv(x_d, wd)"


@pytest.mark.parametrize(
    "body",
    [
        f"{CONV} y = Relu(c) {pair('y')}",
        f"{CONV} {pair('c')} y = Add(c, c_d)",
        f"{pair('x')} u = Add(x_d, x) {pair('u')} y = Relu(u_d)",
        f"{pair('x')} r = Transpose(x_d) {pair('r', 'other')} y = Relu(r_d)",
    ],
)
def test_what_has_no_operator_keeps_its_pairs(body):
    text = f"(float[1,4,8,8] x) => (float[N,M,K,L] y) {{ {body} }}"
    model = io.from_proto(written(text, other=np.float32(0.2), **WEIGHT))
    before = len(model.graph)
    assert not to_qoperator(model, contrib=True)
    assert len(model.graph) == before


def test_bodies_are_converted_too():
    then = written(
        f"() => (float[1,4,8,8] y_d) {{ {CONV.replace('c =', 'y =')} {pair('y')} }}", **WEIGHT
    ).graph
    image = [1, 4, 8, 8]
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["i"])],
        "other",
        [],
        [helper.make_tensor_value_info("i", TensorProto.FLOAT, image)],
    )
    outer = helper.make_graph(
        [helper.make_node("If", ["b"], ["out"], then_branch=then, else_branch=other)],
        "outer",
        [
            helper.make_tensor_value_info("b", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, image),
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, image)],
    )
    proto = helper.make_model(outer, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = prepared(proto)
    feeds = [{"x": normal(*image), "b": np.array(True)}]
    wanted = outputs(model, feeds)
    assert to_qoperator(model, contrib=False) == {"QLinearConv": 1}
    np.testing.assert_array_equal(outputs(model, feeds)[0][0], wanted[0][0])
