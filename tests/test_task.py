"""What may be taken of memory where nobody says how much."""

import numpy as np
import pytest

from onnxopt.judging.samples import Samples
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
