from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.errors import OnnxOptError
from onnxopt.pruning.budget.allocate import Costs, at, front
from onnxopt.pruning.budget.curves import curve
from onnxopt.pruning.budget.total import Term, Total
from onnxopt.pruning.budget.work import work_of
from tests.pruning.budget.nets import NETS, loaded

SIZE = 8


def term(name, price):
    return Term(name=name, groups=(name,), value=lambda kept: price * kept[name])


def separable(prices, fixed=0):
    """Return a cost that adds up: each group has `SIZE` units at a price of its own."""
    full = dict.fromkeys(prices, SIZE)
    return Total(full=full, terms=tuple(term(*pair) for pair in prices.items()), fixed=fixed)


def curves_of(rises):
    return [
        curve(name, np.cumsum([0.0, *rise]), range(1, SIZE + 1)) for name, rise in rises.items()
    ]


def exact(curves, prices, limit):
    """Return the least loss at a cost of at most `limit`, by dynamic programming."""
    best = {0: 0.0}
    for each in curves:
        found = {}
        for cost, loss in best.items():
            for width in each.widths:
                whole = cost + prices[each.group] * width
                if whole <= limit + 1e-9:
                    found[whole] = min(found.get(whole, np.inf), loss + each.loss(width))
        best = found
    return min(best.values(), default=None)


rising = st.lists(st.integers(1, 50), min_size=SIZE, max_size=SIZE)
instances = st.lists(st.tuples(st.integers(1, 9), rising), min_size=2, max_size=5)


def instance(drawn, *, convex):
    prices = {f"g{place}": price for place, (price, _) in enumerate(drawn)}
    rises = {f"g{place}": sorted(rise) if convex else rise for place, (_, rise) in enumerate(drawn)}
    return prices, curves_of(rises)


def joint(name="conv"):
    proto, groups = NETS[name]()
    work = work_of(loaded(proto), groups)
    curves = [
        curve(each.name, np.linspace(0, 1, each.size + 1) ** 2 * weight, range(1, each.size + 1))
        for each, weight in zip(groups, (1.0, 3.0, 0.2), strict=False)
    ]
    return curves, Costs(macs=work.macs, parameters=work.parameters), work


@settings(max_examples=60, deadline=None)
@given(instances, st.integers(20, 100))
def test_a_point_of_convex_curves_is_the_best_or_nearly(drawn, percent):
    share = percent / 100
    prices, curves = instance(drawn, convex=True)
    total = separable(prices)
    found = at(front(curves, Costs(macs=total, parameters=total)), target_macs=share)
    assert found.macs <= share + 1e-9
    # What the best choice wins on the way's points is less than one unit of any group loses.
    best = exact(curves, prices, share * total.whole)
    largest = max(float(np.diff(each.losses).max()) for each in curves)
    assert best <= found.loss <= best + largest


def test_points_are_on_average_within_two_percent_of_the_best():
    rng = np.random.default_rng(0)
    for convex, gap in ((True, 1.01), (False, 1.02)):
        ratios = []
        for _ in range(60):
            drawn = [(rng.integers(1, 10), rng.integers(1, 50, SIZE)) for _ in range(5)]
            prices, curves = instance(drawn, convex=convex)
            total = separable(prices)
            share = rng.uniform(0.3, 0.95)
            found = at(front(curves, Costs(macs=total, parameters=total)), target_macs=share)
            ratios.append(found.loss / exact(curves, prices, share * total.whole))
        assert min(ratios) >= 1
        assert np.mean(ratios) < gap


@pytest.mark.parametrize("by", ["macs", "parameters", "units"])
@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("name", ["conv", "attention"])
def test_a_front_goes_from_the_whole_model_to_the_smallest(name, scope, by):
    curves, costs, _ = joint(name)
    found = front(curves, costs, by=by, scope=scope)
    first, last = found.cuts[0], found.cuts[-1]
    assert (first.loss, first.macs, first.parameters, first.units) == (0, 1, 1, 1)
    assert first.kept == {each.group: each.size for each in curves}
    assert set(last.kept.values()) == {1}
    assert len(found.cuts) <= 25
    for one, other in pairwise(found.cuts):
        assert one.loss <= other.loss
        assert getattr(one, by) > getattr(other, by)
        assert all(one.kept[group] >= other.kept[group] for group in one.kept)
    assert front(curves, costs, by=by, scope=scope).cuts == found.cuts


def test_a_front_is_thinned_evenly_by_cost():
    curves, costs, work = joint()
    found = front(curves, costs, most=6)
    shares = [cut.macs for cut in found.cuts]
    assert len(shares) == 6
    whole = shares[0] - shares[-1]
    assert max(-np.diff(shares)) < 0.5 * whole
    assert [work.macs.share(cut.kept) for cut in found.cuts] == shares


