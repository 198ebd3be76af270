"""Generated models are valid, run, and hold every pattern."""

import numpy as np
import onnx
import onnxruntime
import pytest
from generate import BLOCKS, SHAPE, generate


def outputs(model, feed, level):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"input": feed})[0]


@pytest.mark.parametrize("size", [50, 600])
def test_generated_model_is_valid_and_runs_for_any_batch(size):
    model = generate(size)
    onnx.checker.check_model(model, full_check=True)
    assert abs(len(model.graph.node) - size) < 20
    levels = onnxruntime.GraphOptimizationLevel
    for batch in (1, 3):
        feed = np.random.default_rng(0).normal(size=(batch, *SHAPE)).astype(np.float32)
        plain = outputs(model, feed, levels.ORT_DISABLE_ALL)
        assert plain.shape == feed.shape
        assert np.abs(plain).max() < 100
        np.testing.assert_allclose(outputs(model, feed, levels.ORT_ENABLE_ALL), plain, atol=1e-4)


def test_every_pattern_is_in_a_model_of_some_size():
    kinds = {node.op_type for node in generate(2000).graph.node}
    assert {"Conv", "BatchNormalization", "Pad", "Erf", "Cast", "If", "Shape", "Slice"} <= kinds
    assert len(BLOCKS) == len(set(BLOCKS))


def test_same_seed_gives_the_same_model():
    assert generate(200).SerializeToString() == generate(200).SerializeToString()
