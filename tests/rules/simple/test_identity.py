import numpy as np
import pytest
from onnx import TensorProto

from onnxopt.rules.simple import identity
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

BOOL = TensorProto.BOOL


def test_identities_go_but_for_one_between_an_input_and_an_output():
    g = Graph()
    x = g.input("x", 2, 3)
    assert_rewrites(identity.drop_identity, g.model(g.Relu(g.Identity(x))), becomes=["Relu"])
    g = Graph()
    assert_untouched(identity.drop_identity, g.model(g.Identity(g.input("x", 2))))
    g = Graph()
    a = g.Relu(g.input("x", 2))
    assert_untouched(identity.drop_identity, g.model(a, g.Identity(a)))


@pytest.mark.parametrize("opset", [7, 10, 12, 13, 21])
def test_dropout_goes_in_every_operator_set(opset):
    g = Graph(opset=opset)
    y = g.Relu(g.Dropout(g.input("x", 2, 3)))
    assert_rewrites(identity.drop_dropout, g.model(y), becomes=["Relu"])


def test_dropout_whose_training_mode_is_off_goes_and_an_open_one_stays():
    g = Graph()
    y, _ = g.Dropout(g.input("x", 2, 3), np.float32(0.5), np.array(False), outputs=2)
    assert_rewrites(identity.drop_dropout, g.model(g.Relu(y)), becomes=["Relu"], loses=["half"])
    g = Graph()
    training = g.input("training", dtype=BOOL)
    assert_untouched(identity.drop_dropout, g.model(g.Dropout(g.input("x", 2), 0.5, training)))


def test_dropout_whose_mask_is_read_stays():
    g = Graph()
    y, mask = g.Dropout(g.input("x", 2, 3), outputs=2)
    model = g.model(y, mask)
    model.graph.output[1].type.tensor_type.elem_type = BOOL
    assert_untouched(identity.drop_dropout, model)


@pytest.mark.parametrize(
    ("op_type", "number"), [("Mul", 1), ("Add", 0), ("Sub", 0), ("Div", 1), ("Pow", 1)]
)
def test_a_neutral_constant_goes_where_it_does_not_broadcast(op_type, number):
    for content in (float(number), np.full((1, 3), number, np.float32)):
        g = Graph()
        y = g.Relu(g.node(op_type, g.input("x", 2, 3), content))
        assert_rewrites(identity.drop_neutral_operand, g.model(y), becomes=["Relu"])
    for shape in ((1, 1, 1), (5, 3)):
        g = Graph()
        x = g.input("x", 1, 3)
        y = g.node(op_type, x, np.full(shape, number, np.float32))
        assert_untouched(identity.drop_neutral_operand, g.model(y))


def test_a_neutral_constant_on_the_wrong_side_stays():
    for op_type, number in (("Sub", 0.0), ("Div", 1.0), ("Pow", 1.0)):
        g = Graph()
        y = g.node(op_type, number, g.input("x", 2, 3))
        assert_untouched(identity.drop_neutral_operand, g.model(y))


def test_a_constant_that_is_neutral_but_for_one_element_stays():
    g = Graph()
    y = g.Mul(g.input("x", 3), np.array([1, 1, 1.01], np.float32))
    assert_untouched(identity.drop_neutral_operand, g.model(y))


def test_logic_and_integers_have_neutral_constants_too():
    for op_type, content in (("And", True), ("Or", False), ("Xor", False)):
        g = Graph()
        x = g.input("x", 2, 3, dtype=BOOL)
        y = g.Not(g.node(op_type, x, np.array(content)))
        assert_rewrites(identity.drop_neutral_operand, g.model(y, dtype=BOOL), becomes=["Not"])
    g = Graph()
    y = g.Neg(g.Add(g.input("x", 2, dtype=TensorProto.INT64), np.array(0, np.int64)))
    model = g.model(y, dtype=TensorProto.INT64)
    assert_rewrites(identity.drop_neutral_operand, model, becomes=["Neg"])


@pytest.mark.parametrize("op_type", ["Concat", "Sum", "Max", "Min", "Mean", "Split"])
def test_an_operator_of_several_goes_where_it_is_given_one(op_type):
    g = Graph()
    attributes = {"axis": 0} if op_type in ("Concat", "Split") else {}
    y = g.Relu(g.node(op_type, g.input("x", 2, 3), **attributes))
    assert_rewrites(identity.drop_single_operand, g.model(y), becomes=["Relu"])


def test_where_with_a_decided_condition_becomes_what_it_picks():
    for decided in (True, False):
        g = Graph()
        x = g.input("x", 2, 3)
        operands = (x, -1e4) if decided else (-1e4, x)
        y = g.Relu(g.Where(np.full((1, 3), decided), *operands))
        assert_rewrites(identity.drop_decided_where, g.model(y), becomes=["Relu"])


def test_where_that_is_open_or_broadcasts_stays():
    for condition, shape in (
        (np.array([True, False, True]), (2, 3)),
        (np.ones((2, 3), bool), (3,)),
    ):
        g = Graph()
        y = g.Where(condition, g.input("x", *shape), 0.0)
        assert_untouched(identity.drop_decided_where, g.model(y))
    g = Graph()
    y = g.Where(np.array(True), g.input("x", 3), np.zeros((2, 3), np.float32))
    assert_untouched(identity.drop_decided_where, g.model(y))


def test_an_operand_that_is_expanded_to_the_neutral_number_goes():
    g = Graph()
    x = g.input("x", 2, 4, 3, 5)
    zeros = g.Expand(g.const(np.zeros((1, 1, 3, 1))), np.array([2, 1, 3, 5]))
    assert_rewrites(identity.drop_neutral_operand, g.model(g.Relu(g.Add(x, zeros))))
    assert_rewrites(
        identity.drop_neutral_operand, g.model(g.Relu(g.Add(x, zeros))), loses=["mirrored"]
    )
    g = Graph()
    ones = g.Expand(g.const(np.ones((1, 3, 1))), np.array([2, 4, 3, 5]))
    assert_untouched(identity.drop_neutral_operand, g.model(g.Mul(g.input("x", 3, 1), ones)))


def test_a_condition_that_is_expanded_decides_too():
    g = Graph()
    sizes = g.Shape(g.input("x", "N", 4, 3, 3))
    shape = g.Concat(g.Slice(sizes, np.array([0]), np.array([1])), np.array([1, 3, 3]), axis=0)
    seen = g.Expand(g.const(np.ones((1, 1, 3, 1), bool)), shape)
    model = g.model(g.Where(seen, 0.0, -3.4e38))
    result = assert_rewrites(identity.drop_decided_where, model, loses=["half precision"])
    assert "Where" not in [node.op_type for node in result.graph.node]
    g = Graph()
    shape = g.input("shape", 2, dtype=TensorProto.INT64)
    some = g.Expand(g.const(np.array([True, False])), shape)
    assert_untouched(identity.drop_decided_where, g.model(g.Where(some, 0.0, 1.0)))
