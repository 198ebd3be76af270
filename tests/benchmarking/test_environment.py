"""What the numbers were taken on."""

import pytest

from onnxopt.benchmarking import environment


def test_the_environment_is_plain_and_knows_versions():
    found = environment.describe()
    assert found["onnxruntime"]
    assert found["python"]
    assert all(isinstance(value, (str, int, float)) for value in found.values())


@pytest.mark.parametrize(
    ("load", "warned"), [(None, False), (0.5, False), (1.0, False), (1.5, True)]
)
def test_a_busy_machine_is_told_of(load, warned):
    assert bool(environment.busy_warning(2, load)) == warned


def test_stolen_time_is_told_of():
    assert environment.stolen_share((10, 1000), (60, 2000)) == 0.05
    assert environment.stolen_share(None, (60, 2000)) == 0
    assert "5%" in environment.stolen_warning(0.05)
    assert environment.stolen_warning(0.01) == ""