def test_costs_are_joint():
    """Where two groups multiply, a step looks at what the other one still costs."""
    curves, costs, work = joint()
    found = front(curves, costs)
    for step, after in pairwise(found.steps):
        assert step.cost > after.cost
    kept = {each.group: each.size for each in curves}
    for step in found.steps:
        kept[step.group] = step.width
        assert work.macs(kept) == pytest.approx(step.cost)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.2, 0.99), st.sampled_from(["global", "layer"]))
def test_targets_are_held_exactly(share, scope):
    curves, costs, work = joint()
    found = front(curves, costs, scope=scope)
    cut = at(found, target_macs=share)
    assert cut.macs == work.macs.share(cut.kept) <= share + 1e-9
    assert cut == at(found, target_macs=share)
    nearest = next(point for point in found.cuts if point.macs <= share)
    assert cut.loss <= nearest.loss


def test_time_is_a_cost_of_its_own_and_stairs_are_stepped_over():
    total = separable({"a": 1, "b": 1})
    stairs = Total(
        full=total.full,
        terms=(
            Term(name="a", groups=("a",), value=lambda kept: np.ceil(kept["a"] / 4) * 4),
            term("b", 1),
        ),
    )
    curves = curves_of({"a": [1.0] * SIZE, "b": [1.5] * SIZE})
    found = front(curves, Costs(macs=total, parameters=total, ms=stairs), by="ms")
    assert [(step.group, step.width) for step in found.steps[:2]] == [("a", 4), ("b", 7)]
    cut = at(found, target_latency=0.75)
    assert (cut.kept, cut.ms) == ({"a": 4, "b": 8}, 0.75)
    assert at(front(curves, found.costs), target_latency=0.75) == cut


def test_sparsity_takes_units_wherever_they_cost_least_or_alike_from_all():
    total = separable({"a": 1, "b": 1, "c": 1})
    costs = Costs(macs=total, parameters=total)
    curves = curves_of({"a": [1.0] * SIZE, "b": [9.0] * SIZE, "c": [5.0] * SIZE})
    anywhere = at(front(curves, costs), sparsity=1 / 3)
    assert anywhere.kept == {"a": 1, "b": 8, "c": 7}
    assert anywhere.units == pytest.approx(2 / 3)
    alike = at(front(curves, costs, scope="layer"), sparsity=0.5)
    assert alike.kept == {"a": 4, "b": 4, "c": 4}


def test_in_each_layer_the_nearest_width_counts():
    total = separable({"a": 1})
    coarse = [curve("a", range(SIZE + 1), [8, 4])]
    found = front(coarse, Costs(macs=total, parameters=total), scope="layer")
    assert [at(found, sparsity=share).kept["a"] for share in (0.2, 0.3, 0.4)] == [8, 4, 4]


def test_a_threshold_takes_units_that_lose_no_more():
    total = separable({"a": 1, "b": 1})
    curves = curves_of({"a": [1, 1, 2, 2, 3, 3, 4, 4], "b": [5] * SIZE})
    found = front(curves, Costs(macs=total, parameters=total))
    assert at(found, threshold=2).kept == {"a": 4, "b": 8}
    assert at(found, threshold=0.5).kept == {"a": 8, "b": 8}
    assert at(found, threshold=9).kept == {"a": 1, "b": 1}


def test_protected_groups_stay_and_others_keep_their_least():
    curves, costs, _ = joint()
    found = front(curves, costs, protect=["a"], least={"p": 5})
    assert found.cuts[-1].kept == {"a": 16, "p": 5, "q": 1}
    assert at(found, threshold=1e9).kept == {"a": 16, "p": 5, "q": 1}
    assert at(front(curves, costs, protect=["a"]), sparsity=0.5).units <= 0.5


def test_losses_without_end_are_never_chosen():
    total = separable({"a": 1})
    never = [curve("a", [0, 1, 2, *[np.inf] * (SIZE - 2)], range(1, SIZE + 1))]
    found = front(never, Costs(macs=total, parameters=total))
    assert found.cuts[-1].kept == {"a": 6}
    assert at(found, threshold=1e9).kept == {"a": 6}


def test_what_cannot_be_reached_is_said():
    total = separable({"a": 1}, fixed=24)
    curves = curves_of({"a": [1.0] * SIZE})
    for scope in ("global", "layer"):
        found = front(curves, Costs(macs=total, parameters=total), scope=scope)
        with pytest.raises(OnnxOptError, match=r"0\.5× of the MACs .* 0\.781× is left"):
            at(found, target_macs=0.5)


def test_a_model_without_groups_has_one_choice():
    total = Total(full={}, terms=(), fixed=7)
    found = front([], Costs(macs=total, parameters=total))
    assert [cut.kept for cut in found.cuts] == [{}]
    assert at(found, sparsity=0.5).loss == 0
