import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper

from onnxopt.graph import io
from onnxopt.passes import shapes
from onnxopt.profiling.attribution import Ran
from onnxopt.quantizing.insert.qdq import insert
from onnxopt.quantizing.placement.cpu import place
from onnxopt.quantizing.placement.looking import nodes_of
from onnxopt.quantizing.regions import conversions
from onnxopt.quantizing.regions.conversions import Conversions, Line, line
from onnxopt.quantizing.regions.costs import Costs, borders, measure_costs, problem
from onnxopt.quantizing.regions.cut import front
from onnxopt.quantizing.regions.regions import Crossing, divide
from onnxopt.quantizing.solution import QuantizedWeight, Solution
from onnxopt.quantizing.spec import QParams, qparams
from onnxopt.quantizing.weights.matrix import to_rows

COSTS = Conversions(
    quantize=Line(base=1.0, slope=0.0),
    dequantize=Line(base=10.0, slope=0.0),
    to_int8_layout=Line(base=100.0, slope=0.0),
    to_float_layout=Line(base=1000.0, slope=0.0),
)


def paid(crossing, *int8):
    return sum(border.cost for border in borders(crossing, COSTS) if border.crossed(int8))


def test_a_tensor_is_quantized_once_and_dequantized_once():
    crossing = Crossing(tensor="t", elements=1, writer="a", readers=("b", "c"))
    assert [paid(crossing, *int8) for int8 in ("", "b", "bc", "a", "ab", "abc")] == [
        0, 1, 1, 10, 10, 0
    ]  # fmt: skip


def test_what_stays_float_is_quantized_for_int8_readers_and_reads_int8_dequantized():
    given = Crossing(tensor="t", elements=1, writer=None, readers=("b",), outside=True)
    assert [paid(given, *int8) for int8 in ("", "b")] == [0, 1]
    told = Crossing(tensor="t", elements=1, writer="a", readers=("b",), outside=True)
    assert [paid(told, *int8) for int8 in ("", "a", "b", "ab")] == [0, 10, 1, 10]


def test_a_kernel_that_writes_either_never_dequantizes():
    crossing = Crossing(tensor="t", elements=1, writer="a", readers=("b", "c"), either=True)
    assert [paid(crossing, *int8) for int8 in ("a", "b", "ab", "abc")] == [0, 1, 1, 0]
    outside = Crossing(
        tensor="t", elements=1, writer="a", readers=("b",), either=True, outside=True
    )
    assert [paid(outside, *int8) for int8 in ("a", "b", "ab")] == [0, 1, 1]


def test_layouts_change_where_images_meet():
    crossing = Crossing(tensor="t", elements=1, writer="a", readers=("b",), image=True)
    assert [paid(crossing, *int8) for int8 in ("a", "b", "ab")] == [1010, 101, 0]
    given = Crossing(
        tensor="t", elements=1, writer=None, readers=("b",), outside=True, image=True, given=True
    )
    assert paid(given, "b") == 101


def test_a_line_never_falls_and_never_starts_below_nothing():
    fitted = line([10, 100, 1000], [7.0, 25.0, 205.0])
    assert (fitted.base, fitted.slope) == pytest.approx((5.0, 0.2))
    assert line([10, 100, 1000], [0.1, 10.0, 300.0]).base == 0.0
    assert line([10, 100, 1000], [9.0, 8.0, 7.0]) == Line(base=8.0, slope=0.0)


def test_conversions_are_read_from_the_chains_and_layouts_from_their_neighbours():
    us, ran = {}, []
    for rows in conversions.PLAIN_ROWS:
        us[f"plain{rows}_first_q"] = 1.0 + rows * 128 * 0.01
        us[f"plain{rows}_middle_d"] = 2.0 + rows * 128 * 0.02
    for side in conversions.IMAGE_SIDES:
        tag, elements = f"image{side}", 32 * side**2
        for name, op, reads, writes, cost in (
            ("out", "ReorderOutput", "r1", f"{tag}_first", 3.0 + 0.01 * elements),
            ("turn", "Transpose", f"{tag}_first_q", "t", 1.0 + 0.02 * elements),
            ("back", "Transpose", "c", f"{tag}_middle_q", 2.0 + 0.03 * elements),
        ):
            ran.append(Ran(name=f"{tag}_{name}", op=op, reads=(reads,), writes=(writes,)))
            us[f"{tag}_{name}"] = cost
        ran.append(Ran(name="conv", op="Conv", reads=(f"{tag}_middle_d",), writes=("z",)))
    found = conversions.fit(us, ran)
    assert found.quantize(1000) == pytest.approx(11.0)
    assert found.dequantize(1000) == pytest.approx(22.0)
    assert found.to_int8_layout(1000) == pytest.approx(34.0)
    assert found.to_float_layout(1000) == pytest.approx(32.0)


