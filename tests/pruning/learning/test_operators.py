"""Operators against onnx's reference or onnxruntime, their gradients against differences."""

import numpy as np
import pytest
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from onnxopt.graph import io
from onnxopt.pruning.learning.gradients.curves import CURVES
from onnxopt.pruning.learning.gradients.moving import MOVES
from onnxopt.pruning.learning.operators import OPERATORS, Call, compute, is_known, moved_by
from onnxopt.runtime.sessions.session import open_session, run

RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


IMAGE = (2, 4, 6, 7)
CASES = {
    "Add": ("y = Add(a, b)", floats(2, 3, 4), floats(3, 1)),
    "Sub": ("y = Sub(a, b)", floats(3, 1), floats(2, 3, 4)),
    "Mul": ("y = Mul(a, b)", floats(2, 3, 4), floats(4)),
    "Div": ("y = Div(a, b)", floats(2, 3), floats(2, 3) ** 2 + 1),
    "And": ("y = And(a, b)", RNG.random((3, 4)) > 0.5, RNG.random(4) > 0.5),
    "Or": ("y = Or(a, b)", RNG.random((3, 4)) > 0.5, RNG.random(4) > 0.5),
    "Not": ("y = Not(a)", RNG.random((3, 4)) > 0.5),
    "IsNaN": ("y = IsNaN(a)", np.array([1, np.nan, np.inf], np.float32)),
    **{
        name: (f"y = {name}(a, b)", ints(1, 2, 3).astype(np.float32), np.array(2, np.float32))
        for name in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    },
    "Where": ("y = Where(a, b, c)", RNG.random((3, 4)) > 0.5, floats(3, 4), floats(4)),
    "PRelu": ("y = PRelu(a, b)", floats(*IMAGE), floats(4, 1, 1)),
    "MatMul": ("y = MatMul(a, b)", floats(2, 3, 4), floats(4, 5)),
    "MatMul of two": ("y = MatMul(a, b)", floats(2, 3, 4, 5), floats(3, 5, 2)),
    "Gemm": (
        "y = Gemm <alpha=0.5, beta=2.0, transB=1> (a, b, c)",
        floats(3, 4), floats(5, 4), floats(5),
    ),
    "Gemm turned": ("y = Gemm <transA=1> (a, b)", floats(4, 3), floats(4, 5)),
    "Conv": (
        "y = Conv <pads=[1,0,2,1], strides=[2,1]> (a, b, c)",
        floats(*IMAGE), floats(6, 4, 3, 2), floats(6),
    ),
    "Conv of points": ("y = Conv(a, b)", floats(*IMAGE), floats(5, 4, 1, 1)),
    "Conv in groups": (
        "y = Conv <group=2, dilations=[1,2]> (a, b)",
        floats(*IMAGE), floats(6, 2, 2, 3),
    ),
    "Conv depthwise": (
        'y = Conv <group=4, auto_pad="SAME_UPPER", strides=[2,2]> (a, b, c)',
        floats(*IMAGE), floats(4, 1, 3, 3), floats(4),
    ),
    "Conv in groups of one position": (
        "y = Conv <group=2> (a, b, c)", floats(*IMAGE), floats(6, 2, 1, 1), floats(6),
    ),
    "Conv in one dimension": ("y = Conv <pads=[1,1]> (a, b)", floats(2, 3, 8), floats(4, 3, 3)),
    "ConvTranspose": (
        "y = ConvTranspose <strides=[2,3], pads=[1,0,0,2], output_padding=[0,1]> (a, b, c)",
        floats(2, 4, 3, 5), floats(4, 6, 3, 2), floats(6),
    ),
    "ConvTranspose depthwise": (
        "y = ConvTranspose <group=4, strides=[2,2], pads=[1,1,1,1]> (a, b)",
        floats(2, 4, 3, 5), floats(4, 1, 4, 4),
    ),
    "Einsum": ('y = Einsum <equation="bhqd,bhkd->bhqk"> (a, b)', floats(2, 3, 4, 5),
               floats(2, 3, 6, 5)),
    "Einsum without an arrow": ('y = Einsum <equation="ij, jk"> (a, b)', floats(3, 4),
                                floats(4, 5)),
    "GlobalAveragePool": ("y = GlobalAveragePool(a)", floats(*IMAGE)),
    "GlobalMaxPool": ("y = GlobalMaxPool(a)", floats(*IMAGE)),
    "MaxPool": (
        "y = MaxPool <kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,1]> (a)", floats(*IMAGE),
    ),
    "MaxPool with holes": (
        "y = MaxPool <kernel_shape=[2,3], dilations=[2,1]> (a)", floats(*IMAGE),
    ),
    "MaxPool in one dimension": ("y = MaxPool <kernel_shape=[3]> (a)", floats(2, 3, 8)),
    "AveragePool": (
        "y = AveragePool <kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,1]> (a)", floats(*IMAGE),
    ),
    "AveragePool with its pads": (
        "y = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1> (a)",
        floats(*IMAGE),
    ),
    "ReduceMax": ("y = ReduceMax <keepdims=0> (a, b)", floats(2, 3, 4), ints(-3, 2)),
    "ReduceMax of all": ("y = ReduceMax(a)", floats(2, 3)),
    "ReduceMin": ("y = ReduceMin(a, b)", floats(2, 3, 4), ints(1)),
    "ReduceL2": ("y = ReduceL2(a, b)", floats(2, 3, 4), ints(2)),
    "ReduceSumSquare": ("y = ReduceSumSquare <keepdims=0> (a, b)", floats(2, 3, 4), ints(0, 2)),
    "ReduceMean": ("y = ReduceMean <keepdims=0> (a, b)", floats(2, 3, 4), ints(-1, 0)),
    "ReduceMean of all": ("y = ReduceMean(a)", floats(2, 3)),
    "ReduceSum": ("y = ReduceSum(a, b)", floats(2, 3, 4), ints(1)),
    "Max": ("y = Max(a, b, c)", floats(2, 3, 4), floats(3, 1), floats(4)),
    "Min": ("y = Min(a, b)", floats(3, 1), floats(2, 3, 4)),
    "Sum": ("y = Sum(a, b, c)", floats(2, 3, 4), floats(3, 1), floats(4)),
    "Mean": ("y = Mean(a, b, c)", floats(2, 3, 4), floats(3, 1), floats(4)),
    "Cast": ("y = Cast <to=11> (a)", floats(3, 5)),
    "Dropout": ("y = Dropout(a)", floats(3, 5)),
    "LogSoftmax": ("y = LogSoftmax <axis=1> (a)", floats(2, 3, 4)),
    "MatMul of a row": ("y = MatMul(a, b)", floats(4), floats(3, 4, 5)),
    "MatMul of a column": ("y = MatMul(a, b)", floats(2, 3, 4), floats(4)),
    "MatMul of a row and a column": ("y = MatMul(a, b)", floats(4), floats(4)),
    "Softmax": ("y = Softmax <axis=1> (a)", floats(2, 3, 4)),
    "LayerNormalization": (
        "y = LayerNormalization <axis=-1> (a, b, c)",
        floats(2, 3, 8), floats(8), floats(8),
    ),
    "RMSNormalization": (
        "y = RMSNormalization <axis=-2> (a, b)", floats(2, 3, 8), floats(3, 8),
    ),
    "InstanceNormalization": (
        "y = InstanceNormalization(a, b, c)", floats(*IMAGE), floats(4), floats(4),
    ),
    "GroupNormalization": (
        "y = GroupNormalization <num_groups=2> (a, b, c)", floats(*IMAGE), floats(4), floats(4),
    ),
    "BatchNormalization": (
        "y = BatchNormalization(a, b, c, d, e)",
        floats(*IMAGE), floats(4), floats(4), floats(4), floats(4) ** 2 + 0.1,
    ),
    **{
        name: (f"y = {name}(a)", floats(3, 5))
        for name in sorted(set(CURVES) - {"Clip", "Log", "Pow", "Sqrt"})
    },
    "Gelu by tanh": ('y = Gelu <approximate="tanh"> (a)', floats(3, 5)),
    "Log": ("y = Log(a)", floats(3, 5) ** 2 + 0.1),
    "Sqrt": ("y = Sqrt(a)", floats(3, 5) ** 2 + 0.1),
    "Pow": ("y = Pow(a, b)", floats(3, 5) ** 2 + 0.1, np.array(3, np.float32)),
    "Clip": (
        "y = Clip(a, b, c)",
        floats(4, 5), np.array(-0.5, np.float32), np.array(0.7, np.float32),
    ),
    "Concat": ("y = Concat <axis=1> (a, b)", floats(2, 3), floats(2, 4)),
    "DepthToSpace": ("y = DepthToSpace <blocksize=2> (a)", floats(1, 8, 2, 3)),
    "SpaceToDepth": ("y = SpaceToDepth <blocksize=2> (a)", floats(1, 2, 4, 6)),
    "Expand": ("y = Expand(a, b)", floats(3, 1), ints(2, 3, 4)),
    "Flatten": ("y = Flatten(a)", floats(2, 3, 4)),
    "Gather": ("y = Gather <axis=1> (a, b)", floats(2, 5), ints(0, 3, 3)),
    "Identity": ("y = Identity(a)", floats(2, 3)),
    "Pad": ("y = Pad(a, b)", floats(2, 3), ints(0, 1, 2, 0)),
    "Pad by reflection": ('y = Pad <mode="reflect"> (a, b)', floats(2, 4), ints(0, 1, 0, 2)),
    "Reshape": ("y = Reshape(a, b)", floats(2, 3, 4), ints(0, -1)),
    "Slice": ("y = Slice(a, b, c, d, e)", floats(4, 6), ints(1), ints(6), ints(1), ints(2)),
    "Split": ("y, z = Split <axis=1, num_outputs=2> (a)", floats(2, 6)),
    "Squeeze": ("y = Squeeze(a, b)", floats(2, 1, 3), ints(1)),
    "Tile": ("y = Tile(a, b)", floats(2, 3), ints(1, 2)),
    "Transpose": ("y = Transpose <perm=[2,0,1]> (a)", floats(2, 3, 4)),
    "Unsqueeze": ("y = Unsqueeze(a, b)", floats(2, 3), ints(0)),
}  # fmt: skip
POOL = "kernel_shape=[3,3], strides=[2,2]"
RUNTIME_CASES = {
    **{
        f"{name} {more}": (f"y = {name} <{POOL}, {more}> (a)", floats(*IMAGE))
        for name in ("MaxPool", "AveragePool")
        for more in (
            "ceil_mode=1", "pads=[1,1,1,1], ceil_mode=1", "pads=[0,1,2,1], ceil_mode=1",
            'auto_pad="SAME_UPPER"', 'auto_pad="SAME_LOWER"', 'auto_pad="VALID", ceil_mode=1',
            'dilations=[2,2], auto_pad="SAME_UPPER"', "dilations=[2,1], ceil_mode=1",
        )
    },
    **{
        f"AveragePool with its pads {more}": (
            f"y = AveragePool <{POOL}, count_include_pad=1, {more}> (a)", floats(*IMAGE),
        )
        for more in ("pads=[1,1,1,1], ceil_mode=1", 'auto_pad="SAME_LOWER"', "ceil_mode=1")
    },
    **{
        f"ConvTranspose {more}": (
            f"y = ConvTranspose <{more}> (a, b)", floats(2, 4, 3, 5), floats(4, 2, 4, 3),
        )
        for more in (
            "strides=[2,2], output_shape=[7,10]", 'auto_pad="VALID", strides=[2,2]',
            'auto_pad="SAME_UPPER", strides=[3,2]', 'auto_pad="SAME_LOWER", strides=[3,2]',
            'auto_pad="SAME_UPPER", strides=[2,2], output_shape=[7,9]',
            'auto_pad="SAME_LOWER", strides=[5,5]',
            'auto_pad="SAME_UPPER", strides=[3,3], output_padding=[1,0]',
        )
    },
    "ConvTranspose in groups": (
        "y = ConvTranspose <group=2, dilations=[2,1], strides=[2,2]> (a, b, c)",
        floats(2, 4, 3, 5), floats(4, 3, 3, 3), floats(6),
    ),
    **{
        f"Resize {more}": (f"y = Resize <{more}> (a, , b)", floats(*IMAGE), scales)
        for scales in [np.array([1, 1, 1.7, 0.6], np.float32)]
        for more in (
            'mode="nearest"', 'mode="linear"', 'mode="cubic"',
            'mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"',
            'mode="linear", coordinate_transformation_mode="align_corners"',
            'mode="linear", coordinate_transformation_mode="pytorch_half_pixel"',
            'mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1',
        )
    },
    "Resize to sizes": ('y = Resize <mode="linear"> (a, , , b)', floats(*IMAGE), ints(2, 4, 9, 4)),
    "Resize of some axes": (
        'y = Resize <mode="nearest", axes=[3,2]> (a, , , b)', floats(*IMAGE), ints(14, 12),
    ),
    "Resize of a row": (
        'y = Resize <mode="linear"> (a, , b)', floats(2, 3, 8), np.array([1, 1, 2], np.float32),
    ),
}  # fmt: skip
LATER = {"GroupNormalization": 21, "RMSNormalization": 23, "Swish": 24}
"""Opsets of operators that opset 20 has not, or not so."""


