import numpy as np
import onnx
import pytest

from onnxopt.rules.layout import slices
from onnxopt.rules.unread import cuts
from onnxopt.testing import (
    assert_rewrites,
    assert_untouched,
    operators,
)
from tests.rules.graphs import END, Graph, cut, ints
from tests.rules.unread.checks import RULES, check, last, sizes


def test_slice_of_channels_goes_into_the_weight_of_a_conv():
    g = Graph()
    y = g.Conv(g.input("x", 2, 4, 8, 8), g.weight(16, 4, 3, 3), g.weight(16))
    model = g.model(cut(g, y, 1, 2, 6))
    result = assert_rewrites(cuts.slice_before_computing, model, becomes=["Conv"])
    assert sizes(result) == [(4,), (4, 4, 3, 3)]


def test_slice_of_channels_passes_what_stands_behind_the_conv():
    for opset in (9, 13, 20):
        g = Graph(opset)
        y = g.Conv(g.input("x", 2, 4, 8, 8), g.weight(16, 4, 3, 3))
        norm = [g.const(np.linspace(0.5, 1.5, 16)) for _ in range(4)]
        y = g.Relu(g.BatchNormalization(g.Mul(y, g.weight(1, 16, 1, 1)), *norm))
        y = g.MaxPool(y, kernel_shape=[2, 2])
        result = check(g.model(cut(g, y, 1, 0, 4)), RULES)
        assert "Slice" not in operators(result)
        assert {(4, 4, 3, 3), (1, 4, 1, 1), (4,)} <= set(sizes(result))


@pytest.mark.parametrize(
    ("start", "stop", "step", "fires"),
    [(0, 4, 1, True), (-8, END, 1, True), (4, 10, 1, False), (0, 8, 2, False), (8, 12, 1, True)],
)
def test_grouped_conv_gives_whole_groups(start, stop, step, fires):
    g = Graph()
    x = g.input("x", 2, 8, 8, 8)
    y = g.Conv(x, g.weight(16, 2, 3, 3), g.weight(16), group=4)
    check(g.model(cut(g, y, 1, start, stop, step)), fires=fires)


def test_depthwise_conv_and_gathered_channels():
    g = Graph()
    y = g.Conv(g.input("x", 2, 8, 16, 16), g.weight(16, 1, 3, 3), g.weight(16), group=8)
    picked = g.Gather(y, ints(6, 7, 2, 3, -2, -1), axis=1)
    result = check(g.model(picked), becomes={"Gather": 1, "Conv": 1})
    assert sizes(result) == [(6,), (6, 1, 3, 3)]


