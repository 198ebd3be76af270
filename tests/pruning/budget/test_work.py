import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.graph.profile import profile
from onnxopt.pruning.budget.work import work_of
from onnxopt.pruning.plan import Groups
from tests.pruning.budget.nets import NETS, built, cut, group, loaded


@pytest.fixture(scope="module")
def nets():
    found = {}
    for name, make in NETS.items():
        proto, groups = make()
        found[name] = proto, groups, work_of(loaded(proto), groups)
    return found


@pytest.mark.parametrize("name", NETS)
def test_the_whole_model_costs_what_its_profile_says(nets, name):
    proto, _, work = nets[name]
    told = profile(loaded(proto))
    assert work.macs.whole == work.macs({}) == told.macs
    assert work.parameters.whole == told.parameters


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_widths_cost_what_the_model_costs_once_they_are_cut(nets, data):
    proto, groups, work = nets[data.draw(st.sampled_from(sorted(NETS)))]
    kept = {each.name: data.draw(st.integers(1, each.size)) for each in groups}
    told = profile(cut(proto, groups, kept))
    assert work.macs(kept) == told.macs
    assert work.parameters(kept) == told.parameters


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_many_widths_of_one_group_cost_what_each_does(nets, data):
    _, groups, work = nets[data.draw(st.sampled_from(sorted(NETS)))]
    kept = {each.name: data.draw(st.integers(1, each.size)) for each in groups}
    one = data.draw(st.sampled_from(list(groups)))
    widths = range(1, one.size + 1)
    for total in (work.macs, work.parameters):
        along = total.along(kept, one.name, widths)
        wholes = [total({**kept, one.name: width}) for width in widths]
        assert np.diff(along).tolist() == np.diff(wholes).tolist()


def test_a_group_is_near_those_that_share_a_node_with_it(nets):
    _, _, work = nets["conv"]
    assert work.macs.near("a") == {"a", "p"}
    assert work.macs.near("p") == {"a", "p", "q"}


def test_sizes_that_were_fixed_count_instead_of_one():
    proto = built(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[batch, 4] x) => (float[batch, 3] y) { h = MatMul(x, w)  y = MatMul(h, v) }""",
        {"w": (4, 8), "v": (8, 3)},
    )
    units = np.arange(8)
    one = group(
        "h", 8, {("h", 1, 1): (units, "writes"), ("y", 1, 0): (units, "reads")}, {"h": (1, units)}
    )
    groups = Groups(groups=(one,))
    assert work_of(loaded(proto), groups).macs({"h": 6}) == 6 * 7
    fixed = {"x": (5, 4), "h": (5, 8), "y": (5, 3)}
    assert work_of(loaded(proto), groups, fixed).macs({"h": 6}) == 5 * 6 * 7


def test_einsum_and_operators_whose_formula_compares_sizes_are_counted_for_many_widths():
    proto = built(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[2, 4] x) => (float[2, 3] y) {
            h = Einsum<equation = "ab,bc->ac">(x, w)
            y = MatMul(h, v)
        }""",
        {"w": (4, 8), "v": (8, 3)},
    )
    units = np.arange(8)
    one = group(
        "h", 8, {("h", 1, 1): (units, "writes"), ("y", 1, 0): (units, "reads")}, {"h": (1, units)}
    )
    work = work_of(loaded(proto), Groups(groups=(one,)))
    assert work.macs.along({}, "h", [8, 4]).tolist() == [2 * 8 * 7, 2 * 4 * 7]


def test_units_that_do_not_all_have_as_many_places_count_by_their_mean():
    proto = built(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1, 4] x) => (float[1, 3] y) { h = MatMul(x, w)  y = MatMul(h, v) }""",
        {"w": (4, 3), "v": (3, 3)},
    )
    one = group("h", 2, {}, {"h": (1, [0, 0, 1])})
    work = work_of(loaded(proto), Groups(groups=(one,)))
    assert work.macs({"h": 1}) == 1 * 4 + 1 * 3