def call_of(text, arrays, opset=None):
    kinds = {"f": "float", "i": "int64", "b": "bool"}
    opset = opset or LATER.get(text.partition("= ")[2].split("(")[0].split(" ")[0], 20)
    inputs = ", ".join(
        f"{kinds[array.dtype.kind]}[{','.join(map(str, array.shape))}] {name}"
        for name, array in zip("abcde", arrays, strict=False)
    )
    outputs = text.partition("=")[0].strip().split(", ")
    graph = f"({inputs}) => ({', '.join(f'float[] {name}' for name in outputs)})"
    head = f'<ir_version: 10, opset_import: ["": {opset}]>'
    model = parser.parse_model(f"{head} g {graph} {{ {text} }}")
    for put in model.graph.output:
        put.type.tensor_type.ClearField("shape")
        if "Cast" in text:
            put.type.tensor_type.elem_type = 11
    if "Resize" in text:
        del model.graph.input[1]
        model.graph.initializer.append(numpy_helper.from_array(arrays[1], "b"))
    return model, Call(node=next(iter(io.ir.serde.deserialize_model(model).graph)), opset=opset)


def placed(call, arrays):
    """Put arrays at the places that a node has inputs at."""
    rest = iter(arrays)
    return [None if value is None else next(rest) for value in call.node.inputs]


