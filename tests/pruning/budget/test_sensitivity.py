import numpy as np
import pytest

from onnxopt.judging import sensitivity as module
from onnxopt.pruning.budget.sensitivity import measure_reach

SIZES = {"a": 16, "b": 32, "c": 8}
REACH = {"a": 0.5, "b": 2.0, "c": 1e-3}


def losses():
    return {name: np.linspace(0, 1, size + 1) ** 2 for name, size in SIZES.items()}


def orders():
    rng = np.random.default_rng(0)
    return {name: rng.permutation(size) for name, size in SIZES.items()}


class Model:
    """Adds up what groups lose, each by its reach; a question moves the clock by a second."""

    def __init__(self, monkeypatch, found=None):
        self.now = 0.0
        self.asked = []
        self.losses = found or losses()
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    def __call__(self, keep):
        self.now += 1.0
        self.asked.append(keep)
        return sum(
            REACH[name] * self.losses[name][np.count_nonzero(~units)]
            for name, units in keep.items()
        )


def test_the_reach_of_each_group_is_found(monkeypatch):
    model = Model(monkeypatch)
    found = measure_reach(orders(), losses(), model, budget=100)
    assert found.reach == pytest.approx(REACH)
    assert found.additivity == pytest.approx(1.0)
    assert found.asked == len(model.asked) == 8
    assert found.losses("b", [0.0, 0.5]) == pytest.approx([0.0, 1.0])


def test_units_are_masked_in_their_order(monkeypatch):
    model, order = Model(monkeypatch), orders()
    measure_reach(order, losses(), model, budget=100, shares=(0.25,))
    alone = {next(iter(keep)): keep for keep in model.asked if len(keep) == 1}
    for name, size in SIZES.items():
        assert set(np.flatnonzero(~alone[name][name])) == set(order[name][: size // 4])


def test_without_time_groups_share_by_what_they_lose(monkeypatch):
    model = Model(monkeypatch)
    found = measure_reach(orders(), losses(), model, budget=0)
    assert found.shared == set(SIZES)
    assert len(set(np.round(list(found.reach.values()), 9))) == 1


def test_a_group_that_loses_nothing_has_the_usual_reach(monkeypatch):
    at_readers = losses() | {"b": np.zeros(33)}
    found = measure_reach(orders(), at_readers, Model(monkeypatch, at_readers), budget=100)
    assert found.reach["b"] == pytest.approx(np.median([REACH["a"], REACH["c"]]))


def test_a_group_of_one_unit_loses_none():
    found = measure_reach({"a": np.arange(1)}, {"a": np.zeros(2)}, lambda keep: 0.0, budget=1)
    assert found.reach == {"a": 1.0}
