import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper

from onnxopt.graph._onnx_ir import ir
from onnxopt.rules.simple import casts
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

NUMBERS = [
    kind
    for kind in ir.DataType
    if kind.name.rstrip("0123456789") in ("BOOL", "INT", "UINT", "FLOAT", "DOUBLE")
    and kind.name not in ("INT4", "UINT4", "INT2", "UINT2")
]


def extremes(kind):
    if kind == ir.DataType.BOOL:
        return np.array([False, True])
    if kind.is_floating_point():
        info = np.finfo(kind.numpy())
        return np.array([info.min, -info.tiny, 0, info.eps, 1 + info.eps, info.max], kind.numpy())
    info = np.iinfo(kind.numpy())
    return np.array([info.min, info.min + 1, 0, info.max - 1, info.max], kind.numpy())


@pytest.mark.parametrize("narrow", NUMBERS)
@pytest.mark.parametrize("wide", NUMBERS)
def test_exactly_those_casts_keep_every_value_that_keep_the_extremes(narrow, wide):
    values = extremes(narrow)
    with np.errstate(all="ignore"):
        wider = values.astype(wide.numpy())
    kept = [a.item() == b.item() for a, b in zip(values, wider, strict=True)]
    assert casts.keeps_every_value(narrow, wide) == all(kept)


def cast_chain(first, *types):
    g = Graph()
    y = x = g.input("x", 2, 3, dtype=first)
    for kind in types:
        y = g.Cast(y, to=kind)
    assert y != x
    return g.model(g.Identity(y), dtype=types[-1])


@pytest.mark.parametrize(
    ("types", "becomes"),
    [
        ((T.FLOAT, T.DOUBLE, T.FLOAT), ["Identity"]),
        ((T.FLOAT16, T.FLOAT, T.FLOAT16), ["Identity"]),
        ((T.INT32, T.DOUBLE, T.INT32), ["Identity"]),
        ((T.BOOL, T.FLOAT, T.BOOL), ["Identity"]),
        ((T.BOOL, T.INT64, T.FLOAT), ["Cast", "Identity"]),
        ((T.INT32, T.INT64, T.FLOAT), ["Cast", "Identity"]),
        ((T.FLOAT16, T.FLOAT, T.INT32), ["Cast", "Identity"]),
        ((T.INT32, T.INT64, T.INT8), ["Cast", "Identity"]),
    ],
)
def test_a_cast_that_loses_nothing_is_skipped(types, becomes):
    assert_rewrites(casts.merge_casts, cast_chain(*types), becomes=becomes)


@pytest.mark.parametrize(
    "types",
    [
        (T.FLOAT, T.INT64, T.FLOAT),
        (T.FLOAT, T.FLOAT16, T.FLOAT),
        (T.INT64, T.FLOAT, T.INT64),
        (T.INT64, T.DOUBLE, T.INT64),
        (T.INT64, T.INT32, T.INT64),
        (T.FLOAT, T.BOOL, T.FLOAT),
        (T.INT8, T.FLOAT, T.UINT8),
        (T.UINT8, T.INT8, T.UINT8),
    ],
)
def test_a_cast_that_may_lose_something_stays(types):
    assert_untouched(casts.merge_casts, cast_chain(*types))


def test_a_cast_between_that_others_read_is_left_where_nothing_would_go():
    g = Graph()
    wide = g.Cast(g.input("x", 2, dtype=T.INT32), to=T.INT64)
    assert_untouched(casts.merge_casts, g.model(g.Cast(wide, to=T.FLOAT), g.Cast(wide, to=T.FLOAT)))


def test_a_cast_to_the_same_type_goes():
    model = cast_chain(T.FLOAT, T.FLOAT)
    assert_rewrites(casts.drop_cast_to_same_type, model, becomes=["Identity"])
    g = Graph(opset=15)
    y = g.CastLike(g.input("x", 2), g.input("like", 1))
    assert_rewrites(casts.drop_cast_to_same_type, g.model(g.Relu(y)), becomes=["Relu"])
    assert_untouched(casts.drop_cast_to_same_type, cast_chain(T.FLOAT, T.DOUBLE))


def test_a_cast_of_an_unknown_type_stays():
    model = cast_chain(T.FLOAT, T.FLOAT)
    call = helper.make_node("Mystery", ["x"], ["z"], domain="nowhere", name="mystery")
    model.graph.node.insert(0, call)
    model.graph.node[1].input[0] = "z"
    model.opset_import.append(helper.make_opsetid("nowhere", 1))
    assert_untouched(casts.drop_cast_to_same_type, model)