def assert_slopes(call, arrays):
    arrays = placed(call, arrays)
    made, pull = compute(call, arrays)
    ways = [RNG.normal(size=array.shape) for array in made]
    gradients = pull(ways)
    assert len(gradients) == len(arrays)
    for place in moved_by(call.node):
        if arrays[place].dtype != np.float64:
            continue
        towards = RNG.normal(size=arrays[place].shape)

        def along(step, place=place, towards=towards):
            moved = list(arrays)
            moved[place] = arrays[place] + step * towards
            return sum(np.vdot(w, y) for w, y in zip(ways, compute(call, moved)[0], strict=True))

        slope = (along(1e-5) - along(-1e-5)) / 2e-5
        assert gradients[place].shape == arrays[place].shape
        assert np.vdot(gradients[place], towards) == pytest.approx(slope, rel=1e-3, abs=1e-4), place


def doubled(arrays):
    return [array.astype(np.float64) if array.dtype == np.float32 else array for array in arrays]


@pytest.mark.parametrize("case", CASES)
def test_an_operator_is_what_the_reference_makes_and_pulls_back_its_slopes(case):
    text, *arrays = CASES[case]
    single = [array.astype(np.float32) if array.dtype == np.float64 else array for array in arrays]
    model, call = call_of(text, single)
    assert is_known(call)
    expected = ReferenceEvaluator(model).run(None, dict(zip("abcde", single, strict=False)))
    made, _ = compute(call, single)
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert_slopes(call, doubled(arrays))


