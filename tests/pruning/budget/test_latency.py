import numpy as np
import onnx
import pytest

from onnxopt.pruning.budget.curves import widths_of
from onnxopt.pruning.budget.grids import Grid, can_measure, measure_grids, spread
from onnxopt.pruning.budget.latency import given_to_products, latency_of, predicted
from onnxopt.pruning.budget.work import work_of
from onnxopt.pruning.plan import Groups
from tests.pruning.budget.nets import NETS, built, group, loaded

TABLE = Grid(
    groups=("a", "b"),
    widths=((8, 16, 32), (8, 24)),
    ms=np.array([[1.0, 2.0], [2.0, 4.0], [4.0, 8.0]]),
)


def net(name="conv"):
    proto, groups = NETS[name]()
    model = loaded(proto)
    return proto, groups, model, work_of(model, groups)


def test_between_measured_widths_times_lie_on_lines():
    assert TABLE.at({"a": 8, "b": 8}) == 1.0
    assert TABLE.at({"a": 32, "b": 24}) == 8.0
    assert TABLE.at({"a": 24, "b": 16}) == pytest.approx(4.5)
    assert TABLE.at({"a": 1, "b": 1}) == 1.0
    assert TABLE.share({"a": 16, "b": 24}) == 0.5
    for name, widths in (("a", range(1, 40)), ("b", range(1, 30))):
        column = np.array(widths)
        many = TABLE.at({"a": 12, "b": 12, name: column})
        assert many.tolist() == [TABLE.at({"a": 12, "b": 12, name: width}) for width in widths]


def test_a_few_widths_are_measured_with_both_ends():
    assert spread(range(256, 0, -8)) == (8, 64, 128, 192, 256)
    assert spread((16,)) == (16,)


def test_without_grids_times_go_with_macs_and_with_what_is_moved():
    _, _, _, work = net()
    ms = {"a_node": 1.0015, "r_node": 0.5015, "s_node": 0.0005, "x": 0.25}
    found = predicted(work, ms)
    assert found.total.whole == pytest.approx(sum(ms.values()))
    assert found.total.fixed == 0.25
    assert found.node("a_node", {"a": 8}) == pytest.approx(0.5015)
    assert found.node("r_node", {"a": 8}) == pytest.approx(0.2515)
    assert found.node("s_node", {"p": 4}) == 0.0005  # no less than a call
    assert found.node("unknown", {}) == 0


def test_a_grid_says_how_a_nodes_time_falls_within_reason():
    _, _, _, work = net()
    stairs = Grid(groups=("a",), widths=((4, 8, 16),), ms=np.array([2.0, 4.0, 4.0]))
    found = predicted(work, {"d_node": 3.0}, {"d_node": stairs})
    assert found.node("d_node", {"a": 16}) == found.node("d_node", {"a": 8}) == 3.0
    assert found.node("d_node", {"a": 4}) == 1.5
    wrong = Grid(groups=("a",), widths=((4, 8, 16),), ms=np.array([0.0, 0.0, 4.0]))
    found = predicted(work, {"d_node": 3.0}, {"d_node": wrong})
    assert found.node("d_node", {"a": 8}) == pytest.approx(1.0)


def test_what_a_product_was_fused_with_counts_to_the_product():
    _, _, model, _ = net()
    times = {"r_node": 2.0, "d_node": 1.0, "s_node": 0.5}
    assert given_to_products(model, times) == {"a_node": 2.0, "d_node": 1.0, "p_node": 0.5}
    timed = {"a_node": 1.0, "r_node": 2.0}
    assert given_to_products(model, timed) == timed


def test_only_float_products_of_few_groups_are_measured_alone():
    _, groups, model, work = net()
    nodes = {node.name: node for node in model.graph}
    works = {node.name: node for node in work.nodes}
    widths = {each.name: widths_of(each, 4) for each in groups}
    told = {name: can_measure(nodes[name], works[name], widths) for name in nodes}
    assert {name for name, can in told.items() if can} == {
        "a_node", "d_node", "p_node", "q_node", "y_node"
    }  # fmt: skip
    whole = {each.name: (each.size,) for each in groups}
    assert not any(can_measure(nodes[name], works[name], whole) for name in nodes)


def test_nodes_are_timed_at_all_widths_of_their_groups_and_alike_ones_once():
    _, groups, model, work = net()
    works = {node.name: node for node in work.nodes}
    nodes = [(node, works[node.name]) for node in model.graph if node.name in ("d_node", "p_node")]
    widths = {each.name: widths_of(each, 4) for each in groups}
    told = []
    found = measure_grids(
        nodes,
        widths,
        threads=1,
        full=work.macs.full,
        sessions=1,
        progress=lambda *now: told.append(now),
    )
    assert found["d_node"].widths == ((4, 8, 12, 16),)
    assert found["p_node"].groups == ("a", "p")
    assert found["p_node"].ms.shape == (4, 2)
    for grid in found.values():
        for axis in range(grid.ms.ndim):
            assert np.all(np.diff(grid.ms, axis=axis) >= 0)
    assert len(told) == 1


def test_a_real_net_is_profiled_and_its_narrower_kin_costs_no_more(tmp_path):
    proto = built(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1, 64, 32, 32] x) => (float[1, 64, 32, 32] y) {
            a = Conv<pads = [1, 1, 1, 1]>(x, w0)
            r = Relu(a)
            y = Conv<pads = [1, 1, 1, 1]>(r, w1)
        }""",
        {"w0": (64, 64, 3, 3), "w1": (64, 64, 3, 3)},
    )
    units = np.arange(64)
    one = group(
        "a", 64,
        {("a", 1, 0): (units, "writes"), ("y", 1, 1): (units, "reads")},
        {"a": (1, units), "r": (1, units)},
    )  # fmt: skip
    path = tmp_path / "net.onnx"
    onnx.save(proto, path)
    model = loaded(proto)
    found = latency_of(
        model,
        work_of(model, Groups(groups=(one,))),
        path,
        {"x": np.ones((1, 64, 32, 32), np.float32)},
        {"a": widths_of(one, 16)},
        threads=1,
        sessions=1,
    )
    assert set(found.grids) == {"a_node", "y_node"}
    assert found.nodes["a_node"] > 0
    assert found.total.whole == pytest.approx(sum(found.nodes.values()))
    times = [found.total({"a": width}) for width in widths_of(one, 16)]
    assert times == sorted(times, reverse=True)
    assert times[-1] < times[0]
