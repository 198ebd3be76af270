import pytest
from onnx import TensorProto

from onnxopt.rules.simple import signs
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph


def test_two_negations_cancel_even_where_others_read_the_first():
    g = Graph()
    y = g.Relu(g.Neg(g.Neg(g.input("x", 2, 3))))
    assert_rewrites(signs.cancel_double_negation, g.model(y), becomes=["Relu"])
    g = Graph()
    y = g.Xor(g.Not(g.Not(g.input("x", 2, dtype=TensorProto.BOOL))), True)
    model = g.model(y, dtype=TensorProto.BOOL)
    assert_rewrites(signs.cancel_double_negation, model, becomes=["Xor"])
    g = Graph()
    inner = g.Neg(g.input("x", 2))
    assert_rewrites(signs.cancel_double_negation, g.model(g.Relu(g.Neg(inner)), inner))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Relu", "Relu"),
        ("Abs", "Relu"),
        ("Abs", "Abs"),
        ("Relu", "Abs"),
        ("Floor", "Floor"),
        ("Ceil", "Ceil"),
        ("Round", "Round"),
        ("Sign", "Sign"),
    ],
)
def test_an_operator_that_changes_nothing_any_more_goes(first, second):
    g = Graph()
    y = g.node(second, g.node(first, g.input("x", 2, 3)))
    assert_rewrites(signs.drop_repeated_operator, g.model(y), becomes=[first])


def test_operators_that_do_change_something_stay():
    g = Graph()
    x = g.input("x", 2, 3)
    model = g.model(g.Relu(g.Neg(x)), g.Ceil(g.Floor(x)), g.Neg(g.Abs(x)))
    assert_untouched([signs.drop_repeated_operator, signs.cancel_double_negation], model)


def test_a_negation_below_abs_goes():
    g = Graph()
    model = g.model(g.Abs(g.Neg(g.input("x", 2, 3))))
    assert_rewrites(signs.drop_negation_in_abs, model, becomes=["Abs"])


def test_a_negated_operand_turns_sum_and_difference_over():
    for op_type, becomes, chosen in (
        ("Add", "Sub", signs.fold_negation_into_subtraction),
        ("Sub", "Add", signs.fold_negation_into_addition),
    ):
        g = Graph()
        y = g.node(op_type, g.input("x", 2, 3), g.Neg(g.input("z", 3)))
        assert_rewrites(chosen, g.model(y), becomes=[becomes])
