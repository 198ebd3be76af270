"""The pattern language: numbers, exceptions, depths."""

import math

import numpy as np
import pytest

from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.rewrite.engine import rewrite
from onnxopt.rewrite.pattern import const, op, product, unless, var
from onnxopt.rewrite.rule import rule
from onnxopt.rewrite.values import CONSTANT
from onnxopt.testing import apply_rules, find_target, operators
from tests.rules.graphs import Graph

x = var("x")


@rule(x / math.sqrt(2))
def mark_root(new, x):
    """x/√2 becomes -x."""
    return new.Neg(x)


@pytest.mark.parametrize(
    ("content", "fires"),
    [
        (np.float32(math.sqrt(2)), True),
        (np.float32(1.4142135), True),
        (np.float32(1.41421), False),
        (np.float64(math.sqrt(2)), True),
        (np.float64(np.float32(math.sqrt(2))), False),
        (np.float16(math.sqrt(2)), True),
        (np.float16(1.416), False),
    ],
)
def test_numbers_are_compared_as_exactly_as_their_type_allows(content, fires):
    g = Graph()
    dtype = {2: 10, 4: 1, 8: 11}[content.itemsize]
    model = g.model(
        g.Div(g.input("x", 3, dtype=dtype), g.const(content, content.dtype)), dtype=dtype
    )
    _, outcome = apply_rules(model, [mark_root])
    assert bool(outcome.done) == fires


@rule(unless(product(x, 0.5, op.Tanh(x)), op.Mul(op.Mul(x, 0.5), op.Tanh(x))))
def group_half_first(new, x):
    """x·½·tanh(x) becomes (x·½)·tanh(x)."""
    return new.Mul(new.Mul(x, 0.5), new.Tanh(x))


def test_exception_of_a_pattern():
    for half_first in (True, False):
        g = Graph()
        x = g.input("x", 3)
        tanh = g.Tanh(x)
        y = g.Mul(g.Mul(x, 0.5), tanh) if half_first else g.Mul(g.Mul(x, tanh), 0.5)
        result, outcome = apply_rules(g.model(y), [group_half_first])
        assert bool(outcome.done) != half_first
        assert operators(result) == {"Mul": 2, "Tanh": 1}


def test_depth_counts_nodes_from_the_root():
    assert x.depth == 0
    assert op.Relu(op.Neg(x) | op.Abs(op.Neg(x))).depth == 3
    assert product(x, 0.5, 1 + op.Tanh(x)).depth == 4


@rule(op.Neg(x))
def normalize(new, x):
    """-x becomes LayerNormalization(x), without a bias."""
    return new.LayerNormalization(x, np.ones(3), None)


def test_inputs_left_out_at_the_end_leave_no_trace():
    g = Graph()
    model = ir.serde.deserialize_model(g.model(g.Neg(g.input("x", 2, 3))))
    assert rewrite(Editor(model), [normalize], find_target("portable")).done
    assert [len(node.inputs) for node in model.graph] == [2]


def test_makers_of_inputs_rule_patterns_out():
    gelu = product(x, 0.5, 1 + op.Erf(x)) | op.Div(op.Mul(x, 1 + op.Erf(x)), 2)
    assert gelu.admits("Mul", ["Mul", None])
    assert not gelu.admits("Mul", ["Add", None])
    assert not gelu.admits("Mul", ["Relu", "Add"])
    assert gelu.admits("Div", ["Mul", CONSTANT])
    assert not gelu.admits("Div", ["Mul", ""])
    assert not gelu.admits("Div", [None, "Mul"])
    assert op.Mul(op.Relu(x), x).admits("Mul", ["Neg", "Relu"])
    assert not op.Mul(op.Relu(x), x).admits("Add", ["Relu", None])
    assert op.Conv(x, var("w"), var("b", optional=True)).admits("Conv", ["Neg", "Constant"])
    assert not op.Conv(x, const("w")).admits("Conv", ["Neg", "Exp"])
    assert op.Conv(x, const("w"), const("b", default=0)).admits("Conv", ["Neg", CONSTANT])