@pytest.mark.parametrize("case", RUNTIME_CASES)
def test_an_operator_is_what_onnxruntime_makes_and_pulls_back_its_slopes(case):
    text, *arrays = RUNTIME_CASES[case]
    model, call = call_of(text, arrays)
    assert is_known(call)
    feed = {put.name: arrays["abc".index(put.name)] for put in model.graph.input}
    (expected,) = run(open_session(model.SerializeToString()), feed)
    made, _ = compute(call, placed(call, arrays))
    np.testing.assert_allclose(made[0], expected, rtol=1e-5, atol=1e-5)
    # The scales of a Resize stay as they are.
    assert_slopes(
        call, [*doubled(arrays[:1]), *arrays[1:]] if "Resize" in text else doubled(arrays)
    )


def test_every_operator_is_tried():
    cases = {**CASES, **RUNTIME_CASES}.values()
    tried = {text.partition("= ")[2].split("(")[0].split(" ")[0] for text, *_ in cases}
    assert tried == set(OPERATORS) | set(CURVES) | set(MOVES)


@pytest.mark.parametrize(
    ("text", "arrays", "expected"),
    [
        ("y = Max(a, b)", ([1, 2], [1, 1]), ([1, 1], [0, 0])),
        ("y = ReduceMax <keepdims=0> (a)", ([[3, 3, 1]],), ([[1, 0, 0]],)),
        ("y = GlobalMaxPool(a)", ([[[3, 3], [1, 3]]],), ([[[1, 0], [0, 1]]],)),
        ("y = MaxPool <kernel_shape=[2]> (a)", ([[[3, 3, 1]]],), ([[[1, 1, 0]]],)),
    ],
)
def test_of_equal_numbers_the_first_one_has_the_gradient(text, arrays, expected):
    arrays = [np.array(array, np.float32) for array in arrays]
    _, call = call_of(text, arrays)
    made, pull = compute(call, arrays)
    for one, other in zip(pull([np.ones_like(made[0])]), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_before_opset_13_a_softmax_is_of_all_axes_from_one_on():
    x = floats(2, 3, 4)
    model, call = call_of("y = Softmax <axis=1> (a)", [x], opset=11)
    (expected,) = run(open_session(model.SerializeToString()), {"a": x})
    np.testing.assert_allclose(compute(call, [x])[0][0], expected, rtol=1e-5)
    assert_slopes(call, doubled([x]))


def test_before_opset_21_groups_have_scales():
    arrays = [floats(*IMAGE), floats(2), floats(2)]
    model, call = call_of("y = GroupNormalization <num_groups=2> (a, b, c)", arrays, opset=18)
    expected = ReferenceEvaluator(model).run(None, dict(zip("abc", arrays, strict=True)))
    np.testing.assert_allclose(compute(call, arrays)[0][0], expected[0], rtol=1e-5, atol=1e-5)
    assert_slopes(call, doubled(arrays))


@pytest.mark.parametrize("opset", [11, 13])
def test_an_older_resize_reads_a_region(opset):
    arrays = [floats(*IMAGE), np.array([1, 1, 2, 2], np.float32)]
    model, call = call_of('y = Resize <mode="linear"> (a, r, b)', arrays, opset)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(0, np.float32), "r"))
    (expected,) = run(open_session(model.SerializeToString()), {"a": arrays[0]})
    made, _ = compute(call, [arrays[0], np.zeros(0, np.float32), arrays[1]])
    np.testing.assert_allclose(made[0], expected, rtol=1e-5, atol=1e-6)


