"""Operators against onnx's reference, and their gradients against differences."""

import numpy as np
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

from onnxopt.graph import io
from onnxopt.pruning.learning.curves import CURVES
from onnxopt.pruning.learning.moving import MOVES
from onnxopt.pruning.learning.operators import OPERATORS, Call, compute, is_known, moved_by

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
    "Conv in one dimension": ("y = Conv <pads=[1,1]> (a, b)", floats(2, 3, 8), floats(4, 3, 3)),
    "GlobalAveragePool": ("y = GlobalAveragePool(a)", floats(*IMAGE)),
    "ReduceMean": ("y = ReduceMean <keepdims=0> (a, b)", floats(2, 3, 4), ints(-1, 0)),
    "ReduceMean of all": ("y = ReduceMean(a)", floats(2, 3)),
    "ReduceSum": ("y = ReduceSum(a, b)", floats(2, 3, 4), ints(1)),
    "Softmax": ("y = Softmax <axis=1> (a)", floats(2, 3, 4)),
    "LayerNormalization": (
        "y = LayerNormalization <axis=-1> (a, b, c)",
        floats(2, 3, 8), floats(8), floats(8),
    ),
    "BatchNormalization": (
        "y = BatchNormalization(a, b, c, d, e)",
        floats(*IMAGE), floats(4), floats(4), floats(4), floats(4) ** 2 + 0.1,
    ),
    **{
        name: (f"y = {name}(a)", floats(3, 5))
        for name in sorted(set(CURVES) - {"Clip", "Pow", "Sqrt"})
    },
    "Gelu by tanh": ('y = Gelu <approximate="tanh"> (a)', floats(3, 5)),
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


def call_of(text, arrays):
    kinds = {"f": "float", "i": "int64", "b": "bool"}
    inputs = ", ".join(
        f"{kinds[array.dtype.kind]}[{','.join(map(str, array.shape))}] {name}"
        for name, array in zip("abcde", arrays, strict=False)
    )
    outputs = text.partition("=")[0].strip().split(", ")
    graph = f"({inputs}) => ({', '.join(f'float[] {name}' for name in outputs)})"
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> g {graph} {{ {text} }}')
    for put in model.graph.output:
        put.type.tensor_type.ClearField("shape")
    return model, Call(node=next(iter(io.ir.serde.deserialize_model(model).graph)), opset=20)


@pytest.mark.parametrize("case", CASES)
def test_an_operator_is_what_the_reference_makes_and_pulls_back_its_slopes(case):
    text, *arrays = CASES[case]
    arrays = [array.astype(np.float64) if array.dtype == np.float32 else array for array in arrays]
    single = [array.astype(np.float32) if array.dtype == np.float64 else array for array in arrays]
    model, call = call_of(text, single)
    assert is_known(call.node)
    feed = dict(zip("abcde", single, strict=False))
    expected = ReferenceEvaluator(model).run(None, feed)
    made, pull = compute(call, single)
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
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
        assert np.vdot(gradients[place], towards) == pytest.approx(slope, rel=1e-3, abs=1e-4), place


def test_every_operator_is_tried():
    tried = {text.partition("= ")[2].split("(")[0].split(" ")[0] for text, *_ in CASES.values()}
    assert tried == set(OPERATORS) | set(CURVES) | set(MOVES)


def test_a_pad_that_is_not_zero_is_no_move():
    arrays = [floats(2, 3), ints(0, 1, 0, 0), np.array(2.0, np.float32)]
    _, call = call_of("y = Pad(a, b, c)", arrays)
    assert not is_known(call.node)
