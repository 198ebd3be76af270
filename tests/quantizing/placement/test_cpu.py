"""What is placed on the CPU, held against the kernels that onnxruntime really makes of it."""

import collections

import numpy as np
import onnx
import pytest

from onnxopt.graph import io
from onnxopt.graph.edges import Edge
from onnxopt.quantizing.insert.qdq import insert
from onnxopt.quantizing.placement.cpu import place
from onnxopt.quantizing.placement.plan import merged
from tests.quantizing.repair.nets import net, normal
from tests.quantizing.small import pictures, prepared, solved, tokens


def kernels(model, tmp_path):
    """Return how often each operator is in the graph that onnxruntime runs."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    settings.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(io.to_proto(model).SerializeToString(), settings)
    found = onnx.load(tmp_path / "optimized.onnx").graph.node
    return collections.Counter(node.op_type for node in found)


def test_every_unit_of_a_convolutional_net_runs_as_int8(tmp_path):
    model = pictures()
    assert [unit.op for unit in place(model).units] == [
        "Conv", "Conv", "Conv", "Add", "MaxPool", "GlobalAveragePool", "Flatten", "Gemm",
    ]  # fmt: skip
    insert(model, solved(model))
    found = kernels(model, tmp_path)
    assert found["QLinearConv"] == 3
    assert found["QLinearAdd"] == found["QGemm"] == found["QLinearGlobalAveragePool"] == 1
    assert found["QuantizeLinear"] == 1, "the input, and nothing else"
    assert found["DequantizeLinear"] == 0, "Gemm writes float itself"
    assert not {"Relu", "Clip", "Conv", "Add"} & found.keys()


def test_products_write_float_where_float_is_read(tmp_path):
    model = tokens()
    insert(model, solved(model))
    found = kernels(model, tmp_path)
    assert found["QLinearMatMul"] == 2, "the keys and the scores, which go on as int8"
    assert found["MatMulIntegerToFloat"] == 2
    assert found["MatMul"] == 0


def test_a_clamp_is_absorbed_by_who_alone_is_read_by_it():
    units = {unit.name: unit for unit in place(pictures()).units}
    assert units["n0"].absorbed == ("n1",)
    assert units["n0"].outputs == ("ar",)
    assert units["n4"].absorbed == ()


def test_depthwise_and_matrix_weights_know_their_rows_and_columns():
    units = {unit.name: unit for unit in place(pictures()).units}
    assert (units["n2"].weight.spec.axis, units["n2"].weight.columns) == (0, (2, 3, 1))
    assert units["n2"].weight.groups == 8
    assert (units["n9"].weight.spec.axis, units["n9"].weight.columns) == (0, (1,))
    assert units["n9"].bias == Edge("n9", 2)


def test_what_only_moves_shares_a_scale():
    placement = place(pictures())
    assert {"s", "m"} in [set(group) for group in placement.scales()]
    assert {"g", "f"} in [set(group) for group in placement.scales()]


def test_a_part_of_the_units_keeps_the_tensors_that_they_touch():
    placement = place(pictures()).only({"n0", "n4"})
    assert [unit.name for unit in placement.units] == ["n0", "n4"]
    assert set(placement.tensors) == {"x", "ar", "dr", "p"}


@pytest.mark.parametrize(
    ("body", "node", "why"),
    [
        ("y = Tanh(x)", "n0", "no int8 kernel"),
        ("y = Add(x, c)", "n0", "constant"),
        ("y = Add(x, x)", "n0", "twice"),
        ("y = Gemm <alpha=0.5> (x, w)", "n0", "alpha"),
        ("y = Softmax <axis=0> (x)", "n0", "axis"),
        ("y = MatMul(x, batched)", "n0", "3 dimensions"),
    ],
)
def test_what_is_left_says_why(body, node, why):
    text = f"(float[4,4] x) => (float y) {{ {body} }}"
    model = prepared(net(text, c=normal(4), w=normal(4, 4), batched=normal(2, 4, 4)))
    assert why in place(model).left[node]


def test_half_precision_is_left_alone():
    model = prepared(net("(float16[4,4] x) => (float16[4,4] y) { y = Add(x, x) }"))
    assert place(model).units == ()


def test_a_weight_that_the_caller_overrides_is_no_constant():
    text = "(float[4,4] x, float[4,4] w) => (float[4,4] y) { y = MatMul(x, w) }"
    unit = place(prepared(net(text, w=normal(4, 4)))).units[0]
    assert unit.weight is None
    assert len(unit.reads) == 2


def test_names_tied_in_a_chain_are_one_group():
    groups = merged("abcde", [("a", "b"), ("c", "d"), ("d", "b"), ("x", "e")])
    assert sorted(map(sorted, groups)) == [["a", "b", "c", "d"], ["e"]]


def test_the_sums_of_all_kernels_are_those_of_the_formula(tmp_path):
    """The int8 net computes what its Q/DQ form says, within rounding of a step."""
    from tests.quantizing.small import outputs, samples

    model = pictures()
    feeds = samples(model)
    insert(model, solved(model))
    plain = outputs(model, feeds, optimize="none")
    fused = outputs(model, feeds, config={"session.x64quantprecision": "1"})
    for one, two in zip(plain, fused, strict=True):
        np.testing.assert_allclose(one[0], two[0], atol=0.15)