def test_an_output_that_is_not_made_is_none():
    x = floats(2, 3)
    _, call = call_of("y, z = Dropout(a)", [x])
    made, pull = compute(call, [x])
    assert made[1] is None
    np.testing.assert_array_equal(pull([x, None])[0], x)


@pytest.mark.parametrize(
    ("text", "arrays"),
    [
        ("y = Pad(a, b, c)", [floats(2, 3), ints(0, 1, 0, 0), np.array(2.0, np.float32)]),
        ("y = Cast <to=7> (a)", [floats(2, 3)]),
        ("y = Dropout(a, b, c)", [floats(3), np.array(0.5, np.float32), np.array(True)]),
        ('y = Einsum <equation="ii,ij->j"> (a, b)', [floats(3, 3), floats(3, 4)]),
        ('y = Einsum <equation="ik,kj->j"> (a, b)', [floats(2, 3), floats(3, 4)]),
        ('y = Einsum <equation="...k,kj->...j"> (a, b)', [floats(2, 3), floats(3, 4)]),
        ('y = Einsum <equation="ij->ji"> (a)', [floats(2, 3)]),
        ("y = ReduceMean <noop_with_empty_axes=1> (a)", [floats(2, 3)]),
        ('y = Resize <mode="linear", antialias=1> (a, , b)', [floats(2, 3), floats(2)]),
        ("y = BatchNormalization <training_mode=1> (a, b, c, d, e)",
         [floats(2, 3), *floats(4, 3)]),
        ("y = NonZero(a)", [floats(2, 3)]),
    ],
)  # fmt: skip
def test_what_is_no_such_case_is_not_known(text, arrays):
    _, call = call_of(text, arrays)
    assert not is_known(call)
