import numpy as np
import pytest

from onnxopt.pruning.budget.sensitivity import Reach

SIZES = {"a": 16, "b": 32, "c": 8}
REACH = {"a": 0.5, "b": 2.0, "c": 1e-3}


def losses():
    return {name: np.linspace(0, 1, size + 1) ** 2 for name, size in SIZES.items()}


def orders():
    rng = np.random.default_rng(0)
    return {name: rng.permutation(size) for name, size in SIZES.items()}


class Model:
    """Adds up what groups lose, each by its reach.

    Once more than half of a group is gone, ten times as much arrives with `steep`.
    """

    def __init__(self, found=None, steep=False):
        self.asked = []
        self.losses = found or losses()
        self.steep = steep

    def __call__(self, keep):
        self.asked.append(keep)
        return sum(self.arrives(name, np.count_nonzero(~kept)) for name, kept in keep.items())

    def arrives(self, name, gone):
        factor = 10 if self.steep and gone > SIZES[name] / 2 else 1
        return factor * REACH[name] * self.losses[name][gone]


def measured(model, budget=100):
    reach = Reach(orders=orders(), losses=model.losses, noise=model)
    reach.measure(budget=budget)
    return reach


def test_what_arrives_of_each_group_is_found():
    model = Model()
    reach = measured(model)
    for name in SIZES:
        assert reach.at_outputs(name) == pytest.approx(REACH[name] * losses()[name])
    assert reach.additivity == pytest.approx(1.0)
    assert reach.asked == len(model.asked) == 4


def test_units_are_masked_in_their_order():
    model = Model()
    measured(model)
    alone = {next(iter(keep)): keep for keep in model.asked if len(keep) == 1}
    for name, size in SIZES.items():
        assert set(np.flatnonzero(~alone[name][name])) == set(orders()[name][: size // 4])


def test_without_time_groups_share_by_what_they_lose():
    reach = measured(Model(), budget=0)
    assert reach.shared == set(SIZES)
    ratios = [reach.at_outputs(name)[-1] / losses()[name][-1] for name in SIZES]
    assert ratios == pytest.approx(ratios[:1] * 3)


def test_a_group_that_loses_nothing_has_the_usual_reach():
    at_readers = losses() | {"b": np.zeros(33)}
    reach = measured(Model(at_readers))
    reach.losses["b"][1:] = 1.0
    usual = np.median([REACH["a"], REACH["c"]])
    assert reach.at_outputs("b") == pytest.approx(usual * reach.losses["b"])


def test_a_choice_is_asked_for_at_its_own_widths():
    model = Model(steep=True)
    reach = measured(model)
    assert reach.at("b", 24) < model.arrives("b", 24) / 5
    reach.refine(lambda: {"a": 4, "b": 24, "c": 0}, budget=100)
    assert reach.at("b", 24) == pytest.approx(model.arrives("b", 24))
    assert reach.at("b", 8) == pytest.approx(model.arrives("b", 8))
    assert reach.asked == 5, "what is known of a is near enough, and c stays whole"


def test_a_choice_that_proves_bad_gives_way():
    model = Model(steep=True)
    reach = measured(model)

    def cheapest():
        return min(({"a": 12}, {"b": 16}), key=lambda cut: reach.at(*next(iter(cut.items()))))

    assert cheapest() == {"a": 12}
    reach.refine(cheapest, budget=100)
    assert cheapest() == {"b": 16}
    assert [name for keep in model.asked[4:] for name in keep] == ["a", "b"]


def test_refinement_ends_with_the_budget():
    model = Model()
    reach = measured(model)
    reach.refine(lambda: {"a": 12, "b": 24, "c": 6}, budget=2)
    assert reach.asked == 6
    assert {name for keep in model.asked[4:] for name in keep} == {"a", "b"}


def test_groups_asked_together_are_asked_alone_once_chosen():
    model = Model()
    reach = measured(model, budget=0)
    reach.refine(lambda: {"c": 2}, budget=100)
    assert reach.shared == {"a", "b"}
    assert reach.at("c", 2) == pytest.approx(model.arrives("c", 2))


def test_a_group_of_one_unit_loses_none():
    reach = Reach(orders={"a": np.arange(1)}, losses={"a": np.zeros(2)}, noise=lambda keep: 0.0)
    reach.measure(budget=1)
    assert reach.at_outputs("a").tolist() == [0.0, 0.0]
