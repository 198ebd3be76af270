import math

import pytest

from onnxopt.judging import sensitivity as module
from onnxopt.judging.sensitivity import WORST, sensitivity

NAMES = [f"r{place}" for place in range(16)]
ENERGY = dict.fromkeys(NAMES, 0.001) | {"r5": 0.5, "r11": 0.2}


class Asked:
    """A model whose regions add their energies, and a clock that a question moves by a second."""

    def __init__(self, monkeypatch, factor=1.0):
        self.now = 0.0
        self.questions = []
        self.factor = factor
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    def __call__(self, chosen):
        self.now += 1.0
        self.questions.append(chosen)
        return sum(ENERGY[name] for name in chosen) * (self.factor if len(chosen) > 1 else 1.0)


def test_with_time_each_region_is_asked_alone(monkeypatch):
    asked = Asked(monkeypatch, factor=0.9)
    told = []
    found = sensitivity(
        dict.fromkeys(NAMES, 1.0), asked, budget=100, progress=lambda *now: told.append(now)
    )
    assert found.noise == pytest.approx(ENERGY)
    assert found.asked == 17
    assert not found.shared
    assert found.additivity == pytest.approx(0.9)
    assert found.predicted({"r5", "r11"}) == pytest.approx(0.63)
    assert told[-1] == ("sensitivity", 1.0)


def test_with_little_time_the_noisiest_are_still_found(monkeypatch):
    asked = Asked(monkeypatch)
    found = sensitivity(dict.fromkeys(NAMES, 1.0), asked, budget=10)
    assert len(asked.questions) <= 10
    assert sum(found.noise.values()) == pytest.approx(sum(ENERGY.values()))
    assert set(sorted(NAMES, key=found.noise.get)[-4:]) >= {"r5", "r11"}
    assert found.shared


def test_with_no_time_all_share_by_weight(monkeypatch):
    asked = Asked(monkeypatch)
    found = sensitivity({"r0": 1.0, "r5": 3.0}, asked, budget=0)
    assert found.noise == pytest.approx({"r0": 0.501 / 4, "r5": 0.501 * 3 / 4})
    assert found.asked <= 2


def test_outputs_that_are_no_numbers_are_the_worst_noise():
    answers = {"a": math.nan, "b": math.inf}
    found = sensitivity(dict.fromkeys("ab", 1.0), lambda chosen: answers[min(chosen)], budget=60)
    assert found.noise == {"a": WORST, "b": WORST}
    assert math.isfinite(found.additivity)


def test_a_model_without_regions_has_no_noise():
    found = sensitivity({}, lambda chosen: 0.0, budget=1)
    assert found.noise == {}
    assert found.additivity == 1.0
