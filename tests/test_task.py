"""What tasks have in common: memory, samples to judge by, time to measure."""

import numpy as np
import pytest

from onnxopt import task
from onnxopt.judging.samples import Samples
from onnxopt.prune_config import PruneConfig
from onnxopt.report import Difference
from onnxopt.task import Task, usual_memory


def test_a_large_model_may_take_more_than_a_gigabyte(tmp_path):
    for size, wanted in ((10, 10**9), (3 * 10**8, 15 * 10**8)):
        path = tmp_path / f"{size}.onnx"
        with path.open("wb") as file:
            file.truncate(size)
        assert usual_memory(path) == wanted


@pytest.mark.parametrize(("numbers", "judged"), [(4, 128), (1 << 17, 64), (1 << 22, 32)])
def test_fewer_samples_are_judged_by_where_they_are_large(numbers, judged):
    feed = {"x": np.zeros(numbers, np.float32)}
    samples = Samples(lambda: (feed for _ in range(600)))
    assert sum(1 for _ in Task.held(None, samples)) == judged


@pytest.mark.parametrize(
    ("low", "ratio", "high", "verdict", "measured"),
    [
        (1.2, 1.5, 1.9, "faster", [20.0]),
        (0.97, 1.0, 1.03, "no difference", [20.0]),
        (0.8, 1.3, 2.2, "no difference", [20.0, 80.0]),
    ],
)
def test_what_tells_little_is_measured_for_longer(
    tmp_path, monkeypatch, low, ratio, high, verdict, measured
):
    took = []

    def ab(reference, candidate, *, seconds, **_):
        took.append(seconds)
        return Difference(
            baseline=str(reference), candidate=str(candidate), provider="cpu", ratio=ratio,
            low=low, high=high, verdict=verdict,
        )  # fmt: skip

    monkeypatch.setattr(task, "ab", ab)
    path = tmp_path / "m.onnx"
    path.write_bytes(b"")
    own = Task(path, None, PruneConfig(sparsity=0.5), tmp_path, None)
    assert own.ab(path, []).ratio == ratio
    assert took == measured