def test_an_add_that_is_fused_into_a_conv_costs_once_that_conv_is_int8():
    model, _ = small_net()
    placement = place(model)
    regions = divide(model, placement)
    units = {unit.op: unit.name for unit in placement.units}
    us = dict.fromkeys((unit.name for unit in placement.units), 5.0)
    costs = Costs(
        in_float=us | {units["Add"]: 0.0},
        in_int8=us,
        total=50.0,
        conversions=COSTS,
        fused=frozenset([units["Add"]]),
    )
    found = problem(regions, costs, dict.fromkeys(us, 0.1))
    added = [border for border in found.borders if border.cost == 20.0]
    assert {border.inner for border in added} == {("conv1",), ("conv0",)}
    assert {border.outer for border in added} == {(units["Add"],)}


def test_conversions_take_as_much_longer_as_they_did_in_the_model():
    model, _ = small_net()
    regions = divide(model, place(model))
    us = dict.fromkeys((unit.name for unit in place(model).units), 5.0)
    noise = dict.fromkeys(us, 0.1)

    def paid_for_all(seen):
        costs = Costs(in_float=us, in_int8=us, total=50.0, conversions=COSTS, seen_conversions=seen)
        found = problem(regions, costs, noise)
        return -found.gain(found.everything())

    plain = paid_for_all(0.0)
    assert paid_for_all(2 * plain) == pytest.approx(2 * plain)
    assert paid_for_all(100 * plain) == pytest.approx(3 * plain)


def small_net():
    """Two Convs with an Add around the second, an operator without int8 kernel, a product."""
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1, 16, 24, 24] x) => (float[1, 10] y) {
            c = Conv<pads = [1, 1, 1, 1]>(x, w0)
            r = Relu(c)
            d = Conv<pads = [1, 1, 1, 1]>(r, w1)
            a = Add(d, r)
            t = Tanh(a)
            p = GlobalAveragePool(t)
            f = Flatten(p)
            y = MatMul(f, w2)
        }"""
    )
    rng = np.random.default_rng(0)
    for name, shape in {"w0": (16, 16, 3, 3), "w1": (16, 16, 3, 3), "w2": (16, 10)}.items():
        data = rng.normal(size=shape).astype(np.float32).ravel() / 8
        proto.graph.initializer.append(helper.make_tensor(name, T.FLOAT, shape, data))
    names = ("conv0", "relu", "conv1", "add", "tanh", "pool", "flatten", "dense")
    for node, name in zip(proto.graph.node, names, strict=True):
        node.name = name
    model = io.from_proto(proto)
    shapes.infer(model)
    return model, proto


def in_int8(model, placement):
    params = qparams(-8.0, 8.0, placement.tensors["x"])
    ranges = {
        name: params if spec.fixed is None else qparams(0, 1, spec)
        for name, spec in placement.tensors.items()
    }
    relu = qparams(0.0, 8.0, placement.tensors["r"])
    solution = Solution(placement=placement, activations=ranges | {"r": relu})
    for unit in placement.units:
        if unit.weight is not None:
            node = next(node for node in nodes_of(model) if node.name == unit.name)
            weight = node.inputs[1].const_value.numpy()
            channels = len(to_rows(weight, unit.weight))
            scale = QParams(
                scale=np.full(channels, 0.01, np.float32),
                zero_point=np.zeros(channels, np.int8),
                axis=unit.weight.spec.axis,
            )
            integers = np.clip(np.rint(weight / 0.01), -127, 127).astype(np.int8)
            solution.weights[unit.weight.edge] = QuantizedWeight(integers=integers, params=scale)
    made = model.clone()
    insert(made, solution)
    return made


def test_every_unit_of_a_real_net_is_measured_in_both_forms(tmp_path):
    model, proto = small_net()
    placement = place(model)
    onnx.save(proto, tmp_path / "float.onnx")
    onnx.save(io.to_proto(in_int8(model, placement)), tmp_path / "int8.onnx")
    told = []
    costs = measure_costs(
        tmp_path / "float.onnx",
        tmp_path / "int8.onnx",
        placement,
        {"x": np.ones((1, 16, 24, 24), np.float32)},
        threads=1,
        sessions=1,
        progress=lambda *now: told.append(now),
    )
    assert costs.fused == {"add"}
    assert costs.in_float["conv0"] > 0
    assert costs.in_float["conv1"] > 0
    assert costs.in_float["add"] == 0
    assert all(costs.in_int8[name] > 0 for name in ("conv0", "conv1"))
    assert costs.total > 0
    assert costs.seen_conversions > 0
    assert costs.conversions.quantize(1e6) > costs.conversions.quantize(1)
    assert costs.conversions.to_int8_layout(1e6) > 0
    assert told[-1] == ("measuring nodes", 1.0)
    regions = divide(model, placement)
    found = front(problem(regions, costs, {region.name: 0.1 for region in regions.regions}))
    assert any(choice.int8 == {region.name for region in regions.regions} for choice in found)