@pytest.mark.parametrize(("groups", "fires"), [(1, True), (2, True), (4, False)])
def test_conv_transpose(groups, fires):
    g = Graph()
    x = g.input("x", 2, 8, 8, 8)
    y = g.ConvTranspose(x, g.weight(8, 16 // groups, 2, 2), g.weight(16), group=groups)
    check(g.model(cut(g, y, 1, 0, 8 if groups < 4 else 6)), fires=fires)


def test_head_of_a_language_model_is_computed_for_the_last_token():
    for shape in ((2, 16, 32), ("B", "S", 32)):
        g = Graph()
        y = g.MatMul(g.input("x", *shape), g.weight(32, 64))
        assert_rewrites(
            cuts.slice_before_computing,
            g.model(last(g, g.Add(y, g.weight(64)), 1)),
            becomes=["Slice", "MatMul", "Add"],
        )


def test_gather_of_the_last_token():
    g = Graph()
    y = g.MatMul(g.input("x", "B", "S", 32), g.weight(32, 64))
    model = g.model(g.Gather(y, np.array(-1, np.int64), axis=1))
    assert_rewrites(cuts.gather_before_computing, model, becomes=["Gather", "MatMul", "Squeeze"])


def test_columns_of_a_product_are_columns_of_the_weight():
    g = Graph()
    y = g.MatMul(g.input("x", "N", 32), g.weight(32, 64))
    result = assert_rewrites(
        cuts.slice_before_computing, g.model(cut(g, y, -1, 8, 16)), becomes=["MatMul"]
    )
    assert sizes(result) == [(32, 8)]


def test_a_batch_of_products_is_computed_in_part():
    for axis, parts in ((0, 1), (1, 2), (2, 1), (3, 1)):
        g = Graph()
        a, b = g.input("a", 6, 4, 16, 32), g.input("b", 4, 32, 16)
        model = g.model(cut(g, g.MatMul(a, b), axis, 1, 3))
        check(model, becomes={"Slice": parts, "MatMul": 1})


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("c", [(16,), (32, 1), (32, 16), (1, 16), (1, 1), ()])
def test_rows_and_columns_of_gemm(transposed, c):
    for axis in (0, 1):
        g = Graph()
        x = g.input("x", *((48, 32) if transposed else (32, 48)))
        w = g.weight(*((16, 48) if transposed else (48, 16)))
        y = g.Gemm(x, w, g.weight(*c), transA=transposed, transB=transposed, alpha=0.5, beta=2.0)
        check(g.model(cut(g, y, axis, 2, 5)))


def test_rows_of_tokens_that_were_laid_out_one_behind_the_other():
    g = Graph(20)
    x = g.input("x", "B", "S", 32)
    y = g.Gemm(g.Reshape(x, ints(-1, 32)), g.weight(32, 64), g.weight(64))
    y = g.Gemm(g.Gelu(y), g.weight(64, 32), g.weight(32))
    y = g.Reshape(y, g.Concat(g.Shape(x, end=2), ints(32), axis=0))
    model = onnx.shape_inference.infer_shapes(g.model(last(g, y, 1)), data_prop=True)
    for value in model.graph.value_info:
        if value.name == y:
            dims = value.type.tensor_type.shape.dim
            assert [dim.dim_param or dim.dim_value for dim in dims] == ["B", "S", 32]
    result = check(model, feeds={"x": np.random.default_rng(0).random((3, 5, 32), np.float32)})
    made = [node.op_type for node in result.graph.node]
    assert made.index("Slice") < made.index("Gemm")


def test_elementwise_operators_are_computed_in_part():
    for op_type in ("Relu", "Erf", "Abs", "Sigmoid", "Neg"):
        g = Graph()
        y = g.node(op_type, g.node(op_type, g.input("x", 4, 64, 32)))
        model = g.model(cut(g, y, 1, 0, 8))
        check(model, becomes={"Slice": 1, op_type: 2})
    g = Graph()
    y = g.Clip(g.Cast(g.input("x", 4, 64, 32), to=1), 0.0, 0.5)
    assert_rewrites(
        cuts.slice_before_computing,
        g.model(last(g, y, 2)),
        becomes=["Slice", "Cast", "Clip"],
    )


def test_operands_are_cut_where_they_are_not_broadcast():
    shapes = [(4, 64, 32), (64, 1), (1, 32), (4, 1, 1), (32,), (), (1,), (1, 1, 1, 1)]
    for shape in shapes:
        for constant in (True, False):
            for axis in (0, 1, 2):
                g = Graph()
                x = g.input("x", 4, 64, 32)
                other = g.weight(*shape) if constant else g.input("other", *shape)
                y = g.Tanh(g.Sub(g.Sigmoid(x), other))
                check(g.model(cut(g, y, axis - 3, 0, 2)))


def test_operand_whose_size_is_not_known_may_be_broadcast():
    for other, axis in ((("N",), 1), (("N", 1), 0), ((None,), 1)):
        g = Graph()
        y = g.Tanh(g.Add(g.input("x", "M", "M"), g.input("other", *other)))
        model = g.model(cut(g, y, axis, 0, 2))
        check(model, becomes={"Add": 1, "Slice": 1, "Tanh": 1})


def test_where_and_comparisons():
    g = Graph()
    x, other = g.input("x", 4, 64, 32), g.input("other", 64, 32)
    y = g.Where(g.Greater(x, other), g.Exp(x), 0.0)
    result = check(g.model(last(g, y, 1)))
    assert operators(result)["Slice"] == 2


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
def test_softmax_keeps_the_other_axes_apart(opset, op_type):
    for axis in (0, 1, 2):
        for place in (0, 1, 2):
            g = Graph(opset)
            y = g.node(op_type, g.input("x", 8, 16, 32), axis=axis)
            apart = place < axis if opset < 13 else place != axis
            check(g.model(cut(g, y, place, 1, 3)), fires=apart)


@pytest.mark.parametrize("axis", [1, 2])
def test_normalization_keeps_the_axes_in_front_apart(axis):
    for place in (0, 1, 2):
        g = Graph()
        shape = (8, 16, 32)
        scale = g.weight(*shape[axis:])
        y = g.LayerNormalization(g.input("x", *shape), scale, g.weight(*shape[axis:]), axis=axis)
        check(g.model(cut(g, y, place, 1, 3)), fires=place < axis)


def test_scale_of_full_rank_is_not_cut():
    g = Graph()
    y = g.LayerNormalization(g.input("x", 8, 16, 32), g.weight(8, 16, 32), axis=-1)
    assert_untouched(RULES, g.model(cut(g, y, 0, 1, 3)))


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("op_type", ["ReduceMean", "ReduceMax", "ReduceSum"])
def test_reductions_keep_the_other_axes_apart(op_type, keepdims):
    for opset in (11, 18):
        g = Graph(opset)
        y = g.axes(op_type, g.input("x", 8, 16, 64), [-2], keepdims=keepdims)
        check(g.model(cut(g, y, -1, 3, 9)), becomes={"Slice": 1, op_type: 1})


def test_argmax_keeps_the_other_axes_apart():
    g = Graph()
    y = g.ArgMax(g.input("x", 8, 16, 64), axis=1, keepdims=0)
    model = g.model(cut(g, y, 1, 3, 9), dtype=7)
    check(model, becomes={"Slice": 1, "ArgMax": 1})


def test_axes_that_move():
    for opset in (11, 13):
        g = Graph(opset)
        y = g.Transpose(g.Exp(g.input("x", 4, 16, 64)), perm=[2, 0, 1])
        y = g.axes("Squeeze", g.axes("Unsqueeze", y, [0, 2]), [0])
        y = g.Exp(g.axes("Unsqueeze", y, [4]))
        result = check(g.model(cut(g, y, 0, 3, 9)))
        assert [node.op_type for node in result.graph.node][:2] == ["Slice", "Exp"]


@pytest.mark.parametrize(
    ("shape", "target", "axis", "fires"),
    [
        ((4, 8, 128), (4, 8, 4, 32), 1, True),
        ((4, 8, 128), (4, 8, 4, 32), 3, False),
        ((4, 8, 128), (32, 128), 0, False),
        ((4, 8, 128), (32, 128), 1, True),
        ((4, 8, 128), (4, 1024), 0, True),
        ((32, 128), (4, 8, 128), 2, True),
    ],
)
def test_reshape_keeps_axes_at_whose_side_as_much_stands(shape, target, axis, fires):
    g = Graph()
    y = g.Reshape(g.Exp(g.input("x", *shape)), ints(*target))
    check(g.model(cut(g, y, axis, 0, 2)), fires=fires)


def test_flatten():
    g = Graph()
    y = g.Flatten(g.Exp(g.input("x", "N", 8, 16)), axis=1)
    check(g.model(cut(g, y, 0, 0, 2)), becomes={"Slice": 1, "Exp": 1, "Flatten": 1})


def test_expand_makes_less():
    for axis in range(4):
        g = Graph()
        y = g.Exp(g.Expand(g.input("x", 16, 1, 32), ints(4, 16, 8, 32)))
        check(g.model(cut(g, y, axis, 1, 3)))


def test_indices_are_cut_in_the_place_of_what_they_gather():
    g = Graph()
    ids = g.input("ids", "B", 64, dtype=7)
    y = g.Gather(g.weight(50, 64), ids)
    result = check(g.model(last(g, y, 1)), becomes={"Slice": 1, "Gather": 1})
    assert result.graph.node[0].input[0] == "ids"
    g = Graph()
    y = g.Gather(g.input("x", 8, 16, 64), ints(3, 1, 1, 5), axis=1)
    check(g.model(cut(g, y, 2, 0, 4)), becomes={"Slice": 1, "Gather": 1})


def test_operands_of_concat_outside_the_part_go():
    for start, stop, becomes in (
        (8, 20, {"Exp": 2, "Concat": 1}),
        (12, 22, {"Exp": 3, "Concat": 1, "Slice": 2}),
        (0, 4, {"Exp": 1, "Concat": 1, "Slice": 1}),
    ):
        g = Graph()
        lengths = zip("abcd", (8, 8, 4, 8), strict=True)
        parts = [g.Exp(g.input(name, 4, size, 256)) for name, size in lengths]
        check(g.model(cut(g, g.Concat(*parts, axis=1), 1, start, stop)), becomes=becomes)


def test_every_operand_of_concat_is_cut_along_another_axis():
    g = Graph()
    parts = [g.Exp(g.input(name, 16, 16, 64)) for name in "ab"]
    check(
        g.model(last(g, g.Concat(*parts, axis=1), 0)), becomes={"Slice": 2, "Exp": 2, "Concat": 1}
    )


def test_first_token_of_a_concat_of_unknown_length():
    g = Graph()
    joined = g.Concat(g.input("a", "B", 1, 64), g.input("b", "B", "S", 64), axis=1)
    y = g.Gather(g.Exp(joined), np.array(0, np.int64), axis=1)
    result = check(g.model(y))
    assert [node.input[0] for node in result.graph.node if node.op_type == "Concat"] == ["a"]
    g = Graph()
    joined = g.Concat(g.input("a", "B", "S", 64), g.input("b", "B", 1, 64), axis=1)
    result = check(g.model(last(g, g.Exp(joined), 1)))
    assert [node.input[0] for node in result.graph.node if node.op_type == "Concat"] == ["b"]


def test_what_somebody_else_reads_is_not_computed_twice():
    g = Graph()
    y = g.MatMul(g.input("x", 8, 16, 32), g.weight(32, 64))
    assert_untouched(RULES, g.model(last(g, y, 1), g.Exp(y)))
    assert_untouched(RULES, g.model(last(g, y, 1), y))


def test_residual_is_cut_once():
    g = Graph()
    x = g.input("x", "B", "S", 32)
    inner = g.Relu(g.MatMul(g.LayerNormalization(x, g.weight(32)), g.weight(32, 64)))
    y = g.Add(g.MatMul(inner, g.weight(64, 32)), x)
    result = check(g.model(last(g, y, 1)))
    assert operators(result)["Slice"] == 1


def test_halves_of_a_rotary_embedding_stay():
    g = Graph()
    x = g.Tanh(g.input("x", 2, 64, 64))
    turned = g.Concat(g.Neg(cut(g, x, -1, 32, END)), cut(g, x, -1, 0, 32), axis=-1)
    assert_untouched((*RULES, slices.merge_slices), g.model(g.Add(x, turned)))


def test_what_a_runtime_computes_along_with_a_layer_is_not_torn_off():
    g = Graph()
    y = g.Relu(g.Conv(g.input("x", 2, 4, 32, 32), g.weight(8, 4, 3, 3)))
    assert_untouched(RULES, g.model(cut(g, y, 2, 0, 4)))
    g = Graph()
    a, b = g.input("a", 4, 64, 64), g.input("b", 4, 64, 64)
    product = g.MatMul(g.Softmax(g.MatMul(a, b)), b)
    assert_untouched(RULES, g.model(last(g, g.Transpose(product, perm=[0, 2, 1]), 2)))


def test_large_weight_that_is_used_elsewhere_is_not_stored_twice():
    g = Graph()
    w = g.weight(128, 256)
    y = g.MatMul(g.input("x", 8, 128), w)
    z = g.MatMul(g.input("z", 8, 128), w)
    assert_untouched(RULES, g.model(cut(g, y, 1, 0, 100), z))


def test_what_saves_next_to_nothing_stays():
    g = Graph()
    y = g.Tanh(g.input("x", 2, 64, 64))
    assert_untouched(RULES, g.model(cut(g, y, 1, 1, END)))
    g = Graph()
    assert_untouched(RULES, g.model(cut(g, g.Tanh(g.input("x", 8)), 0, 1, 2)))


def test_parts_of_several_axes_go_up_one_by_one():
    g = Graph(17)
    y = g.Tanh(g.input("x", 8, 64, 64))
    y = g.Slice(y, ints(0, -5), ints(4, -1), ints(0, 2))
    result = check(g.model(y), (*RULES, slices.merge_slices))
    assert operators(result) == {"Slice": 1, "Tanh": 1}


def test_bounds_known_at_run_time_only_stay():
    g = Graph()
    stop = g.input("stop", 1, dtype=7)
    y = g.Slice(g.Tanh(g.input("x", 8, 64)), ints(0), stop)
    assert_untouched(RULES, g.model(y))


def test_parts_of_different_axes_do_not_pass_each_other_for_ever():
    for first in (0, 1):
        g = Graph()
        y = g.Tanh(g.input("x", "B", "S", 64))
        for turn in (first, 1 - first):
            y = last(g, y, 1) if turn else g.Gather(y, ints(3, 1), axis=2)
        y = g.Gather(y, ints(0), axis=0)
        check(g.model(y), (*RULES, slices.merge_slices))


def test_every_fourth_element_of_an_operand_before_slices_had_steps():
    g = Graph(9)
    joined = g.Concat(g.Exp(g.input("a", 16, 512)), g.input("b", 16, 512), axis=0)
    check(
        g.model(g.Gather(joined, ints(0, 4), axis=0)), becomes={"Gather": 1, "Exp": 1, "Concat": 1}
    )


def test_two_sizes_that_are_not_known_are_not_taken_for_one():
    g = Graph()
    x, z = g.input("x", "N", 512), g.input("z", "M", 512)
    some, others = cut(g, g.Exp(x), 0, 0, 5), cut(g, g.Exp(z), 0, 0, 7)
    y = g.Tanh(g.Add(g.Neg(some), g.Neg(others)))
    feeds = {"x": np.ones((1, 512), np.float32), "z": np.ones((8, 512), np.float32)}
    result = check(g.model(cut(g, y, 0, 0, 2)), feeds=feeds)
    assert [node.op_type for node in result.graph.node][-3:] == ["Add", "Slice", "Tanh"]


def test_reshape_copies_what_is_left_of_an_axis_of_unknown_size():
    for size in (2, 40):
        g = Graph()
        y = g.Reshape(g.Exp(g.input("x", "N", 16, 64)), ints(0, 0, 8, 8))
        feeds = {"x": np.ones((size, 16, 64), np.float32)}
        result = check(g.model(cut(g, y, 0, 0, 5)), feeds=feeds)
        assert result.graph.node[0].op_type == "Slice"
